"""Streams that break off, and a Storage Read API that cannot be used: no row is lost, none comes twice."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data_processing.bigquery.source import BigQuerySource
from components.data_processing.bigquery.streams import side_by_side
from components.errors import SourceUnreachableError
from tests.components.data_processing.bigquery.server.local_bigquery import LocalBigQuery

Opener = Callable[..., BigQuerySource]
ROWS, ROWS_A_MESSAGE = 6000, 300
SQL = "SELECT id FROM clinic.visits"
CODE = grpc.StatusCode


@pytest.fixture
def filled(service: LocalBigQuery) -> LocalBigQuery:
    """A table of 20 messages in 3 streams."""
    service.warehouse.put("clinic", "visits", pa.table({"id": range(ROWS)}))
    service.storage.rows_a_message = ROWS_A_MESSAGE
    return service


def numbers(source: BigQuerySource) -> list[int]:
    return sorted(pa.Table.from_batches(list(source.batches(SQL))).column("id").to_pylist())


# Google's reader goes on by itself after the first three; the others are resumed by `streams`.
@pytest.mark.parametrize(
    ("code", "detail"),
    [
        (CODE.UNAVAILABLE, ""),
        (CODE.UNKNOWN, ""),
        (CODE.INTERNAL, "Received RST_STREAM with code 2"),
        (CODE.INTERNAL, "Received unexpected EOS on DATA frame from server"),
        (CODE.DEADLINE_EXCEEDED, ""),
        (CODE.ABORTED, ""),
        (CODE.RESOURCE_EXHAUSTED, "no time to wait is named"),
    ],
)
@pytest.mark.parametrize("after", [0, 3])
def test_a_stream_that_breaks_off_goes_on_where_it_broke(
    filled: LocalBigQuery, opened: Opener, code: grpc.StatusCode, detail: str, after: int
) -> None:
    filled.faults.break_streams(after, code, detail=detail, times=2)
    source = opened()
    assert numbers(source) == list(range(ROWS))
    assert source.account()["api"] == "storage"
    offsets = [call["offset"] for call in filled.faults.calls("storage.readRows")]
    assert len(offsets) == 3 + 2
    # Both breaks may hit one stream, the second when it has gone on.
    resumed = {offset for offset in offsets if offset}
    assert resumed <= {ROWS_A_MESSAGE * after, 2 * ROWS_A_MESSAGE * after}
    assert bool(resumed) == bool(after)


def test_a_stream_that_breaks_off_again_and_again_is_read_to_its_end(
    filled: LocalBigQuery, opened: Opener
) -> None:
    filled.storage.largest_streams = 1
    filled.faults.break_streams(1, CODE.INTERNAL, times=8)
    assert numbers(opened()) == list(range(ROWS))
    offsets = [call["offset"] for call in filled.faults.calls("storage.readRows")]
    assert offsets == [ROWS_A_MESSAGE * number for number in range(9)]


def test_a_stream_that_brings_nothing_is_given_up_at_the_deadline(
    filled: LocalBigQuery, opened: Opener
) -> None:
    filled.storage.largest_streams = 1
    # Long enough for a session on a machine that is busy: where none is had, rows come page by page.
    batches = opened(deadline_s=2.0).batches(SQL)
    filled.faults.break_streams(1, CODE.UNAVAILABLE)
    filled.faults.break_streams(0, CODE.UNAVAILABLE, times=100)
    assert next(batches).num_rows == ROWS_A_MESSAGE
    with pytest.raises(SourceUnreachableError, match="cannot be reached") as caught:
        list(batches)
    assert caught.value.disclosed == "the warehouse cannot be reached"


REFUSED = [CODE.PERMISSION_DENIED, CODE.UNIMPLEMENTED, CODE.UNAVAILABLE, CODE.FAILED_PRECONDITION]


@pytest.mark.parametrize("code", REFUSED)
@pytest.mark.parametrize("method", ["CreateReadSession", "ReadRows"])
def test_where_storage_is_refused_rows_come_page_by_page_and_it_is_said_once(
    filled: LocalBigQuery, opened: Opener, capfd: pytest.CaptureFixture[str], code: Any, method: str
) -> None:
    # One stream: of several, one may still be asking when another's refusal has been counted.
    filled.storage.largest_streams = 1
    filled.faults.storage_code, filled.faults.storage_method = code, method
    source = opened(deadline_s=3.0)
    assert numbers(source) == list(range(ROWS))
    assert source.account()["api"] == "rest"
    tried = len(filled.faults.calls(f"storage.refused.{method}"))
    assert tried >= 1
    assert numbers(source) == list(range(ROWS))
    assert len(filled.faults.calls(f"storage.refused.{method}")) == tried
    said = [line for line in capfd.readouterr().err.splitlines() if "Storage Read API cannot be used" in line]
    assert len(said) == 1
    assert said[0].startswith("crosscloud-progress: ")


def test_a_storage_endpoint_where_nobody_listens_is_refused_alike(
    filled: LocalBigQuery, opened: Opener
) -> None:
    source = opened(storage_endpoint="127.0.0.1:9", deadline_s=3.0)
    assert numbers(source) == list(range(ROWS))
    assert source.account()["api"] == "rest"


def test_a_refusal_half_way_is_no_reason_to_begin_again(filled: LocalBigQuery, opened: Opener) -> None:
    filled.storage.largest_streams = 1
    filled.faults.break_streams(2, CODE.PERMISSION_DENIED)
    batches = opened().batches(SQL)
    received = [next(batches), next(batches)]
    with pytest.raises(SourceUnreachableError, match="denies access"):
        next(batches)
    assert [batch.num_rows for batch in received] == [ROWS_A_MESSAGE] * 2


@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=4), wanted=st.integers(0, 60))
@settings(max_examples=20)
def test_all_items_come_once_and_few_are_read_ahead(lengths: list[int], wanted: int) -> None:
    taken: list[tuple[int, int]] = []

    def reader(number: int) -> Iterator[tuple[int, int]]:
        for item in range(lengths[number]):
            taken.append((number, item))
            yield number, item

    items = side_by_side([reader(number) for number in range(len(lengths))])
    first = list(itertools.islice(items, wanted))
    assert len(taken) <= len(first) + 2 * len(lengths)
    everything = [*first, *items]
    assert sorted(everything) == [
        (number, item) for number in range(len(lengths)) for item in range(lengths[number])
    ]


def test_what_one_reader_raises_ends_all() -> None:
    def endless() -> Iterator[int]:
        yield from itertools.count()

    def failing() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(side_by_side([endless(), failing()]))


def test_rows_that_nobody_wants_any_more_are_left(filled: LocalBigQuery, opened: Opener) -> None:
    batches = opened().batches(SQL)
    next(batches)
    threads = [thread for thread in threading.enumerate() if thread.name == "bigquery-stream"]
    batches.close()  # type: ignore[attr-defined]
    for thread in threads:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in threads)
