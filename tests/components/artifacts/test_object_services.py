"""The contract on Google Cloud Storage and Azure Blob Storage, through their real clients.

The servers are the few requests of either service that a store makes, over objects in memory. They run
where the extras `gcs` and `azure` are installed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from xml.sax.saxutils import escape

import pytest
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from components.artifacts.stores import Store, open_store
from components.errors import ConditionalCreateUnsupportedError, StoreError
from tests.contracts.conditional_create import ConditionalCreateContract, peak_of_streaming

if find_spec("gcsfs") is None and find_spec("adlfs") is None:
    pytest.skip("needs the extras gcs or azure", allow_module_level=True)

WRITTEN = "Sat, 01 Nov 2025 00:00:00 GMT"


class Server:
    """Objects of one bucket by name, changed one request at a time."""

    bucket = "hospital"
    uri: str

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.conditions: list[str | None] = []
        self.ignores_condition = False
        self.refuses_access = False
        self.fails_writes = 0
        self._one_at_a_time = threading.Lock()
        self._server = make_server("127.0.0.1", 0, Request.application(self._answer), threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def answer(self, request: Request) -> Response:
        raise NotImplementedError

    def write(self, name: str, content: bytes, condition: str | None) -> bool:
        """Whether the object was written; `condition` is what the request carried."""
        self.conditions.append(condition)
        if condition is not None and name in self.objects and not self.ignores_condition:
            return False
        self.objects[name] = content
        return True

    def below(self, prefix: str) -> list[str]:
        return sorted(name for name in self.objects if name.startswith(prefix))

    def part(self, name: str, asked: str | None) -> Response:
        """The object, or the bytes=FIRST-LAST of it that a Range header asks for."""
        content = self.objects[name]
        if asked is None:
            return Response(content)
        first, last = (int(bound) for bound in asked.removeprefix("bytes=").split("-"))
        if first >= len(content):
            return Response(status=416, headers={"x-ms-error-code": "InvalidRange"})
        kept = content[first : last + 1]
        covered = f"bytes {first}-{first + len(kept) - 1}/{len(content)}"
        return Response(kept, status=206, headers={"Content-Range": covered})

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: Request) -> Response:
        with self._one_at_a_time:
            if self.fails_writes and request.method in {"POST", "PUT"}:
                self.fails_writes -= 1
                assert request.data
                return Response(status=503)
            return self.answer(request)


class GoogleCloudStorage(Server):
    uri = "gs://hospital/federations/icd"

    def answer(self, request: Request) -> Response:
        before, _, name = request.path.partition(f"/b/{self.bucket}/o")
        if self.refuses_access:
            return self._error(403, "hunter2 may not do that")
        if before == request.path:
            return self._error(404, "no such bucket")
        if request.method == "POST":
            return self._created(request)
        return self._found(request, name.lstrip("/"))

    def _created(self, request: Request) -> Response:
        if request.args["uploadType"] == "media":
            name, content = request.args["name"], request.data
        elif request.args["uploadType"] == "multipart":
            head, _, content = request.data.partition(b"\n\n")[2].partition(b"\n--==0==")
            name = json.loads(head)["name"]
            content = content.partition(b"\n\n")[2].removesuffix(b"\n--==0==--")
        else:
            return self._error(400, "not in one request")
        if not self.write(name, content, request.args.get("ifGenerationMatch")):
            return self._error(412, "conditionNotMet")
        return self._json(self._described(name))

    def _found(self, request: Request, name: str) -> Response:
        if name and request.method == "DELETE":
            found = self.objects.pop(name, None)
            return self._error(404, "no such object") if found is None else Response(status=204)
        if not name:
            below = self.below(request.args.get("prefix", ""))
            return self._json({"items": [self._described(found) for found in below]})
        if name not in self.objects:
            return self._error(404, "no such object")
        if request.args.get("alt") == "media":
            return self.part(name, request.headers.get("Range"))
        return self._json(self._described(name))

    def _described(self, name: str) -> dict[str, str]:
        return {"name": name, "bucket": self.bucket, "size": str(len(self.objects[name])), "generation": "1"}

    def _json(self, value: object, status: int = 200) -> Response:
        return Response(json.dumps(value), status=status, content_type="application/json")

    def _error(self, status: int, message: str) -> Response:
        return self._json({"error": {"code": status, "message": message}}, status)


class AzureBlobStorage(Server):
    uri = "abfs://hospital/federations/icd"

    def answer(self, request: Request) -> Response:
        _, _, bucket, *rest = request.path.split("/", 3)
        name = rest[0] if rest else ""
        if self.refuses_access:
            return self._error(403, "AuthorizationFailure")
        if bucket != self.bucket:
            return self._error(404, "ContainerNotFound")
        if request.method == "PUT":
            return self._created(request, name)
        if request.method == "DELETE":
            found = self.objects.pop(name, None)
            return self._error(404, "BlobNotFound") if found is None else Response(status=202)
        return self._found(request, name) if name else self._listing(request.args.get("prefix", ""))

    def _created(self, request: Request, name: str) -> Response:
        if "comp" in request.args:
            return self._error(400, "NotInOneRequest")
        if not self.write(name, request.data, request.headers.get("If-None-Match")):
            return self._error(409, "BlobAlreadyExists")
        return Response(status=201, headers=self._headers())

    def _found(self, request: Request, name: str) -> Response:
        if name not in self.objects:
            return self._error(404, "BlobNotFound")
        if request.method == "HEAD":
            response = Response(self.objects[name])
        else:
            response = self.part(name, request.headers.get("x-ms-range"))
        response.headers.update(self._headers())
        return response

    def _headers(self) -> dict[str, str]:
        return {
            "ETag": '"1"',
            "Last-Modified": WRITTEN,
            "x-ms-creation-time": WRITTEN,
            "x-ms-blob-type": "BlockBlob",
            "x-ms-meta-is_directory": "false",
        }

    def _listing(self, prefix: str) -> Response:
        blobs = "".join(
            f"<Blob><Name>{escape(name)}</Name><Properties><Content-Length>{len(self.objects[name])}"
            f"</Content-Length><Last-Modified>{WRITTEN}</Last-Modified><Etag>1</Etag><BlobType>BlockBlob</BlobType>"
            "</Properties><Metadata><is_directory>false</is_directory></Metadata></Blob>"
            for name in self.below(prefix)
        )
        page = (
            f'<EnumerationResults ContainerName="{self.bucket}"><Blobs>{blobs}</Blobs></EnumerationResults>'
        )
        return Response(page, content_type="application/xml")

    def _error(self, status: int, code: str) -> Response:
        return Response(status=status, headers={"x-ms-error-code": code})


class ServiceContract(ConditionalCreateContract):
    """The shared contract, and what each of the two services is told and answers."""

    @pytest.fixture
    def open_again(self, server: Server) -> Callable[[], Store]:
        return lambda: open_store(server.uri)

    def test_every_create_carries_the_condition(self, server: Server, condition: str) -> None:
        store = open_store(server.uri)
        store.create("a", b"")
        store.create_from("b", [b""])
        assert server.conditions == [condition] * 4
        assert server.below("federations/icd/") == [
            "federations/icd/.conditional-create-probe",
            "federations/icd/a",
            "federations/icd/b",
        ]

    def test_a_large_object_is_written_in_one_request(self, server: Server) -> None:
        # Both clients write in parts from 50 or 64 MiB up where nobody tells them not to.
        content = b"large" * (14 * 2**20)
        store = open_store(server.uri)
        store.create("large", content)
        assert server.objects["federations/icd/large"] == content
        assert store.read("large") == content
        assert store.read("large", limit=len(content)) == content

    def test_memory_does_not_grow_with_the_content(self, server: Server) -> None:
        # Two blocks of a reader, or what is on its way.
        assert peak_of_streaming(server.uri, 32 * 2**20) < 16 * 2**20

    def test_a_repeated_write_sends_everything_again(self, server: Server) -> None:
        store, content = open_store(server.uri), b"whole" * 200_000
        store.create("before", b"")
        server.fails_writes = 1
        store.create_from("a", [content, b"!"])
        assert server.fails_writes == 0
        assert store.read("a") == content + b"!"

    def test_a_server_that_ignores_the_condition_is_refused(self, server: Server) -> None:
        server.ignores_condition = True
        with pytest.raises(ConditionalCreateUnsupportedError, match=server.uri):
            open_store(server.uri).create("a", b"")
        with pytest.raises(ConditionalCreateUnsupportedError, match=server.uri):
            open_store(server.uri).create_from("a", [b""])
        assert not open_store(server.uri).exists("a")

    def test_a_bucket_that_is_not_there(self, server: Server) -> None:
        with pytest.raises(StoreError, match="the bucket is not there"):
            open_store(server.uri.replace(server.bucket, "elsewhere")).create("a", b"")

    def test_refused_access(self, server: Server) -> None:
        server.refuses_access = True
        store = open_store(server.uri)
        for use in (
            store.read,
            store.open,
            store.exists,
            store.size,
            store.remove,
            store.keys,
            lambda key: store.create(key, b""),
            lambda key: store.create_from(key, [b""]),
        ):
            with pytest.raises(StoreError, match="access is refused") as refusal:
                use("a")
            assert "\n" not in str(refusal.value)
            assert "hunter2" not in str(refusal.value)


class TestGoogleCloudStorage(ServiceContract):
    condition = pytest.fixture(lambda _: "0")

    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleCloudStorage]:
        pytest.importorskip("gcsfs", reason="needs the extra gcs")
        server = GoogleCloudStorage()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        yield server
        server.stop()


class TestAzureBlobStorage(ServiceContract):
    condition = pytest.fixture(lambda _: "*")

    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureBlobStorage]:
        pytest.importorskip("adlfs", reason="needs the extra azure")
        server = AzureBlobStorage()
        # Its client waits for 15 seconds or more before it tries again, and there is no setting for it.
        backoff = "azure.storage.blob._shared.policies_async.ExponentialRetry.get_backoff_time"
        monkeypatch.setattr(backoff, lambda *_: 0.01)
        account = "AccountName=account;AccountKey=aHVudGVyMg=="
        connection = f"DefaultEndpointsProtocol=http;{account};BlobEndpoint={server.url}/account;"
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
        yield server
        server.stop()
