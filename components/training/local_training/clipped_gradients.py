"""Sums of clipped per-example gradients: what `fedsgd` releases, and what DP-SGD sums.

Abadi et al. 2016, "Deep Learning with Differential Privacy", CCS, Algorithm 1, lines 6 to 8:

    Σᵢ gᵢ · min(1, C / ‖gᵢ‖₂)

over *all* parameters of the head. The gradient of a linear layer for one example is an outer product
of the error behind it and its input, so its norm is the product of theirs (Goodfellow 2015, "Efficient
Per-Example Gradient Computations") and the clipped sum is one matrix product of scaled errors and
inputs. No gradient of an example is ever written out.

Where a privacy unit has several rows, its rows' gradients are summed before they are clipped. The
square of the norm of such a sum is Σᵢⱼ ⟨lᵢ, lⱼ⟩⟨rᵢ, rⱼ⟩ over pairs of its rows. Units are computed one by
one, so that what one adds is the same bits whoever else is there: where gradients cancel, rounding that moved
with a unit's place in a batch would move its part by more than the sensitivity pays for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.errors import BadDataError, IntegrityError, UsageError
from components.training.features import Examples
from components.training.local_training.reproducible import make_reproducible

if TYPE_CHECKING:
    import torch

    Factors = dict[str, tuple[torch.Tensor, torch.Tensor | None]]
    """Left (n, out) and right (n, in) factor of every tensor's gradient; a bias has no right one."""

ROWS_AT_ONCE = 4096
"""Rows that are summed at once: what is said of rounding counts on no more."""

ROWS_OF_UNITS = 256
"""Most rows of a unit whose pairs are compared; the gradient of a larger one is written out."""

CANCELLATION = 1e-12
"""Of (Σ‖gᵢ‖)², added to the square of a unit's norm: more than float64 can lose where gradients cancel,
so that a unit is never clipped too little."""


RAMP = 1 / 16
"""A gradient counts as within the norm C from (1 − RAMP) C down, and in part up to (1 + RAMP) C. Rounding of
a row's norm moves with its place in a batch, so with whoever else is there: a hard edge would let one row
tip the count of others, whose number the sensitivity does not cover. On the ramp it moves them by 1e-12."""


def clipped_gradient_sum(
    model: Mapping[str, NDArray[np.float32]],
    examples: Examples,
    *,
    max_grad_norm: float,
    device: str,
    units: NDArray[np.int64] | None = None,
    batch_size: int = ROWS_AT_ONCE,
) -> NDArray[np.float64]:
    """`summed_gradients` without the number that is within the norm."""
    return summed_gradients(
        model, examples, max_grad_norm=max_grad_norm, device=device, units=units, batch_size=batch_size
    ).values


@dataclass(frozen=True, kw_only=True, eq=False)
class GradientSum:
    """What the gradients of some rows come to.

    Attributes:
        values: sum of the clipped gradients, float64 (d,), in the order of sorted tensor names.
        within: number of privacy units whose gradient is within the norm, by the ramp of `RAMP`.
    """

    values: NDArray[np.float64]
    within: float


