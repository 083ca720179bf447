from __future__ import annotations

import pytest

from components.agreement.charter import read_charter
from components.agreement.methods import COMPARED
from components.agreement.ticket import check_terms
from components.errors import UsageError
from components.evaluation.rehearsal.plans import DELTA, SAMPLE_RATE, Plan, charter_of, site_names, ticket_of
from components.privacy.accounting import PldAccountant
from components.privacy.local_schedule import local_noise_multiplier
from components.privacy.round_noise import round_event

ROWS = {"cloud-1": 900, "cloud-2": 400, "cloud-3": 650, "cloud-4": 801}
GENESIS = "5" * 64


def plan_of(method: str) -> Plan:
    if method == "ours":
        return Plan(
            method=method, rounds=6, learning_rate=3.0, epsilon=2.0, optimizer="momentum", start_fraction=0.3
        )
    if method == "dp-fl":
        sigma = local_noise_multiplier(2.0, delta=DELTA, sample_rate=SAMPLE_RATE, steps=12)
        return Plan(
            method=method, rounds=6, learning_rate=0.5, epsilon=2.0, local_steps=2, noise_multiplier=sigma
        )
    return Plan(method=method, rounds=6, learning_rate=0.1)


@pytest.mark.parametrize("method", COMPARED)
def test_the_charter_of_every_method_is_one_that_could_be_signed(method: str) -> None:
    plan = plan_of(method)
    charter = charter_of(plan, ROWS, GENESIS)
    assert read_charter(charter.to_json()) == charter
    check_terms(ticket_of(charter, plan, round_number=6, seed=1), charter)


@pytest.mark.parametrize("method", ["ours", "dp-fl"])
def test_all_rounds_together_cost_the_epsilon_of_the_plan(method: str) -> None:
    charter = charter_of(plan_of(method), ROWS, GENESIS)
    shapes = {"output.weight": (5, 8), "output.bias": (5,)}
    events = [round_event(charter, number, shapes) for number in range(1, 7)]
    # Numerically on both sides; the grid of privacy losses rounds up by less than 1 %.
    assert 1.96 < PldAccountant().epsilon(events, DELTA) <= 2.02


def test_four_sites_have_the_quorum_of_the_release_rule() -> None:
    charter = charter_of(plan_of("ours"), ROWS, GENESIS)
    assert (charter.colluding_sites, charter.min_sum_sites, len(charter.sites)) == (1, 3, 4)


def test_a_plan_that_makes_no_charter_is_refused_with_the_rule() -> None:
    with pytest.raises(UsageError, match=r"ours: .*got 2"):
        charter_of(plan_of("ours"), dict(list(ROWS.items())[:2]), GENESIS)


def test_names_of_sites_are_names_that_charters_allow() -> None:
    assert site_names(3) == ("cloud-1", "cloud-2", "cloud-3")
