"""The contract on S3, against moto behind a switchboard that can also misbehave as real servers do."""

from __future__ import annotations

import functools
import itertools
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from urllib.request import Request, urlopen

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from components.artifacts import object_store
from components.artifacts.object_services import answer_of
from components.artifacts.object_transfers import BLOCK_BYTES
from components.artifacts.stores import Store, open_store
from components.errors import (
    ConditionalCreateUnsupportedError,
    ObjectExistsError,
    ObjectMissingError,
    StoreError,
)
from tests.contracts.conditional_create import ConditionalCreateContract, create_at_once, peak_of_streaming

CONDITION = "HTTP_IF_NONE_MATCH"
CREATE_LOADER = "botocore.loaders:create_loader"


class S3Server:
    """moto's S3, one request at a time: its own test of the condition and its write are not one step."""

    def __init__(self) -> None:
        self.ignores_condition = False
        self.answers_to_writes: list[tuple[str, str]] = []
        self.breaks_writes = 0
        self.environment = pytest.MonkeyPatch()
        self.writes: list[tuple[str, str | None]] = []
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._one_at_a_time = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        with self._one_at_a_time:
            if environ["REQUEST_METHOD"] == "PUT" and environ["PATH_INFO"].count("/") > 1:
                self.writes.append((environ["PATH_INFO"], environ.get(CONDITION)))
                if self.breaks_writes:
                    self.breaks_writes -= 1
                    environ["wsgi.input"].read(100_000)
                    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                    return []
                if self.answers_to_writes:
                    status, code = self.answers_to_writes.pop(0)
                    environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
                    start_response(status, [("Content-Type", "application/xml")])
                    return [f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()]
            if self.ignores_condition:
                environ.pop(CONDITION, None)
            return [b"".join(self._moto(environ, start_response))]

    def make_bucket(self) -> str:
        name = f"bucket-{uuid.uuid4()}"
        urlopen(Request(f"{self.url}/{name}", method="PUT")).close()
        return name

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def running_server() -> Iterator[S3Server]:
    """The server; and the description of S3 that every client reads, a quarter of a second, is read once."""
    server = S3Server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", functools.cache(resolve_name(CREATE_LOADER)))
        yield server
    server.stop()


