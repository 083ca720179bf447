"""The stored form of a secret key: it opens with its provider for its purpose, or not at all."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from components.artifacts.documents import canonical_json
from components.encryption.key_providers.envelope import FORMAT, enclosed, is_envelope, read_envelope
from components.encryption.key_providers.key_file import KeyFile
from components.encryption.protection import generate_contexts
from components.errors import KeyProviderError
from tests.components.encryption.key_providers.traces import found_in, traces
from tests.contracts.key_provider import BOUND, refused

SECRET = b"\n" + secrets.token_bytes(4095)


@pytest.fixture
def key(tmp_path: Path) -> KeyFile:
    made = KeyFile(tmp_path / "wrapping.key")
    made.make()
    return made


@pytest.fixture
def stored(key: KeyFile) -> bytes:
    return enclosed(SECRET, key, bound=BOUND).to_json()


def opened(stored: bytes, key: KeyFile, bound: dict[str, str] = BOUND) -> bytes:
    return read_envelope(stored).opened(key, bound=bound)


def test_it_opens_and_says_what_it_is(stored: bytes, key: KeyFile) -> None:
    assert opened(stored, key) == SECRET
    document = json.loads(stored)
    assert set(document) == {"bound", "ciphertext", "format", "key", "nonce", "provider", "wrapped_key"}
    assert (document["format"], document["provider"], document["key"]) == (FORMAT, "file", "wrapping.key")
    assert document["bound"] == BOUND
    assert not found_in(stored, traces(SECRET))


def test_it_is_aes_256_gcm_over_what_it_says_of_itself(stored: bytes, key: KeyFile) -> None:
    """Opened by hand."""
    document = json.loads(stored)
    ciphertext = base64.b64decode(document.pop("ciphertext"))
    data_key = key.unwrap(base64.b64decode(document["wrapped_key"]), bound=BOUND)
    nonce = base64.b64decode(document["nonce"])
    assert (len(data_key), len(nonce)) == (32, 12)
    assert AESGCM(data_key).decrypt(nonce, ciphertext, canonical_json(document)) == SECRET


def test_every_one_has_a_data_key_and_a_nonce_of_its_own(key: KeyFile) -> None:
    two = [json.loads(enclosed(SECRET, key, bound=BOUND).to_json()) for _ in range(2)]
    for name in ("ciphertext", "nonce", "wrapped_key"):
        assert two[0][name] != two[1][name]


def test_another_key_of_the_same_name_does_not_open_it(stored: bytes, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = KeyFile(tmp_path / "other/wrapping.key")
    other.make()
    with refused(SECRET, match="does not unwrap under .*: it was altered, or wrapped under another key"):
        opened(stored, other)


def test_another_providers_is_told_with_both_names(stored: bytes, tmp_path: Path) -> None:
    other = KeyFile(tmp_path / "other.key")
    other.make()
    with refused(
        SECRET,
        match=r"is wrapped by file under wrapping\.key, and provider\.yaml names file other\.key: move it "
        r"with 'crosscloud keys wrap --from'",
    ):
        opened(stored, other)


def test_one_for_another_purpose_is_told(stored: bytes, key: KeyFile) -> None:
    with refused(SECRET, match="is for context c1.*, not for context c2.*: restore"):
        opened(stored, key, BOUND | {"context": "c2" * 32})


@pytest.mark.parametrize("name", ["bound", "ciphertext", "key", "nonce", "provider", "wrapped_key"])
def test_one_that_was_altered_in_any_field_does_not_open(stored: bytes, key: KeyFile, name: str) -> None:
    """Also where the alteration is well formed, and where the reader expects what was altered."""
    document = json.loads(stored)
    if name == "bound":
        document["bound"]["federation"] = "large"
    elif name in {"key", "provider"}:
        document[name] += "x"
    else:
        content = bytearray(base64.b64decode(document[name]))
        content[-1] ^= 1
        document[name] = base64.b64encode(content).decode()
    with refused(SECRET):
        opened(canonical_json(document), key, document["bound"])


def test_the_header_of_another_does_not_fit(key: KeyFile) -> None:
    """A data key's holder could not pass one secret key off as another."""
    one, two = (json.loads(enclosed(SECRET, key, bound=BOUND).to_json()) for _ in range(2))
    for name in ("ciphertext", "nonce", "wrapped_key"):
        with refused(SECRET, match="was altered: restore it from a backup"):
            opened(canonical_json(one | {name: two[name]}), key)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "crosscloud wrapped key 2"},
        {"more": "1"},
        {"nonce": None},
        {"nonce": "A"},
        {"key": 5},
        {"key": "two\nlines"},
        {"bound": []},
        {"bound": {"context": 1}},
        {"bound": "context"},
        {"wrapped_key": "====", "ciphertext": "é"},
    ],
    ids=str,
)
def test_what_is_in_another_form_is_refused(stored: bytes, change: dict[str, Any]) -> None:
    with refused(SECRET, match="is not a wrapped key in the form this version knows"):
        read_envelope(canonical_json(json.loads(stored) | change))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"{", b"[]", b"null", b"\xff", b"{" * 9000, b'{"format":' * 5000]
)
def test_what_is_no_envelope_is_refused(content: bytes) -> None:
    with pytest.raises(KeyProviderError, match="is not a wrapped key in the form this version knows"):
        read_envelope(content)


def test_one_that_is_not_canonical_is_refused(stored: bytes) -> None:
    for content in (stored + b"\n", json.dumps(json.loads(stored)).encode(), stored[:-1] + b',"a":"b"}'):
        with refused(SECRET, match="is not a wrapped key in the form this version knows"):
            read_envelope(content)


@pytest.mark.parametrize("protection", ["he", "masked", "sealed"])
def test_a_secret_key_in_the_clear_is_not_taken_for_one(stored: bytes, protection: str) -> None:
    """A random key of `masked` may begin with a brace, once in 256."""
    _, secret = generate_contexts(protection)
    assert is_envelope(stored)
    assert not is_envelope(secret)
    assert not is_envelope(b"{" + secret)
