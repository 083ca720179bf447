"""The site's privacy ledger: what was spent on one dataset, for one privacy unit, by whoever reads it.

    ledgers/<head of the empty ledger>/00000001.json ...

It lies in the site's own store. An entry is created only where none is, so of two runs that want the
last of a budget one finds the other's entry and counts again. Nothing is ever changed or removed; what
was spent is computed anew from the events whenever somebody asks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from components.agreement.ledger_head import LedgerHead, first_head, next_head
from components.artifacts.stores import Store
from components.errors import (
    IntegrityError,
    ObjectExistsError,
    ObjectMissingError,
    PrivacyBudgetExceededError,
    RefusedError,
    UsageError,
)
from components.privacy.allowance import Budget, rounds_left
from components.privacy.events import Event
from components.privacy.ledger_entry import Charge, Entry, read_entry
from components.privacy.zcdp import rho

_ENTRY_BYTES = 1 << 20
_SPENT = "the site's privacy budget does not hold this round"


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a ledger says at a time.

    Attributes:
        entries: releases paid for, in all.
        period: the running period, 2026-11 or `total`.
        epsilon_spent: in this period, at the budget's delta.
        epsilon_left: budget less that. Costs do not add up in epsilon: more rounds may fit than it seems.
        epsilon_ever: of all entries together, at the same delta.
    """

    entries: int
    period: str
    epsilon_spent: float
    epsilon_left: float
    epsilon_ever: float


