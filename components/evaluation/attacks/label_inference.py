"""Which classes a site has, and in what proportions, from what it sends in one round.

Zhao, Mopuri and Bilen 2020, "iDLG: Improved Deep Leakage from Gradients", section 3: the gradient of the last
layer's bias is softmax − onehot, negative only for the true class of a row. Wainakh et al. 2022,
"User-Level Label Leakage from Gradients in Federated Learning" (LLG), PoPETs: over a batch the
gradient of each class's row grows with the number of its examples, and how much one example adds can be
learned from auxiliary rows.

An adversary with public rows of every class knows what a row of each class adds on average; the counts are
then a regression of what was seen on that. Where a site takes many steps its errors are large at the start
and small at the end; halfway they are near their mean, and the counts nearer to the truth. No prior over
classes is taken for known here: leave `Sighting.background` at 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from components.agreement.released_sum import GRADIENTS, WEIGHTED_UPDATES
from components.errors import UsageError
from components.evaluation.attacks.sighting import Float, Float32, Sighting, require_rows, row_errors
from components.training.features import Examples

_RIDGE: Final = 1e-6
_SWEEPS: Final = 200
_TINY: Final = 1e-30


def presence_scores(sighting: Sighting, public: Examples) -> dict[str, Float]:
    """How likely a site has rows of each class, by variant.

    `bias` is iDLG's sign rule as a score, absent for class sums, which have none. `row norm` is the length of
    a class's row less the median row, which rows of other classes move alike. `class row` is LLG's: a class's
    own row along the public mean of the class. `mean part` is the inner product with all that a row of
    the class adds on average, `regression` the count by least squares, `regression, by its error` divides it
    by its standard error, `regression, halfway` takes errors from halfway to `Sighting.after`.

    Args:
        sighting: one site's vector of one round.
        public: rows of the population, of all classes if possible.

    Returns:
        (classes,) by variant, higher where a class is rather present.

    Raises:
        UsageError: there are no public rows, or they do not fit the head.
    """
    parts = _MeanParts(sighting, public)
    sign = -1.0 if sighting.of == GRADIENTS else 1.0
    rows = sign * sighting.weights.astype(np.float64)
    along = np.einsum("ij,ij->i", rows, parts.means) / _lengths(parts.means)
    counts = parts.counts()
    found = {
        "row norm": np.linalg.norm(rows - np.median(rows, axis=0), axis=1),
        "class row": along,
        "mean part": parts.products / np.sqrt(np.maximum(np.diag(parts.gram), _TINY)),
        "regression": counts,
        "regression, by its error": counts / np.sqrt(np.maximum(parts.errors(), _TINY)),
    }
    halfway = _halfway(sighting)
    if halfway is not sighting:
        found["regression, halfway"] = _MeanParts(halfway, public).counts()
    if sighting.has_bias:
        found["bias"] = sign * sighting.bias.astype(np.float64)
    return found


def inferred_distribution(sighting: Sighting, public: Examples) -> Float:
    """Shares of the classes among a site's rows, (classes,), summing to 1.

    Counts by least squares, drawn towards the population's proportions as far as their error asks for it
    (empirical Bayes; Efron and Morris 1973, "Stein's Estimation Rule and Its Competitors", JASA), so that
    noise never makes the answer worse than the population's shares, which need no attack.

    Args:
        sighting: one site's vector of one round.
        public: rows of the population in its own proportions.

    Raises:
        UsageError: there are no public rows, or they do not fit the head.
    """
    parts = _MeanParts(_halfway(sighting), public)
    population = np.bincount(public.labels, minlength=len(parts.gram)) / len(public.labels)
    counts, errors = parts.counts(), parts.errors()
    total = float(counts.sum())
    if not total > np.sqrt(errors.sum()):
        return population
    expected = total * population
    spread = max(0.0, float(np.mean((counts - expected) ** 2 - errors)))
    if not spread:
        return population
    shrunk = parts.not_negative() if not errors.any() else counts
    shrunk = np.maximum(expected + spread / (spread + errors) * (shrunk - expected), 0.0)
    shares: Float = shrunk / shrunk.sum()
    return shares


def _halfway(sighting: Sighting) -> Sighting:
    """The sighting from the head in the middle of an update without noise; itself where that is not known."""
    if sighting.after is None or sighting.of != WEIGHTED_UPDATES or sighting.deviation:
        return sighting
    before, after = sighting.model, sighting.after
    middle = {name: (before[name] + after[name]) / np.float32(2) for name in before}
    return replace(sighting, model=middle, after=None)


class _MeanParts:
    """What a row of each class adds on average to the vector of a round, and the regression on it.

    Attributes:
        means: public mean of each class's features, (classes, features); of all rows for a class without.
        gram: inner products of the classes' mean parts, (classes, classes).
        products: inner products of the mean parts with what was seen, (classes,).
    """

    def __init__(self, sighting: Sighting, public: Examples) -> None:
        require_rows(sighting, public)
        if not len(public.labels):
            raise UsageError("label inference needs public rows: it knows the classes by them")
        classes = len(sighting.model["output.bias"])
        public = _with_every_class(public, classes)
        errors = row_errors(sighting, public)
        ones = np.ones((len(public.labels), 1 if sighting.has_bias else 0), np.float32)
        inputs = np.concatenate([public.features, ones], axis=1)
        seen = np.concatenate([sighting.weights, sighting.bias[:, None][:, : ones.shape[1]]], axis=1)
        parts = np.empty((classes, seen.size), np.float32)
        means = np.empty((classes, public.features.shape[1]))
        for label in range(classes):
            rows = public.labels == label
            parts[label] = (errors[rows].T @ inputs[rows]).ravel() / np.float32(rows.sum())
            means[label] = public.features[rows].mean(axis=0)
        self.means = means
        self._parts: Float32 = parts
        self._seen = seen.ravel()
        self._deviation = sighting.deviation
        self.gram = (parts @ parts.T).astype(np.float64)
        self.gram[np.diag_indices(classes)] += _RIDGE * np.trace(self.gram) / classes + _TINY
        self.products = (parts @ self._seen).astype(np.float64)

    def counts(self) -> Float:
        """Rows of each class by least squares, (classes,), in unknown units where the scale is not known."""
        found: Float = np.linalg.solve(self.gram, self.products)
        return found

    def errors(self) -> Float:
        """Variance of each count, (classes,): of the noise that is known or of what no counts explain."""
        rest = self._seen - self.counts().astype(np.float32) @ self._parts
        freedom = max(1, len(rest) - len(self.gram))
        variance = max(self._deviation**2, float(np.vdot(rest, rest)) / freedom)
        found: Float = variance * np.diag(np.linalg.inv(self.gram))
        return found

    def not_negative(self) -> Float:
        """The counts by least squares that are not negative, by coordinate descent."""
        counts = np.maximum(self.counts(), 0.0)
        slopes = self.gram @ counts - self.products
        for _ in range(_SWEEPS):
            for label in range(len(counts)):
                step = max(-counts[label], -slopes[label] / self.gram[label, label])
                counts[label] += step
                slopes += step * self.gram[label]
        return counts


def _with_every_class(public: Examples, classes: int) -> Examples:
    """Public rows, and the mean of all of them under each label that has none."""
    missing = np.setdiff1d(np.arange(classes), public.labels)
    if not len(missing):
        return public
    mean = public.features.mean(axis=0, keepdims=True)
    return Examples(
        features=np.concatenate([public.features, np.repeat(mean, len(missing), axis=0)]),
        labels=np.concatenate([public.labels, missing.astype(np.int64)]),
    )


def _lengths(rows: Float) -> Float:
    found: Float = np.maximum(np.linalg.norm(rows, axis=1), _TINY)
    return found
