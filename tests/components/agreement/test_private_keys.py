from __future__ import annotations

import hashlib
import hmac
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from components.agreement import private_keys
from components.agreement.private_keys import (
    check_private,
    derived_key,
    keyed_digest,
    load_agreement_key,
    load_signing_key,
    pem,
    private_folder,
    write_private,
)
from components.artifacts.documents import framed
from components.errors import UsageError
from tests.components.agreement.signed_form import AGREEMENT_KEYS, KEYS

SIGNING, AGREEMENT = KEYS["alpha"], AGREEMENT_KEYS["alpha"]
CURVE = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestPrivateFolder:
    def test_lies_beside_the_charter(self, home: Path) -> None:
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
        monkeypatch.setattr(private_keys, "MOUNTED_KEYS", tmp_path / "mounted")
        (tmp_path / "mounted/alpha").mkdir(parents=True)
        assert private_folder("keys", "alpha") == tmp_path / "mounted/alpha"
        assert private_folder("keys", "beta") == tmp_path / "own/beta"

    def test_a_remote_charter_needs_a_folder_for_the_private_keys(self, home: Path) -> None:
        with pytest.raises(UsageError, match=r"s3://bucket/keys.*set CROSSCLOUD_KEYS"):
            private_folder("s3://bucket/keys", "alpha")


class TestLoading:
    @pytest.fixture
    def path(self, home: Path) -> Path:
        write_private(home / "keys/alpha/signing.key", pem(SIGNING))
        write_private(home / "keys/alpha/agreement.key", pem(AGREEMENT))
        return home / "keys/alpha/signing.key"

    def test_round_trip(self, path: Path) -> None:
        assert load_signing_key("keys", "alpha").private_bytes_raw() == SIGNING.private_bytes_raw()
        assert load_agreement_key("keys", "alpha").private_bytes_raw() == AGREEMENT.private_bytes_raw()

    def test_is_its_owners_alone(self, path: Path) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601, 0o610, 0o602])
    @pytest.mark.parametrize(
        ("name", "load"), [("signing.key", load_signing_key), ("agreement.key", load_agreement_key)]
    )
    def test_a_mode_that_lets_others_in_is_refused(
        self, path: Path, mode: int, name: str, load: Callable[[str, str], object]
    ) -> None:
        path.with_name(name).chmod(mode)
        with pytest.raises(
            UsageError, match=f"has mode {mode:04o} and may be read by others: 'chmod 600' it"
        ):
            load("keys", "alpha")

    @pytest.mark.parametrize("mode", [0o600, 0o400])
    def test_a_private_mode_is_accepted(self, path: Path, mode: int) -> None:
        path.chmod(mode)
        check_private(path)

    def test_a_mounted_secret_has_the_mode_its_mount_gives(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(private_keys, "MOUNTED_KEYS", path.parent.parent)
        path.chmod(0o644)
        assert load_signing_key("other", "alpha").private_bytes_raw() == SIGNING.private_bytes_raw()

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
            pem(SIGNING)[:-40],
            SIGNING.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")),
            SIGNING.private_bytes_raw(),
        ],
        ids=["empty", "text", "cut", "encrypted", "raw"],
    )
    def test_what_is_no_open_pem_is_refused(self, home: Path, content: bytes) -> None:
        for name, load in (("signing", load_signing_key), ("agreement", load_agreement_key)):
            write_private(home / f"keys/alpha/{name}.key", content)
            with pytest.raises(UsageError, match=rf"{name}\.key is not a private key in PEM form$"):
                load("keys", "alpha")

    @pytest.mark.parametrize("content", [pem(AGREEMENT), CURVE], ids=["x25519", "p-256"])
    def test_a_signing_key_of_another_kind_is_refused(self, home: Path, content: bytes) -> None:
        write_private(home / "keys/alpha/signing.key", content)
        with pytest.raises(UsageError, match=r"signing\.key must hold an Ed25519 key"):
            load_signing_key("keys", "alpha")

    @pytest.mark.parametrize("content", [pem(SIGNING), CURVE], ids=["ed25519", "p-256"])
    def test_an_agreement_key_of_another_kind_is_refused(self, home: Path, content: bytes) -> None:
        write_private(home / "keys/alpha/agreement.key", content)
        with pytest.raises(UsageError, match=r"agreement\.key must hold an X25519 key"):
            load_agreement_key("keys", "alpha")


