"""Who has which rows: label skew after Dirichlet, as in the literature on federated learning.

Hsu, Qi and Brown 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
Classification": the smaller the concentration, the fewer sites share a class.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.errors import BadDataError, UsageError
from components.training.features import Examples

LEAST_ROWS: Final = 40
"""Training rows of a site: with fewer, what is measured says more of the draw than of a method."""
_MOST_DRAWS: Final = 200


def dealt(
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    *,
    sites: int,
    concentration: float,
    seed: int,
    least_rows: int = LEAST_ROWS,
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Deals rows out: each class in proportions drawn from Dirichlet(concentration).

    Args:
        train: labels of the training rows, (n,).
        test: labels of the test rows, (m,): they follow the proportions of the training rows.
        sites: how many hands, from 2.
        concentration: of the Dirichlet distribution, above 0.
        seed: the same seed deals the same hands.
        least_rows: training rows that every hand has at least; deals with fewer are drawn again.

    Returns:
        Places of training and of test rows, sorted, by site.

    Raises:
        UsageError: a number is out of range.
        BadDataError: there are too few rows for so many sites.
    """
    if sites < 2:
        raise UsageError(f"a comparison needs at least 2 sites, got {sites}")
    if not concentration > 0:
        raise UsageError(f"concentration must be above 0, got {concentration:g}")
    generator = np.random.Generator(np.random.PCG64(seed))
    classes = int(max(train.max(initial=0), test.max(initial=0))) + 1
    for _ in range(_MOST_DRAWS):
        hands: list[tuple[list[int], list[int]]] = [([], []) for _ in range(sites)]
        for label in range(classes):
            shares = np.cumsum(generator.dirichlet([concentration] * sites))[:-1]
            for place, labels in enumerate((train, test)):
                rows = generator.permutation(np.flatnonzero(labels == label))
                parts = np.split(rows, (shares * len(rows)).round().astype(int))
                for hand, part in zip(hands, parts, strict=True):
                    hand[place].extend(part.tolist())
        if min(len(own) for own, _ in hands) >= least_rows and all(seen for _, seen in hands):
            return [(np.array(sorted(own)), np.array(sorted(seen))) for own, seen in hands]
    raise BadDataError(
        f"{len(train)} training and {len(test)} test rows are too few for {sites} sites with at least "
        f"{least_rows} and 1 each at concentration {concentration:g}: take more rows or fewer sites"
    )


def taken(examples: Examples, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Examples:
    """Some of the rows."""
    return Examples(features=examples.features[rows], labels=examples.labels[rows])


def is_validation(rows: int, *, share: float, seed: int) -> NDArray[np.bool_]:
    """The training rows on which everything is chosen, (rows,): nothing is chosen on test rows."""
    generator = np.random.Generator(np.random.PCG64(seed + 1000))
    chosen = np.zeros(rows, bool)
    chosen[generator.permutation(rows)[: max(1, round(rows * share))]] = True
    return chosen
