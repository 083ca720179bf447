"""The schedule of noise: what a file asks for, priced by others than the code that made it."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from components.agreement.noise_terms import NoiseTerms
from components.errors import UsageError
from components.privacy.zcdp import epsilon
from pipelines.federation import load_federation
from pipelines.noise_schedule import noise_terms
from tests.conftest import SmallFederation
from tests.pipelines.noised import ours, set_privacy

Make = Callable[..., SmallFederation]


def terms_of(path: Path, *, first_round: int = 1) -> NoiseTerms:
    terms = noise_terms(load_federation(path), first_round=first_round)
    assert terms is not None
    return terms


def numerically(noise_multipliers: tuple[float, ...], delta: float) -> float:
    """Epsilon of Gaussian mechanisms one after another, from their privacy loss distributions."""
    from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

    first, *others = (
        from_gaussian_mechanism(sigma, value_discretization_interval=1e-3).self_compose(count)
        for sigma, count in Counter(noise_multipliers).items()
    )
    cost: float = functools.reduce(
        lambda one, other: one.compose(other), others, first
    ).get_epsilon_for_delta(delta)
    return cost


@pytest.mark.parametrize(
    ("target", "delta", "rounds"), [(0.5, 1e-6, 10), (1.0, 1e-5, 1), (2.0, 1e-7, 20), (8.0, 1e-5, 3)]
)
def test_all_rounds_together_cost_what_was_asked_for_and_not_more(
    small_federation: Make, target: float, delta: float, rounds: int
) -> None:
    made = small_federation(rows=0, **ours(target_epsilon=target, delta=delta, rounds=rounds))
    terms = terms_of(made.path)
    assert len(terms.noise_multipliers) == rounds
    rho = math.fsum(1 / (2 * sigma**2) for sigma in terms.noise_multipliers)
    assert 0.999 * target < epsilon(rho, delta) <= target
    # The ledger's price is above the exact one, and not by much.
    assert 0.8 * target < numerically(terms.noise_multipliers, delta) <= target


def test_a_person_of_several_rows_is_protected_as_a_whole(small_federation: Make) -> None:
    """Group privacy: m rows change the sum by m sensitivities, so the noise is m times as much."""
    made = small_federation(rows=0, **ours())
    (sigma,) = set(terms_of(made.path).noise_multipliers)
    set_privacy(made, rows_per_unit=5)
    terms = terms_of(made.path)
    (larger,) = set(terms.noise_multipliers)
    assert terms.rows_per_unit == 5
    assert larger == pytest.approx(5 * sigma, abs=6e-6)
    assert epsilon(2 * 5**2 / (2 * larger**2), terms.delta) <= terms.target_epsilon


@pytest.mark.parametrize(("target", "rounds"), [(0.5, 10), (0.99, 10), (1, 20), (3.9, 20), (4, 40), (8, 40)])
def test_auto_takes_the_more_rounds_the_larger_epsilon_is(
    small_federation: Make, target: float, rounds: int
) -> None:
    made = small_federation(rows=0, **ours(target_epsilon=target, rounds="auto"))
    terms = terms_of(made.path, first_round=7)
    assert len(terms.noise_multipliers) == rounds
    assert (terms.first_round, terms.last_round) == (7, 6 + rounds)
    del made.document["privacy"]["rounds"]
    assert terms_of(made.save(), first_round=7) == terms, "what the file leaves out is auto"


def test_the_terms_say_what_the_file_says(small_federation: Make) -> None:
    terms = terms_of(small_federation(rows=0, **ours()).path)
    assert (terms.target_epsilon, terms.delta, terms.public_population) == (8.0, 1e-5, 20000)
    assert (terms.count_weight, terms.rows_per_unit) == (0.1, 1)
    assert terms.problems() == []


def test_no_other_algorithm_has_a_schedule(small_federation: Make) -> None:
    federation = load_federation(small_federation(rows=0, **ours()).path)
    for method in ("sealed", "fedavg", "he-fl"):
        assert noise_terms(federation.with_method(method), first_round=1) is None
    bare = federation.model_copy(update={"privacy": None})
    with pytest.raises(UsageError, match=r"^privacy: missing: fedsgd needs"):
        noise_terms(bare, first_round=1)


def test_the_quick_start_has_a_schedule_of_its_three_rounds() -> None:
    terms = terms_of(Path("manifests/federations/quickstart.yaml"))
    assert (terms.target_epsilon, terms.delta, terms.last_round) == (8.0, 1e-5, 3)
    assert terms.class_sum_start
    assert terms.noise_multipliers[0] > terms.noise_multipliers[1], "the start has less of the budget"
    assert 0.8 * 8 < numerically(terms.noise_multipliers, 1e-5) <= 8
