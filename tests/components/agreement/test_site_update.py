from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.agreement.commitment import commit
from components.agreement.site_update import committed_bytes, encode_update, read_update, update_key
from components.artifacts.stores import Store
from components.errors import IntegrityError, ObjectMissingError
from tests.components.agreement.signed_form import OTHER_TICKETS, TICKET

SALT = bytes(range(100, 132))
VALUES = np.array([1.5, -0.0, 1e-300, 2.0**-1074, 0.1])


def test_what_was_kept_is_what_is_sealed(exchange: Store) -> None:
    exchange.create(update_key(TICKET), encode_update(VALUES, 41, SALT))
    found = read_update(exchange, TICKET)
    assert found.values.tobytes() == VALUES.tobytes()
    assert found.values.dtype == np.float64
    assert (found.num_examples, found.salt) == (41, SALT)
    assert found.content == struct.pack("<Q5d", 41, *VALUES)
    kept = commit(TICKET, "alpha", found.salt, found.content)
    assert kept == commit(TICKET, "alpha", SALT, committed_bytes(VALUES, 41))


def test_is_of_one_ticket(exchange: Store) -> None:
    exchange.create(update_key(TICKET), encode_update(VALUES, 41, SALT))
    for ticket in OTHER_TICKETS:
        with pytest.raises(ObjectMissingError):
            read_update(exchange, ticket)


def test_other_bytes_are_refused(exchange: Store) -> None:
    exchange.create(update_key(TICKET), b"no update")
    with pytest.raises(IntegrityError):
        read_update(exchange, TICKET)


@given(values=st.lists(st.floats(allow_nan=False), max_size=5), num_examples=st.integers(0, 2**63 - 1))
def test_committed_bytes_are_count_and_values_little_endian(values: list[float], num_examples: int) -> None:
    expected = struct.pack(f"<Q{len(values)}d", num_examples, *values)
    assert committed_bytes(np.array(values, np.float64), num_examples) == expected
    assert committed_bytes(np.array(values, ">f8"), num_examples) == expected