def summed_gradients(
    model: Mapping[str, NDArray[np.float32]],
    examples: Examples,
    *,
    max_grad_norm: float,
    device: str,
    units: NDArray[np.int64] | None = None,
    batch_size: int = ROWS_AT_ONCE,
) -> GradientSum:
    """Σ over privacy units of the gradient of their cross-entropy, each clipped to `max_grad_norm`.

    Adding or removing one unit changes the sum by at most `max_grad_norm` in L2. All of it is computed
    in float64: in float32 the rounding of *other* rows, which moves with their place in a batch, would
    add up to more than the fixed point allows for. A sum over no examples is zero.

    Args:
        model: the global head, see `heads`.
        examples: training rows, any number.
        max_grad_norm: C of the clipping, above 0.
        device: of torch.
        units: (n,), equal for rows of one unit; None where every row is a unit of its own.
        batch_size: rows that are computed at once; bounds memory, not the result.

    Raises:
        UsageError: `max_grad_norm` or `batch_size` is out of range.
        BadDataError: rows do not fit the head or each other, or are not finite.
        IntegrityError: the model is not a head, or not finite.
    """
    import torch

    _check(model, examples, units, max_grad_norm, batch_size)
    size = sum(values.size for values in model.values())
    make_reproducible(device, min(batch_size, max(1, len(examples.labels))) * size)
    weights = {
        name: torch.tensor(values, dtype=torch.float64, device=device) for name, values in model.items()
    }
    total = {name: torch.zeros_like(values) for name, values in weights.items()}
    some = {name: torch.zeros_like(values) for name, values in weights.items()}
    within = 0.0

    rows = np.arange(len(examples.labels)) if units is None else np.argsort(units, kind="stable")
    most = batch_size if units is None else min(batch_size, ROWS_OF_UNITS)
    for number, (start, stop) in enumerate(_blocks(len(rows), None if units is None else units[rows], most)):
        if number % ROWS_AT_ONCE == 0:
            # Units one by one make as long a chain of additions as rows of a batch.
            _move(some, total)
        place = rows[start:stop]
        z = torch.tensor(examples.features[place], dtype=torch.float64, device=device)
        y = torch.tensor(examples.labels[place], device=device)
        owners = None if units is None else torch.tensor(units[place], device=device)
        if stop - start > most:
            part, inside = _one_large_unit(weights, z, y, max_grad_norm, batch_size)
        else:
            part, inside = _clipped(weights, z, y, max_grad_norm, owners)
        within += inside
        for name, values in part.items():
            some[name] += values
    _move(some, total)
    summed = np.concatenate([total[name].cpu().numpy().ravel() for name in sorted(total)])
    return GradientSum(values=summed, within=within)


