"""The ConfigMap with the federation file and the charter, which pins the public keys of all parties."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from components.agreement.charter import read_charter
from components.encryption.protection import generate_contexts
from pipelines.federation import load_federation
from tests.manifests.coordinator.renew import CHARTER, COMMAND, FEDERATION, SOURCE, with_terms
from tests.manifests.coordinator.shipped_overlays import OVERLAYS, Manifest, Overlay, of_kind


def pinned(overlay: Overlay, name: str) -> dict[str, str]:
    """What an overlay's ConfigMap holds."""
    (found,) = of_kind(overlay(name), "ConfigMap")
    data: dict[str, str] = found["data"]
    return data


@pytest.mark.parametrize("name", OVERLAYS)
def test_both_files_arrive_byte_by_byte(overlay: Overlay, name: str) -> None:
    data = pinned(overlay, name)
    assert set(data) == {"federation.yaml", "charter.json"}
    assert data["federation.yaml"].encode() == SOURCE.read_bytes(), f"write it anew: {COMMAND}"
    assert data["charter.json"].encode() == CHARTER.read_bytes()


def test_the_digest_of_the_file_is_the_charter_s(overlay: Overlay) -> None:
    content = pinned(overlay, "standalone")["charter.json"].encode()
    charter = read_charter(content)
    assert hashlib.sha256(content).hexdigest() == charter.digest


def test_the_example_s_charter_is_of_the_example_s_file() -> None:
    federation = load_federation(FEDERATION)
    charter = read_charter(CHARTER.read_bytes())
    assert with_terms(charter, federation) == charter, f"write it anew: {COMMAND}"
    assert set(charter.sites) == set(federation.site_names)
    keys = [key for site in charter.sites.values() for key in (site.signing, site.agreement)]
    assert len({*keys, charter.coordinator, charter.key_holder}) == 2 * len(charter.sites) + 2


def test_an_overlay_of_one_s_own_replaces_both_files(
    own_overlay: Callable[..., list[Manifest]], tmp_path: Path
) -> None:
    files = [tmp_path / "federation.yaml", tmp_path / "charter.json"]
    files[0].write_text("federation: mine\n")
    files[1].write_text("{}")
    manifests = own_overlay(files=files)
    (found,) = of_kind(manifests, "ConfigMap")
    assert found["data"] == {file.name: file.read_text() for file in files}
    assert {each["metadata"]["namespace"] for each in manifests} == {"pipelines"}


def test_a_secret_holds_two_encryption_keys_and_no_third() -> None:
    # Kubernetes takes 1 MiB a secret, `kubectl apply` without --server-side notes at most 256 KiB of it.
    _, secret = generate_contexts("sealed")
    assert 2 * len(secret) + 8192 < 2**20 < 3 * len(secret)
    assert len(secret) > 2**18
