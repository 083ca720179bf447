from __future__ import annotations

import _pydecimal
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.agreement.adaptive_norm import CLIPPING_NORM, FURTHEST, next_norm, norm_of
from components.agreement.noise_terms import AdaptiveClipping
from components.agreement.released_sum import GRADIENTS, contribution_bound, released_sum, shapes_of
from components.agreement.server_optimizer import next_model, with_state
from components.agreement.server_steps import split
from components.artifacts import tensors
from components.errors import IntegrityError
from tests.components.agreement.signed_form import NOISE, NOISED

RULE = AdaptiveClipping(quantile=0.2, learning_rate=0.5, weight=0.1)
TERMS = replace(NOISE, adaptive=RULE)
CHARTER = replace(
    NOISED,
    server_optimizer="adam",
    server_learning_rate=0.5,
    privacy=TERMS,
)
PARENT = {
    "output.bias": np.zeros(2, np.float32),
    "output.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
}
GRADIENT = np.linspace(-1, 1, 8)


def aggregate(within: float, count: float = 100.0) -> NDArray[np.float64]:
    """An opened sum of which a share of the gradients is within the norm."""
    return np.concatenate([GRADIENT * count, [RULE.weight * count * (within - 0.5), count]])


def step(parent: Any, total: NDArray[np.float64], charter: Any = CHARTER) -> Any:
    return next_model(charter, parent, total, round_number=NOISE.first_round, members=3)


class TestRule:
    @given(share=st.floats(0, 1), norm=st.floats(0.01, 100), count=st.floats(1, 1e6))
    def test_is_the_papers_geometric_step(self, share: float, norm: float, count: float) -> None:
        within = RULE.weight * count * (share - 0.5)
        found = next_norm(RULE, norm, within, count, first=1.0)
        assert found == pytest.approx(norm * math.exp(-0.5 * (share - 0.2)), rel=1e-9)

    @given(exponent=st.floats(-1, 1), norm=st.floats(1e-3, 1e3))
    def test_its_bits_are_those_of_python_without_a_library(self, exponent: float, norm: float) -> None:
        """`_pydecimal` is the decimal module in Python alone: no libm, no libmpdec."""
        share = 0.2 - exponent / 2
        found = next_norm(RULE, norm, RULE.weight * 10 * (share - 0.5), 10.0, first=1.0)
        counted = min(1.0, max(0.0, RULE.weight * 10 * (share - 0.5) / RULE.weight / 10.0 + 0.5))
        context = _pydecimal.Context(prec=40, rounding=_pydecimal.ROUND_HALF_EVEN)
        grown = context.exp(_pydecimal.Decimal(-0.5 * (counted - 0.2)))
        assert found == float(context.multiply(_pydecimal.Decimal(norm), grown))

    @pytest.mark.parametrize(("within", "share"), [(1e9, 1.0), (-1e9, 0.0)])
    def test_noise_cannot_make_a_share_that_is_none(self, within: float, share: float) -> None:
        found = next_norm(RULE, 1.0, within, -5.0, first=1.0)
        assert found == pytest.approx(math.exp(-0.5 * (share - 0.2)))

    def test_the_norm_stays_within_reach_of_the_charters(self) -> None:
        down = up = 1.0
        for _ in range(400):
            down = next_norm(RULE, down, 1e9, 1.0, first=1.0)
            up = next_norm(RULE, up, -1e9, 1.0, first=1.0)
        assert (down, up) == (1 / FURTHEST, FURTHEST)

    @pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
    @pytest.mark.parametrize("deviation", [0.0, 30.0])
    @pytest.mark.parametrize("start", [0.01, 100.0])
    def test_finds_the_quantile_of_a_fixed_distribution(
        self, quantile: float, deviation: float, start: float
    ) -> None:
        generator = np.random.default_rng(5)
        lengths = generator.lognormal(0.0, 0.8, 2000)
        rule = replace(RULE, quantile=quantile, learning_rate=0.3)
        norm, late = start, []
        for number in range(600):
            noise = deviation * generator.standard_normal()
            within = rule.weight * (float((lengths <= norm).sum()) - 1000 + noise)
            norm = next_norm(rule, norm, within, 2000 + noise, first=start)
            late += [norm] if number >= 300 else []
        middle = float(np.exp(np.mean(np.log(late))))
        assert float((lengths <= middle).mean()) == pytest.approx(quantile, abs=0.01)


