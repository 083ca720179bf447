"""A federation of three sites on paper, and what every signed form promises to those who read it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, BinaryIO, ClassVar, Protocol, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from components.agreement.charter import Charter, SitePublicKeys
from components.agreement.charter_book import propose, sign_edition
from components.agreement.noise_terms import NoiseTerms
from components.agreement.private_keys import AGREEMENT_KEY, SIGNING_KEY, pem, private_folder, write_private
from components.agreement.roster import Roster
from components.agreement.site_policy import POLICY, SitePolicy
from components.agreement.ticket import Ticket
from components.artifacts.documents import sign, verify
from components.errors import ObjectMissingError, ObjectTooLargeError, SignatureError

FEDERATION = "paper"
SITES = ("alpha", "beta", "gamma")
DOMAINS = (
    "charter",
    "commitment",
    "key card",
    "key certificate",
    "receipt",
    "release",
    "roster",
    "round",
    "sealed update",
    "shares",
    "step outcome",
    "step request",
    "ticket",
    "unmasking",
    "void",
)


def secret_of(text: str) -> bytes:
    """32 bytes that are always the same."""
    return hashlib.sha256(text.encode()).digest()


KEYS = {
    owner: Ed25519PrivateKey.from_private_bytes(secret_of(owner))
    for owner in (*SITES, "delta", "coordinator", "key-holder")
}
AGREEMENT_KEYS = {
    site: X25519PrivateKey.from_private_bytes(secret_of(f"{site} agrees")) for site in (*SITES, "delta")
}


def signing_text(owner: str) -> str:
    """An owner's public signing key as a charter names it."""
    return base64.b64encode(KEYS[owner].public_key().public_bytes_raw()).decode()


def public_keys(site: str) -> SitePublicKeys:
    """A site's public keys as a charter names them."""
    agreement = AGREEMENT_KEYS[site].public_key().public_bytes_raw()
    return SitePublicKeys(signing=signing_text(site), agreement=base64.b64encode(agreement).decode())


CHARTER = Charter(
    federation=FEDERATION,
    edition=1,
    previous="",
    sites={site: public_keys(site) for site in SITES},
    coordinator=signing_text("coordinator"),
    key_holder=signing_text("key-holder"),
    rotation_rounds=4,
    protection="sealed",
    values_per_slot=2,
    algorithm="fedavg",
    server_optimizer="average",
    genesis="9e" * 32,
    encoder="",
    colluding_sites=1,
    min_sum_sites=3,
    min_sites=3,
    clipping_norm=2.5,
    largest_value=0.5,
    max_examples=1000,
    local_epochs=5,
    learning_rate=0.25,
    batch_size=64,
    max_rounds=12,
    server_learning_rate=0.75,
    proximal=0,
    cross_weight=0,
    ridge=0,
)
NOISE = NoiseTerms(
    target_epsilon=4.5,
    delta=0.0001,
    public_population=9999,
    first_round=3,
    noise_multipliers=(2.5, 1.5, 1.25),
    count_weight=0.125,
    rows_per_unit=2,
)
NOISED = replace(CHARTER, algorithm="fedsgd", server_optimizer="adam", values_per_slot=1, privacy=NOISE)
"""The charter of three sites that share the noise of rounds 3 to 5."""
TICKET = Ticket(
    charter=CHARTER.digest,
    federation=FEDERATION,
    round_number=7,
    attempt=2,
    void="0d" * 32,
    purpose="update",
    model="ab" * 32,
    previous="cd" * 32,
    previous_folder="rounds/00006-1",
    snapshot="2026-11-22T10:00:00+00:00",
    local_epochs=2,
    learning_rate=1e-07,
    batch_size=16,
    seed=3,
)
# What an attacker has signed documents of: the next round, the attempt before, another purpose.
OTHER_TICKETS = (
    replace(TICKET, round_number=8),
    replace(TICKET, attempt=1, void=""),
    replace(TICKET, purpose="metrics"),
    replace(TICKET, previous="", previous_folder=""),
    replace(TICKET, learning_rate=2e-07),
    replace(TICKET, charter="00" * 32),
)
ROSTER = Roster(
    charter=CHARTER.digest,
    ticket=TICKET.digest,
    commitments={"alpha": "a1" * 32, "gamma": "a3" * 32},
    left_out={"beta": "timeout: train did not end within 60 s"},
)


