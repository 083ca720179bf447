from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from components.errors import PrivacyBudgetExceededError
from components.privacy.zcdp import epsilon
from components.rounds.privacy_account import account, require_round_left
from tests.components.aggregation.three_sites import NOISE, ThreeSites


@pytest.fixture
def noised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThreeSites:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    return ThreeSites.start(protection="sealed", privacy=NOISE)


def spent(three: ThreeSites, through: int) -> tuple[object, ...]:
    found = account(three.exchange, three.charter, three.opened.ticket.model, through=through)
    assert found is not None
    assert found.delta == 1e-5
    assert found.epsilon_left == pytest.approx(8 - found.epsilon_spent)
    assert found.unit == "row"
    return found.epsilon_spent, found.releases, found.rounds_left


def test_every_ticket_is_counted_at_the_price_of_its_round(noised: ThreeSites) -> None:
    """A release costs rho = 1 / (2 sigma^2): the discrete shares, of some 2^20 steps, cost no more."""
    first = epsilon(1 / (2 * 3.0**2), 1e-5)
    assert spent(noised, 1) == (pytest.approx(first, rel=1e-9), 1, 3)
    noised.committed()
    second = noised.next_round()
    both = epsilon(1 / (2 * 3.0**2) + 1 / (2 * 2.5**2), 1e-5)
    assert spent(second, 2) == (pytest.approx(both, rel=1e-9), 2, 2)
    assert spent(second, 1) == (pytest.approx(first, rel=1e-9), 1, 3)


def test_an_attempt_that_came_to_nothing_is_counted_too(noised: ThreeSites) -> None:
    again = noised.opened.ticket.folder.replace("-1", "-2")
    noised.exchange.create(f"{again}/ticket.json", b"another attempt")
    assert spent(noised, 1)[:2] == (pytest.approx(epsilon(2 / (2 * 3.0**2), 1e-5), rel=1e-9), 2)


def test_a_charter_without_noise_has_no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    three = ThreeSites.start(protection="sealed")
    assert account(three.exchange, three.charter, three.opened.ticket.model, through=1) is None
    require_round_left(three.charter, 10**6)


def test_a_round_outside_the_schedule_is_refused(noised: ThreeSites) -> None:
    later = replace(noised.charter, privacy=replace(NOISE, first_round=5))
    for charter, number in ((noised.charter, 4), (later, 5), (later, 8)):
        require_round_left(charter, number)
    for charter, number, rounds in (
        (noised.charter, 5, "1 to 4"),
        (later, 4, "5 to 8"),
        (later, 9, "5 to 8"),
    ):
        with pytest.raises(PrivacyBudgetExceededError) as caught:
            require_round_left(charter, number)
        assert str(caught.value).startswith(
            f"round {number} is outside the charter's schedule of noise, rounds {rounds}: "
            "its epsilon of 8 is spent"
        )


def test_open_round_refuses_a_round_that_the_schedule_does_not_have(noised: ThreeSites) -> None:
    three = noised
    for _ in range(3):
        three.committed()
        three = three.next_round()
    three.committed()
    before = sorted(three.exchange.keys("rounds"))
    with pytest.raises(
        PrivacyBudgetExceededError, match="round 5 is outside the charter's schedule of noise"
    ):
        three.next_round()
    assert sorted(three.exchange.keys("rounds")) == before
