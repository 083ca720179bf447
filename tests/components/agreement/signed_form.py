"""A federation of three sites on paper, and what every signed form promises to those who read it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any, ClassVar, Protocol

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from components.agreement.parties import Parties
from components.agreement.roster import Roster
from components.agreement.ticket import Ticket
from components.artifacts.documents import sign, verify
from components.errors import SignatureError

FEDERATION = "paper"
SITES = ("alpha", "beta", "gamma")
DOMAINS = ("ticket", "commitment", "roster", "sealed update", "receipt", "round", "void")
KEYS = {
    owner: Ed25519PrivateKey.from_private_bytes(hashlib.sha256(owner.encode()).digest())
    for owner in (*SITES, "coordinator", "key-holder")
}
PARTIES = Parties(
    federation=FEDERATION,
    keys={owner: key.public_key() for owner, key in KEYS.items()},
    contexts={"he": "c0" * 32},
)
TICKET = Ticket(
    federation=FEDERATION,
    round_number=7,
    attempt=2,
    purpose="update",
    protection="he",
    sites=SITES,
    model="ab" * 32,
    previous="cd" * 32,
    snapshot="2026-11-22T10:00:00+00:00",
    local_epochs=2,
    learning_rate=1e-07,
    batch_size=16,
    seed=3,
)
# What an attacker has signed documents of: the next round, the attempt before, another purpose.
OTHER_TICKETS = (
    replace(TICKET, round_number=8),
    replace(TICKET, attempt=1),
    replace(TICKET, purpose="metrics"),
    replace(TICKET, previous=""),
    replace(TICKET, learning_rate=2e-07),
)
ROSTER = Roster(
    ticket=TICKET.digest,
    commitments={"alpha": "a1" * 32, "gamma": "a3" * 32},
    left_out={"beta": "timeout: train did not end within 60 s"},
)


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
