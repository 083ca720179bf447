"""Which rows are in a sum, asked of all of them together: the best linear estimate.

Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run", NeurIPS, take the
inner product of a canary with what was seen. With thousands of canaries the others' parts are most of its
noise; and a site's own rows lie where the population's lie. Both are known to an adversary who has drawn the
canaries and holds public rows. With

    seen − background = Σᵢ bᵢ·gᵢ + rows' residual + noise,    bᵢ = 0 or 1 by a fair coin,

the linear estimate of least mean square error (Kay 1993, "Fundamentals of Statistical Signal Processing:
Estimation Theory", Theorem 12.1, Bayesian Gauss–Markov) is

    ½ + (Gᵀ R⁻¹ G + 4·I)⁻¹ Gᵀ R⁻¹ (seen − background − ½·G·1),

4 the inverse variance of a coin and R the covariance of residual and noise. At much noise that is the inner
product, without noise it is least squares.

Parts are outer products, so Gᵀ R⁻¹ G = (E Eᵀ) ∘ (Z R⁻¹ Zᵀ) without writing a part out. Rows of other classes
hardly disturb, their errors being nearly orthogonal, so each class is solved by itself: on features of
a language model and 10,000 canaries that gave the AUC of the whole system to within 0.003.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.errors import UsageError
from components.evaluation.attacks.sighting import Float, Float32, Sighting
from components.training.features import Examples

LARGEST_BLOCK: Final = 512
"""Rows that are solved for together; the time grows with its square for every row."""
COIN: Final = 4.0
"""1 / variance of a fair coin."""
_RIDGE: Final = 0.3
"""Of the mean diagonal, where the noise is not known: it stands for what the model of the sum leaves out."""
_RESIDUALS: Final = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Variance of the rows' residual along the public rows' within-class variance, of that of all else, tried."""
_FITS: Final = 10
_TINY: Final = 1e-12


