"""The vector a site is going to seal under a ticket, in its own store."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from components.agreement.ticket import Ticket
from components.artifacts.stores import Store
from components.errors import IntegrityError, ObjectExistsError

_BLOCK = 1 << 18


def update_key(ticket: Ticket) -> str:
    """Where it lies in the site's own store."""
    return f"updates/{ticket.digest}.npy"


def keep_update(store: Store, ticket: Ticket, vector: NDArray[np.generic]) -> None:
    """Stores the vector once; one that is there already stays."""
    with contextlib.suppress(ObjectExistsError):
        store.create_from(update_key(ticket), _chunks(vector))


def read_update(store: Store, ticket: Ticket) -> NDArray[np.generic]:
    """The vector of this ticket.

    Raises:
        ObjectMissingError: the site has trained nothing under it.
        IntegrityError: what lies there is no vector.
    """
    try:
        with store.open(update_key(ticket)) as source:
            vector: NDArray[np.generic] = np.lib.format.read_array(source, allow_pickle=False)
    except ValueError as error:
        raise IntegrityError(
            f"the update of round {ticket.round_number} in the site's store was altered"
        ) from error
    return vector


def _chunks(vector: NDArray[np.generic]) -> Iterator[bytes]:
    head = io.BytesIO()
    little = vector.astype(vector.dtype.newbyteorder("<"), copy=False)
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(little))
    yield head.getvalue()
    for start in range(0, little.size, _BLOCK):
        yield little[start : start + _BLOCK].tobytes()
