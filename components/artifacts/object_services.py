"""The services that hold buckets: how each is addressed, reached, told "only if absent", and how it fails."""

from __future__ import annotations

import importlib.util
import logging
import os
import pkgutil
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from components.artifacts.object_keys import is_key
from components.artifacts.object_transfers import put_to_azure, put_to_google, put_to_s3, request_body
from components.errors import UsageError

# What one request carries on all three services. An upload in parts meets the condition only when the parts
# are put together, which is not the promise a store tried; and on Azure the parts of two creators share
# their names, so the winner's object could hold the loser's parts. So no object is ever written in parts.
LARGEST_OBJECT = 5000 * 2**20
_ONE_REQUEST_IF_ABSENT: Mapping[str, object] = {"mode": "create", "chunksize": LARGEST_OBJECT + 1}


def _never_in_blocks(client: Any) -> None:
    """Let the Azure client write a blob in one request however large it is; adlfs has no option for it."""
    client.service_client._config.max_single_put_size = LARGEST_OBJECT


_BUCKET = r"(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]*)"
_AZURE_ACCOUNT = r"(@(?P<account_name>[a-z0-9]+)\.(dfs|blob)\.core\.windows\.net)?"
_AZURE_CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
_AZURE_ACCOUNT_NAME = "AZURE_STORAGE_ACCOUNT_NAME"


@dataclass(frozen=True, kw_only=True)
class Service:
    """What differs between the services.

    Attributes:
        package: Python package of the fsspec client.
        extra: Extra of crosscloud that installs it.
        client: The client's class, for `pkgutil.resolve_name`.
        options: Its arguments; what stands in the URI is added to them.
        place: Pattern of what stands between "://" and the first slash.
        if_absent: Arguments that make the client's `pipe_file` send the service's condition.
        put: Writes an object with that condition in one request from a file of so many bytes.
        failures: Exceptions of the client beside OSError, ValueError and RuntimeError.
        loggers: Loggers that the client and what it stands on report failures to.
        prepare: What is done to a client before its first use.
    """

    package: str
    extra: str
    client: str
    options: Mapping[str, object]
    place: str
    if_absent: Mapping[str, object]
    put: Callable[[Any, str, BinaryIO, int], Awaitable[None]]
    failures: tuple[str, ...]
    loggers: tuple[str, ...]
    prepare: Callable[[Any], None] | None = None

    def connect(self, options: Mapping[str, object]) -> Any:
        """A client that answers nothing from a cache; credentials come from the environment."""
        # They log tracebacks and lists of what they tried; without a handler those reach the terminal.
        for name in self.loggers:
            logging.getLogger(name).addHandler(logging.NullHandler())
        make = pkgutil.resolve_name(self.client)
        client = make(skip_instance_cache=True, use_listings_cache=False, **self.options, **options)
        if self.prepare is not None:
            self.prepare(client)
        return client

    def put_file(self, client: Any, path: str, file: BinaryIO, size: int) -> None:
        """Write the `size` bytes of `file` as `path` in one request, with the service's condition."""
        from fsspec.asyn import sync

        sync(client.loop, self.put, client, path, request_body(file), size)

    def failure_types(self) -> tuple[type[Exception], ...]:
        """What the client raises for a request that went wrong."""
        return (OSError, ValueError, RuntimeError, *(pkgutil.resolve_name(name) for name in self.failures))


