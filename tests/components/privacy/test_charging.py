"""A round against the site's own ledger: what a site pays for, refuses and shows."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.agreement.ledger_head import first_head, head_after
from components.agreement.site_policy import PrivacyPolicy
from components.agreement.workplace import Workplace
from components.errors import PrivacyBudgetExceededError, RefusedError
from components.privacy import charging
from components.privacy.charging import (
    charge_ticket,
    charged_head,
    shown_heads,
)
from components.privacy.round_noise import round_event
from tests.components.aggregation.three_sites import (
    NOISE,
    SITES,
    ThreeSites,
    privacy_policy,
    set_policy,
)
from tests.components.privacy.charges import (
    NOW,
    SHAPES,
    allow,
    cost,
    ended,
    ledger_of,
)
from tests.components.privacy.ledger_runs import charge_for, release


class TestPaying:
    def test_a_ticket_is_paid_for_what_its_sum_releases(self, three: ThreeSites) -> None:
        place = three.accepted("alpha")
        [entry] = ledger_of().entries()
        charge, ticket = entry.charge, place.ticket
        assert (charge.federation, charge.charter, charge.ticket) == ("small", ticket.charter, ticket.digest)
        assert (charge.round_number, charge.attempt, charge.purpose) == (1, 1, "update")
        assert entry.event == round_event(three.charter, 1, SHAPES)
        assert ledger_of("beta").entries() == ()

    def test_a_resumed_ticket_is_free_and_a_new_attempt_is_not(self, three: ThreeSites) -> None:
        for _ in range(3):
            three.accepted("alpha")
        assert len(ledger_of().entries()) == 1
        again = ended(three)
        again.accepted("alpha")
        again.accepted("alpha")
        charges = [entry.charge for entry in ledger_of().entries()]
        assert [(charge.round_number, charge.attempt) for charge in charges] == [(1, 1), (1, 2)]
        assert len({charge.ticket for charge in charges}) == 2

    def test_twenty_at_once_pay_once(self, three: ThreeSites) -> None:
        place = three.place("alpha")
        threads = [
            threading.Thread(target=charge_ticket, args=(place,), kwargs={"now": NOW}) for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ledger_of().entries()) == 1

    def test_the_budget_holds_so_many_rounds_and_no_more(self, three: ThreeSites) -> None:
        allow(three, epsilon=cost(1, 1) * 1.0001)
        three.accepted("alpha")
        second = ended(three)
        second.accepted("alpha")
        third = ended(second)
        with pytest.raises(PrivacyBudgetExceededError) as caught:
            third.accepted("alpha")
        assert "round 1 of small would bring epsilon from" in str(caught.value)
        assert caught.value.disclosed == "the site's privacy budget does not hold this round"
        assert len(ledger_of().entries()) == 2
        with pytest.raises(RefusedError, match="round 1 was not charged to the site's privacy ledger"):
            charged_head(third.place("alpha"))
        allow(three, epsilon=cost(1, 1, 1) * 1.0001)
        third.accepted("alpha")
        assert len(ledger_of().entries()) == 3

    def test_later_rounds_pay_for_their_own_noise(self, three: ThreeSites) -> None:
        place = three.place("alpha")
        for number in (1, 2, 4):
            charge_ticket(replace(place, ticket=replace(place.ticket, round_number=number)), now=NOW)
        assert [entry.event.noise_multiplier for entry in ledger_of().entries()] == [3.0, 2.5, 2.0]  # type: ignore[union-attr]
        assert ledger_of().statement(now=NOW).epsilon_spent == pytest.approx(cost(1, 2, 4), rel=1e-12)

    @pytest.mark.parametrize("round_number", [5, 99])
    def test_a_round_outside_the_schedule_is_refused(self, three: ThreeSites, round_number: int) -> None:
        place = three.place("alpha")
        beyond = replace(place, ticket=replace(place.ticket, round_number=round_number))
        with pytest.raises(RefusedError, match=f"^round {round_number} is outside the charter's schedule"):
            charge_ticket(beyond, now=NOW)
        assert ledger_of().entries() == ()


class TestTerms:
    """Both the charter and the site's policy must want noise, and the policy decides how much."""

    def is_refused(self, place: Workplace, text: str) -> None:
        with pytest.raises(RefusedError) as charged:
            charge_ticket(place, now=NOW)
        with pytest.raises(RefusedError) as shown:
            charged_head(place)
        for refusal in (charged.value, shown.value):
            assert text in str(refusal)
            assert refusal.disclosed == str(refusal)
            assert len(str(refusal).splitlines()) == 1
        assert ledger_of(place.site).entries() == ()

    def test_a_policy_without_a_budget_is_refused(self, three: ThreeSites) -> None:
        set_policy("small", "alpha", charter=three.charter.digest, protections=("sealed",))
        text = "the charter asks for differential privacy and the site's policy sets no budget for it"
        self.is_refused(three.place("alpha"), text)

    def test_more_noise_than_the_charter_has_is_refused(self, three: ThreeSites) -> None:
        allow(three, least_noise_multiplier=3.5)
        text = "asks for a noise multiplier of at least 3.5, round 1 has 3"
        self.is_refused(three.place("alpha"), text)
        allow(three, least_noise_multiplier=3.0)
        three.accepted("alpha")

    def test_the_noise_of_the_round_counts_and_not_that_of_another(self, three: ThreeSites) -> None:
        allow(three, least_noise_multiplier=2.75)
        place = three.place("alpha")
        second = replace(place, ticket=replace(place.ticket, round_number=2))
        self.is_refused(second, "of at least 2.75, round 2 has 2.5")
        charge_ticket(place, now=NOW)

    def test_a_ledger_of_persons_is_not_charged_the_price_of_rows(self, three: ThreeSites) -> None:
        allow(three, unit="person")
        text = "the site's ledger is of a person, the charter prices single rows: it needs rows_per_unit"
        self.is_refused(three.place("alpha"), text)

    def test_a_budget_under_a_charter_without_noise_is_refused(self, home: Path) -> None:
        plain = ThreeSites.start(protection="sealed")
        plain.accepted("beta")
        assert charged_head(plain.place("beta")) is None
        allow(plain)
        text = "the site's policy asks for differential privacy, the charter has none"
        self.is_refused(plain.place("alpha"), text)

    def test_an_unusable_budget_is_told_and_nothing_is_charged(self, three: ThreeSites) -> None:
        with pytest.raises(ValueError, match="epsilon"):
            PrivacyPolicy(dataset="x", ledger_uri="y", epsilon=0, delta=1e-5)