class Ledger:
    """One dataset's ledger, verified whenever it is read."""

    def __init__(self, store: Store, *, dataset: str, unit: str, budget: Budget) -> None:
        self._store = store
        self._budget = budget
        self._heads = [first_head(dataset, unit)]
        self._entries: list[Entry] = []

    @classmethod
    def open(
        cls, store: Store, *, dataset: str, unit: str, budget: Budget, known: LedgerHead | None = None
    ) -> Ledger:
        """Reads and verifies a ledger; one that has no entry yet is empty.

        Args:
            store: the site's own.
            dataset: what names the data at the site, whoever reads them and with whatever query.
            unit: `row`, or the column that names the protected unit.
            budget: as the site's people have set it.
            known: a head of this ledger that was published, for finding what the store alone cannot show:
                that the newest entries are gone or were made anew.

        Raises:
            IntegrityError: an entry was altered, is missing or out of place, or the head does not go on
                from `known`.
            UsageError: the budget or a name breaks its rule.
        """
        problems = budget.problems()
        if problems:
            raise UsageError("; ".join(f"privacy budget: {problem}" for problem in problems))
        ledger = cls(store, dataset=dataset, unit=unit, budget=budget)
        ledger._read_on()
        if known is not None:
            ledger._require_known(known)
        return ledger

    @property
    def folder(self) -> str:
        """Prefix of its keys in the store."""
        return f"ledgers/{self._heads[0]}"

    def entries(self) -> Sequence[Entry]:
        """All entries, those of other processes included.

        Raises:
            IntegrityError: see `open`.
        """
        self._read_on()
        return tuple(self._entries)

    def head(self, *, since: int = 0) -> LedgerHead:
        """Length and head, with the digests of the entries after the first `since`.

        Args:
            since: length of the head that the federation has last seen, from 0.
        """
        self._read_on()
        return LedgerHead(
            length=len(self._entries),
            head=self._heads[-1],
            entries=tuple(entry.digest for entry in self._entries[since:]),
        )

    def charge(self, charge: Charge, event: Event, *, now: datetime) -> Entry:
        """Pays for what a ticket will release, before any row is read.

        A ticket that was paid for is not charged again: its entry is returned.

        Args:
            charge: the ticket.
            event: what it releases.
            now: with its time zone. An entry is never earlier than the one before it.

        Returns:
            The ticket's entry, which is in the store.

        Raises:
            PrivacyBudgetExceededError: the period's budget does not hold it; nothing was charged.
            RefusedError: the ticket was charged for another release.
            IntegrityError: see `open`.
        """
        while True:
            self._read_on()
            charged = next((each for each in self._entries if each.charge.ticket == charge.ticket), None)
            if charged is not None:
                return _same(charged, charge, event)
            entry = self._next(charge, event, now)
            self._require_held(entry)
            with contextlib.suppress(ObjectExistsError):
                self._store.create(self._key(entry.index), entry.to_json())
                return entry

    def statement(self, *, now: datetime) -> Statement:
        """What is spent and left."""
        self._read_on()
        spent = self._budget.spent(self._of_period(now))
        return Statement(
            entries=len(self._entries),
            period=self._budget.period(now),
            epsilon_spent=spent,
            epsilon_left=max(0.0, self._budget.epsilon - spent),
            epsilon_ever=self._budget.spent([entry.event for entry in self._entries]),
        )

    def rounds_left(self, upcoming: Sequence[Event], *, now: datetime) -> int:
        """How many of the upcoming releases the running period still holds."""
        self._read_on()
        return rounds_left(self._of_period(now), upcoming, self._budget)

    def _next(self, charge: Charge, event: Event, now: datetime) -> Entry:
        last = self._entries[-1] if self._entries else None
        return Entry(
            index=len(self._entries) + 1,
            previous=last.digest if last else self._heads[0],
            charge=charge,
            event=event,
            rho=rho([event]),
            time=max(now, last.time).astimezone(UTC) if last else now.astimezone(UTC),
        )

    def _require_held(self, entry: Entry) -> None:
        before = self._of_period(entry.time)
        if not self._budget.admits([*before, entry.event]):
            budget = self._budget
            raise PrivacyBudgetExceededError(
                f"round {entry.charge.round_number} of {entry.charge.federation} would bring epsilon from "
                f"{budget.spent(before):.4g} to {budget.spent([*before, entry.event]):.4g} at delta "
                f"{budget.delta:g}, the budget is {budget.epsilon:g} ({budget.period(entry.time)}): "
                "wait for the next period, or the site's people raise it in its policy",
                disclosed=_SPENT,
            )

    def _of_period(self, time: datetime) -> list[Event]:
        period = self._budget.period(time)
        return [each.event for each in self._entries if self._budget.period(each.time) == period]

    def _key(self, index: int) -> str:
        return f"{self.folder}/{index:08d}.json"

    def _read_on(self) -> None:
        """Reads what was appended, until nothing lies in the folder that was not read."""
        while True:
            self._append_new()
            listed = set(self._store.keys(self.folder))
            expected = {self._key(entry.index) for entry in self._entries}
            missing = sorted(expected - listed)
            if missing:
                raise IntegrityError(
                    f"{missing[0]} is gone from the privacy ledger: restore the site's store"
                )
            if listed == expected:
                return
            # Appended while the folder was listed: a listing need not show what comes in meanwhile.
            if not self._store.exists(self._key(len(self._entries) + 1)):
                stranger = min(listed - expected)
                raise IntegrityError(
                    f"{stranger} is not entry {len(self._entries) + 1} of the privacy ledger, which is not "
                    "there: restore the site's store"
                )

    def _append_new(self) -> None:
        while True:
            index = len(self._entries) + 1
            try:
                content = self._store.read(self._key(index), limit=_ENTRY_BYTES)
            except ObjectMissingError:
                return
            previous = self._entries[-1] if self._entries else None
            entry = read_entry(content, index=index, previous=previous.digest if previous else self._heads[0])
            if previous and entry.time < previous.time:
                raise IntegrityError(f"entry {index} of the privacy ledger is earlier than the one before it")
            self._entries.append(entry)
            self._heads.append(next_head(self._heads[-1], entry.digest))

    def _require_known(self, known: LedgerHead) -> None:
        if len(self._entries) < known.length:
            raise IntegrityError(
                f"the privacy ledger has {len(self._entries)} entries, {known.length} were published: its "
                "newest are gone, restore the site's store"
            )
        if self._heads[known.length] != known.head:
            raise IntegrityError(
                f"the privacy ledger's first {known.length} entries are not those that were published: "
                "restore the site's store"
            )


def _same(entry: Entry, charge: Charge, event: Event) -> Entry:
    """The entry of a ticket that comes again, for exactly what it was charged for."""
    if (entry.charge, entry.event) != (charge, event):
        text = f"the ticket of round {charge.round_number} was charged for another release"
        raise RefusedError(text, disclosed=text)
    return entry
