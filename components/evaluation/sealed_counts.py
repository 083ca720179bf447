"""What the opened sum of sealed confusion counts says, and how exactly.

Without noise the counts are those of all test rows together. With it every count carries noise of one
deviation σ, which the mechanism states exactly for the sites in the sum. An accuracy is the ratio of two
noisy counts, c / n; to first order (the delta method) its deviation is σ·√(1 + (c / n)²) / n. It is stated
only where n is at least `LEAST_SIGNAL` σ: below, the ratio says nothing and the first order does not hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.errors import IntegrityError

LEAST_SIGNAL: Final = 5.0
"""Fewest deviations of noise that the number of rows must be, so that n has an error of 20 % at most."""
NORMAL_95: Final = 1.96
"""Deviations of a normal variable on either side that hold 95 % of it."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """An accuracy from a sealed sum, with the half width of its 95 % interval: 0 where it is exact."""

    accuracy: float
    half_width: float


@dataclass(frozen=True, kw_only=True, eq=False)
class SealedCounts:
    """The test rows of several sites, counted under the seal.

    Attributes:
        members: the sites, sorted.
        rows: test rows, or units where those are protected; noisy as all counts.
        correct: of them, by the committed model.
        adapted_correct: of them, by each site's own adapted model; None under an epsilon, where it is not
            counted.
        confusion: float64 (classes, classes); entry [i, j] counts rows of class i labelled j by the first.
        deviation: σ of the noise in every count, from 0.
    """

    members: tuple[str, ...]
    rows: float
    correct: float
    adapted_correct: float | None
    confusion: NDArray[np.float64]
    deviation: float

    @property
    def global_share(self) -> Share | None:
        """Accuracy of the committed model; None where noise drowns it, or there is no row."""
        return self._share(self.correct)

    @property
    def adapted_share(self) -> Share | None:
        """Accuracy of the adapted models, each on its own site's rows; None where they are not counted."""
        return None if self.adapted_correct is None else self._share(self.adapted_correct)

    @property
    def whole_confusion(self) -> NDArray[np.int64]:
        """The cells as counts: rounded, and 0 where noise made them negative."""
        return np.maximum(np.rint(self.confusion), 0).astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "members": list(self.members),
            "rows": self.rows,
            "correct": self.correct,
            "adapted_correct": self.adapted_correct,
            "confusion": self.confusion.tolist(),
            "deviation": self.deviation,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SealedCounts:
        """Reads what `to_dict` wrote.

        Raises:
            IntegrityError: a field is missing or is not what it should be.
        """
        try:
            counts = {name: float(document[name]) for name in ("rows", "correct", "deviation")}
            adapted = document["adapted_correct"]
            adapted_correct = None if adapted is None else float(adapted)
            members = tuple(map(str, document["members"]))
            confusion = np.array(document["confusion"], np.float64)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise IntegrityError(f"sealed counts are not in a known form: {error!r}") from error
        square = confusion.ndim == 2 and confusion.shape[0] == confusion.shape[1]
        if (
            not square
            or not np.isfinite([*counts.values(), adapted_correct or 0.0, *confusion.ravel()]).all()
        ):
            raise IntegrityError("sealed counts are a square matrix and finite numbers beside it")
        return cls(members=members, confusion=confusion, adapted_correct=adapted_correct, **counts)

    def _share(self, correct: float) -> Share | None:
        if self.rows <= 0 or self.rows < LEAST_SIGNAL * self.deviation:
            return None
        ratio = correct / self.rows
        deviation = self.deviation * math.sqrt(1 + ratio**2) / self.rows
        return Share(accuracy=min(1.0, max(0.0, ratio)), half_width=NORMAL_95 * deviation)


def counts_of(
    opened: NDArray[np.float64], *, classes: int, members: Sequence[str], deviation: float, adapted: bool
) -> SealedCounts:
    """Reads an opened sum of counts.

    Args:
        opened: correct, correct by adapted models where those are counted, the cells row by row, and the
            rows; (classes² + 2,) or (classes² + 3,).
        classes: of the model.
        members: sites in the sum.
        deviation: σ of the noise in every count; 0 for none.
        adapted: whether adapted models are counted.

    Raises:
        IntegrityError: it has another length, or counts without noise contradict each other: some site has
            sealed something else.
    """
    if opened.shape != (1 + adapted + classes**2 + 1,) or not np.isfinite(opened).all():
        raise IntegrityError(f"an opened sum of counts of {classes} classes has another form")
    correct, *cells, rows = opened.tolist()
    adapted_correct = cells.pop(0) if adapted else None
    confusion = np.reshape(np.array(cells), (classes, classes))
    if not deviation:
        whole = np.array_equal(opened, np.rint(opened)) and opened.min() >= 0
        agreed = (confusion.sum(), np.trace(confusion)) == (rows, correct) and (adapted_correct or 0) <= rows
        if not whole or not agreed:
            raise IntegrityError("counts without noise contradict each other: a site has sealed others")
    return SealedCounts(
        members=tuple(sorted(members)),
        rows=rows,
        correct=correct,
        adapted_correct=adapted_correct,
        confusion=confusion,
        deviation=deviation,
    )
