"""The Storage Read API over gRPC on loopback: sessions, and streams of Arrow batches from any offset."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc  # type: ignore[import-untyped]
import pyarrow as pa
from google.cloud.bigquery_storage_v1 import types

from tests.components.data_processing.bigquery.server.faults import Faults, ServiceError
from tests.components.data_processing.bigquery.server.jobs import Jobs

SERVICE = "google.cloud.bigquery.storage.v1.BigQueryRead"
ROWS_A_MESSAGE = 1000


class StorageApi:
    """Read sessions over the rows of jobs and tables."""

    def __init__(self, jobs: Jobs, faults: Faults) -> None:
        self._jobs = jobs
        self._faults = faults
        self._streams: dict[str, pa.Table] = {}
        self._compressed: dict[str, bool] = {}
        self._lock = threading.Lock()
        self.largest_streams = 3
        self.rows_a_message = ROWS_A_MESSAGE

    def create_session(self, request: Any, context: grpc.ServicerContext) -> types.ReadSession:
        """CreateReadSession."""
        self._turn_away("CreateReadSession", context)
        asked = request.read_session
        options = asked.read_options
        self._faults.note(
            "storage.createReadSession",
            {
                "table": asked.table,
                "fields": list(options.selected_fields),
                "streams": request.max_stream_count,
            },
        )
        dataset, table = asked.table.split("/")[3::2]
        try:
            rows = self._jobs.rows(dataset, table)
        except ServiceError as error:
            context.abort(grpc.StatusCode.NOT_FOUND, error.message)
        if options.selected_fields:
            # The service sends a table's columns in the table's own order.
            rows = rows.select([name for name in rows.column_names if name in set(options.selected_fields)])
        count = max(1, min(request.max_stream_count or self.largest_streams, self.largest_streams))
        share = -(-rows.num_rows // count) or 1
        name = f"{request.parent}/locations/eu/sessions/{uuid.uuid4().hex}"
        parts = {
            f"{name}/streams/{start}": rows.slice(start, share) for start in range(0, rows.num_rows, share)
        }
        lz4 = types.ArrowSerializationOptions.CompressionCodec.LZ4_FRAME
        with self._lock:
            self._streams |= parts
            compressed = options.arrow_serialization_options.buffer_compression == lz4
            self._compressed |= dict.fromkeys(parts, compressed)
        return types.ReadSession(
            name=name,
            table=asked.table,
            data_format=types.DataFormat.ARROW,
            arrow_schema=_schema(rows),
            streams=[types.ReadStream(name=part) for part in parts],
            estimated_row_count=rows.num_rows,
        )

    def read_rows(self, request: Any, context: grpc.ServicerContext) -> Iterator[types.ReadRowsResponse]:
        """ReadRows: the first message carries the schema, and each says how many rows it holds."""
        self._turn_away("ReadRows", context)
        self._faults.note("storage.readRows", {"stream": request.read_stream, "offset": request.offset})
        breaking = self._faults.next_break()
        with self._lock:
            rows = self._streams[request.read_stream]
            compression = "lz4" if self._compressed[request.read_stream] else None
        options = pa.ipc.IpcWriteOptions(compression=compression)
        batches = rows.slice(request.offset).combine_chunks().to_batches(max_chunksize=self.rows_a_message)
        for number, batch in enumerate(batches):
            if breaking and number == breaking[0]:
                context.abort(breaking[1], breaking[2])
            content = _serialized(batch, options)
            yield types.ReadRowsResponse(
                arrow_schema=_schema(rows) if number == 0 else None,
                arrow_record_batch=types.ArrowRecordBatch(serialized_record_batch=content),
                row_count=batch.num_rows,
            )

    def _turn_away(self, method: str, context: grpc.ServicerContext) -> None:
        if self._faults.storage_code is not None and self._faults.storage_method in {"", method}:
            self._faults.note(f"storage.refused.{method}", {})
            context.abort(self._faults.storage_code, f"{method} is turned away, as asked")


def _schema(rows: pa.Table) -> types.ArrowSchema:
    return types.ArrowSchema(serialized_schema=rows.schema.serialize().to_pybytes())


def _serialized(batch: pa.RecordBatch, options: pa.ipc.IpcWriteOptions) -> bytes:
    """The batch's own IPC message: a stream's bytes without the schema before it and the end after it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    reader = pa.ipc.MessageReader.open_stream(pa.BufferReader(sink.getvalue()))
    reader.read_next_message()
    content: bytes = reader.read_next_message().serialize().to_pybytes()
    return content


def serve_storage(api: StorageApi, port: int = 0) -> tuple[grpc.Server, int]:
    """A started server on loopback and its port."""
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    methods = {
        "CreateReadSession": grpc.unary_unary_rpc_method_handler(
            api.create_session, types.CreateReadSessionRequest.deserialize, types.ReadSession.serialize
        ),
        "ReadRows": grpc.unary_stream_rpc_method_handler(
            api.read_rows, types.ReadRowsRequest.deserialize, types.ReadRowsResponse.serialize
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, bound
