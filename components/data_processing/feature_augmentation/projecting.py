"""Fewer features of a row: its components along the principal directions of a public corpus.

Principal component analysis (Pearson 1901; Hotelling 1933) of public texts under the same encoder, never of a
site's rows: the matrix is fixed before a site reads one, so nothing shows by it and it costs no epsilon. The
gradient of a head on projected features lies in the projected space, so model, update and seal shrink alike.
Keeping the largest coordinates of an update instead would tell, by which they are, what is in the rows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from components.errors import BadDataError

Features = NDArray[np.float32]


def principal_directions(features: Features, dimensions: int) -> Features:
    """The directions along which features differ most, largest first.

    Args:
        features: of public texts, (n, d).
        dimensions: d', from 1 to d - 1 and at most n - 1.

    Returns:
        float32, (d', d), with orthonormal rows, each with its largest component positive, so that one machine
        makes the same bytes again.

    Raises:
        BadDataError: the features differ along fewer directions.
    """
    centred = features.astype(np.float64)
    centred -= centred.mean(axis=0)
    variances, vectors = np.linalg.eigh(centred.T @ centred)
    # Rounding leaves a direction that nothing differs along a variance of about this much.
    least = variances[-1] * max(centred.shape) * np.finfo(np.float64).eps
    found = int((variances > least).sum())
    if found < dimensions:
        raise BadDataError(
            f"features of {len(features)} public texts differ along {found} directions, "
            f"fewer than {dimensions}"
        )
    rows: NDArray[np.float64] = vectors.T[::-1][:dimensions]
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    directions: Features = np.ascontiguousarray(rows * np.sign(largest), np.float32)
    return directions


def projected(features: Features, matrix: Features) -> Features:
    """Features along the rows of a matrix, each row at the norm that features of that width have.

    Args:
        features: (n, d); left as they are.
        matrix: (d', d), with orthonormal rows.

    Returns:
        float32, (n, d'), each row of norm √d'; one without a component along the matrix is zero.

    Raises:
        BadDataError: the matrix is of another width.
    """
    if matrix.shape[1:] != features.shape[1:]:
        raise BadDataError(
            f"a public projection of shape {matrix.shape} does not fit features of "
            f"{features.shape[1]} dimensions"
        )
    # einsum without BLAS: a row's sums are then added in one order, whatever other rows there are.
    found = np.einsum("nd,kd->nk", features.astype(np.float64), matrix.astype(np.float64))
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    ratio = np.divide(math.sqrt(len(matrix)), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    result: Features = (found * ratio).astype(np.float32)
    return result
