"""Keys: each party's own, made once and kept; and the encryption keys that the key holder certifies."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tenseal
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from components.agreement.charter import Charter
from components.agreement.key_certificate import certificate_key, certified_keys, context_key
from components.agreement.private_keys import load_signing_key
from components.artifacts.documents import sign
from components.artifacts.stores import open_store
from components.encryption.keys import (
    card_key,
    certify_key,
    initialise_keys,
    offered_keys,
    read_card,
    replace_keys,
)
from components.encryption.protection import context_fingerprint
from components.encryption.secret_keys.key_store import KeyStore, SecretName
from components.errors import SignatureError, UsageError
from components.rounds.round_opening.opening import ModelShape
from tests.components.aggregation.three_sites import draft_charter

SITES = ("alpha", "beta", "gamma")
OWNERS = (*SITES, "coordinator", "key-holder")
KEYS = "small/keys"
SHAPE = ModelShape(features=2, hidden_units=0, classes=2, seed=1)
encrypted = pytest.mark.parametrize("protection", ["he", "sealed"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh home, and a umask that takes nothing away from what the product asks for."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    before = os.umask(0)
    yield tmp_path
    os.umask(before)


def initialise(keys_uri: str = KEYS) -> None:
    initialise_keys("small", OWNERS, keys_uri=keys_uri)


def charter(protection: str, keys_uri: str = KEYS, **terms: Any) -> Charter:
    return draft_charter(keys_uri, protection, SITES, SHAPE, **terms)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files(folder: Path) -> dict[str, bytes]:
    """Content by path below the folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def signing_key(folder: Path, owner: str) -> Ed25519PrivateKey:
    key = load_pem_private_key((folder / owner / "signing.key").read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


def agreement_key(folder: Path, owner: str) -> X25519PrivateKey:
    key = load_pem_private_key((folder / owner / "agreement.key").read_bytes(), password=None)
    assert isinstance(key, X25519PrivateKey)
    return key


def offers_what_is_kept(folder: Path) -> None:
    """Every card offers the public halves of the keys that its owner keeps."""
    for owner in OWNERS:
        card = read_card(open_store(KEYS), owner, "small")
        public = signing_key(folder, owner).public_key().public_bytes_raw()
        assert base64.b64decode(card.signing) == public
        if owner in SITES:
            agreed = agreement_key(folder, owner).public_key().public_bytes_raw()
            assert base64.b64decode(card.agreement) == agreed
        else:
            assert card.agreement == ""


class TestPrivateKeys:
    PRIVATE = frozenset(
        {f"{owner}/signing.key" for owner in OWNERS} | {f"{site}/agreement.key" for site in SITES}
    )

    def test_every_owner_has_keys_of_his_own_that_only_he_can_read(self, home: Path) -> None:
        initialise()
        assert set(files(home / KEYS)) == self.PRIVATE | {f"cards/{owner}.json" for owner in OWNERS}
        for owner in OWNERS:
            assert mode(home / KEYS / owner) == 0o700
        for path in self.PRIVATE:
            assert mode(home / KEYS / path) == 0o600
        offers_what_is_kept(home / KEYS)
        raw = [signing_key(home / KEYS, owner).private_bytes_raw() for owner in OWNERS]
        raw += [agreement_key(home / KEYS, site).private_bytes_raw() for site in SITES]
        assert len(set(raw)) == len(OWNERS) + len(SITES)

    def test_none_lies_outside_its_owners_folder(self, home: Path) -> None:
        """In no encoding: PEM, raw, base64, hexadecimal."""
        initialise()
        certify_key(charter("sealed"), keys_uri=KEYS, first_round=1)
        everything = files(home)
        for name in self.PRIVATE:
            pem = everything[f"{KEYS}/{name}"]
            raw = load_pem_private_key(pem, password=None).private_bytes_raw()  # type: ignore[union-attr]
            encodings = [raw, base64.b64encode(raw)[:40], raw.hex().encode(), *pem.splitlines()[1:-1]]
            own = f"{KEYS}/{name.partition('/')[0]}/"
            elsewhere = [content for path, content in everything.items() if not path.startswith(own)]
            assert len(elsewhere) >= len(OWNERS) * 2
            assert not any(encoding in content for encoding in encodings for content in elsewhere), name

    def test_they_are_made_once_and_kept(self, home: Path) -> None:
        initialise()
        before = files(home)
        initialise()
        assert files(home) == before

    def test_only_what_is_missing_is_made(self, home: Path) -> None:
        initialise_keys("small", [owner for owner in OWNERS if owner != "beta"], keys_uri=KEYS)
        before = files(home / KEYS)
        (home / KEYS / "cards/alpha.json").unlink()
        initialise()
        after = files(home / KEYS)
        assert before.items() <= after.items()
        assert after.keys() - before.keys() == {"beta/signing.key", "beta/agreement.key", "cards/beta.json"}
        offers_what_is_kept(home / KEYS)

    @pytest.mark.parametrize("lost", ["signing.key", "agreement.key"])
    def test_a_card_with_other_keys_than_are_kept_is_told(self, home: Path, lost: str) -> None:
        """Its owner lost a key, or somebody offered his own in its name."""
        initialise()
        (home / KEYS / "alpha" / lost).unlink()
        published = (home / KEYS / "cards/alpha.json").read_bytes()
        with pytest.raises(UsageError, match=r"offers other keys for alpha than .* holds: restore those, or"):
            initialise()
        assert (home / KEYS / "cards/alpha.json").read_bytes() == published

    def test_replaced_keys_are_offered_on_a_next_card(self, home: Path) -> None:
        initialise()
        first = (home / KEYS / "cards/alpha.json").read_bytes()
        number, aside = replace_keys("small", "alpha", keys_uri=KEYS)
        assert (number, aside) == (2, ("signing.replaced-1.key", "agreement.replaced-1.key"))
        assert (home / KEYS / "cards/alpha.json").read_bytes() == first
        store = open_store(KEYS)
        card, signing = read_card(store, "alpha", "small"), load_signing_key(KEYS, "alpha")
        assert card.signing == base64.b64encode(signing.public_key().public_bytes_raw()).decode()
        assert offered_keys("small", ["alpha"], keys_uri=KEYS)[0] == {"alpha": card.site_keys}
        before = files(home / KEYS)
        initialise()
        assert files(home / KEYS) == before, "the newest card is of the keys that lie here"
        assert replace_keys("small", "alpha", keys_uri=KEYS)[0] == 3

    def test_a_card_that_somebody_else_published_keeps_nobody_from_replacing(self, home: Path) -> None:
        initialise()
        (home / KEYS / "cards/alpha.2.json").write_bytes((home / KEYS / "cards/beta.json").read_bytes())
        with pytest.raises(SignatureError):
            read_card(open_store(KEYS), "alpha", "small")
        assert replace_keys("small", "alpha", keys_uri=KEYS)[0] == 3
        offered = read_card(open_store(KEYS), "alpha", "small").signing
        own = load_signing_key(KEYS, "alpha").public_key().public_bytes_raw()
        assert base64.b64decode(offered) == own

    def test_who_has_offered_none_has_none_to_replace(self, home: Path) -> None:
        with pytest.raises(UsageError, match="delta has offered no keys at"):
            replace_keys("small", "delta", keys_uri=KEYS)

    def test_two_processes_that_race_end_with_the_same_keys(self, home: Path) -> None:
        racers = [
            subprocess.Popen([sys.executable, "-c", RACE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        for racer in racers:
            assert racer.stdout
            racer.stdout.readline()
        for racer in racers:
            assert racer.stdin
            racer.stdin.close()
        assert [racer.wait() for racer in racers] == [0, 0]
        offers_what_is_kept(home / KEYS)
        expected = self.PRIVATE | {f"cards/{owner}.json" for owner in OWNERS}
        assert set(files(home / KEYS)) == expected

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
    def test_one_that_is_stopped_is_gone_on_with(self, home: Path, number: int) -> None:
        done = subprocess.run(
            [sys.executable, "-c", STOPPED.format(number=int(number))], capture_output=True, check=False
        )
        assert done.returncode != 0
        before = files(home / KEYS)
        made = {"alpha/signing.key", "alpha/agreement.key", "cards/alpha.json"}
        assert set(before) == made
        initialise()
        assert before.items() <= files(home / KEYS).items()
        offers_what_is_kept(home / KEYS)

    def test_they_may_lie_in_a_folder_of_their_own(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CROSSCLOUD_KEYS", str(tmp_path / "private"))
        initialise()
        assert set(files(tmp_path / "private")) == self.PRIVATE
        assert set(files(home / KEYS)) == {f"cards/{owner}.json" for owner in OWNERS}
        offers_what_is_kept(tmp_path / "private")

    def test_a_file_uri_is_a_folder_like_any_other(self, home: Path) -> None:
        initialise(f"file://{home}/{KEYS}")
        offers_what_is_kept(home / KEYS)


MAKE = f"initialise_keys('small', {OWNERS!r}, keys_uri={KEYS!r})\n"
RACE = (
    "import sys\nfrom components.encryption.keys import initialise_keys\nprint(flush=True)\n"
    "sys.stdin.read()\n" + MAKE
)
STOPPED = (
    "import os\nfrom components.encryption.keys import initialise_keys\n"
    "def owners():\n    yield 'alpha'\n    os.kill(os.getpid(), {number})\n    yield 'beta'\n"
    f"initialise_keys('small', owners(), keys_uri={KEYS!r})\n"
)


class TestCards:
    def card(self, home: Path, owner: str = "alpha") -> Path:
        return home / KEYS / card_key(owner)

    def test_a_card_is_signed_with_the_key_it_offers(self, home: Path) -> None:
        initialise()
        document = json.loads(self.card(home).read_bytes())
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(document["body"]["signing"]))
        assert document["signer"] == "alpha"
        assert document["body"]["federation"] == "small"
        found, coordinator, key_holder = offered_keys("small", SITES, keys_uri=KEYS)
        assert tuple(found) == SITES
        assert found["alpha"].signing == document["body"]["signing"]
        assert base64.b64decode(coordinator) != base64.b64decode(key_holder)
        assert key.public_bytes_raw() == signing_key(home / KEYS, "alpha").public_key().public_bytes_raw()

    def test_a_missing_card_is_told_with_the_mend(self, home: Path) -> None:
        initialise()
        self.card(home, "beta").unlink()
        with pytest.raises(UsageError, match=r"beta has offered no keys .* 'crosscloud keys init --as beta'"):
            offered_keys("small", SITES, keys_uri=KEYS)

    def test_keys_offered_to_another_federation_are_not_taken(self, home: Path) -> None:
        initialise()
        with pytest.raises(UsageError, match="holds the card of alpha of small, not of alpha of large"):
            read_card(open_store(KEYS), "alpha", "large")

    @pytest.mark.parametrize("signer", ["alpha", "beta"])
    def test_another_partys_card_in_its_place_is_refused(self, home: Path, signer: str) -> None:
        """Also when it is signed anew under the name of the place it lies in."""
        initialise()
        body = json.loads(self.card(home, "beta").read_bytes())["body"]
        document = sign(signing_key(home / KEYS, "beta"), domain="key card", signer=signer, body=body)
        self.card(home).write_bytes(document)
        with pytest.raises((SignatureError, UsageError)):
            read_card(open_store(KEYS), "alpha", "small")

    @pytest.mark.parametrize(
        "change",
        [
            {"agreement": base64.b64encode(bytes(32)).decode()},
            {"signing": base64.b64encode(bytes(32)).decode()},
            {"signing": "AAAA"},
            {"signing": None},
            {"more": 1},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("signed", [True, False])
    def test_an_altered_card_is_refused(self, home: Path, change: dict[str, Any], signed: bool) -> None:
        initialise()
        document = json.loads(self.card(home).read_bytes())
        document["body"] |= change
        content = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        if signed:
            key = signing_key(home / KEYS, "coordinator")
            content = sign(key, domain="key card", signer="alpha", body=document["body"])
        self.card(home).write_bytes(content)
        with pytest.raises(SignatureError):
            read_card(open_store(KEYS), "alpha", "small")

    @pytest.mark.parametrize(
        "content",
        [b"", b"{}", b"[]", b'{"body": []}', b'{"body": 1}', b"\xff", b"[" * 60_000],
        ids=["empty", "object", "list", "listed", "number", "bytes", "deep"],
    )
    def test_what_is_no_card_is_refused(self, home: Path, content: bytes) -> None:
        initialise()
        self.card(home).write_bytes(content)
        with pytest.raises(SignatureError, match="card of alpha is not in the form"):
            read_card(open_store(KEYS), "alpha", "small")


class TestEncryptionKeys:
    @encrypted
    def test_the_certified_context_is_public_and_the_other_half_the_key_holders(
        self, home: Path, protection: str
    ) -> None:
        initialise()
        before = files(home)
        certificate = certify_key(charter(protection), keys_uri=KEYS, first_round=1)
        assert certificate
        name = certificate.context[:16]
        made = set(files(home)) - set(before)
        assert made == {
            f"{KEYS}/key-holder/{protection}-{name}.secret",
            f"{KEYS}/contexts/{protection}-{name}.public",
            f"{KEYS}/{certificate_key(charter(protection), protection, 1)}",
        }
        public = (home / KEYS / f"contexts/{protection}-{name}.public").read_bytes()
        secret = home / KEYS / f"key-holder/{protection}-{name}.secret"
        assert certificate.context == context_fingerprint(public)
        assert (certificate.number, certificate.first_round, certificate.previous) == (1, 1, "")
        assert not tenseal.context_from(public, n_threads=1).is_private()
        assert tenseal.context_from(secret.read_bytes(), n_threads=1).is_private()
        assert mode(secret) == 0o600
        [found] = certified_keys(KEYS, charter(protection), protection)
        assert found.certificate == certificate

    @encrypted
    def test_no_piece_of_the_secret_key_lies_elsewhere(self, home: Path, protection: str) -> None:
        initialise()
        certify_key(charter(protection), keys_uri=KEYS, first_round=1)
        [(name, secret)] = [(n, c) for n, c in files(home).items() if n.endswith(".secret")]
        [public] = [content for path, content in files(home).items() if path.endswith(".public")]
        # Parameters and public key stand in both; the secret key is what the secret half has more.
        assert secret.startswith(public[:64])
        pieces = [secret[-k : -k + 64 or None] for k in range(64, 4096, 64)]
        assert all(piece not in public for piece in pieces)
        for path, content in files(home).items():
            assert path == name or not any(piece in content for piece in pieces), path

    def test_a_protection_without_a_key_has_none(self, home: Path) -> None:
        initialise()
        before = files(home)
        assert certify_key(charter("none"), keys_uri=KEYS, first_round=1) is None
        assert files(home) == before

    def test_the_next_key_follows_the_one_before(self, home: Path) -> None:
        initialise()
        for first_round in (1, 8):
            certify_key(charter("sealed"), keys_uri=KEYS, first_round=first_round)
        first, second = certified_keys(KEYS, charter("sealed"), "sealed")
        assert (second.certificate.number, second.certificate.first_round) == (2, 8)
        assert second.certificate.previous == first.digest
        assert second.certificate.context != first.certificate.context
        assert len([name for name in files(home) if name.endswith(".secret")]) == 2

    @pytest.mark.parametrize("first_round", [1, 3, 4])
    def test_one_that_would_serve_earlier_is_refused_and_leaves_nothing(
        self, home: Path, first_round: int
    ) -> None:
        initialise()
        certify_key(charter("sealed"), keys_uri=KEYS, first_round=4)
        before = files(home)
        with pytest.raises(UsageError, match=f"must serve from a later round, got {first_round}"):
            certify_key(charter("sealed"), keys_uri=KEYS, first_round=first_round)
        assert files(home) == before

    def test_of_two_starts_at_once_one_key_is_certified_and_the_others_secret_forgotten(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The rival certifies its key after this start has looked and before it certifies its own."""
        initialise()
        keep = KeyStore.keep

        def after_the_rival(own: KeyStore, name: SecretName, secret: bytes) -> None:
            monkeypatch.setattr(KeyStore, "keep", keep)
            certify_key(charter("sealed"), keys_uri=KEYS, first_round=1)
            keep(own, name, secret)

        monkeypatch.setattr(KeyStore, "keep", after_the_rival)
        certificate = certify_key(charter("sealed"), keys_uri=KEYS, first_round=1)
        [certified] = certified_keys(KEYS, charter("sealed"), "sealed")
        assert certificate == certified.certificate
        [secret] = [name for name in files(home) if name.endswith(".secret")]
        assert secret == f"{KEYS}/key-holder/sealed-{certified.certificate.context[:16]}.secret"
        public = open_store(KEYS).read(context_key("sealed", certified.certificate.context))
        assert context_fingerprint(public) == certified.certificate.context

    def test_a_certificate_needs_the_key_holders_own_key(self, home: Path) -> None:
        initialise()
        (home / KEYS / "key-holder/signing.key").unlink()
        before = files(home)
        with pytest.raises(UsageError, match=r"no private key at .*key-holder/signing\.key"):
            certify_key(charter("sealed"), keys_uri=KEYS, first_round=1)
        assert files(home) == before
