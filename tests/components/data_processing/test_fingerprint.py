from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.fingerprint import LONG_KEY, farm_fingerprint, fingerprints, register
from components.errors import BadDataError

# The example of FARM_FINGERPRINT in Google's reference of BigQuery's hash functions.
DOCUMENTED = {
    "1footrue": -1541654101129638711,
    "2applefalse": 2794438866806483259,
    "3true": -4880158226897771312,
}


def test_values_of_bigquerys_documentation() -> None:
    assert {key: farm_fingerprint(key) for key in DOCUMENTED} == DOCUMENTED


def test_sql_function_gives_the_documented_values_and_null_of_null() -> None:
    connection = duckdb.connect(":memory:")
    register(connection)
    keys = [*DOCUMENTED, None, *DOCUMENTED]
    rows = connection.execute("SELECT k, farm_fingerprint(k) FROM (SELECT unnest(?) AS k)", [keys]).fetchall()
    assert rows == [(key, DOCUMENTED[key] if key else None) for key in keys]


@given(st.lists(st.none() | st.text(max_size=15), max_size=20), st.integers(0, 20))
def test_an_array_in_chunks_is_its_keys_one_by_one(keys: list[str | None], cut: int) -> None:
    chunked = pa.chunked_array([pa.array(keys[:cut], pa.string()), pa.array(keys[cut:], pa.string())])
    expected = [None if key is None else farm_fingerprint(key) for key in keys]
    assert fingerprints(chunked).to_pylist() == expected


def test_63_bytes_are_the_longest_key() -> None:
    assert -(2**63) <= farm_fingerprint("é" * 31 + "x") < 2**63
    with pytest.raises(BadDataError, match="has 64") as caught:
        farm_fingerprint("é" * 32)
    assert caught.value.disclosed == LONG_KEY
