from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.agreement.commitment import Commitment, commitment_key, committed_digest, read_commitment
from components.agreement.ledger_head import LedgerHead, read_ledger_head
from components.errors import SignatureError
from tests.components.agreement.signed_form import (
    AGREEMENT_KEYS,
    CHARTER,
    KEYS,
    OTHER_TICKETS,
    SITES,
    TICKET,
    SignedForm,
)

SALT = bytes(range(32))
VECTOR = np.array([3, -1, 2**40], np.int64)
EPHEMERAL = base64.b64encode(AGREEMENT_KEYS["delta"].public_key().public_bytes_raw()).decode()
COMMITMENT = Commitment(
    charter=TICKET.charter,
    ticket=TICKET.digest,
    site="alpha",
    ephemeral=EPHEMERAL,
    commitment=committed_digest(TICKET, "alpha", SALT, VECTOR),
    sharing=EPHEMERAL,
)


class TestCommitment(SignedForm):
    domain = "commitment"
    signer = "alpha"
    form = COMMITMENT
    optional = frozenset({"ledger", "sharing"})

    def read(self, document: bytes) -> Commitment:
        return read_commitment(document, TICKET, "alpha", CHARTER)

    def test_a_replay_from_another_ticket_is_refused(self) -> None:
        for ticket in OTHER_TICKETS:
            replayed = replace(COMMITMENT, charter=ticket.charter, ticket=ticket.digest)
            with pytest.raises(SignatureError, match="of alpha was made for another ticket"):
                self.read(replayed.signed(KEYS["alpha"]))

    @pytest.mark.parametrize(
        "change", [{"charter": "00" * 32}, {"ticket": "00" * 32}, {"site": "beta"}, {"site": ""}]
    )
    def test_another_charter_ticket_or_site_is_refused(self, change: dict[str, str]) -> None:
        with pytest.raises(SignatureError, match="of alpha was made for another ticket"):
            self.read(self.signed(self.body() | change))

    def test_another_sites_commitment_is_refused(self) -> None:
        with pytest.raises(SignatureError):
            self.read(replace(COMMITMENT, site="beta").signed(KEYS["beta"]))

    @pytest.mark.parametrize("stranger", ["delta", "aggregator", ""])
    def test_a_site_without_a_key_is_refused(self, stranger: str) -> None:
        document = replace(COMMITMENT, site=stranger).signed(KEYS["delta"])
        with pytest.raises(SignatureError, match=f"{stranger} has no public key in the charter of paper"):
            read_commitment(document, TICKET, stranger, CHARTER)

    @pytest.mark.parametrize("name", ["ephemeral", "sharing"])
    @pytest.mark.parametrize(
        "key", ["x", EPHEMERAL[:-4], EPHEMERAL + "AAAA", "no base64!", 7, ["AA=="], {"a": 1}], ids=repr
    )
    def test_a_key_is_32_bytes(self, name: str, key: object) -> None:
        with pytest.raises(SignatureError, match=r"must be 32 bytes in base64|not in the form"):
            self.read(self.signed(self.body() | {name: key}))

    def test_none_is_needed_where_nothing_is_masked(self) -> None:
        plain = replace(COMMITMENT, ephemeral="")
        assert self.read(plain.signed(KEYS["alpha"])) == plain


HEAD = {"entries": ["e2" * 32], "head": "4d" * 32, "length": 2}


class TestLedgerHead:
    """A site that is charged shows its ledger; what it shows is signed with the rest."""

    def read(self, ledger: Any) -> Commitment:
        document = replace(COMMITMENT, ledger=ledger).signed(KEYS["alpha"])
        return read_commitment(document, TICKET, "alpha", CHARTER)

    def test_is_read_as_it_was_shown(self) -> None:
        assert self.read(HEAD).ledger == HEAD
        assert self.read(None).ledger is None
        shown = LedgerHead(length=2, head="4d" * 32, entries=("e2" * 32,))
        assert read_ledger_head(self.read(asdict(shown)).ledger) == shown

    @pytest.mark.parametrize(
        "ledger",
        [
            {},
            {"length": 2},
            HEAD | {"hint": "x"},
            HEAD | {"length": -1},
            HEAD | {"length": True},
            HEAD | {"length": "2"},
            HEAD | {"length": 0},
            HEAD | {"head": "4D" * 32},
            HEAD | {"head": None},
            HEAD | {"entries": ["e2" * 31]},
            HEAD | {"entries": [["e2" * 32]]},
            HEAD | {"entries": "e2" * 32},
        ],
        ids=repr,
    )
    def test_in_another_form_is_refused(self, ledger: Any) -> None:
        with pytest.raises(SignatureError, match="of alpha is not in the form this version knows"):
            self.read(ledger)

    @pytest.mark.parametrize("ledger", [[], [1], "4d" * 32, 0, False, 7.5], ids=repr)
    def test_that_is_none_is_refused(self, ledger: Any) -> None:
        with pytest.raises(SignatureError, match="not in the form this version knows"):
            self.read(ledger)


