"""Rows in the site's store: where shards end, what names them, and what a reference finds."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from components.agreement.private_keys import keyed_digest
from components.artifacts.stores import Store, open_store
from components.data_processing.record_ingestion.row_shards import (
    ROW_BYTES,
    cut,
    from_parquet,
    keep_rows,
    read_shard,
    rows_digest,
    shards_of,
    to_parquet,
)
from components.errors import IntegrityError, ObjectMissingError

Row = tuple[str, str, bool]
Rows = st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4), st.booleans()), max_size=6)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def table_of(rows: list[Row]) -> pa.Table:
    return pa.table(
        {
            "a": pa.array([row[0] for row in rows], pa.string()),
            "label": pa.array([row[1] for row in rows], pa.string()),
            "is_test": pa.array([row[2] for row in rows], pa.bool_()),
        }
    )


def rows_of(table: pa.Table) -> list[Row]:
    return [(row["a"], row["label"], row["is_test"]) for row in table.to_pylist()]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


class TestCutting:
    @given(
        st.lists(st.tuples(st.text(max_size=30), st.just("é"), st.booleans()), max_size=30),
        st.lists(st.integers(0, 30), max_size=5),
        st.integers(1, 300),
    )
    def test_shards_end_where_the_rows_say_however_they_come(
        self, rows: list[Row], cuts: list[int], shard_bytes: int
    ) -> None:
        """Against taking the rows one by one."""
        expected: list[list[Row]] = [[]]
        for row in rows:
            size = len("".join(row[:2]).encode()) + ROW_BYTES
            held = sum(len("".join(other[:2]).encode()) + ROW_BYTES for other in expected[-1])
            if expected[-1] and held + size > shard_bytes:
                expected.append([])
            expected[-1].append(row)
        table = table_of(rows)
        bounds = [0, *sorted(min(place, len(rows)) for place in cuts), len(rows)]
        pieces = [table.slice(start, stop - start) for start, stop in itertools.pairwise(bounds)]
        shards = list(cut(pieces, shard_bytes=shard_bytes))
        assert [rows_of(shard) for shard in shards] == expected
        assert all(shard.schema == table.schema for shard in shards)
        assert all(len(column.chunks) <= 1 for shard in shards for column in shard.columns)

    def test_three_thousand_short_rows_are_one_shard(self) -> None:
        rows = table_of([(f"diagnosis {number}" * 5, "heart", False) for number in range(3000)])
        assert [shard.num_rows for shard in cut([rows])] == [3000]


class TestKeeping:
    def test_a_reference_finds_the_rows_in_their_order(self, store: Store) -> None:
        tables = [table_of([("a", "x", True), ("b", "y", False)]), table_of([("c", "x", False)])]
        kept = keep_rows(store, KEY, iter(tables))
        shards = shards_of(store, kept.key)
        assert [shard.rows for shard in shards] == [2, 1]
        assert all(read_shard(store, s).equals(t) for s, t in zip(shards, tables, strict=True))
        assert kept.schema == {"a": "string", "label": "string", "is_test": "bool"}
        assert kept.size == sum(store.size(shard.key) for shard in shards)
        assert sorted(store.keys()) == sorted([kept.key, *(shard.key for shard in shards)])

    def test_names_are_keyed_digests_of_the_contents(self, store: Store) -> None:
        tables = [table_of([("a", "x", True)]), table_of([("b", "x", True)])]
        digests = [rows_digest(table).encode() for table in tables]
        kept = keep_rows(store, KEY, tables)
        assert kept.digest == keyed_digest(KEY, digests)
        assert kept.key == f"rows/{kept.digest}.json"
        assert [shard.key for shard in shards_of(store, kept.key)] == [
            f"rows/{keyed_digest(KEY, [digest])}.parquet" for digest in digests
        ]
        assert not any(digest.decode() in key for digest in digests for key in store.keys())  # noqa: SIM118
        other = keep_rows(store, Ed25519PrivateKey.from_private_bytes(b"\1" * 32), tables)
        assert other.digest != kept.digest

    def test_what_is_there_is_kept_once(self, store: Store) -> None:
        tables = [table_of([("a", "x", True)]), table_of([("b", "x", True)])]
        first = keep_rows(store, KEY, tables)
        keys = store.keys()
        assert keep_rows(store, KEY, tables) == first
        assert store.keys() == keys
        third = keep_rows(store, KEY, [*tables, table_of([("c", "x", True)])])
        assert third.key != first.key
        assert len(store.keys()) == len(keys) + 2, "one shard and one index"

    def test_rows_that_stop_coming_are_never_referenced(self, store: Store) -> None:
        def failing() -> object:
            yield table_of([("a", "x", True)])
            raise OSError("the disk went away")

        with pytest.raises(OSError, match="went away"):
            keep_rows(store, KEY, failing())  # type: ignore[arg-type]
        assert [key for key in store.keys() if key.endswith(".json")] == []  # noqa: SIM118
        assert len(store.keys()) == 1
        kept = keep_rows(store, KEY, [table_of([("a", "x", True)]), table_of([("b", "x", True)])])
        assert len(store.keys()) == 3
        assert store.exists(kept.key)

    @settings(max_examples=25)  # each writes to the disk and waits for it
    @given(Rows, Rows, st.integers(33, 120))
    def test_the_digest_over_all_shards_is_equal_for_equal_rows_only(
        self, tmp_path_factory: pytest.TempPathFactory, one: list[Row], other: list[Row], shard_bytes: int
    ) -> None:
        store = open_store(str(tmp_path_factory.mktemp("store")))
        kept = [
            keep_rows(store, KEY, cut([table_of(sorted(rows))], shard_bytes=shard_bytes))
            for rows in (one, other, one[::-1])
        ]
        assert (kept[0].digest == kept[1].digest) == (sorted(one) == sorted(other))
        assert kept[0] == kept[2]

    def test_no_rows_are_one_empty_shard_with_the_schema(self, store: Store) -> None:
        empty = table_of([])
        kept = keep_rows(store, KEY, cut([empty]))
        (shard,) = shards_of(store, kept.key)
        assert shard.rows == 0
        assert read_shard(store, shard).schema == empty.schema


class TestReading:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"PAR1",
            b"[]",
            b"{}",
            b'{"shards": [{"key": "a"}]}',
            b'{"shards": [{"rows": "many", "key": "a"}]}',
            b"\xff",
        ],
    )
    def test_an_index_that_is_none_is_an_integrity_error(self, store: Store, content: bytes) -> None:
        store.create("rows/x.json", content)
        with pytest.raises(IntegrityError, match=r"rows/x.json is not an index of rows: ingest again"):
            shards_of(store, "rows/x.json")

    def test_a_shard_that_is_gone_or_another_is_not_read(self, store: Store) -> None:
        kept = keep_rows(store, KEY, [table_of([("a", "x", True)])])
        (shard,) = shards_of(store, kept.key)
        store.remove(shard.key)
        with pytest.raises(ObjectMissingError):
            read_shard(store, shard)
        store.create(shard.key, to_parquet(table_of([("a", "x", True)] * 2)))
        with pytest.raises(IntegrityError, match="not the number of rows"):
            read_shard(store, shard)
        with pytest.raises(ObjectMissingError):
            shards_of(store, "rows/gone.json")

    def test_broken_parquet_is_an_integrity_error(self) -> None:
        content = to_parquet(table_of([("a", "b", True)]))
        for broken in (b"", b"PAR1", content[:-1], content[10:]):
            with pytest.raises(IntegrityError, match="not a Parquet file"):
                from_parquet(broken)


class TestDigest:
    @given(Rows, Rows)
    def test_equal_digests_are_equal_tables(self, one: list[Row], other: list[Row]) -> None:
        assert (rows_digest(table_of(one)) == rows_digest(table_of(other))) == (one == other)

    @given(Rows.filter(bool), st.data())
    def test_any_changed_cell_changes_the_digest(self, rows: list[Row], data: st.DataObject) -> None:
        row = data.draw(st.integers(0, len(rows) - 1))
        text, label, is_test = rows[row]
        change = data.draw(
            st.sampled_from(
                [(text + "x", label, is_test), (text, label + "x", is_test), (text, label, not is_test)]
            )
        )
        changed = [*rows[:row], change, *rows[row + 1 :]]
        assert rows_digest(table_of(changed)) != rows_digest(table_of(rows))

    @given(Rows, st.integers(0, 6))
    def test_chunks_and_parquet_do_not_change_it(self, rows: list[Row], place: int) -> None:
        table = table_of(rows)
        chunked = pa.concat_tables([table.slice(0, place), table.slice(place)])
        assert rows_digest(chunked) == rows_digest(table)
        assert rows_digest(from_parquet(to_parquet(chunked))) == rows_digest(table)
        assert from_parquet(to_parquet(table)).equals(table)

    def test_text_that_moves_to_the_next_cell_changes_it(self) -> None:
        one = table_of([("ab", "c", True), ("d", "", True)])
        for other in ([("a", "bc", True), ("d", "", True)], [("ab", "c", True), ("", "d", True)]):
            assert rows_digest(table_of(other)) != rows_digest(one)
        assert rows_digest(one.rename_columns(["b", "label", "is_test"])) != rows_digest(one)
        assert rows_digest(one.select(["label", "a", "is_test"])) != rows_digest(one)

    def test_it_stays_what_it_is(self) -> None:
        """Caches and manifests hold this digest: a change here makes every site compute its features anew."""

        def number(value: int) -> bytes:
            return value.to_bytes(8, "little")

        written = (
            b"crosscloud rows 1\0" + number(3) + number(2)
            + number(1) + b"a" + b"s" + number(2) + number(0) + "é".encode()
            + number(5) + b"label" + b"s" + number(1) + number(2) + b"xyz"
            + number(7) + b"is_test" + b"b" + b"\x00\x01"
        )  # fmt: skip
        assert (
            rows_digest(table_of([("é", "x", False), ("", "yz", True)]))
            == hashlib.sha256(written).hexdigest()
        )

    def test_tables_that_are_not_canonical_have_none(self) -> None:
        with pytest.raises(ValueError, match="NULL"):
            rows_digest(pa.table({"a": ["x", None]}))
        with pytest.raises(ValueError, match="int64"):
            rows_digest(pa.table({"a": [1]}))


def test_the_index_tells_keys_and_numbers_and_nothing_else(store: Store) -> None:
    kept = keep_rows(store, KEY, [table_of([("a secret note", "x", True)])])
    document = json.loads(store.read(kept.key))
    assert document == {"shards": [{"key": f"rows/{kept.digest}.parquet", "rows": 1}]}