def clipped_sum(
    weights: Mapping[str, torch.Tensor],
    features: torch.Tensor,
    labels: torch.Tensor,
    max_grad_norm: float,
    units: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """The clipped sum of one batch, in the type and on the device of its tensors.

    Args:
        weights: of the head.
        features: (n, features).
        labels: (n,).
        max_grad_norm: C of the clipping.
        units: (n,), all rows of each unit that occurs; None where every row is one.
    """
    return _clipped(weights, features, labels, max_grad_norm, units)[0]


def _clipped(
    weights: Mapping[str, torch.Tensor],
    features: torch.Tensor,
    labels: torch.Tensor,
    max_grad_norm: float,
    units: torch.Tensor | None,
) -> tuple[dict[str, torch.Tensor], float]:
    """The clipped sum of one batch, and how many of its units are within the norm."""
    factors = _factors(weights, features, labels)
    norms = _norms_squared(factors, units).sqrt()
    scales = (max_grad_norm / norms).clamp(max=1)
    inside = (0.5 + (1 - norms / max_grad_norm) / (2 * RAMP)).clamp(0, 1)
    if units is not None:
        inside = inside / (units[:, None] == units[None, :]).sum(1)
    scaled = {name: (left * scales[:, None], right) for name, (left, right) in factors.items()}
    return _sums(scaled), float(inside.sum())


def _factors(weights: Mapping[str, torch.Tensor], features: torch.Tensor, labels: torch.Tensor) -> Factors:
    """Of the gradient of cross-entropy: softmax(logits) − onehot(y), chained back."""
    import torch
    from torch.nn.functional import linear

    hidden = None
    if "hidden.weight" in weights:
        hidden = linear(features, weights["hidden.weight"], weights["hidden.bias"]).relu_()
    inputs = features if hidden is None else hidden
    scores = linear(inputs, weights["output.weight"], weights["output.bias"])
    if "skip.weight" in weights:
        scores += features @ weights["skip.weight"].T
    classes = torch.arange(scores.shape[1], device=scores.device)
    error = scores.softmax(dim=1) - (labels[:, None] == classes).to(scores.dtype)
    factors: Factors = {"output.weight": (error, inputs), "output.bias": (error, None)}
    if "skip.weight" in weights:
        factors["skip.weight"] = (error, features)
    if hidden is not None:
        back = (error @ weights["output.weight"]) * (hidden > 0)
        factors |= {"hidden.weight": (back, features), "hidden.bias": (back, None)}
    return factors


def _norms_squared(factors: Factors, units: torch.Tensor | None) -> torch.Tensor:
    """Of the gradient of every row's unit, (n,)."""
    import torch

    some = next(iter(factors.values()))[0]
    norms = torch.zeros(len(some), dtype=some.dtype, device=some.device)
    for left, right in factors.values():
        norms += left.square().sum(1) * (1 if right is None else right.square().sum(1))
    if units is None:
        return norms
    pairs = torch.zeros((len(some), len(some)), dtype=some.dtype, device=some.device)
    for left, right in factors.values():
        pairs += left @ left.T * (1 if right is None else right @ right.T)
    same = (units[:, None] == units[None, :]).to(some.dtype)
    joint = (same @ (same * pairs).sum(1)).clamp(min=0)
    return joint + CANCELLATION * (same @ norms.sqrt()).square()


def _sums(factors: Factors) -> dict[str, torch.Tensor]:
    return {name: left.sum(0) if right is None else left.T @ right for name, (left, right) in factors.items()}


def _move(some: dict[str, torch.Tensor], total: dict[str, torch.Tensor]) -> None:
    for name, values in some.items():
        total[name] += values
        values.zero_()


def _one_large_unit(
    weights: Mapping[str, torch.Tensor],
    features: torch.Tensor,
    labels: torch.Tensor,
    max_grad_norm: float,
    batch_size: int,
) -> tuple[dict[str, torch.Tensor], float]:
    """The clipped gradient of a unit of many rows, which is written out: one, not one an example."""
    import torch

    total = {name: torch.zeros_like(values) for name, values in weights.items()}
    for z, y in zip(torch.split(features, batch_size), torch.split(labels, batch_size), strict=True):
        for name, values in _sums(_factors(weights, z, y)).items():
            total[name] += values
    norm = math.sqrt(sum(float(values.square().sum()) for values in total.values()))
    scale = min(1.0, max_grad_norm / norm) if norm else 1.0
    inside = min(1.0, max(0.0, 0.5 + (1 - norm / max_grad_norm) / (2 * RAMP)))
    return {name: values * scale for name, values in total.items()}, inside


def _blocks(count: int, owners: NDArray[np.int64] | None, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most `most` rows, or of the rows of each unit, whose rows stand together."""
    if owners is None:
        starts = np.arange(0, count, most)
    else:
        starts = np.flatnonzero(np.diff(owners, prepend=owners[:1] - 1)) if count else np.zeros(0, np.int64)
    yield from itertools.pairwise([*starts.tolist(), count] if count else [])


def _check(
    model: Mapping[str, NDArray[np.float32]],
    examples: Examples,
    units: NDArray[np.int64] | None,
    max_grad_norm: float,
    batch_size: int,
) -> None:
    if not (math.isfinite(max_grad_norm) and max_grad_norm > 0):
        raise UsageError(f"max_grad_norm must be a finite number above 0, got {max_grad_norm!r}")
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    _check_model(model)
    classes, width = len(model["output.bias"]), model.get("hidden.weight", model["output.weight"]).shape[1]
    count = len(examples.labels)
    if examples.features.shape != (count, width) or (units is not None and units.shape != (count,)):
        text = f"features must be {width} wide, and as many rows as labels and privacy units"
        raise BadDataError(f"{text}: got {examples.features.shape} and {count}", disclosed=text)
    if count and not 0 <= examples.labels.min() <= examples.labels.max() < classes:
        text = f"labels must lie in 0…{classes - 1}"
        raise BadDataError(f"{text}: got {examples.labels.min()}…{examples.labels.max()}", disclosed=text)
    if not np.isfinite(examples.features).all():
        text = "a feature is not a finite number: no gradient can be clipped"
        raise BadDataError(text, disclosed=text)


def _check_model(model: Mapping[str, NDArray[np.float32]]) -> None:
    linear = {"output.weight", "output.bias"}
    deep = linear | {"hidden.weight", "hidden.bias"}
    if set(model) not in (linear, deep, deep | {"skip.weight"}):
        raise IntegrityError(
            f"no head has just the tensors {', '.join(sorted(model))}: split off other state"
        )
    if not all(np.isfinite(values).all() for values in model.values()):
        raise IntegrityError("the model is not finite: no gradient can be clipped")
