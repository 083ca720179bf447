"""The embeddings of a small batch, read off what was summed over it.

Phong et al. 2018, "Privacy-Preserving Deep Learning via Additively Homomorphic Encryption", IEEE TIFS 13(5),
section III: behind a linear layer with a bias, the gradient of a row of weights over that of its
bias *is* the input, for one example exactly. Zhu, Liu and Han 2019, "Deep Leakage from Gradients", NeurIPS,
and Geiping et al. 2020, "Inverting Gradients – How Easy Is It to Break Privacy in Federated Learning?",
NeurIPS: for a batch, look for inputs whose gradients would be the ones seen. A linear head needs
no optimiser for that: given the errors, the inputs solve a linear system, and the errors follow from them.

What is found is one embedding a class: rows of one class add up. From an embedding to a text it is a nearest
neighbour among candidates, `candidate_scores`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from components.agreement.released_sum import CLASS_SUMS, GRADIENTS
from components.errors import UsageError
from components.evaluation.attacks.sighting import Float, Sighting, row_errors
from components.training.features import Examples

_STEPS: Final = 20
_TINY: Final = 1e-12
_CERTAIN: Final = 2.0
"""Deviations of known noise that the bias of a class must stand above to be taken for present."""


def inverted(sighting: Sighting) -> dict[str, Float]:
    """An embedding for each class, (classes, features), by variant; only directions mean something.

    `rows`: the class's own row of the sum, signed as an example of the class moves it. `bias ratio`: Phong's
    row over bias. `less the common row`: less the median over classes, which is what a batch of few
    classes adds to the rows of all others. `fixed point`: rows are solved for and errors computed in turn,
    for classes that the bias tells to be present; the others keep the row less the common one. Class sums
    have only `rows`, which are exact.

    Args:
        sighting: one site's vector of one round; a background is subtracted where there is one.
    """
    sign = -1.0 if sighting.of == GRADIENTS else 1.0
    rows = sign * sighting.weights.astype(np.float64)
    if sighting.of == CLASS_SUMS:
        return {"rows": rows}
    bias = sign * sighting.bias.astype(np.float64)
    return {
        "rows": rows,
        "bias ratio": np.divide(
            rows, bias[:, None], out=np.zeros_like(rows), where=np.abs(bias)[:, None] > _TINY
        ),
        "less the common row": rows - np.median(rows, axis=0),
        "fixed point": _fixed_point(sighting, rows, bias),
    }


def candidate_scores(embeddings: Float, candidates: Examples) -> Float:
    """Cosine of each candidate row with what was inverted for its class, (n,); 0 where nothing was.

    Args:
        embeddings: (classes, features), one variant of `inverted`.
        candidates: rows that may be in the batch, with their labels.

    Raises:
        UsageError: candidates do not fit.
    """
    classes, features = embeddings.shape
    rows = candidates.features.astype(np.float64)
    if rows.shape[1:] != (features,) or (
        len(rows) and not 0 <= candidates.labels.min() <= candidates.labels.max() < classes
    ):
        raise UsageError(
            f"candidates must have {features} features and a label in 0…{classes - 1}, got {rows.shape}"
        )
    scores: Float = np.einsum(
        "ij,ij->i", _of_length(rows, 1.0), _of_length(embeddings, 1.0)[candidates.labels]
    )
    return scores


def _fixed_point(sighting: Sighting, rows: Float, bias: Float) -> Float:
    """One row for each present class, of the norm that features have, whose parts add up to what was seen."""
    length = np.sqrt(rows.shape[1])
    found = _of_length(rows - np.median(rows, axis=0), length)
    present = np.flatnonzero(bias > _CERTAIN * sighting.deviation + _TINY)
    if not len(present):
        return found
    inputs = found[present]
    seen = sighting.weights.astype(np.float64)
    for _ in range(_STEPS):
        examples = Examples(features=inputs.astype(np.float32), labels=present.astype(np.int64))
        errors = row_errors(sighting, examples).astype(np.float64)
        solved: Float = np.linalg.lstsq(errors.T, seen, rcond=1e-6)[0].astype(np.float64)
        inputs = _of_length(solved, length)
    found[present] = inputs
    return found


def _of_length(rows: Float, length: float) -> Float:
    found: Float = rows * (length / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY))
    return found