def framed_by_hand(parts: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack(">Q", len(part)) + part for part in parts)


def by_hand(site: str, salt: bytes, kind: str, content: bytes) -> str:
    parts = [CHARTER.digest.encode(), TICKET.digest.encode(), site.encode(), salt, kind.encode()]
    pieces = [content[start : start + 2**20] for start in range(0, len(content), 2**20)]
    digests = b"".join(hashlib.sha256(piece).digest() for piece in pieces)
    return hashlib.sha256(framed_by_hand(parts) + len(content).to_bytes(8, "big") + digests).hexdigest()


class TestDigest:
    def test_is_the_hash_of_all_parts_with_their_lengths(self) -> None:
        content = struct.pack("<3q", 3, -1, 2**40)
        expected = by_hand("alpha", SALT, "<i8", content)
        assert COMMITMENT.commitment == expected

    @given(
        values=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8),
        salt=st.binary(min_size=32, max_size=32),
        site=st.sampled_from(SITES),
        kind=st.sampled_from(["i4", "i8", "f8", "f4"]),
    )
    def test_agrees_with_the_bytes_written_by_hand(
        self, values: list[int], salt: bytes, site: str, kind: str
    ) -> None:
        letter = {"i4": "i", "i8": "q", "f8": "d", "f4": "f"}[kind]
        content = struct.pack(f"<{len(values)}{letter}", *values)
        expected = by_hand(site, salt, f"<{kind}", content)
        for order in "<>":
            vector: NDArray[Any] = np.array(values, f"{order}{kind}")
            assert committed_digest(TICKET, site, salt, vector) == expected

    def test_single_bytes_have_no_order(self) -> None:
        expected = by_hand("alpha", SALT, "|i1", b"\x01\xff")
        assert committed_digest(TICKET, "alpha", SALT, np.array([1, -1], np.int8)) == expected

    @pytest.mark.parametrize("length", [0, 1, 2**19 - 1, 2**19, 2**19 + 3, 2**21])
    def test_long_vectors_are_hashed_in_pieces(self, length: int) -> None:
        vector = np.arange(length, dtype=np.int16)
        expected = by_hand("alpha", SALT, "<i2", vector.tobytes())
        assert committed_digest(TICKET, "alpha", SALT, vector) == expected

    def test_a_strided_vector_is_its_values(self) -> None:
        spread = np.arange(20, dtype=np.int64)[::-3]
        assert committed_digest(TICKET, "alpha", SALT, spread) == committed_digest(
            TICKET, "alpha", SALT, spread.copy()
        )

    @given(
        values=st.lists(st.integers(-100, 100), min_size=1, max_size=6),
        place=st.integers(0, 5),
        step=st.integers(-3, 3).filter(bool),
    )
    def test_binds_every_value(self, values: list[int], place: int, step: int) -> None:
        vector = np.array(values, np.int64)
        other = vector.copy()
        other[place % len(values)] += step
        digests = {
            committed_digest(TICKET, "alpha", SALT, each)
            for each in (vector, other, vector[:-1], np.append(vector, 0), vector.astype(np.float64))
        }
        assert len(digests) == 5

    @given(salt=st.binary(max_size=40), bit=st.integers(0, 255))
    def test_binds_the_salt(self, salt: bytes, bit: int) -> None:
        made = committed_digest(TICKET, "alpha", salt, VECTOR)
        others = {salt + b"\0", b"\0" + salt, salt[:-1], salt[1:]} - {salt}
        if salt:
            altered = bytearray(salt)
            altered[bit // 8 % len(salt)] ^= 1 << bit % 8
            others.add(bytes(altered))
        assert made not in {committed_digest(TICKET, "alpha", other, VECTOR) for other in others}

    @given(site=st.text(st.characters(codec="ascii"), max_size=8), cut=st.integers(0, 8))
    def test_binds_ticket_and_site_and_their_boundaries(self, site: str, cut: int) -> None:
        made = committed_digest(TICKET, site, SALT, VECTOR)
        for ticket in OTHER_TICKETS:
            assert committed_digest(ticket, site, SALT, VECTOR) != made
        assert committed_digest(TICKET, site + "x", SALT, VECTOR) != made
        moved = site[cut:]
        if moved:
            assert committed_digest(TICKET, site[:cut], moved.encode() + SALT, VECTOR) != made

    def test_hides_equal_vectors_behind_their_salts(self) -> None:
        zeros = np.zeros(3, np.int64)
        salts = [bytes([number]) * 32 for number in range(50)]
        assert len({committed_digest(TICKET, "alpha", salt, zeros) for salt in salts}) == 50


def test_lies_in_the_folder_of_its_attempt() -> None:
    assert commitment_key(TICKET, "alpha") == "rounds/00007-2/commitments/alpha.json"
