from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.agreement.ledger_head import (
    LedgerHead,
    first_head,
    follows,
    head_after,
    next_head,
    read_ledger_head,
)
from components.errors import IntegrityError, UsageError

digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
histories = st.lists(digests, max_size=12)
START = first_head("claims", "row")


def head_of(entries: list[str], since: int = 0) -> LedgerHead:
    return LedgerHead(length=len(entries), head=head_after(START, entries), entries=tuple(entries[since:]))


def test_heads_are_the_stated_hashes() -> None:
    def sha(*parts: bytes) -> bytes:
        return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()

    zero = sha(b"privacy ledger", b"claims", b"row")
    one = sha(zero, bytes(32))
    two = sha(one, bytes([7] * 32))
    assert bytes.fromhex(START) == zero
    assert bytes.fromhex(next_head(START, "00" * 32)) == one
    assert bytes.fromhex(head_after(START, ["00" * 32, "07" * 32])) == two


def test_dataset_and_unit_are_told_apart() -> None:
    names = [("claims", "row"), ("claimsr", "ow"), ("claims", "patient"), ("row", "claims")]
    assert len({first_head(*each) for each in names}) == 4
    for dataset, unit in (("", "row"), ("claims", "")):
        with pytest.raises(UsageError, match="name both"):
            first_head(dataset, unit)


@given(histories, st.lists(digests, min_size=1, max_size=6), st.integers(0, 12))
def test_an_honest_ledger_passes_however_much_it_tells(
    before: list[str], added: list[str], overlap: int
) -> None:
    later = head_of(before + added, since=max(0, len(before) - overlap))
    follows(head_of(before), later)
    follows(None, later)


@given(st.lists(digests, min_size=1, max_size=8, unique=True), st.data())
def test_any_other_history_is_refused(entries: list[str], data: st.DataObject) -> None:
    """Entries replaced, dropped or swapped before the head that was seen; the rest goes on honestly."""
    place = data.draw(st.integers(0, len(entries) - 1))
    changed = entries[:place] + data.draw(st.lists(digests, max_size=2)) + entries[place + 1 :]
    if changed[: len(entries)] == entries:
        return
    later = head_of(changed + data.draw(st.lists(digests, max_size=4)))
    with pytest.raises(IntegrityError, match=r"rolled back|forked"):
        follows(head_of(entries), later)


@given(st.lists(digests, min_size=2, max_size=8, unique=True), st.data())
def test_a_head_that_its_entries_do_not_give_is_refused(entries: list[str], data: st.DataObject) -> None:
    seen = data.draw(st.integers(0, len(entries) - 1))
    honest = head_of(entries, since=seen)
    other = data.draw(digests)
    forged = LedgerHead(length=honest.length, head=other, entries=honest.entries)
    if other != honest.head:
        with pytest.raises(IntegrityError, match="forked"):
            follows(head_of(entries[:seen]), forged)


def test_stale_heads_rollbacks_and_concealed_entries() -> None:
    entries = [f"{k:064x}" for k in range(5)]
    seen = head_of(entries[:3])
    with pytest.raises(IntegrityError, match=r"^a privacy ledger of 3 entries was not charged$"):
        follows(seen, head_of(entries[:3]))
    with pytest.raises(IntegrityError, match="of 3 entries was forked"):
        follows(seen, head_of(entries[1:4]))
    with pytest.raises(IntegrityError, match="of 3 entries has 2 now: it was rolled back"):
        follows(seen, head_of(entries[:2]))
    with pytest.raises(IntegrityError, match="has 2 entries more and tells 1: some are concealed"):
        follows(seen, head_of(entries, since=4))
    with pytest.raises(IntegrityError, match="of 0 entries"):
        follows(None, head_of([]))


@given(histories, st.integers(0, 12))
def test_a_head_comes_back_from_its_document(entries: list[str], since: int) -> None:
    head = head_of(entries, since)
    assert read_ledger_head(json.loads(json.dumps(head.document()))) == head


@pytest.mark.parametrize(
    "change",
    [
        {"length": 0},
        {"length": "1"},
        {"length": True},
        {"length": -1},
        {"head": "00"},
        {"head": None},
        {"entries": ["00" * 31]},
        {"entries": ["00" * 32] * 2},
        {"entries": "00" * 32},
        {"entries": None},
        {"entries": [7]},
        {"surprise": 1},
    ],
)
def test_what_is_no_head_is_refused(change: dict[str, Any]) -> None:
    document = {**head_of(["ab" * 32]).document(), **change}
    with pytest.raises(IntegrityError, match="not in the form"):
        read_ledger_head(document)


@pytest.mark.parametrize("document", [None, [], "x", 1, {}])
def test_other_json_is_refused(document: object) -> None:
    with pytest.raises(IntegrityError, match="not in the form"):
        read_ledger_head(document)
