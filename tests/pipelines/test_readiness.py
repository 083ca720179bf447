"""What is checked on this machine before a local run starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import UsageError
from pipelines.federation import Federation, load_federation
from pipelines.readiness import check_ready, encoder_spec
from tests.conftest import DIMENSIONS, SmallFederation


def complaints(federation: Federation) -> list[str]:
    with pytest.raises(UsageError) as raised:
        check_ready(federation)
    return str(raised.value).splitlines()


def test_a_federation_in_order_passes_and_nothing_is_written(
    small_federation: Callable[..., SmallFederation],
) -> None:
    made = small_federation(rows=1)
    before = sorted(made.home.rglob("*"))
    check_ready(load_federation(made.path))
    assert sorted(made.home.rglob("*")) == before


def test_the_encoder_is_the_one_the_steps_will_load(small_federation: Callable[..., SmallFederation]) -> None:
    made = small_federation(rows=1)
    made.document["encoder"] |= {"digest": "0" * 64, "revision": "main"}
    spec = encoder_spec(load_federation(made.save()))
    said = made.document["encoder"]
    assert (spec.name, spec.revision, spec.digest) == (said["name"], "main", "0" * 64)
    assert (spec.dimensions, spec.max_length) == (DIMENSIONS, 16)


def test_another_width_is_told_with_both_numbers(small_federation: Callable[..., SmallFederation]) -> None:
    made = small_federation(rows=1)
    made.document["encoder"]["dimensions"] = 384
    (line,) = complaints(load_federation(made.save()))
    name = made.document["encoder"]["name"]
    assert line == f"encoder.dimensions: {name} has 16, the federation file says 384"


def test_a_folder_without_a_config_is_no_encoder(
    small_federation: Callable[..., SmallFederation], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    made = small_federation(rows=1)
    made.document["encoder"]["name"] = str(tmp_path / "empty")
    (line,) = complaints(load_federation(made.save()))
    assert line == f"encoder.name: encoder {tmp_path / 'empty'} cannot be used: it has no config.json"


def test_every_store_that_cannot_be_written_is_told(
    small_federation: Callable[..., SmallFederation], tmp_path: Path
) -> None:
    made = small_federation(rows=1)
    (made.home / "small/state").write_text("a file")
    (made.home / "small/sites/beta/store").write_text("a file")
    (tmp_path / "taken").write_text("a file")
    made.document["exchange_uri"] = (tmp_path / "taken/exchange").as_uri()
    lines = complaints(load_federation(made.save()))
    assert [line.partition(": ")[0] for line in lines] == ["state_uri", "exchange_uri", "store_uri of beta"]
    assert all("is not a folder" in line and line.endswith("set CROSSCLOUD_HOME") for line in lines)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else_is_told(small_federation: Callable[..., SmallFederation]) -> None:
    made = small_federation(rows=1)
    (made.home / "small").chmod(0o500)
    try:
        lines = complaints(load_federation(made.path))
    finally:
        (made.home / "small").chmod(0o700)
    assert all("is not writable by this user" in line for line in lines)


def test_remote_stores_are_left_to_their_steps(small_federation: Callable[..., SmallFederation]) -> None:
    made = small_federation(rows=1, state_uri="s3://bucket/state", exchange_uri="gs://bucket/exchange")
    check_ready(load_federation(made.path))
