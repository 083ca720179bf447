"""Global models in the exchange, by their digests."""

from __future__ import annotations

from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from components.agreement.released_sum import Shapes
from components.agreement.server_steps import STATE_PREFIX, split
from components.artifacts.documents import digest
from components.artifacts.hashed_reader import HashedReader
from components.artifacts.stores import Store
from components.artifacts.tensors import Tensors, decode_any, read_shapes
from components.errors import DigestMismatchError

MAX_MODEL_BYTES = 8 * 2**30


def model_key(model: str) -> str:
    """Where a model lies in the exchange, by its digest."""
    return f"models/{model}.safetensors"


def read_model(exchange: Store, model: str) -> Tensors:
    """The weights of the model with this SHA-256.

    Raises:
        DigestMismatchError: what lies there is another.
    """
    return split(read_committed(exchange, model))[0]


def read_committed(exchange: Store, model: str) -> dict[str, NDArray[np.generic]]:
    """The model with this SHA-256 as it was committed: weights, and the optimiser's state beside them.

    Raises:
        DigestMismatchError: what lies there is another.
    """
    content = exchange.read(model_key(model), limit=MAX_MODEL_BYTES)
    if digest(content) != model:
        raise _another(model)
    return decode_any(content)


def model_shapes(exchange: Store, model: str) -> Shapes:
    """Shapes of the weights of the model with this SHA-256, which is streamed and not kept.

    Raises:
        DigestMismatchError: what lies there is another.
    """
    with exchange.open(model_key(model)) as source:
        reader = HashedReader(source)
        shapes = read_shapes(cast(BinaryIO, reader))
        while reader.read(1 << 20):
            pass
    if reader.digest != model:
        raise _another(model)
    return {name: shape for name, shape in shapes.items() if not name.startswith(STATE_PREFIX)}


def _another(model: str) -> DigestMismatchError:
    return DigestMismatchError(f"the model in the exchange is not the one with digest {model[:12]}")
