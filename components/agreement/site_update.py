"""The update a site computed for a ticket, with the salt of its commitment, in its own store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.agreement.ticket import Ticket
from components.artifacts import tensors
from components.artifacts.stores import Store


@dataclass(frozen=True, kw_only=True)
class SiteUpdate:
    """An update before it is sealed.

    Attributes:
        values: weights after local training minus global weights, float64, shape (d,).
        num_examples: training rows behind it.
        salt: of the commitment, 32 bytes.
        content: the bytes that are committed to.
    """

    values: NDArray[np.float64]
    num_examples: int
    salt: bytes
    content: bytes


def update_key(ticket: Ticket) -> str:
    """Where it lies in the site's own store."""
    return f"updates/{ticket.digest}.safetensors"


def encode_update(values: NDArray[np.float64], num_examples: int, salt: bytes) -> bytes:
    """One file for all of it, so that creating it is one step."""
    return tensors.encode(
        {
            "update": values.astype(np.float64),
            "num_examples": np.array([num_examples], np.int64),
            "salt": np.frombuffer(salt, np.uint8),
        }
    )


def read_update(store: Store, ticket: Ticket) -> SiteUpdate:
    """The update of this ticket.

    Raises:
        ObjectMissingError: the site has trained nothing under it.
    """
    found = tensors.decode_any(store.read(update_key(ticket)))
    values, num_examples = found["update"].astype(np.float64), int(found["num_examples"][0])
    content = committed_bytes(values, num_examples)
    return SiteUpdate(values=values, num_examples=num_examples, salt=found["salt"].tobytes(), content=content)


def committed_bytes(values: NDArray[np.float64], num_examples: int) -> bytes:
    """What the commitment is computed over: the count, then the values, little-endian."""
    return num_examples.to_bytes(8, "little") + values.astype("<f8").tobytes()
