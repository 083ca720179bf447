"""A month's allowance over recurring runs, with the time put in: the coordinator's count and the ledgers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from components.agreement.charter import COORDINATOR
from components.agreement.private_keys import load_signing_key
from components.artifacts.stores import open_store
from components.errors import PrivacyBudgetExceededError
from components.privacy.allowance import Budget
from components.privacy.events import DiscreteGaussianSum
from components.privacy.ledger import Ledger
from components.privacy.ledger_entry import Charge
from components.privacy.schedule import PrivacyTerms, noise_multipliers
from components.privacy.zcdp import epsilon
from components.rounds.monthly_allowance import issued_in, month_of, month_of_round, next_month
from components.rounds.privacy_account import account, require_month_left, rounds_left_in_month
from components.rounds.round_opening import opening
from tests.components.aggregation import three_sites
from tests.components.aggregation.three_sites import NOISE, ThreeSites

MONTHLY = replace(NOISE, noise_multipliers=(3.0, 3.0), target_epsilon=8.0, per="month")


class Clock(datetime):
    """The opening step's clock, which tests set."""

    moment = datetime(2026, 11, 30, 12, tzinfo=UTC)

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return cls.moment.astimezone(tz)


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThreeSites:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    monkeypatch.setattr(opening, "datetime", Clock)
    monkeypatch.setattr(three_sites, "datetime", Clock)
    monkeypatch.setattr(Clock, "moment", datetime(2026, 11, 30, 12, tzinfo=UTC))
    return ThreeSites.start(protection="sealed", privacy=MONTHLY)


def release(sigma: float) -> DiscreteGaussianSum:
    return DiscreteGaussianSum(
        noise_multiplier=sigma, share_sigma=1e6, dimensions=25, sites=3, rows_per_unit=1
    )


def charged(number: int) -> Charge:
    return Charge(
        federation="small",
        charter="c" * 64,
        ticket=f"{number:064x}",
        round_number=number,
        attempt=1,
        purpose="update",
    )


def issue(three: ThreeSites, number: int, attempt: int, snapshot: str) -> None:
    ticket = replace(three.opened.ticket, round_number=number, attempt=attempt, snapshot=snapshot)
    document = ticket.signed(load_signing_key(three.keys_uri, COORDINATOR))
    three.exchange.create(f"{ticket.folder}/ticket.json", document)


class TestMonth:
    def test_is_utcs(self) -> None:
        east = timezone(timedelta(hours=5, minutes=30))
        assert month_of(datetime(2026, 12, 1, 3, tzinfo=east)) == "2026-11"
        assert month_of(datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)) == "2026-11"
        assert month_of(datetime(2026, 12, 1, tzinfo=UTC)) == "2026-12"

    def test_the_next_begins_on_its_first_day(self) -> None:
        assert next_month("2026-11") == datetime(2026, 12, 1, tzinfo=UTC)
        assert next_month("2026-12") == datetime(2027, 1, 1, tzinfo=UTC)

    def test_names_are_those_of_ledgers(self) -> None:
        budget = Budget(epsilon=1.0, delta=1e-5, per="month")
        for moment in (datetime(2026, 12, 31, 23, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)):
            assert budget.period(moment) == month_of(moment)


class TestOpening:
    def test_a_used_up_month_is_refused_in_one_line_and_the_next_opens(self, three: ThreeSites) -> None:
        three.committed()
        three = three.next_round()
        three.committed()
        before = sorted(three.exchange.keys("rounds"))
        with pytest.raises(PrivacyBudgetExceededError) as caught:
            three.next_round()
        assert str(caught.value) == (
            "round 3 must wait: 2026-11 has had its 2 rounds for epsilon 8, attempts that came to nothing "
            "included: the next allowance starts on 2026-12-01 (UTC)"
        )
        assert sorted(three.exchange.keys("rounds")) == before
        Clock.moment = datetime(2026, 12, 1, 0, 0, 1, tzinfo=UTC)
        three = three.next_round()
        assert three.opened.ticket.round_number == 3
        assert rounds_left_in_month(three.exchange, three.charter, now=Clock.moment) == 1

    def test_a_round_that_has_its_ticket_goes_on(self, three: ThreeSites) -> None:
        issue(three, 2, 1, "2026-11-30T13:00:00+00:00")
        with pytest.raises(PrivacyBudgetExceededError):
            require_month_left(three.exchange, three.charter, 3, now=Clock.moment)
        assert three.next_attempt().opened.ticket == three.opened.ticket

    def test_a_schedule_for_good_has_no_months(self, three: ThreeSites) -> None:
        charter = replace(three.charter, privacy=replace(MONTHLY, per="total"))
        issue(three, 2, 1, "2026-11-30T13:00:00+00:00")
        require_month_left(three.exchange, charter, 3, now=Clock.moment)