@pytest.fixture
def server(running_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    running_server.ignores_condition = False
    running_server.answers_to_writes.clear()
    running_server.breaks_writes = 0
    running_server.environment = monkeypatch
    running_server.writes.clear()
    for variable, value in {
        "AWS_ENDPOINT_URL": running_server.url,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return running_server


@pytest.fixture
def uri(server: S3Server) -> str:
    return f"s3://{server.make_bucket()}/federations/icd"


class TestContract(ConditionalCreateContract):
    @pytest.fixture
    def open_again(self, uri: str) -> Callable[[], Store]:
        return lambda: open_store(uri)


def test_a_whole_bucket_can_be_a_store(server: S3Server) -> None:
    bucket = server.make_bucket()
    store = open_store(f"s3://{bucket}")
    store.create("federations/icd/rounds/1", b"x")
    assert store.keys() == ["federations/icd/rounds/1"]
    assert store.keys("federations/icd") == ["federations/icd/rounds/1"]
    below = open_store(f"s3://{bucket}/federations/icd")
    assert below.keys() == ["rounds/1"]
    assert below.read("rounds/1") == b"x"
    assert not below.exists("federations/icd/rounds/1")


def test_every_create_carries_the_condition(server: S3Server, uri: str) -> None:
    path = "/" + uri.removeprefix("s3://")
    probe = (f"{path}/.conditional-create-probe", "*")
    open_store(uri).create("a", b"")
    assert server.writes == [probe, probe, (f"{path}/a", "*")]
    server.writes.clear()
    later = open_store(uri)
    later.create_from("b", [])
    later.create("c", b"")
    assert server.writes == [probe, (f"{path}/b", "*"), (f"{path}/c", "*")]
    assert later.keys() == ["a", "b", "c"]


def test_a_server_that_ignores_the_condition_is_refused(server: S3Server, uri: str) -> None:
    server.ignores_condition = True
    for _ in range(2):
        store = open_store(uri)
        for _ in range(2):
            with pytest.raises(ConditionalCreateUnsupportedError, match=uri) as refusal:
                store.create("rounds/1/round.json", b"{}")
            assert "use one that honours conditional writes" in str(refusal.value)
            assert not store.exists("rounds/1/round.json")
    assert store.keys() == []


def test_chunks_are_not_asked_for_where_the_condition_is_ignored(server: S3Server, uri: str) -> None:
    chunks = iter([b"expensive"])
    server.ignores_condition = True
    with pytest.raises(ConditionalCreateUnsupportedError):
        open_store(uri).create_from("a", chunks)
    assert list(chunks) == [b"expensive"]


def test_a_repeated_write_sends_everything_again(server: S3Server, uri: str) -> None:
    server.environment.setenv("AWS_MAX_ATTEMPTS", "3")
    store = open_store(uri)
    store.create("before", b"")
    server.answers_to_writes = [("503 Slow Down", "SlowDown"), ("500 Oops", "InternalError")]
    store.create_from("a", [b"12345" * 100_000, b"67890" * 100_000])
    assert store.read("a") == b"12345" * 100_000 + b"67890" * 100_000


def test_a_write_whose_connections_break_stores_all_or_nothing(server: S3Server, uri: str) -> None:
    store, content = open_store(uri), bytes(range(256)) * 4096
    store.create("before", b"")
    # Closed without an answer after a part of the body; aiohttp tries a kept connection once more by itself.
    server.breaks_writes = 2
    with pytest.raises(StoreError, match=r"cannot write .*/a: "):
        store.create_from("a", [content])
    assert server.breaks_writes == 0
    assert not store.exists("a")
    server.environment.setenv("AWS_MAX_ATTEMPTS", "3")
    store = open_store(uri)
    store.create("later", b"")
    server.breaks_writes = 2
    store.create_from("a", [content])
    assert server.breaks_writes == 0
    assert store.read("a") == content


def test_memory_does_not_grow_with_the_content(server: S3Server, uri: str) -> None:
    # Two blocks of a reader, or what is on its way.
    assert peak_of_streaming(uri, 32 * 2**20) < 16 * 2**20
    assert [path.rpartition("/")[2] for path, _ in server.writes[-2:]] == ["small", "large"]


def test_a_temporary_folder_that_is_full_leaves_nothing(
    server: S3Server, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = open_store(uri)
    store.create("before", b"")
    server.writes.clear()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"cannot gather .*/a in a temporary file: File too large"):
            store.create_from("a", [b"x" * 9_000] * 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert server.writes == []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StoreError, match="in a temporary file: No such file or directory; make room"):
        store.create_from("a", [b""])
    assert list(tmp_path.iterdir()) == []


def test_no_more_than_one_request_carries(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "LARGEST_OBJECT", 10)
    store = open_store(uri)
    store.create_from("a", [b"12345"] * 2)
    with pytest.raises(StoreError, match="b would have 11 bytes or more: at most 10 fit"):
        store.create("b", b"x" * 11)
    with pytest.raises(StoreError, match="b would have 15 bytes or more: at most 10 fit"):
        store.create_from("b", itertools.repeat(b"12345"))
    assert store.keys() == ["a"]


def test_an_object_that_vanishes_or_shrinks_while_it_is_read(uri: str) -> None:
    store = open_store(uri)
    for key in ("gone", "short"):
        store.create(key, b"x" * (BLOCK_BYTES + 10))
    with store.open("gone") as file:
        file.read(BLOCK_BYTES)
        store.remove("gone")
        with pytest.raises(ObjectMissingError, match="gone is not there"):
            file.read(10)
    with store.open("short") as file:
        file.read(BLOCK_BYTES)
        store.remove("short")
        store.create("short", b"x" * (BLOCK_BYTES + 3))
        with pytest.raises(StoreError, match="3 bytes came back where 10 were asked for"):
            file.read(10)


def test_the_race_is_lost_where_the_condition_is_ignored(server: S3Server, uri: str) -> None:
    """The contract can fail: with a server that stops honouring the condition, several creators win."""
    stores = [open_store(uri) for _ in range(2)]
    for index, store in enumerate(stores):
        store.create(f"ready/{index}", b"")
    server.ignores_condition = True
    assert len(create_at_once(stores, "race", [bytes([index]) for index in range(4)])) == 4


def test_a_server_without_conditional_writes_is_refused(server: S3Server, uri: str) -> None:
    server.answers_to_writes = [("501 Not Implemented", "NotImplemented")]
    with pytest.raises(ConditionalCreateUnsupportedError, match="the server has no conditional writes"):
        open_store(uri).create("a", b"")


def test_a_bare_precondition_failed_means_that_the_object_exists(server: S3Server, uri: str) -> None:
    # Servers other than Amazon's leave out which condition failed.
    server.answers_to_writes = [("412 Precondition Failed", "PreconditionFailed")] * 2
    with pytest.raises(ObjectExistsError):
        open_store(uri).create("a", b"")


def test_a_create_that_met_another_one_asks_again(server: S3Server, uri: str) -> None:
    store = open_store(uri)
    store.create("before", b"")
    conflict = ("409 Conflict", "ConditionalRequestConflict")
    server.answers_to_writes = [conflict, conflict]
    store.create("a", b"x")
    assert store.read("a") == b"x"
    server.answers_to_writes = [conflict]
    with pytest.raises(ObjectExistsError):
        store.create("a", b"y")
    server.answers_to_writes = [conflict] * 5
    with pytest.raises(StoreError, match="ConditionalRequestConflict"):
        store.create("b", b"")


def test_a_bucket_that_is_not_there(server: S3Server) -> None:
    store = open_store("s3://no-such-bucket/x")
    for use in (
        store.read,
        lambda key: store.read(key, limit=1),
        store.exists,
        lambda key: store.create(key, b""),
        lambda key: store.create_from(key, [b""]),
        store.open,
        store.remove,
        store.size,
    ):
        with pytest.raises(StoreError, match="NoSuchBucket; the bucket is not there") as refusal:
            use("a")
        assert not isinstance(refusal.value, ObjectMissingError)
    with pytest.raises(StoreError, match="NoSuchBucket; the bucket is not there"):
        store.keys()


def test_refused_access(server: S3Server, uri: str) -> None:
    server.answers_to_writes = [("403 Forbidden", "AccessDenied")]
    with pytest.raises(StoreError, match="AccessDenied; access is refused") as refusal:
        open_store(uri).create("a", b"")
    assert "\n" not in str(refusal.value)
    assert refusal.value.__suppress_context__


def test_missing_credentials(server: S3Server, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="NoCredentialsError; check that the service can be reached"):
        open_store(uri).exists("a")


@pytest.mark.usefixtures("server")
def test_an_endpoint_that_cannot_be_reached_is_one_line_and_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    program = (
        "from components.artifacts.stores import open_store\n"
        "from components.errors import StoreError\n"
        "try:\n    open_store('s3://bucket/x').create('a', b'')\n"
        "except StoreError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith(
        "cannot write s3://bucket/x/.conditional-create-probe: EndpointConnectionError; "
    )
    assert done.stdout.count("\n") == 1
    assert "hunter2" not in done.stdout
    assert done.stderr == ""


def test_status_and_code_of_an_answer_without_one() -> None:
    assert answer_of(OSError("connection lost")) == (0, "")
