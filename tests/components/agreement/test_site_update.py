from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.agreement.commitment import committed_digest
from components.agreement.site_update import keep_update, read_update, update_key
from components.artifacts.stores import Store, open_store
from components.errors import IntegrityError, ObjectMissingError
from tests.components.agreement.signed_form import OTHER_TICKETS, TICKET

SALT = bytes(32)
VALUES = np.array([1.5, -0.0, 1e-300, 2.0**-1074, 0.1])


def test_what_was_kept_is_what_is_sealed(exchange: Store) -> None:
    keep_update(exchange, TICKET, VALUES)
    found = read_update(exchange, TICKET)
    assert found.tobytes() == VALUES.tobytes()
    assert found.dtype == np.float64
    assert committed_digest(TICKET, "alpha", SALT, found) == committed_digest(TICKET, "alpha", SALT, VALUES)


def test_the_first_one_stays(exchange: Store) -> None:
    """Noise is never drawn twice: what a retry computes is not what is sealed."""
    keep_update(exchange, TICKET, VALUES)
    keep_update(exchange, TICKET, VALUES + 1)
    assert np.array_equal(read_update(exchange, TICKET), VALUES)


def test_is_of_one_ticket(exchange: Store) -> None:
    keep_update(exchange, TICKET, VALUES)
    for ticket in OTHER_TICKETS:
        with pytest.raises(ObjectMissingError):
            read_update(exchange, ticket)
    assert update_key(TICKET) == f"updates/{TICKET.digest}.npy"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=40)
@given(
    values=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=6),
    kind=st.sampled_from(["<i4", "<i8", "<f8", ">i8", ">f8", "<u4"]),
)
def test_any_vector_comes_back_little_endian(exchange: Store, values: list[int], kind: str) -> None:
    vector: NDArray[np.generic] = np.array(values, np.int64).astype(kind)
    store = open_store(f"each/{np.random.default_rng().integers(2**60)}")
    keep_update(store, TICKET, vector)
    found = read_update(store, TICKET)
    assert found.dtype == np.dtype(kind).newbyteorder("<")
    assert np.array_equal(found, vector)


@pytest.mark.parametrize("length", [0, 1, 2**18 - 1, 2**18, 2**18 + 5, 2**20 + 1])
def test_blocks_leave_no_trace(exchange: Store, length: int) -> None:
    vector = np.arange(length, dtype=np.int64)
    keep_update(exchange, TICKET, vector)
    assert np.array_equal(read_update(exchange, TICKET), vector)
    # The format is NumPy's own, so that a site's people can look at what they are about to seal.
    assert np.array_equal(np.load(io.BytesIO(exchange.read(update_key(TICKET)))), vector)


def test_a_strided_vector_is_its_values(exchange: Store) -> None:
    keep_update(exchange, TICKET, np.arange(20)[::-3])
    assert read_update(exchange, TICKET).tolist() == list(range(19, 0, -3))


def test_objects_are_never_unpickled(exchange: Store) -> None:
    content = io.BytesIO()
    np.save(content, np.array([{"a": 1}], object), allow_pickle=True)
    exchange.create(update_key(TICKET), content.getvalue())
    with pytest.raises(IntegrityError, match="the update of round 7 in the site's store was altered"):
        read_update(exchange, TICKET)


@pytest.mark.parametrize("content", [b"", b"no update", b"\x93NUMPY\x01\x00"])
def test_other_bytes_are_refused(exchange: Store, content: bytes) -> None:
    exchange.create(update_key(TICKET), content)
    with pytest.raises(IntegrityError, match="was altered"):
        read_update(exchange, TICKET)