class TestAccount:
    def test_tells_the_month_and_all_of_them(self, three: ThreeSites) -> None:
        issue(three, 2, 1, "2026-11-30T23:59:59+00:00")
        issue(three, 3, 1, "2026-12-01T00:00:00+00:00")
        issue(three, 3, 2, "2026-12-02T00:00:00+00:00")
        issue(three, 4, 1, "2027-01-05T00:00:00+00:00")
        one, two = (epsilon(count / (2 * 3.0**2), 1e-5) for count in (1, 2))
        expected = {
            1: ("2026-11", one, 1, 1),
            2: ("2026-11", two, 2, 0),
            3: ("2026-12", two, 2, 0),
            4: ("2027-01", one, 1, 1),
        }
        for through, (month, spent, releases, left) in expected.items():
            found = account(three.exchange, three.charter, three.opened.ticket.model, through=through)
            assert found is not None
            assert (found.month, found.releases, found.rounds_left) == (month, releases, left)
            assert found.epsilon_spent == pytest.approx(spent, rel=1e-9)
            assert found.epsilon_left == pytest.approx(8 - spent, rel=1e-9)
        assert found is not None
        assert found.epsilon_ever == pytest.approx(epsilon(5 / (2 * 3.0**2), 1e-5), rel=1e-9)

    def test_rounds_before_the_schedule_are_another_ones(self, three: ThreeSites) -> None:
        issue(three, 2, 1, "2026-11-30T23:00:00+00:00")
        assert issued_in(three.exchange, "2026-11", first_round=1) == [1, 2]
        assert issued_in(three.exchange, "2026-11", first_round=2) == [2]
        assert month_of_round(three.exchange, 1) == "2026-11"


class TestTwelveMonths:
    def test_the_count_agrees_with_a_ledger(self, three: ThreeSites, tmp_path: Path) -> None:
        """A ticket is due every third day: a month has its rounds, by count and by ledger."""
        budget = Budget(epsilon=8.0, delta=1e-5, per="month")
        terms = PrivacyTerms(
            target_epsilon=8.0,
            delta=1e-5,
            public_population=50_000,
            clipping_norm=1.0,
            rounds=4,
            min_sum_sites=3,
            colluding_sites=1,
            start_fraction=0.1,
            monthly=True,
        )
        sigmas = noise_multipliers(terms)
        schedule = replace(MONTHLY, noise_multipliers=sigmas, class_sum_start=True)
        charter = replace(three.charter, privacy=schedule)
        ledger = Ledger.open(open_store(f"{tmp_path}/ledger"), dataset="visits", unit="row", budget=budget)
        (three.exchange_folder / f"{three.opened.ticket.folder}/ticket.json").unlink()
        number, months = 1, dict[str, int]()
        for day in range(0, 365, 3):
            now = datetime(2027, 1, 1, 3, tzinfo=UTC) + timedelta(days=day)
            sigma = schedule.noise_multiplier(number)
            assert sigma is not None
            try:
                require_month_left(three.exchange, charter, number, now=now)
            except PrivacyBudgetExceededError:
                assert rounds_left_in_month(three.exchange, charter, now=now) == 0
                continue
            ledger.charge(charged(number), release(sigma), now=now)
            issue(three, number, 1, now.isoformat(timespec="seconds"))
            months[month_of(now)] = months.get(month_of(now), 0) + 1
            number += 1
        assert months == {f"2027-{month:02d}": 4 for month in range(1, 13)}
        assert ledger.statement(now=now).epsilon_spent <= 8.0
        assert ledger.statement(now=now).epsilon_ever > 20.0

    def test_a_ledger_refuses_in_this_month_and_admits_in_the_next(self, tmp_path: Path) -> None:
        budget = Budget(epsilon=8.0, delta=1e-5, per="month")
        ledger = Ledger.open(open_store(f"{tmp_path}/ledger"), dataset="visits", unit="row", budget=budget)
        event, last = release(1.0), datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)

        def charge(number: int, now: datetime) -> None:
            ledger.charge(charged(number), event, now=now)

        held = 0
        while budget.admits([event] * (held + 1)):
            held += 1
            charge(held, last)
        with pytest.raises(PrivacyBudgetExceededError, match=r"\(2026-11\): wait for the next period"):
            charge(held + 1, last)
        charge(held + 1, last + timedelta(seconds=1))
        assert ledger.statement(now=last + timedelta(seconds=1)).period == "2026-12"


def test_a_round_of_any_later_month_has_the_later_noise() -> None:
    schedule = replace(MONTHLY, noise_multipliers=(5.0, 2.0, 2.0), first_round=3)
    assert [schedule.noise_multiplier(number) for number in (2, 3, 4, 5, 6, 1000)] == [
        None,
        5.0,
        2.0,
        2.0,
        2.0,
        2.0,
    ]
    assert replace(schedule, per="total").noise_multiplier(6) is None


@pytest.mark.parametrize("start_fraction", [0.0, 0.01, 0.3])
def test_no_month_costs_more_than_the_target(start_fraction: float) -> None:
    terms = PrivacyTerms(
        target_epsilon=2.0,
        delta=1e-5,
        public_population=50_000,
        clipping_norm=1.0,
        rounds=10,
        min_sum_sites=3,
        colluding_sites=1,
        start_fraction=start_fraction,
        monthly=True,
    )
    sigmas = noise_multipliers(terms)
    for month in (sigmas, (sigmas[-1],) * 10):
        assert epsilon(sum(1 / (2 * sigma**2) for sigma in month), 1e-5) <= 2.0
