"""The services that hold buckets: how each is addressed, reached, told "only if absent", and how it fails."""

from __future__ import annotations

import importlib.util
import logging
import os
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.artifacts.object_keys import is_key
from components.errors import UsageError

# What one S3 request can carry. An upload in parts meets the condition only when the parts are put
# together, which is another promise than the one a store tried: S3 and Google Cloud are therefore always
# written in one request.
LARGEST_OBJECT = 5 * 2**30 - 1
_ONE_REQUEST_IF_ABSENT: Mapping[str, object] = {"mode": "create", "chunksize": LARGEST_OBJECT + 1}

_BUCKET = r"(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]*)"
_AZURE_ACCOUNT = r"(@(?P<account_name>[a-z0-9]+)\.(dfs|blob)\.core\.windows\.net)?"
_AZURE_CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"


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
        failures: Exceptions of the client beside OSError, ValueError and RuntimeError.
    """

    package: str
    extra: str
    client: str
    options: Mapping[str, object]
    place: str
    if_absent: Mapping[str, object]
    failures: tuple[str, ...]

    def connect(self, options: Mapping[str, object]) -> Any:
        """A client that answers nothing from a cache; credentials come from the environment."""
        # gcsfs logs the tracebacks of failed requests; without a handler they would reach the terminal.
        logging.getLogger(self.package).addHandler(logging.NullHandler())
        client = pkgutil.resolve_name(self.client)
        return client(skip_instance_cache=True, use_listings_cache=False, **self.options, **options)

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
        failures=("botocore.exceptions:BotoCoreError", "aiohttp:ClientError"),
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
        failures=(
            "gcsfs.retry:HttpError",
            "gcsfs.retry:ChecksumError",
            "google.auth.exceptions:GoogleAuthError",
            "aiohttp:ClientError",
        ),
    ),
    "abfs": Service(
        package="adlfs",
        extra="azure",
        client="adlfs.spec:AzureBlobFileSystem",
        options={},
        place=_BUCKET + _AZURE_ACCOUNT,
        # The Azure client sends "If-None-Match: *" with the blob or, above 64 MB, with its list of blocks.
        if_absent={"overwrite": False},
        failures=("azure.core.exceptions:AzureError", "aiohttp:ClientError"),
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
    if options and os.environ.get(_AZURE_CONNECTION):
        raise UsageError(
            f"{uri!r} names an account, but {_AZURE_CONNECTION} names one too and would win: unset it, or"
            f" write {scheme}://container/prefix"
        )
    if importlib.util.find_spec(service.package) is None:
        raise UsageError(
            f"{uri!r} needs the package {service.package}: pip install 'crosscloud[{service.extra}]'"
        )
    return Place(service=service, options=options, path="/".join(filter(None, (match["bucket"], prefix))))


def answer_of(error: BaseException) -> tuple[int, str]:
    """HTTP status and error code of the answer that made a client raise `error`; 0 and "" where unknown."""
    for candidate in (error, error.__cause__):
        response = getattr(candidate, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return int(status), str(response.get("Error", {}).get("Code", ""))
        status = getattr(candidate, "status_code", None) or getattr(candidate, "code", None)
        if isinstance(status, int):
            code = getattr(candidate, "error_code", None) or ""
            return status, str(getattr(code, "value", code))
    return 0, ""
