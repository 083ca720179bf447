from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.agreement.ledger_head import LedgerHead, first_head, follows
from components.artifacts.documents import canonical_json
from components.artifacts.stores import Store, open_store
from components.errors import (
    IntegrityError,
    PrivacyBudgetExceededError,
    RefusedError,
    UsageError,
)
from components.privacy.allowance import Budget
from components.privacy.ledger import Ledger
from components.privacy.ledger_entry import read_entry
from components.privacy.zcdp import rho_for
from tests.components.privacy.ledger_runs import (
    DATASET,
    NOW,
    budget,
    charge_for,
    charge_many,
    opened,
    release,
)

FOLDER = f"ledgers/{first_head(DATASET, 'row')}"
REPOSITORY = Path(__file__).parents[3]


def key(index: int) -> str:
    return f"{FOLDER}/{index:08d}.json"


def fill(store: Store, count: int, *, first: int = 0) -> Ledger:
    ledger = opened(store)
    for number in range(first, first + count):
        ledger.charge(charge_for(number), release(), now=NOW + timedelta(minutes=number))
    return ledger


class TestCharges:
    def test_a_ticket_is_charged_once(self, store: Store) -> None:
        ledger = opened(store)
        entry = ledger.charge(charge_for(0), release(), now=NOW)
        assert (entry.index, entry.previous) == (1, first_head(DATASET, "row"))
        assert entry.rho == pytest.approx(0.005)
        assert ledger.charge(charge_for(0), release(), now=NOW + timedelta(days=40)) == entry
        assert opened(store).charge(charge_for(0), release(), now=NOW) == entry
        assert store.keys("ledgers") == [key(1)]

    def test_a_ticket_is_not_charged_for_another_release(self, store: Store) -> None:
        ledger = fill(store, 1)
        with pytest.raises(RefusedError, match="the ticket of round 1 was charged for another release"):
            ledger.charge(charge_for(0), release(sigma=9.0), now=NOW)
        with pytest.raises(RefusedError, match="was charged for another release"):
            ledger.charge(charge_for(0, federation="lungs"), release(), now=NOW)

    def test_the_last_round_fits_and_the_next_does_not(self, store: Store) -> None:
        assert charge_many(store.uri, 40.0, 0, 1) == [0]
        ledger = opened(store, budget(0.5))
        fits = math.floor((rho_for(0.5, 1e-5) - 1 / 3200) * 800)
        for number in range(1, fits + 1):
            assert ledger.rounds_left([release(20.0)] * 50, now=NOW) == fits - number + 1
            ledger.charge(charge_for(number), release(20.0), now=NOW)
        with pytest.raises(
            PrivacyBudgetExceededError, match=r"epsilon from 0\.4\d+ to 0\.5\d+ at delta 1e-05"
        ) as no:
            ledger.charge(charge_for(99), release(20.0), now=NOW)
        assert no.value.disclosed == "the site's privacy budget does not hold this round"
        assert "\n" not in str(no.value)
        assert len(store.keys("ledgers")) == fits + 1

    def test_noise_too_small_for_any_price_is_refused(self, store: Store) -> None:
        with pytest.raises(PrivacyBudgetExceededError, match="to inf at delta"):
            opened(store).charge(charge_for(0), release(sigma=1e-200), now=NOW)

    def test_a_month_starts_anew_and_months_add_up(self, store: Store) -> None:
        ledger = opened(store, budget(1.0, "month"))
        month = [release(4.1)]
        ledger.charge(charge_for(0), month[0], now=NOW)
        with pytest.raises(PrivacyBudgetExceededError, match=r"\(2026-11\): wait for the next period"):
            ledger.charge(charge_for(1), month[0], now=NOW + timedelta(days=8))
        ledger.charge(charge_for(1), month[0], now=NOW + timedelta(days=9))
        said = ledger.statement(now=NOW + timedelta(days=9))
        assert (said.entries, said.period) == (2, "2026-12")
        assert said.epsilon_spent == ledger.statement(now=NOW).epsilon_spent
        assert said.epsilon_spent + said.epsilon_left == 1.0
        assert said.epsilon_spent < said.epsilon_ever == budget().spent(month * 2)

    def test_a_clock_that_goes_back_opens_no_earlier_month(self, store: Store) -> None:
        ledger = opened(store, budget(1.0, "month"))
        ledger.charge(charge_for(0), release(4.1), now=NOW)
        with pytest.raises(PrivacyBudgetExceededError, match="2026-11"):
            ledger.charge(charge_for(1), release(4.1), now=NOW - timedelta(days=60))
        ledger.charge(charge_for(1), release(100.0), now=NOW - timedelta(days=60))
        assert [entry.time for entry in ledger.entries()] == [NOW, NOW]

    def test_all_federations_share_it_and_other_data_have_their_own(self, store: Store) -> None:
        first, second = opened(store), opened(store)
        first.charge(charge_for(0, "hearts"), release(2.0), now=NOW)
        with pytest.raises(PrivacyBudgetExceededError):
            second.charge(charge_for(1, "lungs"), release(1.1), now=NOW)
        for dataset, unit in (("visits", "row"), (DATASET, "patient")):
            other = Ledger.open(store, dataset=dataset, unit=unit, budget=budget())
            other.charge(charge_for(1, "lungs"), release(1.2), now=NOW)
        assert len({each.split("/")[1] for each in store.keys("ledgers")}) == 3

    def test_a_stored_price_is_not_believed(self, store: Store) -> None:
        ledger = opened(store)
        entry = ledger.charge(charge_for(0), release(1.2), now=NOW)
        store.remove(key(1))
        cheap = replace(entry, rho=0.0)
        store.create(key(1), cheap.to_json())
        assert opened(store).statement(now=NOW).epsilon_spent == budget().spent([release(1.2)]) > 3

    @pytest.mark.parametrize("allowed", [Budget(epsilon=0.0, delta=1e-5), Budget(epsilon=1.0, delta=1.0)])
    def test_no_budget_no_ledger(self, store: Store, allowed: Budget) -> None:
        with pytest.raises(UsageError, match=r"privacy budget: (epsilon|delta) must be"):
            opened(store, allowed)


