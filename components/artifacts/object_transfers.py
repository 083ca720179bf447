"""Large objects in pieces: read block by block, written in one conditional request from a local file.

The clients' own ways to write a file are not used: they read it whole, or write it in parts (see
`object_services.LARGEST_OBJECT`), or repeat a broken request from where its first try stopped reading.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO, cast
from urllib.parse import quote

from components.errors import StoreError

# One request a block. A reader holds two of them, and a sum reads all its sites' objects side by side.
BLOCK_BYTES = 4 * 2**20


class _Blocks(io.RawIOBase):
    """An object of `size` bytes, where `fetch` returns what lies between two positions."""

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self._size = size
        self._fetch = fetch
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the beginning of `buffer`; 0 at the end of the object."""
        wanted = min(len(buffer), BLOCK_BYTES, self._size - self._position)
        if not wanted:
            return 0
        block = self._fetch(self._position, self._position + wanted)
        if len(block) != wanted:
            raise StoreError(
                f"{len(block)} bytes came back where {wanted} were asked for: the object was replaced or the"
                " connection broke; try again"
            )
        buffer[:wanted] = block
        self._position += wanted
        return wanted

    def readall(self) -> bytes:
        """All that is left (RawIOBase's would ask for 8 kB at a time)."""
        content = bytearray(self._size - self._position)
        view = memoryview(content)
        while view:
            view = view[self.readinto(view) :]
        return bytes(content)


def block_reader(size: int, fetch: Callable[[int, int], bytes]) -> BinaryIO:
    """A file to be read from front to back; `fetch` returns the bytes between two positions."""
    return cast(BinaryIO, io.BufferedReader(_Blocks(size, fetch), BLOCK_BYTES))


class _Body(io.BufferedReader):
    """A file that a client cannot close: a retry begins again at the start of the same file."""

    def close(self) -> None:
        pass


def request_body(file: BinaryIO) -> BinaryIO:
    """The content of `file`, from its start, as the body of a request that may be sent again."""
    file.seek(0)
    return cast(BinaryIO, _Body(io.FileIO(file.fileno(), closefd=False)))


async def put_to_s3(client: Any, path: str, body: BinaryIO, _size: int) -> None:
    """Write an object of S3 unless it is there (`If-None-Match: *`)."""
    bucket, key, _ = client.split_path(path)
    await client.set_session()
    service = await client.get_s3(bucket)
    # Past the client's own retries, which go on where the broken request stopped reading; botocore's do not.
    arguments = client._get_s3_method_kwargs(
        service.put_object, Bucket=bucket, Key=key, Body=body, IfNoneMatch="*"
    )
    await service.put_object(**arguments)


async def put_to_google(client: Any, path: str, body: BinaryIO, size: int) -> None:
    """Write an object of Google Cloud Storage unless it is there (`ifGenerationMatch=0`)."""
    bucket, key, _ = client.split_path(path)
    answer = await client._call(
        "POST",
        f"{client._location}/upload/storage/v1/b/{quote(bucket)}/o",
        uploadType="media",
        name=key,
        ifGenerationMatch="0",
        headers={"Content-Type": "application/octet-stream"},
        data=body,
        json_out=True,
    )
    if int(answer["size"]) != size:
        raise OSError(f"{size} bytes were sent and {answer['size']} stored")


async def put_to_azure(client: Any, path: str, body: BinaryIO, size: int) -> None:
    """Write a blob of Azure unless it is there (`If-None-Match: *`)."""
    container, blob, _ = client.split_path(path)
    # What its public upload_blob calls in the end, after it has read the whole file.
    async with client.service_client.get_blob_client(container=container, blob=blob) as blob_client:
        await blob_client._client.block_blob.upload(
            content_length=size,
            body=body,
            headers={"If-None-Match": "*", "x-ms-meta-is_directory": "false"},
            **client._timeout_kwargs,
        )
