"""A site's rows as they lie in its own store: shards of Parquet, and one index that names them in order.

Where a shard ends depends on the rows alone, so equal rows make equal shards, and each is kept once under a
keyed digest of its contents. The index is written last: whoever follows a reference finds everything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.private_keys import keyed_digest
from components.artifacts.stores import Store
from components.errors import IntegrityError, ObjectExistsError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

SHARD_BYTES = 32 << 20
# What a row takes beside its text, so that a shard of empty texts does not hold a hundred million rows.
ROW_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Where one shard lies, and its number of rows, which is for the site only."""

    key: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class KeptRows:
    """Rows that are in the site's store.

    Attributes:
        key: of the index.
        digest: keyed; equal if and only if the rows are.
        schema: type of each column by name.
        size: bytes of all shards.
    """

    key: str
    digest: str
    schema: Mapping[str, str]
    size: int


def cut(pieces: Iterable[pa.Table], *, shard_bytes: int = SHARD_BYTES) -> Iterator[pa.Table]:
    """The same rows in shards: each takes rows until the next would make it larger than `shard_bytes`.

    A row counts with its UTF-8 text and 32 bytes; one that is larger than a shard is a shard of its own.

    Args:
        pieces: Canonical rows; how they are parted makes no difference. One piece at least.
        shard_bytes: Largest shard of several rows.

    Returns:
        Tables of one chunk; a single empty one where there are no rows.
    """
    import numpy as np
    import pyarrow as pa

    held: list[pa.Table] = []
    room, whole = shard_bytes, 0
    for piece in pieces:
        ends = np.cumsum(_row_sizes(piece))
        start = 0
        while start < piece.num_rows:
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + room, side="right"))
            if stop == start and room == shard_bytes:
                stop += 1
            held.append(piece.slice(start, stop - start))
            room -= (int(ends[stop - 1]) if stop else 0) - before
            if stop < piece.num_rows:
                yield pa.concat_tables(held).combine_chunks()
                held, room, whole = [], shard_bytes, whole + 1
            start = stop
        if not held and not whole:
            empty = piece
    if held or not whole:
        yield pa.concat_tables(held or [empty]).combine_chunks()


def keep_rows(store: Store, key: Ed25519PrivateKey, shards: Iterable[pa.Table]) -> KeptRows:
    """Writes `shards` to the site's store, each if it is not there yet, and then the index that names them.

    Args:
        store: The site's own.
        key: The site's, for digests that nobody else can compute.
        shards: Canonical rows as `cut` makes them, at least one; one at a time is held.
    """
    digests, entries, size = [], [], 0
    schema: dict[str, str] = {}
    for shard in shards:
        digests.append(rows_digest(shard).encode())
        shard_key, content = f"rows/{keyed_digest(key, digests[-1:])}.parquet", to_parquet(shard)
        with contextlib.suppress(ObjectExistsError):
            store.create(shard_key, content)
        entries.append({"key": shard_key, "rows": shard.num_rows})
        size += len(content)
        schema = {field.name: str(field.type) for field in shard.schema}
    name = keyed_digest(key, digests)
    index = f"rows/{name}.json"
    with contextlib.suppress(ObjectExistsError):
        store.create(index, json.dumps({"shards": entries}, indent=1).encode())
    return KeptRows(key=index, digest=name, schema=schema, size=size)


def shards_of(store: Store, index: str) -> list[Shard]:
    """The shards that the object `index` names, in the order of their rows.

    Raises:
        ObjectMissingError: There is no such index.
        IntegrityError: It is not one.
    """
    try:
        document = json.loads(store.read(index))
        return [Shard(key=str(entry["key"]), rows=int(entry["rows"])) for entry in document["shards"]]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{index} is not an index of rows: ingest again") from error


def read_shard(store: Store, shard: Shard) -> pa.Table:
    """The rows of one shard.

    Raises:
        ObjectMissingError: It is not in the store.
        IntegrityError: It is not a whole Parquet file, or has another number of rows than its index says.
    """
    table = from_parquet(store.read(shard.key))
    if table.num_rows != shard.rows:
        raise IntegrityError(f"{shard.key} has not the number of rows that its index says: ingest again")
    return table


def rows_digest(table: pa.Table) -> str:
    """SHA-256 of a canonical table's contents as 64 hexadecimal digits.

    Two tables have the same digest if and only if they have the same columns and the same rows, both in the
    same order; chunks and Parquet's encodings do not count. Every part of variable size comes after its
    length, so that no two tables are hashed as the same bytes.

    Raises:
        ValueError: A column holds NULL, or neither strings nor booleans.
    """
    import pyarrow as pa

    state = hashlib.sha256(b"crosscloud rows 1\0")
    state.update(_number(table.num_columns) + _number(table.num_rows))
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count:
            raise ValueError(f"column {name!r} holds NULL: a canonical table has none")
        state.update(_number(len(name.encode())) + name.encode())
        if pa.types.is_string(column.type):
            state.update(b"s")
            _digest_strings(state, column)
        elif pa.types.is_boolean(column.type):
            state.update(b"b" + column.to_numpy().astype("u1").tobytes())
        else:
            raise ValueError(
                f"column {name!r} is of type {column.type}: a canonical table has string and bool"
            )
    return state.hexdigest()


def to_parquet(table: pa.Table) -> bytes:
    """`table` as one Parquet file (zstd)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def from_parquet(content: bytes) -> pa.Table:
    """The table that `to_parquet` wrote.

    Raises:
        IntegrityError: `content` is not a whole Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{len(content)} bytes of rows are not a Parquet file: ingest again") from error


def _row_sizes(table: pa.Table) -> NDArray[np.int64]:
    """Bytes that each row counts with, of shape (num_rows,)."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    sizes = np.full(table.num_rows, ROW_BYTES, np.int64)
    for column in table.columns:
        if pa.types.is_string(column.type):
            sizes += pc.binary_length(column).to_numpy()
    return sizes


def _digest_strings(state: hashlib._Hash, column: pa.ChunkedArray) -> None:
    import numpy as np
    import pyarrow.compute as pc

    state.update(pc.binary_length(column).to_numpy().astype("<u8").tobytes())
    for chunk in column.chunks:
        _, offsets, text = chunk.buffers()
        if len(chunk) and text is not None:
            bounds = np.frombuffer(offsets, np.int32)
            first, last = bounds[chunk.offset], bounds[chunk.offset + len(chunk)]
            state.update(memoryview(text)[first:last])


def _number(value: int) -> bytes:
    return value.to_bytes(8, "little")