def put_in_force(charter: Charter = CHARTER, keys_uri: str = "keys") -> None:
    """Proposes an edition and signs it as everybody."""
    propose(keys_uri, charter)
    for signer in charter.signers:
        sign_edition(keys_uri, charter, signer, KEYS[signer])


def furnish(owner: str, *, charter: Charter = CHARTER, key: str = "", **rules: Any) -> None:
    """Gives a party its private keys and a policy that pins the charter; replaces what is there."""
    folder = private_folder("keys", owner)
    content = {SIGNING_KEY: pem(KEYS[key or owner])}
    if owner in AGREEMENT_KEYS:
        content[AGREEMENT_KEY] = pem(AGREEMENT_KEYS[owner])
    free = {"charter": charter.digest, "protections": ("sealed",), "stores": ("store", "exchange")}
    content[POLICY] = SitePolicy(**(free | rules)).to_yaml()
    for name, each in content.items():
        (folder / name).unlink(missing_ok=True)
        write_private(folder / name, each)


class Held:
    """A store of what the test holds in its hands, so that a law can be tried thousands of times."""

    uri = "held"

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self.objects = dict(objects)

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        if key not in self.objects:
            raise ObjectMissingError(key)
        if limit is not None and len(self.objects[key]) > limit:
            raise ObjectTooLargeError(key)
        return self.objects[key]

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        return cast(BinaryIO, io.BytesIO(self.read(key)))

    def create(self, key: str, content: bytes) -> None:
        raise AssertionError(key)

    def create_from(self, key: str, chunks: Iterable[bytes]) -> None:
        raise AssertionError(key)

    def remove(self, key: str) -> None:
        raise AssertionError(key)

    def exists(self, key: str) -> bool:
        return key in self.objects

    def size(self, key: str) -> int:
        return len(self.read(key))

    def keys(self, prefix: str = "") -> list[str]:
        return sorted(key for key in self.objects if key.startswith(f"{prefix}/"))


class Signable(Protocol):
    """A form that its owner can sign."""

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document."""
        ...


class SignedForm:
    """Inherit it, set what follows, and give `read`."""

    domain: ClassVar[str]
    signer: ClassVar[str]
    form: ClassVar[Signable]
    optional: ClassVar[frozenset[str]] = frozenset()

    def read(self, document: bytes) -> object:
        """Reads the document as the form's readers do."""
        raise NotImplementedError

    def document(self) -> bytes:
        return self.form.signed(KEYS[self.signer])

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.document())["body"]
        return body

    def signed(self, body: dict[str, Any], *, by: str = "", named: str = "", domain: str = "") -> bytes:
        return sign(
            KEYS[by or self.signer], domain=domain or self.domain, signer=named or self.signer, body=body
        )

    def test_what_is_signed_is_read(self) -> None:
        assert self.read(self.document()) == self.form
        assert self.document() == self.signed(self.body())

    def test_the_document_is_of_its_domain_and_signer(self) -> None:
        key = KEYS[self.signer].public_key()
        assert verify(self.document(), domain=self.domain, signer=self.signer, key=key) == self.body()

    def test_any_altered_byte_is_refused(self) -> None:
        document = self.document()

        @given(position=st.integers(0, len(document) - 1), byte=st.integers(0, 255))
        def refuses(position: int, byte: int) -> None:
            altered = document[:position] + bytes([byte]) + document[position + 1 :]
            if altered != document:
                with pytest.raises(SignatureError):
                    self.read(altered)

        refuses()

    def test_every_other_domain_is_refused(self) -> None:
        assert self.domain in DOMAINS
        for domain in set(DOMAINS) - {self.domain}:
            with pytest.raises(SignatureError, match="does not verify"):
                self.read(self.signed(self.body(), domain=domain))

    def test_every_other_party_is_refused(self) -> None:
        for other in set(KEYS) - {self.signer}:
            with pytest.raises(SignatureError, match="does not verify"):
                self.read(self.signed(self.body(), by=other))
            with pytest.raises(SignatureError, match="names another signer"):
                self.read(self.signed(self.body(), by=other, named=other))

    def test_every_missing_field_is_refused(self) -> None:
        for name in set(self.body()) - self.optional:
            body = {key: value for key, value in self.body().items() if key != name}
            with pytest.raises(SignatureError, match="not in the form this version knows"):
                self.read(self.signed(body))

    def test_an_unknown_field_is_refused(self) -> None:
        with pytest.raises(SignatureError, match="not in the form this version knows"):
            self.read(self.signed(self.body() | {"hint": "x"}))
