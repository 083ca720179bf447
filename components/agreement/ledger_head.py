"""The head of a site's privacy ledger, as its commitments show it to peers and key holder.

head_0 names dataset and privacy unit; head_k = SHA-256 of head_{k-1} and the digest of entry k, each with
its length before it. Whoever has seen a head can follow the digests of the entries since, and notices a
ledger that was rolled back, cut, forked or not charged. What an entry says stays with the site.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from components.artifacts.documents import digest, framed
from components.errors import IntegrityError, UsageError

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class LedgerHead:
    """What one commitment says of a ledger.

    Attributes:
        length: entries of the ledger, from 0.
        head: SHA-256 over all of them.
        entries: digests of its last entries, in their order: at least those since the head that this
            federation has last seen.
    """

    length: int
    head: str
    entries: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """As a JSON value; `read_ledger_head` is the inverse."""
        return {**asdict(self), "entries": list(self.entries)}


def first_head(dataset: str, unit: str) -> str:
    """The head of an empty ledger.

    Args:
        dataset: what identifies the data at the site, whoever reads them and with whatever query.
        unit: what one protected unit is: `row`, or the column that names it.

    Raises:
        UsageError: one is empty.
    """
    if not dataset or not unit:
        raise UsageError(
            f"a ledger is of a dataset and a privacy unit, got {dataset!r} and {unit!r}: name both"
        )
    return digest(framed([b"privacy ledger", dataset.encode(), unit.encode()]))


def next_head(head: str, entry: str) -> str:
    """The head after one more entry, whose digest is `entry`."""
    return digest(framed([bytes.fromhex(head), bytes.fromhex(entry)]))


def head_after(head: str, entries: Iterable[str]) -> str:
    """The head after several more entries."""
    for entry in entries:
        head = next_head(head, entry)
    return head


def follows(earlier: LedgerHead | None, later: LedgerHead) -> None:
    """Passes a head that goes on from the one this federation saw last.

    Args:
        earlier: None where it has seen none: its memory of the ledger begins with `later`.
        later: of a new ticket, which was charged: it has an entry more.

    Raises:
        IntegrityError: the ledger was rolled back or forked, was not charged, or conceals entries.
    """
    known = earlier.length if earlier else 0
    added = later.length - known
    if added < 0:
        raise IntegrityError(
            f"a privacy ledger of {known} entries has {later.length} now: it was rolled back"
        )
    if added == 0:
        same = earlier is not None and earlier.head == later.head
        raise IntegrityError(
            f"a privacy ledger of {known} entries " + ("was not charged" if same else "was forked")
        )
    if earlier is None:
        return
    if len(later.entries) < added:
        raise IntegrityError(
            f"a privacy ledger has {added} entries more and tells {len(later.entries)}: some are concealed"
        )
    if head_after(earlier.head, later.entries[-added:]) != later.head:
        raise IntegrityError(f"a privacy ledger does not go on from its entry {known}: it was forked")


def read_ledger_head(document: object) -> LedgerHead:
    """The head of a JSON value.

    Raises:
        IntegrityError: it has not the form of one.
    """
    fields = dict(document) if isinstance(document, Mapping) else {}
    length, head, entries = (fields.pop(name, None) for name in ("length", "head", "entries"))
    formed = (
        not fields
        and type(length) is int
        and isinstance(entries, list | tuple)
        and len(entries) <= length
        and all(isinstance(each, str) and _DIGEST.fullmatch(each) for each in (head, *entries))
    )
    if not formed or not isinstance(length, int) or not isinstance(head, str):
        raise IntegrityError("a ledger head is not in the form this version knows")
    return LedgerHead(length=length, head=head, entries=tuple(entries or ()))