class TestWritePrivate:
    def test_never_overwrites(self, tmp_path: Path) -> None:
        write_private(tmp_path / "own/key", b"first")
        with pytest.raises(FileExistsError):
            write_private(tmp_path / "own/key", b"another")
        assert (tmp_path / "own/key").read_bytes() == b"first"
        assert names_in(tmp_path / "own") == ["key"]

    def test_nothing_is_there_before_the_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path, seen = tmp_path / "key", []
        link = os.link

        def linked(source: Path, target: Path) -> None:
            seen.append((path.exists(), source.read_bytes(), stat.S_IMODE(source.stat().st_mode)))
            link(source, target)

        monkeypatch.setattr(os, "link", linked)
        write_private(path, b"content" * 1000)
        assert seen == [(False, b"content" * 1000, 0o600)]
        assert names_in(tmp_path) == ["key"]

    def test_a_failure_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(source: Path, target: Path) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "link", full)
        with pytest.raises(OSError, match="No space left"):
            write_private(tmp_path / "key", b"content")
        assert names_in(tmp_path) == []

    def test_of_all_who_write_one_succeeds(self, tmp_path: Path) -> None:
        path, wins = tmp_path / "own/key", []
        start = threading.Barrier(12)

        def write(number: int) -> None:
            start.wait()
            try:
                write_private(path, bytes([number]) * 5000)
            except FileExistsError:
                return
            wins.append(number)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(wins) == 1
        assert path.read_bytes() == bytes(wins) * 5000
        assert names_in(path.parent) == ["key"]


parts = st.lists(st.binary(max_size=12), max_size=5)


class TestDerivedKeys:
    def test_is_hmac_sha_256_of_the_purpose(self) -> None:
        secret = SIGNING.private_bytes_raw()
        expected = hmac.new(secret, b"crosscloud round secrets", "sha256").digest()
        assert derived_key(SIGNING, "round secrets") == expected

    def test_differs_by_key_and_purpose(self) -> None:
        keys: set[Any] = {
            derived_key(key, purpose) for key in KEYS.values() for purpose in ("a", "b", "a b", "")
        }
        assert len(keys) == 4 * len(KEYS)
        assert all(len(key) == 32 for key in keys)

    def test_the_keyed_digest_is_hmac_sha_256_of_framed_parts(self) -> None:
        derived = hmac.new(SIGNING.private_bytes_raw(), b"crosscloud keyed digests", "sha256").digest()
        message = bytes(7) + b"\x02ab" + bytes(7) + b"\x00" + bytes(7) + b"\x01c"
        expected = hmac.new(derived, message, "sha256").hexdigest()
        assert keyed_digest(SIGNING, [b"ab", b"", b"c"]) == expected
        assert keyed_digest(SIGNING, iter([b"ab", b"", b"c"])) == expected

    @given(given_parts=parts)
    def test_a_keyed_digest_differs_by_key_and_from_the_plain_one(self, given_parts: list[bytes]) -> None:
        digests = {keyed_digest(key, given_parts) for key in KEYS.values()}
        plain = {
            hashlib.sha256(framed(given_parts)).hexdigest(),
            hashlib.sha256(b"".join(given_parts)).hexdigest(),
        }
        assert len(digests) == len(KEYS)
        assert not digests & plain

    @given(left=parts, right=parts)
    def test_equal_digests_have_equal_parts(self, left: list[bytes], right: list[bytes]) -> None:
        assert (keyed_digest(SIGNING, left) == keyed_digest(SIGNING, right)) == (left == right)

    @given(given_parts=parts, cut=st.integers(0, 60))
    def test_other_cuts_of_the_same_bytes_differ(self, given_parts: list[bytes], cut: int) -> None:
        whole = b"".join(given_parts)
        recut = [whole[:cut], whole[cut:]]
        if recut != given_parts:
            assert keyed_digest(SIGNING, recut) != keyed_digest(SIGNING, given_parts)

    def test_a_fresh_key_has_a_digest_of_its_own(self) -> None:
        assert keyed_digest(Ed25519PrivateKey.generate(), [b"a"]) != keyed_digest(SIGNING, [b"a"])