class JointInclusion:
    """Sums over rounds, from which every estimate follows.

    Args:
        examples: the rows asked about: all that were drawn, about half of which are in the sum.
        classes: of the head.
    """

    def __init__(self, examples: Examples, classes: int) -> None:
        self._features = examples.features
        self._blocks = _blocks(examples.labels)
        self._classes_of = [int(examples.labels[block[0]]) for block in self._blocks]
        self._projected = np.zeros_like(examples.features)
        self._errors = [np.zeros((len(block), len(block)), np.float32) for block in self._blocks]
        self._own_rows = np.zeros((classes, examples.features.shape[1]))
        self._own_weight = np.zeros(classes)
        self._along = self._square = 0.0
        self._known_scale = True

    def add(self, sighting: Sighting, errors: Float32, weight: float, *, known_scale: bool) -> None:
        """Takes a round in.

        Args:
            sighting: the round.
            errors: left factors of the rows' parts, (n, classes).
            weight: 1 / variance of the noise, or 1.
            known_scale: whether `errors` are in units of what was seen.
        """
        middle = (errors.T @ self._features) / 2
        along = float(np.vdot(sighting.weights, middle))
        square = float(np.vdot(middle, middle)) + _TINY
        scale = 1.0 if known_scale else max(0.0, along / square)
        self._along += weight * along
        self._square += weight * square
        self._known_scale &= known_scale
        rest = sighting.weights - np.float32(scale) * middle
        self._projected += np.float32(weight) * (errors @ rest)
        for number, (block, label) in enumerate(zip(self._blocks, self._classes_of, strict=True)):
            own = errors[block]
            self._errors[number] += np.float32(weight) * (own @ own.T)
            mean = float(own[:, label].mean())
            share = weight * len(block)
            self._own_rows[label] += share * mean * rest[label]
            self._own_weight[label] += share * mean * mean

    def scores(self, public: Examples | None, *, known_noise: bool) -> dict[str, Float]:
        """Estimates by variant, (n,) each.

        Args:
            public: rows of the population, whose variance within classes tells where real rows lie; None
                leaves those variants out.
            known_noise: whether the rounds' weights are 1 / variance of noise on each value.
        """
        dimensions = self._features.shape[1]
        plain = np.ones((len(self._own_weight), dimensions))
        found = {"jointly": self._solved(self._features, self._projected, plain, None)}
        if known_noise:
            found["jointly, noise known"] = self._solved(
                self._features, self._projected, plain, self._coin_ridge()
            )
        if public is None:
            return found
        variances, axes = _within_classes(public)
        turned, projected = self._features @ axes, self._projected @ axes
        for residual in _RESIDUALS:
            trusts = np.broadcast_to(1 / (1 + residual * variances), plain.shape)
            found[f"jointly, whitened {residual:g}"] = self._solved(turned, projected, trusts, None)
        if known_noise:
            trusts = self._trusts(variances, axes)
            found["jointly, whitened, noise known"] = self._solved(
                turned, projected, trusts, self._coin_ridge()
            )
        return found

    def _coin_ridge(self) -> float:
        """1 / variance of a coin, in units of the squared scale of the parts."""
        scale = 1.0 if self._known_scale else max(self._along / self._square, 1e-3)
        return COIN / scale**2

    def _solved(self, features: Float32, projected: Float32, trusts: Float, ridge: float | None) -> Float:
        """The estimate, less ½; `trusts` (classes, features) are the inverse variances along each axis."""
        scores = np.zeros(len(features))
        for block, gram, label in zip(self._blocks, self._errors, self._classes_of, strict=True):
            rows, trust = features[block], trusts[label].astype(np.float32)
            weighted = rows * trust
            system = (gram * (weighted @ rows.T)).astype(np.float64)
            along = np.einsum("ij,ij->i", projected[block], weighted, dtype=np.float64)
            diagonal = np.arange(len(block))
            system[diagonal, diagonal] += (
                max(_RIDGE * float(system[diagonal, diagonal].mean()), _TINY) if ridge is None else ridge
            )
            scores[block] = np.linalg.solve(system, along)
        return scores

    def _trusts(self, variances: Float, axes: Float32) -> Float:
        """Noise over noise and residual along each axis, (classes, features), by class from what was seen.

        A class's row of the sum has along axis k a mean square of β + γ·(variance k): β of noise and
        canaries, which have no direction, γ of the real rows. Both follow by weighted least squares.
        """
        weight = np.maximum(self._own_weight, _TINY)[:, None] / self._block_rows()[:, None]
        squares = (self._own_rows @ axes / self._block_rows()[:, None] / weight) ** 2
        design = np.stack([np.ones_like(variances), variances], axis=1)
        trusts = np.ones_like(squares)
        for label, square in enumerate(squares):
            flat, slope = float(square.mean()) + _TINY, 0.0
            for _ in range(_FITS):
                weighted = design / ((flat + slope * variances) ** 2)[:, None]
                first, second = np.linalg.lstsq(weighted.T @ design, weighted.T @ square, rcond=None)[0]
                flat, slope = max(float(first), _TINY), max(float(second), 0.0)
            trusts[label] = 1 / (1 + slope * weight[label] * variances)
        return trusts

    def _block_rows(self) -> Float:
        """Rows asked about in each class, at least 1."""
        counts = np.zeros(len(self._own_weight))
        for block, label in zip(self._blocks, self._classes_of, strict=True):
            counts[label] += len(block)
        return np.maximum(counts, 1.0)


def _blocks(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Places of rows of one class, at most `LARGEST_BLOCK` of them together."""
    found = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        found += np.array_split(rows, -(-len(rows) // LARGEST_BLOCK))
    return found


def _within_classes(public: Examples) -> tuple[Float, Float32]:
    """Variances of features within classes, (features,), and their axes in columns, (features, features)."""
    rows = public.features.astype(np.float64)
    labels, place = np.unique(public.labels, return_inverse=True)
    freedom = len(rows) - len(labels)
    if freedom < 1:
        raise UsageError("public rows must hold two of one class: there is no variance within classes")
    for number in range(len(labels)):
        rows[place == number] -= rows[place == number].mean(axis=0)
    variances, axes = np.linalg.eigh(rows.T @ rows / freedom)
    return np.maximum(variances, 0.0), axes.astype(np.float32)
