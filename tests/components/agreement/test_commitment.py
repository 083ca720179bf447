from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.agreement.commitment import SALT_BYTES, Commitment, commit, commitment_key, read_commitment
from components.errors import SignatureError
from tests.components.agreement.signed_form import KEYS, OTHER_TICKETS, PARTIES, TICKET, SignedForm

SALT = bytes(range(SALT_BYTES))
UPDATE = b"update"
COMMITMENT = commit(TICKET, "alpha", SALT, UPDATE)


class TestCommitment(SignedForm):
    domain = "commitment"
    signer = "alpha"
    form = COMMITMENT

    def read(self, document: bytes) -> Commitment:
        return read_commitment(document, TICKET, "alpha", PARTIES)

    def test_a_replay_from_another_ticket_is_refused(self) -> None:
        for ticket in OTHER_TICKETS:
            replayed = commit(ticket, "alpha", SALT, UPDATE).signed(KEYS["alpha"])
            with pytest.raises(SignatureError, match="of alpha was made for another ticket"):
                self.read(replayed)

    def test_the_name_of_another_site_is_refused(self) -> None:
        with pytest.raises(SignatureError, match="of alpha was made for another ticket"):
            self.read(self.signed(self.body() | {"site": "beta"}))

    def test_another_sites_commitment_is_refused(self) -> None:
        with pytest.raises(SignatureError):
            self.read(commit(TICKET, "beta", SALT, UPDATE).signed(KEYS["beta"]))

    def test_a_site_without_a_key_is_refused(self) -> None:
        with pytest.raises(SignatureError, match=r"delta has no public key in public\.yaml of paper"):
            read_commitment(self.document(), TICKET, "delta", PARTIES)


def test_is_the_hash_of_all_parts_with_their_lengths() -> None:
    parts = [TICKET.digest.encode(), b"alpha", SALT, UPDATE]
    lengths = [64, 5, 32, 6]
    framed = b"".join(bytes(7) + bytes([length]) + part for length, part in zip(lengths, parts, strict=True))
    assert COMMITMENT.commitment == hashlib.sha256(framed).hexdigest()
    assert (COMMITMENT.ticket, COMMITMENT.site) == (TICKET.digest, "alpha")


@given(salt=st.binary(max_size=40), update=st.binary(max_size=40))
def test_binds_every_part(salt: bytes, update: bytes) -> None:
    made = commit(TICKET, "alpha", salt, update).commitment
    others = {
        commit(OTHER_TICKETS[0], "alpha", salt, update).commitment,
        commit(TICKET, "beta", salt, update).commitment,
        commit(TICKET, "alpha", salt + b"x", update).commitment,
        commit(TICKET, "alpha", salt, update + b"x").commitment,
        commit(TICKET, "alphax", salt, update).commitment,
    }
    if salt:
        others.add(commit(TICKET, "alpha", salt[:-1], salt[-1:] + update).commitment)
    assert made not in others
    assert len(others) == 5 + bool(salt)


def test_lies_in_the_folder_of_its_attempt() -> None:
    assert commitment_key(TICKET, "alpha") == "rounds/00007-2/commitments/alpha.json"
