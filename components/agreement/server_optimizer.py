"""How the opened sum becomes the next global model; every site computes it too, and compares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.agreement.charter import Charter
from components.artifacts import tensors
from components.errors import IntegrityError

AVERAGE = "average"
SERVER_OPTIMIZERS = (AVERAGE,)
_ROUNDING = 1.001


def next_model(charter: Charter, parent: tensors.Tensors, aggregate: NDArray[np.float64]) -> tensors.Tensors:
    """Adds the mean update to a model: Eq. 6, w⁺ = w + Σ nᵢ·Δwᵢ / Σ nᵢ.

    Args:
        charter: names the optimiser and the norm that no mean of clipped updates exceeds.
        parent: the model the sites started from.
        aggregate: [Σ nᵢ·Δwᵢ, Σ nᵢ], shape (d + 1,).

    Raises:
        IntegrityError: the aggregate is not finite, has another length, counts no examples, or its
            mean is longer than the charter's clipping norm: some site sealed something else.
    """
    if charter.server_optimizer != AVERAGE:
        raise IntegrityError(f"server optimiser {charter.server_optimizer!r} is not known to this version")
    if aggregate.ndim != 1 or not aggregate.size:
        raise IntegrityError(f"an opened sum is one vector, got shape {aggregate.shape}")
    if not np.all(np.isfinite(aggregate)):
        raise IntegrityError("the opened sum is not finite: nothing was committed")
    num_examples = float(np.rint(aggregate[-1]))
    if num_examples < 1:
        raise IntegrityError(f"the opened sum must count at least one example, got {num_examples:.0f}")
    mean = aggregate[:-1] / num_examples
    if float(np.linalg.norm(mean)) > charter.clipping_norm * _ROUNDING:
        raise IntegrityError(
            "the mean of the opened sum is longer than the charter's clipping norm, "
            f"{charter.clipping_norm:g}: "
            "a site sealed something else than a clipped update; nothing was committed"
        )
    update = tensors.unflatten(mean, parent)
    with np.errstate(over="ignore"):
        model = {name: (parent[name].astype(np.float64) + update[name]).astype(np.float32) for name in parent}
    if not all(np.all(np.isfinite(values)) for values in model.values()):
        raise IntegrityError("the next model is outside the range of float32: nothing was committed")
    return model
