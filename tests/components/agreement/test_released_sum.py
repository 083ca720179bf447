"""What each round's sum is of: sizes and norms from their formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from components.agreement.charter import Charter
from components.agreement.released_sum import (
    CLASS_SUMS,
    GRADIENTS,
    GRAM_SUMS,
    WEIGHTED_UPDATES,
    ReleasedSum,
    Shapes,
    released_sum,
    shapes_of,
    starts_with_class_sums,
)
from components.errors import IntegrityError
from components.training import heads
from tests.components.agreement.signed_form import CHARTER, NOISE, NOISED

LINEAR = shapes_of(heads.initial(6, 0, 4, seed=1))
SKIPPING = shapes_of(heads.initial(6, 5, 4, seed=1, skip=True))
STARTING = replace(NOISED, privacy=replace(NOISE, first_round=1, class_sum_start=True))
ANALYTIC = replace(NOISED, algorithm="analytic", server_optimizer="ridge", cross_weight=2.0, ridge=1.0)
WEIGHTS = {0: 6 * 4 + 4, 5: (6 * 5 + 5) + (5 * 4 + 4) + 6 * 4}


@pytest.mark.parametrize(
    ("charter", "round_number", "of", "dimensions", "norm"),
    [
        (CHARTER, 1, WEIGHTED_UPDATES, WEIGHTS, 2.5),
        (NOISED, 3, GRADIENTS, WEIGHTS, 2.5),
        (STARTING, 1, CLASS_SUMS, {0: 24, 5: 24}, math.sqrt(6)),
        (STARTING, 2, GRADIENTS, WEIGHTS, 2.5),
        # m (m + 1) / 2 of the triangle and m values a class, m = 6 or 11; sqrt(1 + 2^2).
        (ANALYTIC, 3, GRAM_SUMS, {0: 21 + 24, 5: 66 + 44}, math.sqrt(5)),
    ],
    ids=["fedavg", "fedsgd", "its start", "after it", "analytic"],
)
def test_is_read_off_charter_round_and_model(
    charter: Charter, round_number: int, of: str, dimensions: dict[int, int], norm: float
) -> None:
    for hidden_units, shapes in ((0, LINEAR), (5, SKIPPING)):
        found = released_sum(charter, round_number, shapes)
        assert found == ReleasedSum(of=of, dimensions=dimensions[hidden_units], clipping_norm=norm)


def test_only_the_first_round_of_a_schedule_sums_by_class() -> None:
    assert [starts_with_class_sums(STARTING, number) for number in range(4)] == [False, True, False, False]
    assert not any(starts_with_class_sums(charter, 1) for charter in (CHARTER, NOISED, ANALYTIC))


@pytest.mark.parametrize(
    "shapes", [{}, {"output.weight": (4, 6)}, {"output.bias": (4, 1), "output.weight": (4, 6)}], ids=str
)
def test_a_model_without_a_linear_layer_has_no_class_sums(shapes: Shapes) -> None:
    for charter in (STARTING, ANALYTIC):
        with pytest.raises(IntegrityError, match="no head has just the tensors"):
            released_sum(charter, 1, shapes)