class TestSharing:
    """All federations that read a dataset charge one ledger."""

    def other(self, *, epsilon: float = 8.0) -> ThreeSites:
        """Another federation whose alpha reads the dataset of the first one's."""
        other = ThreeSites.start("other", protection="sealed", privacy=NOISE)
        policy = privacy_policy("small", "alpha", epsilon=epsilon)
        rules = {"charter": other.charter.digest, "protections": ("sealed",), "privacy": policy}
        set_policy("other", "alpha", **rules)
        return other

    def test_its_charges_count(self, three: ThreeSites) -> None:
        allow(three, epsilon=cost(1) * 1.0001)
        other = self.other(epsilon=cost(1) * 1.0001)
        other.accepted("alpha")
        with pytest.raises(PrivacyBudgetExceededError):
            three.accepted("alpha")
        [entry] = ledger_of().entries()
        assert entry.charge.charter == other.charter.digest != three.charter.digest

    def test_both_go_on_from_round_to_round(self, three: ThreeSites) -> None:
        """Neither notices more of the other than that there are entries."""
        other, lengths = self.other(), []
        for _ in range(2):
            other.accepted("alpha")
            three.committed()
            other.committed()
            lengths.append(len(ledger_of().entries()))
            three, other = three.next_round(), other.next_round()
        assert lengths == [2, 4]
        heads = [
            [head.length for head in shown_heads(each.place("beta").store, "alpha")]
            for each in (three, other)
        ]
        assert heads == [[2, 4], [2, 4]]

    def test_two_cannot_both_spend_the_last(self, three: ThreeSites) -> None:
        allow(three, epsilon=cost(1) * 1.0001)
        other = self.other(epsilon=cost(1) * 1.0001)
        places, refused = [three.place("alpha"), other.place("alpha")], []
        barrier = threading.Barrier(2)

        def pay(place: Workplace) -> None:
            barrier.wait()
            try:
                charge_ticket(place, now=NOW)
            except PrivacyBudgetExceededError as error:
                refused.append(error)

        threads = [threading.Thread(target=pay, args=(place,)) for place in places]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(refused), len(ledger_of().entries())) == (1, 1)


class TestShowing:
    def test_a_ticket_without_a_charge_shows_nothing(self, three: ThreeSites) -> None:
        place = three.place("alpha")
        place.accept(datetime.now(UTC))
        with pytest.raises(RefusedError, match="round 1 was not charged to the site's privacy ledger"):
            charged_head(place)
        assert list(shown_heads(place.store, "alpha")) == []

    def test_what_was_shown_first_is_shown_again(self, three: ThreeSites) -> None:
        place = three.accepted("alpha")
        first = charged_head(place)
        ledger_of().charge(charge_for(7), release(), now=NOW)
        assert charged_head(place) == first
        assert first is not None
        assert (first.length, len(first.entries)) == (1, 1)
        assert first.head == head_after(first_head("alpha-visits", "row"), first.entries)

    def test_no_more_than_the_newest_digests_are_shown(
        self, three: ThreeSites, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(charging, "SHOWN_ENTRIES", 3)
        for number in range(5):
            ledger_of().charge(charge_for(number), release(1000.0), now=NOW)
        shown = charged_head(three.accepted("alpha"))
        entries = ledger_of().entries()
        assert shown is not None
        assert (shown.length, shown.entries) == (6, tuple(entry.digest for entry in entries[-3:]))


def test_all_three_sites_have_ledgers_of_their_own(three: ThreeSites) -> None:
    three.train()
    assert len({ledger_of(site).head().head for site in SITES}) == 3
