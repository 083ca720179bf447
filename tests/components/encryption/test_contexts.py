"""The public context a party is given must be the one that the public keys name."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.agreement.parties import Parties, load_parties
from components.encryption.contexts import context_key, public_context
from components.encryption.keys import initialise_keys
from components.errors import RefusedError

KEYS = "small/keys"


@pytest.fixture
def parties(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parties:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    return initialise_keys("small", ("alpha",), keys_uri=KEYS, protections=("he", "none"))


def test_is_the_one_that_was_made(parties: Parties, tmp_path: Path) -> None:
    content = public_context(KEYS, "he", parties)
    assert content == (tmp_path / KEYS / "contexts/he.public").read_bytes()
    assert len(content) > 1000
    assert public_context(KEYS, "he", load_parties(KEYS)) == content


def test_a_protection_without_a_key_has_an_empty_one(parties: Parties) -> None:
    assert public_context(KEYS, "none", parties) == b""


def test_a_missing_one_is_refused_with_the_mend(parties: Parties, tmp_path: Path) -> None:
    (tmp_path / KEYS / context_key("he")).unlink()
    with pytest.raises(RefusedError, match="crosscloud keys init") as caught:
        public_context(KEYS, "he", parties)
    assert caught.value.disclosed == str(caught.value)


@pytest.mark.parametrize("exchanged", ["one bit", "another key", "the secret context", "nothing"])
def test_another_one_is_refused(parties: Parties, tmp_path: Path, exchanged: str) -> None:
    """Whoever could exchange it would read every update sealed under it."""
    path = tmp_path / KEYS / context_key("he")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    initialise_keys("small", ("alpha",), keys_uri="other/keys", protections=("he",))
    path.write_bytes(
        {
            "one bit": bytes(content),
            "another key": (tmp_path / "other/keys" / context_key("he")).read_bytes(),
            "the secret context": (tmp_path / KEYS / "key-holder/he.secret").read_bytes(),
            "nothing": b"",
        }[exchanged]
    )
    with pytest.raises(RefusedError, match="not the one the public keys name"):
        public_context(KEYS, "he", parties)
