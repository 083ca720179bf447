"""The clipping norm of a round where it follows the gradients, as every party recomputes it bit for bit.

Andrew, Thakkar, McMahan and Ramaswamy 2021, "Differentially Private Learning with Adaptive Clipping",
NeurIPS, Algorithm 1: the norm of the next round is

    C⁺ = C · exp(−η (b̄ − γ)),

b̄ the noisy share of the gradients that are no longer than C, γ the quantile that is aimed at. The share
comes out of the same opened sum as the gradient: each example adds weight · (b − ½) as one coordinate more.
The norm lies beside the optimiser's state in the committed model, so that a site that has checked a ticket's
model against the last receipt has checked its norm.

All arithmetic is float64 but the exponential, which is a library's in float64 and correctly rounded in
Python's decimals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.agreement.charter import Charter
from components.agreement.noise_terms import AdaptiveClipping
from components.agreement.released_sum import adaptive_rule
from components.agreement.server_steps import STATE_PREFIX
from components.errors import IntegrityError

CLIPPING_NORM: Final = f"{STATE_PREFIX}clipping_norm"
"""Name of the tensor, float64 of shape (1,)."""
FURTHEST: Final = 2.0**20
"""By this factor the norm may leave the charter's, either way: noise alone carries it no further."""
_CONTEXT: Final = Context(prec=40, rounding=ROUND_HALF_EVEN)


def norm_of(charter: Charter, state: Mapping[str, NDArray[np.float64]]) -> float:
    """C of the round that starts from a model with this state; the charter's before the first step.

    Args:
        charter: of the round.
        state: as `server_steps.split` gives it.

    Raises:
        IntegrityError: what lies in the state is no norm.
    """
    if adaptive_rule(charter) is None or CLIPPING_NORM not in state:
        return charter.clipping_norm
    values = state[CLIPPING_NORM]
    if values.dtype != np.float64 or values.shape != (1,) or not 0 < float(values[0]) < math.inf:
        raise IntegrityError(f"{CLIPPING_NORM} must be one finite float64 above 0, got {values!r}")
    return _held(float(values[0]), charter.clipping_norm)


def next_norm(
    adaptive: AdaptiveClipping, norm: float, within: float, num_examples: float, *, first: float
) -> float:
    """C of the next round.

    Args:
        adaptive: the charter's rule.
        norm: C of this one.
        within: the opened coordinate, weight · Σ(b − ½) with its noise.
        num_examples: the opened, noisy count; below 1 it counts as 1.
        first: the charter's norm, which the next one lies within `FURTHEST` of.
    """
    share = within / adaptive.weight / max(1.0, num_examples) + 0.5
    share = min(1.0, max(0.0, share))
    exponent = -adaptive.learning_rate * (share - adaptive.quantile)
    grown = _CONTEXT.multiply(Decimal(norm), _CONTEXT.exp(Decimal(exponent)))
    return _held(float(grown), first)


def _held(norm: float, first: float) -> float:
    return min(max(norm, first / FURTHEST), first * FURTHEST)
