from __future__ import annotations

import base64
import hashlib
import hmac
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from components.agreement import parties
from components.agreement.parties import (
    check_private,
    framed,
    keyed_digest,
    load_parties,
    load_signing_key,
    pem,
    private_folder,
    write_private,
)
from components.artifacts.stores import open_store
from components.errors import SignatureError, StoreError, UsageError
from tests.components.agreement.signed_form import KEYS, PARTIES

FORM: dict[str, Any] = {
    "format": 1,
    "federation": "paper",
    "keys": {
        owner: base64.b64encode(key.public_key().public_bytes_raw()).decode() for owner, key in KEYS.items()
    },
    "contexts": {"he": "c0" * 32},
}
ALPHA = FORM["keys"]["alpha"]


def published(content: bytes) -> parties.Parties:
    open_store("keys").create("public.yaml", content)
    return load_parties("keys")


def changed(**changes: Any) -> bytes:
    return yaml.safe_dump(FORM | changes).encode()


def without(name: str) -> bytes:
    return yaml.safe_dump({key: value for key, value in FORM.items() if key != name}).encode()


def with_key(owner: str, value: Any) -> bytes:
    return changed(keys=FORM["keys"] | {owner: value})


class TestPublicKeys:
    def test_the_form(self) -> None:
        assert yaml.safe_load(PARTIES.to_yaml()) == FORM
        assert PARTIES.to_yaml().startswith(b"contexts:")

    def test_round_trip(self, home: Path) -> None:
        found = published(PARTIES.to_yaml())
        assert found.federation == "paper"
        assert dict(found.contexts) == {"he": "c0" * 32}
        assert {owner: key.public_bytes_raw() for owner, key in found.keys.items()} == {
            owner: key.public_key().public_bytes_raw() for owner, key in KEYS.items()
        }

    def test_a_party_without_a_key_is_named(self) -> None:
        with pytest.raises(SignatureError, match=r"^delta has no public key in public\.yaml of paper$"):
            PARTIES.key("delta")

    def test_two_parties_with_one_key_are_refused(self, home: Path) -> None:
        with pytest.raises(SignatureError, match="two parties of paper have the same public key"):
            published(with_key("beta", ALPHA))

    def test_missing_keys_say_how_to_make_them(self, home: Path) -> None:
        with pytest.raises(
            UsageError, match=r"^no public keys at keys/public\.yaml: .*'crosscloud keys init'$"
        ):
            load_parties("keys")

    def test_a_file_above_a_mebibyte_is_not_read(self, home: Path) -> None:
        with pytest.raises(StoreError, match="at most 1048576 are read"):
            published(changed() + b"#" * (1 << 20))

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\xff\xfe\xff",
            b"- a\n- b\n",
            b"keys: [",
            b"federation: !!python/name:os.system\n",
            without("federation"),
            without("keys"),
            without("contexts"),
            changed(keys=None),
            changed(keys=["alpha"]),
            changed(contexts=None),
            changed(contexts=["he"]),
            changed(federation=None),
            changed(federation=["paper"]),
            changed(format=2),
            without("format"),
            with_key("beta", None),
            with_key("beta", 7),
            with_key("beta", "no base64!"),
            with_key("beta", base64.b64encode(bytes(31)).decode()),
            with_key("beta", base64.b64encode(bytes(33)).decode()),
            with_key("beta", ""),
            changed() + f"keys:\n  alpha: {ALPHA}\n".encode(),
        ],
    )
    def test_another_form_is_refused(self, home: Path, content: bytes) -> None:
        with pytest.raises(
            UsageError, match=r"^keys/public\.yaml is not a list of public keys: .*keys init'$"
        ):
            published(content)