class Reference:
    """What the ledger must decide, from the list of accepted charges alone."""

    def __init__(self, most: float, *, monthly: bool) -> None:
        self.accepted: list[tuple[int, float, str]] = []
        self.most, self.monthly, self.clock = rho_for(most, 1e-5), monthly, NOW

    def charge(self, ticket: int, sigma: float, now: datetime) -> bool:
        if any(ticket == each for each, _, _ in self.accepted):
            return True
        time = max(now, self.clock) if self.accepted else now
        period = f"{time:%Y-%m}" if self.monthly else ""
        before = [1 / (2 * s * s) for _, s, p in self.accepted if p == period]
        if math.fsum([*before, 1 / (2 * sigma * sigma)]) > self.most:
            return False
        self.accepted.append((ticket, sigma, period))
        self.clock = time
        return True


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(-20, 70), st.booleans()),
        max_size=14,
    ),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.booleans(),
)
def test_random_histories_are_decided_as_from_scratch(
    history: list[tuple[int, int, bool]], most: float, monthly: bool
) -> None:
    """A ticket's number fixes its noise; sometimes another process goes on; time may go back."""
    with TemporaryDirectory() as folder:
        store = open_store(f"file://{folder}")
        allowed = budget(most, "month" if monthly else "total")
        ledger, reference = opened(store, allowed), Reference(most, monthly=monthly)
        for ticket, days, anew in history:
            ledger = opened(store, allowed) if anew else ledger
            charge = charge_for(ticket, ("hearts", "lungs")[ticket % 2])
            sigma, now = 2.0 + ticket, NOW + timedelta(days=days)
            try:
                ledger.charge(charge, release(sigma), now=now)
                held = True
            except PrivacyBudgetExceededError:
                held = False
            assert held == reference.charge(ticket, sigma, now)
        found = opened(store, allowed).entries()
        assert [int(entry.charge.ticket, 16) for entry in found] == [
            each for each, _, _ in reference.accepted
        ]
        assert [entry.index for entry in found] == list(range(1, len(found) + 1))


