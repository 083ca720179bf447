"""Server optimisers on an opened gradient, as pure functions that every party recomputes bit for bit.

`sgd` and `momentum`: w⁺ = w − η·v with v = g, or v = 0.9·v + g (Polyak 1964; FedAvgM, Hsu et al. 2019).
`adam`: Kingma and Ba 2015, Algorithm 1, on the gradient of a round; on the negative mean update of the
sites it is FedAdam (Reddi et al. 2021, "Adaptive Federated Optimization", ICLR, Algorithm 2):

    m = 0.9·m + 0.1·g,   v = 0.99·v + 0.01·g²,   w⁺ = w − η · m/(1 − 0.9ᵗ) / (√(v/(1 − 0.99ᵗ)) + 1e-8).

All arithmetic is float64 and made of +, −, ×, ÷ and √ alone, one value at a time, which IEEE 754 rounds
alike everywhere; powers are repeated products, because `pow` is a library's. The model is rounded to
float32 once, at the end; the state stays float64 and lies beside the weights in the committed file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from components.artifacts import tensors
from components.errors import IntegrityError

SGD, MOMENTUM, ADAM = "sgd", "momentum", "adam"
SERVER_STEPS = (SGD, MOMENTUM, ADAM)
STATE_PREFIX = "optimizer."
STEPS = "optimizer.steps"
DECAY = 0.9
SECOND_DECAY = 0.99
EPSILON = 1e-8
MAX_STEPS = 1_000_000  # powers are repeated products: a step count somebody made up must not take hours

_MEMORY = {SGD: (), MOMENTUM: ("momentum",), ADAM: ("momentum", "second")}

State = dict[str, NDArray[np.float64]]


def initial_state(optimizer: str, parent: Mapping[str, NDArray[np.float32]]) -> State:
    """What an optimiser remembers before its first step: zeros.

    Args:
        optimizer: `sgd` (remembers nothing), `momentum` or `adam`.
        parent: the genesis model.

    Returns:
        float64 `optimizer.momentum.<tensor>` and, of Adam, `optimizer.second.<tensor>` in the shapes of
        the tensors, and `optimizer.steps`, shape (1,).

    Raises:
        IntegrityError: the optimiser is not known.
    """
    state = {
        f"{STATE_PREFIX}{kind}.{name}": np.zeros(parent[name].shape)
        for kind in _memory(optimizer)
        for name in sorted(parent)
    }
    return state | {STEPS: np.zeros(1)} if optimizer == ADAM else state


def step(
    optimizer: str,
    learning_rate: float,
    parent: Mapping[str, NDArray[np.float32]],
    gradient: NDArray[np.float64],
    state: Mapping[str, NDArray[np.float64]],
) -> tuple[tensors.Tensors, State]:
    """One step down the gradient; the arguments are left as they are.

    Args:
        optimizer: `sgd`, `momentum` or `adam`.
        learning_rate: η, above 0.
        parent: the model the gradient was taken at.
        gradient: float64 (d,), tensors in the order of their names; the mean, not the sum.
        state: of the step before, or `initial_state`.

    Returns:
        The next model, float32, and the next state, float64.

    Raises:
        IntegrityError: optimiser, learning rate, gradient or state are not what this model's steps need,
            or the result is not finite.
    """
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise IntegrityError(
            f"the server's learning rate must be a finite number above 0, got {learning_rate!r}"
        )
    if gradient.dtype != np.float64 or not np.all(np.isfinite(gradient)):
        raise IntegrityError("the opened gradient must be finite float64: nothing was committed")
    slopes = tensors.unflatten(gradient, parent)
    _check_state(optimizer, parent, state)
    after: State = {}
    if optimizer == ADAM:
        after[STEPS] = state[STEPS] + 1
    model: tensors.Tensors = {}
    # What overflows is refused below, by name.
    with np.errstate(over="ignore", invalid="ignore"):
        for name in sorted(parent):
            direction, remembered = _direction(optimizer, name, slopes[name], state, after)
            after |= remembered
            model[name] = (parent[name].astype(np.float64) - learning_rate * direction).astype(np.float32)
    finite = [bool(np.all(np.isfinite(values))) for values in joined(model, after).values()]
    if not all(finite):
        raise IntegrityError("the next model is outside the range of float32: nothing was committed")
    return model, after


def split(
    committed: Mapping[str, NDArray[np.generic]],
) -> tuple[tensors.Tensors, State]:
    """The weights and the optimiser's state of a committed model file.

    Raises:
        IntegrityError: a weight is not float32, or a state tensor not float64.
    """
    weights: tensors.Tensors = {}
    state: State = {}
    for name, values in committed.items():
        wanted = np.float64 if name.startswith(STATE_PREFIX) else np.float32
        if values.dtype != wanted:
            raise IntegrityError(f"tensor {name} must be {np.dtype(wanted)}, got {values.dtype}")
        if name.startswith(STATE_PREFIX):
            state[name] = values.astype(np.float64, copy=False)
        else:
            weights[name] = values.astype(np.float32, copy=False)
    return weights, state


def joined(
    weights: Mapping[str, NDArray[np.float32]], state: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.generic]]:
    """Inverse of `split`: all tensors of the file that is committed."""
    together: dict[str, NDArray[np.generic]] = {**weights, **state}
    return together


def _direction(
    optimizer: str,
    name: str,
    slope: NDArray[np.float64],
    state: Mapping[str, NDArray[np.float64]],
    after: State,
) -> tuple[NDArray[np.float64], State]:
    """What one tensor moves along, and what is remembered of it."""
    if optimizer == SGD:
        return slope, {}
    first = f"{STATE_PREFIX}momentum.{name}"
    if optimizer == MOMENTUM:
        velocity = DECAY * state[first] + slope
        return velocity, {first: velocity}
    second = f"{STATE_PREFIX}second.{name}"
    mean = DECAY * state[first] + (1 - DECAY) * slope
    square = SECOND_DECAY * state[second] + (1 - SECOND_DECAY) * (slope * slope)
    taken = int(after[STEPS][0])
    unbiased = mean / (1 - _power(DECAY, taken))
    spread = np.sqrt(square / (1 - _power(SECOND_DECAY, taken))) + EPSILON
    return unbiased / spread, {first: mean, second: square}


def _power(base: float, exponent: int) -> float:
    result = 1.0
    for _ in range(exponent):
        result *= base
    return result


def _memory(optimizer: str) -> tuple[str, ...]:
    if optimizer not in _MEMORY:
        raise IntegrityError(
            f"server optimiser {optimizer!r} takes no gradient: {', '.join(SERVER_STEPS)} do"
        )
    return _MEMORY[optimizer]


def _check_state(
    optimizer: str, parent: Mapping[str, NDArray[np.float32]], state: Mapping[str, NDArray[np.float64]]
) -> None:
    wanted = {name: values.shape for name, values in initial_state(optimizer, parent).items()}
    found = {name: values.shape for name, values in state.items()}
    if found != wanted or any(values.dtype != np.float64 for values in state.values()):
        raise IntegrityError(f"the state of {optimizer} does not fit this model: {len(found)} tensors")
    if not all(np.all(np.isfinite(values)) for values in state.values()):
        raise IntegrityError(f"the state of {optimizer} is not finite")
    if any((state[name] < 0).any() for name in state if name.startswith(f"{STATE_PREFIX}second.")):
        raise IntegrityError(f"the state of {optimizer} has a negative second moment")
    if STEPS in state and not (
        0 <= state[STEPS][0] < MAX_STEPS and state[STEPS][0] == np.rint(state[STEPS][0])
    ):
        raise IntegrityError(
            f"{STEPS} must be a whole number from 0 below {MAX_STEPS}, got {state[STEPS][0]!r}"
        )