class TestPrivateFolder:
    def test_lies_beside_the_public_keys(self, home: Path) -> None:
        assert private_folder("keys", "alpha") == home / "keys/alpha"
        assert private_folder("file:///elsewhere", "alpha") == Path("/elsewhere/alpha")

    def test_a_configured_folder_comes_before(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CROSSCLOUD_KEYS", str(tmp_path / "own"))
        assert private_folder("keys", "alpha") == tmp_path / "own/alpha"
        assert private_folder("s3://bucket/keys", "alpha") == tmp_path / "own/alpha"

    def test_a_mounted_secret_comes_before_all(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CROSSCLOUD_KEYS", str(tmp_path / "own"))
        monkeypatch.setattr(parties, "MOUNTED_KEYS", tmp_path / "mounted")
        (tmp_path / "mounted/alpha").mkdir(parents=True)
        assert private_folder("keys", "alpha") == tmp_path / "mounted/alpha"
        assert private_folder("keys", "beta") == tmp_path / "own/beta"

    def test_remote_public_keys_need_a_folder_for_the_private_ones(self, home: Path) -> None:
        with pytest.raises(UsageError, match="s3://bucket/keys"):
            private_folder("s3://bucket/keys", "alpha")


class TestSigningKey:
    @pytest.fixture
    def path(self, home: Path) -> Path:
        write_private(home / "keys/alpha/signing.key", pem(KEYS["alpha"]))
        return home / "keys/alpha/signing.key"

    def test_round_trip(self, path: Path) -> None:
        assert load_signing_key("keys", "alpha").private_bytes_raw() == KEYS["alpha"].private_bytes_raw()

    def test_is_its_owners_alone(self, path: Path) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def test_is_never_overwritten(self, path: Path) -> None:
        with pytest.raises(FileExistsError):
            write_private(path, b"another")
        assert path.read_bytes() == pem(KEYS["alpha"])

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601, 0o610])
    def test_a_mode_that_lets_others_in_is_refused(self, path: Path, mode: int) -> None:
        path.chmod(mode)
        with pytest.raises(
            UsageError, match=f"has mode {mode:04o} and may be read by others: 'chmod 600' it"
        ):
            load_signing_key("keys", "alpha")

    @pytest.mark.parametrize("mode", [0o600, 0o400])
    def test_a_private_mode_is_accepted(self, path: Path, mode: int) -> None:
        path.chmod(mode)
        check_private(path)

    def test_a_mounted_secret_has_the_mode_its_mount_gives(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parties, "MOUNTED_KEYS", path.parent.parent)
        path.chmod(0o644)
        assert load_signing_key("other", "alpha").private_bytes_raw() == KEYS["alpha"].private_bytes_raw()

    def test_a_missing_key_says_where_it_belongs(self, home: Path) -> None:
        place = home / "keys/beta/signing.key"
        with pytest.raises(
            UsageError, match=f"^no private key at {place}: .*'crosscloud keys init'.*mount it"
        ):
            load_signing_key("keys", "beta")

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"no key",
            pem(KEYS["alpha"])[:-40],
            KEYS["alpha"].private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
            ),
            KEYS["alpha"].private_bytes_raw(),
        ],
        ids=["empty", "text", "cut", "encrypted", "raw"],
    )
    def test_what_is_no_open_pem_is_refused(self, home: Path, content: bytes) -> None:
        write_private(home / "keys/alpha/signing.key", content)
        with pytest.raises(UsageError, match=r"signing\.key is not a private key in PEM form$"):
            load_signing_key("keys", "alpha")

    @pytest.mark.parametrize(
        "key", [x25519.X25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())]
    )
    def test_a_key_of_another_kind_is_refused(self, home: Path, key: Any) -> None:
        content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(home / "keys/alpha/signing.key", content)
        with pytest.raises(UsageError, match="must hold an Ed25519 key"):
            load_signing_key("keys", "alpha")


parts = st.lists(st.binary(max_size=12), max_size=5)


class TestKeyedDigest:
    def test_is_hmac_sha_256_of_framed_parts(self) -> None:
        secret = KEYS["alpha"].private_bytes_raw()
        derived = hmac.new(secret, b"crosscloud keyed digests", "sha256").digest()
        message = bytes(7) + b"\x02ab" + bytes(7) + b"\x00" + bytes(7) + b"\x01c"
        expected = hmac.new(derived, message, "sha256").hexdigest()
        assert keyed_digest(KEYS["alpha"], [b"ab", b"", b"c"]) == expected
        assert keyed_digest(KEYS["alpha"], iter([b"ab", b"", b"c"])) == expected

    @given(given_parts=parts)
    def test_differs_by_key_and_from_the_plain_digest(self, given_parts: list[bytes]) -> None:
        digests = {keyed_digest(key, given_parts) for key in KEYS.values()}
        plain = {
            hashlib.sha256(framed(given_parts)).hexdigest(),
            hashlib.sha256(b"".join(given_parts)).hexdigest(),
        }
        assert len(digests) == len(KEYS)
        assert not digests & plain

    @given(left=parts, right=parts)
    def test_frames_are_unambiguous(self, left: list[bytes], right: list[bytes]) -> None:
        assert (framed(left) == framed(right)) == (left == right)
        assert (keyed_digest(KEYS["alpha"], left) == keyed_digest(KEYS["alpha"], right)) == (left == right)

    @given(given_parts=parts, cut=st.integers(0, 60))
    def test_other_cuts_of_the_same_bytes_differ(self, given_parts: list[bytes], cut: int) -> None:
        whole = b"".join(given_parts)
        recut = [whole[:cut], whole[cut:]]
        if recut != given_parts:
            assert keyed_digest(KEYS["alpha"], recut) != keyed_digest(KEYS["alpha"], given_parts)


def test_a_fresh_key_has_a_digest_of_its_own() -> None:
    fresh = Ed25519PrivateKey.generate()
    assert keyed_digest(fresh, [b"a"]) != keyed_digest(KEYS["alpha"], [b"a"])
