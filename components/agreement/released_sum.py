"""What the opened sum of one round is a sum of: every party reads it off charter, round and model alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.agreement.charter import ANALYTIC, GRADIENT_SUMS, Charter
from components.agreement.noise_terms import AdaptiveClipping
from components.agreement.ridge_head import gram_length, gram_sensitivity
from components.agreement.ticket import METRICS, UPDATE
from components.errors import IntegrityError

WEIGHTED_UPDATES: Final = "weighted updates"
"""n·Δw and n, or Δw and 1 where sites count alike."""
GRADIENTS: Final = "clipped gradients"
CLASS_SUMS: Final = "class sums"
GRAM_SUMS: Final = "Gram sums"
COUNTS: Final = "confusion counts"
"""Test rows that the committed model gets right, without noise those that each site's adapted model does, and
the cells of the first one's confusion matrix, row by row; then the test rows."""

Shapes = Mapping[str, tuple[int, ...]]
"""Of a model's tensors, by name."""


@dataclass(frozen=True, kw_only=True)
class ReleasedSum:
    """One round's sum.

    Attributes:
        of: what is summed: one of the names above.
        dimensions: d, values of one contribution; a count comes behind them.
        clipping_norm: largest L2 norm of one example's contribution, or of a site's whole update where
            updates are summed. Where the norm adapts, gradients are in units of the round's norm, one
            coordinate more says how many are within it, and this is the bound of both together.
    """

    of: str
    dimensions: int
    clipping_norm: float


def released_sum(charter: Charter, round_number: int, shapes: Shapes, purpose: str = UPDATE) -> ReleasedSum:
    """What a round of a charter releases.

    Args:
        charter: names the algorithm, and whether its schedule starts with class sums.
        round_number: the ticket's.
        shapes: of the model that the round starts from, see `shapes_of`.
        purpose: of the ticket.

    Raises:
        IntegrityError: the model has no linear layer to release class sums or Gram sums for.
    """
    if purpose == METRICS:
        *_, classes = _widths(shapes)
        correct = 2 if counts_adapted(charter) else 1
        return ReleasedSum(of=COUNTS, dimensions=correct + classes**2, clipping_norm=counts_norm(charter))
    if charter.algorithm == ANALYTIC:
        features, hidden_units, classes = _widths(shapes)
        return ReleasedSum(
            of=GRAM_SUMS,
            dimensions=gram_length(features, hidden_units, classes),
            clipping_norm=gram_sensitivity(charter.cross_weight),
        )
    if starts_with_class_sums(charter, round_number):
        features, _, classes = _widths(shapes)
        return ReleasedSum(of=CLASS_SUMS, dimensions=features * classes, clipping_norm=feature_norm(features))
    size = sum(math.prod(shape) for shape in shapes.values())
    if (rule := adaptive_rule(charter)) is not None:
        return ReleasedSum(of=GRADIENTS, dimensions=size + 1, clipping_norm=contribution_bound(rule))
    return ReleasedSum(
        of=GRADIENTS if charter.algorithm == GRADIENT_SUMS else WEIGHTED_UPDATES,
        dimensions=size,
        clipping_norm=charter.clipping_norm,
    )


def adaptive_rule(charter: Charter) -> AdaptiveClipping | None:
    """The rule of the clipping norm; None where it is the charter's in every round."""
    return charter.privacy.adaptive if charter.privacy and charter.algorithm == GRADIENT_SUMS else None


def contribution_bound(rule: AdaptiveClipping) -> float:
    """Largest L2 norm of a gradient in units of its round's norm, with its indicator's coordinate.

    √(1 + weight²/4): 1.00125 at a weight of 0.1. Noise is in units of it, so that the same noise multiplier
    is the same privacy: what an adaptive norm costs is this much more noise on the gradient.
    """
    return math.sqrt(1 + rule.weight**2 / 4)


def counts_adapted(charter: Charter) -> bool:
    """Whether rows are counted that a site's adapted model gets right: never under an epsilon.

    Δw is fitted to the site's training rows without noise: one of them could change the count by as many test
    rows as there are, which no noise of a row's contribution hides.
    """
    return charter.privacy is None


def counts_norm(charter: Charter) -> float:
    """L2 norm of a test row's contribution to the counts: it is counted once in two or three places."""
    return math.sqrt(3 if counts_adapted(charter) else 2)


def starts_with_class_sums(charter: Charter, round_number: int) -> bool:
    """Whether a round is the first of a schedule that begins with class sums."""
    terms = charter.privacy
    return terms is not None and terms.class_sum_start and round_number == terms.first_round


def feature_norm(features: int) -> float:
    """Norm of every row of features, √d, as `augment` stores them."""
    return math.sqrt(features)


def shapes_of(model: Mapping[str, NDArray[np.generic]]) -> Shapes:
    """Shapes of a model's tensors."""
    return {name: values.shape for name, values in model.items()}


def _widths(shapes: Shapes) -> tuple[int, int, int]:
    """Features, hidden units and classes of a head."""
    try:
        (classes,) = shapes["output.bias"]
        hidden_units, features = shapes.get("hidden.weight", (0, shapes["output.weight"][1]))
    except (KeyError, ValueError, IndexError):
        raise IntegrityError(f"no head has just the tensors {', '.join(sorted(shapes))}") from None
    return features, hidden_units, classes