SERVICES: Mapping[str, Service] = {
    "s3": Service(
        package="s3fs",
        extra="s3",
        client="s3fs.core:S3FileSystem",
        options={"config_kwargs": {"connect_timeout": 10, "read_timeout": 60}},
        place=_BUCKET,
        if_absent=_ONE_REQUEST_IF_ABSENT,
        put=put_to_s3,
        failures=(
            "botocore.exceptions:BotoCoreError",
            "botocore.exceptions:ClientError",
            "aiohttp:ClientError",
        ),
        loggers=("s3fs", "botocore", "aiobotocore"),
    ),
    "gs": Service(
        package="gcsfs",
        extra="gcs",
        # Not gcsfs.GCSFileSystem, which may be a subclass that asks a second service about every bucket.
        client="gcsfs.core:GCSFileSystem",
        # Compares the size that was stored with the size that was sent.
        options={"consistency": "size"},
        place=_BUCKET,
        if_absent=_ONE_REQUEST_IF_ABSENT,
        put=put_to_google,
        failures=(
            "gcsfs.retry:HttpError",
            "gcsfs.retry:ChecksumError",
            "google.auth.exceptions:GoogleAuthError",
            "aiohttp:ClientError",
        ),
        loggers=("gcsfs", "google"),
    ),
    "abfs": Service(
        package="adlfs",
        extra="azure",
        client="adlfs.spec:AzureBlobFileSystem",
        options={},
        place=_BUCKET + _AZURE_ACCOUNT,
        if_absent={"overwrite": False},
        put=put_to_azure,
        prepare=_never_in_blocks,
        failures=("azure.core.exceptions:AzureError", "aiohttp:ClientError"),
        loggers=("adlfs", "azure"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a URI points: a service, what its client must know beside, and bucket[/prefix]."""

    service: Service
    options: Mapping[str, object]
    path: str


def place_of(uri: str) -> Place:
    """What `uri`, scheme://bucket[/prefix], points to.

    Raises:
        UsageError: The scheme has no service, the URI is not of that form, or the package is missing.
    """
    # Messages repeat the scheme only: what else stands in a malformed URI may be a password.
    scheme = uri.partition(":")[0]
    rest = uri.removeprefix(f"{scheme}://")
    service = SERVICES.get(scheme)
    if service is None:
        raise UsageError(f"no store has the scheme {scheme!r}: use a path, file://, s3://, gs:// or abfs://")
    place, _, prefix = rest.partition("/")
    match = re.fullmatch(service.place, place)
    if match is None or (prefix and not is_key(prefix)):
        raise UsageError(
            f"a {scheme} store is written {scheme}://bucket or {scheme}://bucket/prefix, without credentials,"
            " options or special characters: mend the URI and leave credentials to the environment"
        )
    options = {name: value for name, value in match.groupdict().items() if name != "bucket" and value}
    if scheme == "abfs":
        _check_azure_account(uri, named="account_name" in options)
    if importlib.util.find_spec(service.package) is None:
        raise UsageError(
            f"{uri!r} needs the package {service.package}: pip install 'crosscloud[{service.extra}]'"
        )
    return Place(service=service, options=options, path="/".join(filter(None, (match["bucket"], prefix))))


def _check_azure_account(uri: str, *, named: bool) -> None:
    """Refuse a URI that leaves the storage account open, or that the environment may contradict."""
    if named and os.environ.get(_AZURE_CONNECTION):
        raise UsageError(
            f"{uri!r} names an account, but {_AZURE_CONNECTION} names one too and would win: unset it, or"
            " write abfs://container/prefix"
        )
    if not named and not any(os.environ.get(name) for name in (_AZURE_CONNECTION, _AZURE_ACCOUNT_NAME)):
        raise UsageError(
            f"{uri!r} names no account: write abfs://container@account.dfs.core.windows.net/prefix or set"
            f" {_AZURE_ACCOUNT_NAME}"
        )


def answer_of(error: BaseException) -> tuple[int, str]:
    """HTTP status and error code of the answer that made a client raise `error`; 0 and "" where unknown."""
    for candidate in (error, error.__cause__):
        response = getattr(candidate, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return int(status), str(response.get("Error", {}).get("Code", ""))
        status = getattr(candidate, "status_code", None) or getattr(candidate, "code", None)
        if isinstance(status, int):
            headers = getattr(response, "headers", None) or {}
            code = getattr(candidate, "error_code", None) or headers.get("x-ms-error-code", "")
            return status, str(getattr(code, "value", code))
    return 0, ""