class TestConcurrency:
    def test_threads_cannot_all_spend_the_last_round(self, store: Store) -> None:
        ledger, held = fill(store, 70), []
        barrier = threading.Barrier(8)

        def run(number: int) -> None:
            mine = opened(store)
            barrier.wait()
            try:
                held.append(mine.charge(charge_for(100 + number), release(), now=NOW).index)
            except PrivacyBudgetExceededError:
                held.append(0)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(held) == [0, 0, 0, 0, 71, 72, 73, 74]
        assert ledger.head().length == 74

    def test_one_ticket_in_many_threads_is_charged_once(self, store: Store) -> None:
        indices: list[int] = []
        barrier = threading.Barrier(8)

        def run() -> None:
            mine = opened(store)
            barrier.wait()
            indices.append(mine.charge(charge_for(5), release(), now=NOW).index)

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert indices == [1] * 8

    def test_processes_spend_the_budget_exactly_once(self, store: Store) -> None:
        """Three processes want 30 releases of sigma = 4 each: epsilon 4 holds 11, whoever is first."""
        fits = math.floor(rho_for(4.0, 1e-5) * 32)
        runs = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.components.privacy.ledger_runs",
                    store.uri,
                    "4.0",
                    str(100 * each),
                    "30",
                ],
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                text=True,
            )
            for each in range(3)
        ]
        held = [number for run in runs for number in json.loads(run.communicate(timeout=60)[0])]
        assert [run.returncode for run in runs] == [0, 0, 0]
        entries = opened(store).entries()
        assert len(held) == len(entries) == fits == 11
        assert {int(entry.charge.ticket, 16) for entry in entries} == set(held)


