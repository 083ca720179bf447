"""BigQuery's FARM_FINGERPRINT for DuckDB, so that a split is the same rows in both.

FARM_FINGERPRINT is Google FarmHash's Fingerprint64 read as a signed integer. pyfarmhash computes the
same for keys up to 63 bytes of UTF-8; it is not exact beyond, so longer keys are refused instead of
being split differently from BigQuery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.errors import BadDataError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MAX_KEY_BYTES = 63
LONG_KEY = f"a FARM_FINGERPRINT key is longer than {MAX_KEY_BYTES} bytes"


def farm_fingerprint(key: str) -> int:
    """FARM_FINGERPRINT(key), in [-2^63, 2^63).

    Raises:
        BadDataError: `key` is longer than 63 bytes of UTF-8.
    """
    from farmhash import fingerprint64

    content = key.encode()
    if len(content) > MAX_KEY_BYTES:
        raise BadDataError(
            f"{LONG_KEY}: {key[:24]!r}… has {len(content)}; split by a shorter column", disclosed=LONG_KEY
        )
    unsigned: int = fingerprint64(content)
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


def fingerprints(keys: pa.ChunkedArray) -> pa.Array:
    """FARM_FINGERPRINT of each string as int64; null of null.

    Raises:
        BadDataError: As `farm_fingerprint`.
    """
    import pyarrow as pa

    encoded = keys.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    distinct = pa.array([farm_fingerprint(key) for key in encoded.dictionary.to_pylist()], pa.int64())
    return distinct.take(encoded.indices)


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Gives `connection` a function farm_fingerprint(VARCHAR) -> BIGINT."""
    from duckdb.func import ARROW, SPECIAL

    # A lambda, because DuckDB evaluates a named function's annotations, and pa is not imported here.
    connection.create_function(
        "farm_fingerprint",
        lambda keys: fingerprints(keys),  # noqa: PLW0108
        ["VARCHAR"],
        "BIGINT",
        type=ARROW,
        null_handling=SPECIAL,
    )