class TestState:
    def test_before_the_first_step_it_is_the_charters(self) -> None:
        assert norm_of(CHARTER, {}) == CHARTER.clipping_norm

    @pytest.mark.parametrize("value", [np.zeros(1), np.array([np.inf]), np.array([np.nan]), np.ones(2)])
    def test_anything_else_is_refused(self, value: NDArray[np.float64]) -> None:
        with pytest.raises(IntegrityError, match="must be one finite float64 above 0"):
            norm_of(CHARTER, {CLIPPING_NORM: value})

    def test_one_beyond_reach_is_held(self) -> None:
        far = {CLIPPING_NORM: np.array([1e300])}
        assert norm_of(CHARTER, far) == CHARTER.clipping_norm * FURTHEST


class TestNextModel:
    def test_the_next_norm_lies_beside_the_optimisers_state(self) -> None:
        norm, model = CHARTER.clipping_norm, with_state("adam", PARENT)
        for share in (1.0, 0.9, 0.1):
            model = step(model, aggregate(share))
            norm *= math.exp(-0.5 * (share - 0.2))
            assert norm_of(CHARTER, split(model)[1]) == pytest.approx(norm, rel=1e-9)

    def test_every_party_computes_the_same_bytes(self) -> None:
        first = step(with_state("adam", PARENT), aggregate(0.8125))
        there = tensors.decode_any(tensors.encode(first))
        assert tensors.encode(step(first, aggregate(0.3))) == tensors.encode(step(there, aggregate(0.3)))

    def test_the_step_is_that_of_the_gradient_in_units_of_the_norm(self) -> None:
        fixed = replace(CHARTER, privacy=NOISE)
        plain = step(with_state("adam", PARENT), np.append(GRADIENT * 100.0, 100.0), fixed)
        found = step(with_state("adam", PARENT), aggregate(0.8))
        assert all(np.array_equal(found[name], plain[name]) for name in plain)

    def test_an_edition_with_one_norm_drops_it_and_one_that_adapts_begins_anew(self) -> None:
        fixed = replace(CHARTER, privacy=NOISE)
        adapted = step(with_state("adam", PARENT), aggregate(0.8))
        plain = step(adapted, np.append(GRADIENT * 100.0, 100.0), fixed)
        assert CLIPPING_NORM in adapted
        assert CLIPPING_NORM not in plain
        again = step(plain, aggregate(0.8))
        assert np.array_equal(again[CLIPPING_NORM], adapted[CLIPPING_NORM])

    def test_class_sums_leave_it_alone(self) -> None:
        terms = replace(TERMS, class_sum_start=True, first_round=1)
        charter = replace(CHARTER, privacy=terms)
        assert charter.problems() == []
        state = with_state("adam", PARENT)
        norm = {CLIPPING_NORM: np.array([0.75])}
        total = np.append(np.ones(6), 50.0)
        started = next_model(charter, state | norm, total, round_number=1, members=3)
        assert started[CLIPPING_NORM].tolist() == [0.75]
        assert CLIPPING_NORM not in next_model(charter, state, total, round_number=1, members=3)

    def test_a_sum_without_the_indicators_is_refused(self) -> None:
        with pytest.raises(IntegrityError, match="has 10 values for this model"):
            step(with_state("adam", PARENT), np.append(GRADIENT, 3.0))


def test_what_is_released_is_one_coordinate_more_in_units_of_the_norm() -> None:
    released = released_sum(CHARTER, NOISE.first_round, shapes_of(PARENT))
    assert (released.of, released.dimensions) == (GRADIENTS, 9)
    assert released.clipping_norm == contribution_bound(RULE) == math.sqrt(1.0025)


@pytest.mark.parametrize("algorithm", ["analytic", "dp-sgd"])
def test_belongs_to_gradient_sums_alone(algorithm: str) -> None:
    problems = replace(CHARTER, algorithm=algorithm).problems()
    assert f"privacy.adaptive belongs to fedsgd, got {algorithm!r}" in problems