class TestTampering:
    def test_any_changed_missing_or_added_byte_is_found(self, store: Store) -> None:
        fill(store, 2)
        previous = first_head(DATASET, "row")
        for index in (1, 2):
            content = store.read(key(index))
            for place in range(len(content)):
                for altered in (
                    content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :],
                    content[:place] + content[place + 1 :],
                    content[:place] + b" " + content[place:],
                ):
                    with pytest.raises(IntegrityError, match=f"^entry {index} of the privacy ledger"):
                        read_entry(altered, index=index, previous=previous)
            previous = read_entry(content, index=index, previous=previous).digest
        for index in (1, 2):
            content = store.read(key(index))
            for place in range(0, len(content), 25):
                store.remove(key(index))
                store.create(key(index), content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
                with pytest.raises(IntegrityError, match=f"^entry {index} of the privacy ledger"):
                    opened(store)
            store.remove(key(index))
            store.create(key(index), content)
        assert opened(store).head().length == 2

    @pytest.mark.parametrize(
        ("gone", "told"), [(1, "00000002.json is not entry 1"), (2, "3.json is not entry 2")]
    )
    def test_a_gap_is_found(self, store: Store, gone: int, told: str) -> None:
        fill(store, 3)
        store.remove(key(gone))
        with pytest.raises(IntegrityError, match=told):
            opened(store)

    def test_an_entry_that_goes_while_the_ledger_is_open_is_found(self, store: Store) -> None:
        ledger = fill(store, 3)
        store.remove(key(2))
        with pytest.raises(IntegrityError, match=r"00000002\.json is gone from the privacy ledger"):
            ledger.charge(charge_for(9), release(), now=NOW)

    @pytest.mark.parametrize("name", ["00000001-b.json", "1.json", "00000001.json.bak", "a/00000001.json"])
    def test_a_second_history_beside_the_first_is_found(self, store: Store, name: str) -> None:
        fill(store, 2)
        store.create(f"{FOLDER}/{name}", store.read(key(1)))
        with pytest.raises(IntegrityError, match="is not entry 3 of the privacy ledger"):
            opened(store)

    def test_swapped_entries_are_found(self, store: Store) -> None:
        fill(store, 2)
        first, second = store.read(key(1)), store.read(key(2))
        for index, content in ((1, second), (2, first)):
            store.remove(key(index))
            store.create(key(index), content)
        with pytest.raises(IntegrityError, match="entry 1 of the privacy ledger does not follow"):
            opened(store)

    def test_an_entry_earlier_than_the_one_before_is_found(self, store: Store) -> None:
        last = fill(store, 2).entries()[-1]
        store.remove(key(2))
        store.create(key(2), replace(last, time=NOW - timedelta(days=31)).to_json())
        with pytest.raises(IntegrityError, match="entry 2 of the privacy ledger is earlier"):
            opened(store)

    def test_another_datasets_ledger_cannot_stand_in(self, store: Store) -> None:
        other = Ledger.open(store, dataset="visits", unit="row", budget=budget())
        other.charge(charge_for(0), release(500.0), now=NOW)
        store.create(key(1), store.read(f"{other.folder}/00000001.json"))
        with pytest.raises(IntegrityError, match="entry 1 of the privacy ledger does not follow"):
            opened(store)

    def test_an_entry_that_is_no_entry_at_all_is_found(self, store: Store) -> None:
        store.create(key(1), canonical_json({"body": {"index": 1}, "digest": "00" * 32}))
        with pytest.raises(IntegrityError, match="entry 1 of the privacy ledger was altered"):
            opened(store)


class TestPublishedHeads:
    """What the store alone cannot show, its published heads do: to the site, and to peers and key holder."""

    def known(self, store: Store, head: LedgerHead) -> Ledger:
        return Ledger.open(store, dataset=DATASET, unit="row", budget=budget(), known=head)

    def test_heads_follow_each_other(self, store: Store) -> None:
        seen: LedgerHead | None = None
        for number in range(6):
            ledger = fill(store, 1 + number % 2, first=10 * number)
            head = ledger.head(since=seen.length if seen else 0)
            follows(seen, head)
            assert self.known(store, head).head().head == head.head
            seen = head

    def test_newest_entries_that_are_gone_are_found(self, store: Store) -> None:
        published = fill(store, 3).head()
        store.remove(key(3))
        assert opened(store).head().length == 2
        with pytest.raises(IntegrityError, match="has 2 entries, 3 were published: its newest are gone"):
            self.known(store, published)
        with pytest.raises(IntegrityError, match="rolled back"):
            follows(published, opened(store).head())

    def test_entries_made_anew_are_found(self, store: Store) -> None:
        """A consistent forgery of the last entry: cheaper, its digest right."""
        ledger = fill(store, 3)
        published, last = ledger.head(), ledger.entries()[-1]
        store.remove(key(3))
        store.create(key(3), replace(last, event=release(900.0)).to_json())
        with pytest.raises(IntegrityError, match="first 3 entries are not those that were published"):
            self.known(store, published)
        with pytest.raises(IntegrityError, match="forked"):
            follows(published, opened(store).head())
        fork = fill(store, 2, first=50).head(since=3)
        with pytest.raises(IntegrityError, match="does not go on from its entry 3: it was forked"):
            follows(published, fork)

    def test_a_copy_from_before_is_found(self, store: Store, tmp_path: Path) -> None:
        fill(store, 2)
        copy = open_store(f"file://{tmp_path}/copy")
        for each in store.keys("ledgers"):
            copy.create(each, store.read(each))
        published = fill(store, 2, first=10).head()
        restored = fill(copy, 3, first=20)
        with pytest.raises(IntegrityError, match="not those that were published"):
            self.known(copy, published)
        with pytest.raises(IntegrityError, match="forked"):
            follows(published, restored.head())

    def test_a_round_that_was_not_charged_is_found(self, store: Store) -> None:
        published = fill(store, 2).head()
        with pytest.raises(IntegrityError, match="was not charged"):
            follows(published, opened(store).head(since=2))
