"""Global models in the exchange, by their digests."""

from __future__ import annotations

from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.artifacts.tensors import Tensors, decode
from components.errors import DigestMismatchError

MAX_MODEL_BYTES = 8 * 2**30


def model_key(model: str) -> str:
    """Where a model lies in the exchange, by its digest."""
    return f"models/{model}.safetensors"


def read_model(exchange: Store, model: str) -> Tensors:
    """The model with this SHA-256.

    Raises:
        DigestMismatchError: what lies there is another.
    """
    content = exchange.read(model_key(model), limit=MAX_MODEL_BYTES)
    if digest(content) != model:
        raise DigestMismatchError(f"the model in the exchange is not the one with digest {model[:12]}")
    return decode(content)
