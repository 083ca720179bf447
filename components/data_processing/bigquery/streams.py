"""Rows of a result through the Storage Read API: several Arrow streams at once, each resumed where it broke.

Google's reader goes on by itself after UNAVAILABLE, UNKNOWN, an INTERNAL error that names RST_STREAM, and
RESOURCE_EXHAUSTED with a time to wait. The rest of what passes (INTERNAL, ABORTED, DEADLINE_EXCEEDED, and
RESOURCE_EXHAUSTED without a time), and a reconnection that fails in its turn, is resumed here, at the row
after the last one received: a message comes whole or not at all.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from google.cloud import bigquery_storage
    from google.cloud.bigquery_storage_v1 import types

    from components.data_processing.bigquery.table_schema import TableName

STREAMS = 4
_SESSION_S = 10.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_LOOK_UP_S = 0.2


def read_batches(
    client: bigquery_storage.BigQueryReadClient,
    table: TableName,
    *,
    columns: Sequence[str],
    project: str,
    deadline_s: float,
) -> Iterator[pa.RecordBatch]:
    """All rows of `table`, in no particular order.

    At most two messages (10 MiB each) a stream are held at a time, beside what gRPC receives ahead (its
    window, some 10 MiB in all), whatever the size of the table.

    Args:
        client: of the Storage Read API.
        table: a query's result.
        columns: names of the columns that are sent.
        project: that is charged for the session.
        deadline_s: seconds a stream may bring nothing before it is given up.

    Yields:
        Batches as BigQuery cut them; none where there is no row.

    Raises:
        google.api_core.exceptions.GoogleAPIError: no session can be opened, or a stream is given up.
    """
    import pyarrow as pa

    session = _open_session(client, table, columns=columns, project=project, deadline_s=deadline_s)
    schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))

    def batches(name: str) -> Iterator[pa.RecordBatch]:
        for message in _messages(client, name, deadline_s=deadline_s):
            content = pa.py_buffer(message.arrow_record_batch.serialized_record_batch)
            yield pa.ipc.read_record_batch(content, schema)

    yield from side_by_side([batches(stream.name) for stream in session.streams])


def _open_session(
    client: bigquery_storage.BigQueryReadClient,
    table: TableName,
    *,
    columns: Sequence[str],
    project: str,
    deadline_s: float,
) -> types.ReadSession:
    from google.api_core import exceptions
    from google.api_core.retry import Retry, if_exception_type
    from google.cloud.bigquery_storage_v1 import types

    session = types.ReadSession(
        table=f"projects/{table.project}/datasets/{table.dataset}/tables/{table.table}",
        data_format=types.DataFormat.ARROW,
        read_options={
            "selected_fields": list(columns),
            "arrow_serialization_options": {
                "buffer_compression": types.ArrowSerializationOptions.CompressionCodec.LZ4_FRAME
            },
        },
    )
    # A network that lets nothing through to this API must not hold up the step: REST is there as well.
    seconds = min(_SESSION_S, deadline_s)
    retry = Retry(
        predicate=if_exception_type(exceptions.ServiceUnavailable), initial=_FIRST_PAUSE_S, timeout=seconds
    )
    return client.create_read_session(
        parent=f"projects/{project}",
        read_session=session,
        max_stream_count=STREAMS,
        retry=retry,
        timeout=seconds,
    )


def _messages(
    client: bigquery_storage.BigQueryReadClient, name: str, *, deadline_s: float
) -> Iterator[types.ReadRowsResponse]:
    """Messages of one stream, each once, however often it breaks off."""
    from google.api_core import exceptions

    passing = (exceptions.ServerError, exceptions.TooManyRequests, exceptions.Aborted)
    read_rows: Callable[..., Iterable[types.ReadRowsResponse]] = client.read_rows
    offset = 0
    pause = _FIRST_PAUSE_S
    heard = time.monotonic()
    while True:
        try:
            for message in read_rows(name, offset=offset, retry=None, timeout=deadline_s):
                offset += message.row_count
                yield message
                pause, heard = _FIRST_PAUSE_S, time.monotonic()
        except passing as error:
            unsupported = isinstance(error, exceptions.MethodNotImplemented)
            if unsupported or time.monotonic() + pause - heard > deadline_s:
                raise
        else:
            return
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def side_by_side(readers: Sequence[Iterator[Any]]) -> Iterator[Any]:
    """Items of all `readers`, in the order they come, each drained by a thread of its own.

    Beside the item that was yielded last, at most two a reader are held: one that waits, one in hand.

    Raises:
        BaseException: what a reader raised, when it did.
    """
    items: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=max(1, len(readers)))
    stopped = threading.Event()

    def hand_over(kind: str, value: Any) -> bool:
        while not stopped.is_set():
            try:
                items.put((kind, value), timeout=_LOOK_UP_S)
            except queue.Full:
                continue
            return True
        return False

    def drain(reader: Iterator[Any]) -> None:
        try:
            for item in reader:
                if not hand_over("item", item):
                    return
        except BaseException as error:
            hand_over("error", error)
        else:
            hand_over("end", None)

    threads = [_started(drain, reader) for reader in readers]
    try:
        running = len(threads)
        while running:
            kind, value = items.get()
            if kind == "error":
                raise value
            if kind == "end":
                running -= 1
            else:
                yield value
    finally:
        stopped.set()


def _started(target: Callable[[Iterator[Any]], None], reader: Iterator[Any]) -> threading.Thread:
    thread = threading.Thread(target=target, args=(reader,), name="bigquery-stream", daemon=True)
    thread.start()
    return thread
