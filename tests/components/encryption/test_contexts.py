"""The context a party is given must be the one that the key holder has certified for the round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from components.agreement.key_certificate import CertifiedKey, certified_keys, context_key, secret_name
from components.artifacts.stores import open_store
from components.encryption.contexts import public_context, secret_context
from components.encryption.framing import context_fingerprint
from components.encryption.keys import certify_key
from components.errors import RefusedError, UsageError
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.rounds.walks import walk

PROTECTIONS = ("he", "sealed")


@pytest.fixture(params=PROTECTIONS)
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ThreeSites:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    return walk("open", request.param).three


def certified(three: ThreeSites) -> CertifiedKey:
    found = three.attempt().certificate()
    assert found
    return found


def public_path(three: ThreeSites) -> Path:
    certificate = certified(three).certificate
    return three.keys_folder / context_key(certificate.protection, certificate.context)


def secret_path(three: ThreeSites) -> Path:
    certificate = certified(three).certificate
    return three.keys_folder / "key-holder" / secret_name(certificate.protection, certificate.context)


def test_both_halves_are_those_that_were_made(three: ThreeSites) -> None:
    content = public_context(three.keys_uri, certified(three))
    assert content == public_path(three).read_bytes()
    assert context_fingerprint(content) == certified(three).certificate.context
    assert secret_context(three.attempt()) == secret_path(three).read_bytes() != content


def test_a_protection_without_a_key_has_empty_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    three = ThreeSites.start()
    assert three.attempt().certificate() is None
    assert public_context(three.keys_uri, None) == b""
    assert secret_context(three.attempt()) == b""


def test_a_missing_public_one_is_refused(three: ThreeSites) -> None:
    key = certified(three)
    public_path(three).unlink()
    with pytest.raises(RefusedError, match=r"public context for protection \w+ is not there") as caught:
        public_context(three.keys_uri, key)
    assert caught.value.disclosed == str(caught.value)


@pytest.mark.parametrize("exchanged", ["one bit", "another key", "the secret context", "nothing"])
def test_another_public_one_is_refused(three: ThreeSites, exchanged: str) -> None:
    """Whoever could exchange it would read every update sealed under it."""
    key, path = certified(three), public_path(three)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    other = ThreeSites.start("other", protection=three.request.protection)
    path.write_bytes(
        {
            "one bit": bytes(content),
            "another key": public_path(other).read_bytes(),
            "the secret context": secret_path(three).read_bytes(),
            "nothing": b"",
        }[exchanged]
    )
    with pytest.raises(RefusedError, match="is not the certified one") as caught:
        public_context(three.keys_uri, key)
    assert caught.value.disclosed == str(caught.value)


@pytest.mark.parametrize(("mode", "rule"), [(0o644, "may be read by others"), (None, "no private key at")])
def test_a_secret_that_others_can_read_or_that_is_gone_is_told(
    three: ThreeSites, mode: int | None, rule: str
) -> None:
    path = secret_path(three)
    if mode is None:
        path.unlink()
    else:
        path.chmod(mode)
    with pytest.raises(UsageError, match=rule):
        secret_context(three.attempt())


def test_a_rotated_key_serves_from_its_round_on(three: ThreeSites) -> None:
    before = public_context(three.keys_uri, certified(three)), secret_context(three.attempt())
    certify_key(three.charter, keys_uri=three.keys_uri, first_round=2)
    attempt = three.attempt()
    assert (public_context(three.keys_uri, attempt.certificate()), secret_context(attempt)) == before
    later = replace(attempt, ticket=replace(attempt.ticket, round_number=2))
    after = public_context(three.keys_uri, later.certificate()), secret_context(later)
    assert before[0] != after[0]
    assert before[1] != after[1]
    newest = certified_keys(three.keys_uri, three.charter, three.request.protection)[-1]
    assert context_fingerprint(after[0]) == newest.certificate.context


def test_keys_lie_where_the_certificate_says(three: ThreeSites) -> None:
    name = certified(three).certificate.context[:16]
    protection = three.request.protection
    assert open_store(three.keys_uri).keys("contexts") == [f"contexts/{protection}-{name}.public"]
