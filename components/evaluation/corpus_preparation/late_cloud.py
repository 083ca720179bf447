"""The rows of a cloud that joins late, whose data are shifted: fewer classes, and texts typed in a hurry."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.evaluation.corpus_preparation.texts import Texts
from components.evaluation.rehearsal.dealing import LEAST_ROWS, dealt

CLOUDS: Final = 5
"""The late one is the last of so many: it has about a fifth of the rows."""
CONCENTRATION: Final = 0.3
SEED: Final = 2064
"""Of the draw, which no seed of a measurement changes: every measurement meets the same late cloud."""


def late_rows(texts: Texts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the late cloud's rows among the training and the test rows, sorted.

    Each class is dealt in proportions from Dirichlet(0.3), its test rows in those of its training rows.

    Raises:
        BadDataError: there are too few rows.
    """
    hands = dealt(
        np.array(texts.train_labels, np.int64),
        np.array(texts.test_labels, np.int64),
        sites=CLOUDS,
        concentration=CONCENTRATION,
        seed=SEED,
        least_rows=min(LEAST_ROWS, len(texts.train) // (2 * CLOUDS)),
    )
    return hands[-1]
