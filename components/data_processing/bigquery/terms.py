"""The terms on which a site lets BigQuery be read: who pays, how much at most, as of when, and what for."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from components.errors import UsageError

if TYPE_CHECKING:
    from google.cloud import bigquery

    from components.data_processing.bigquery.residency import DataResidency

SNAPSHOT = "snapshot"
PUBLIC_ENDPOINT = "https://bigquery.googleapis.com"
_PARAMETER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_DATASET = re.compile(r"(?:[a-z0-9.:-]+\.)?[A-Za-z0-9_]{1,1024}")
_LABEL_LENGTH = 63


def _timestamp(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("it has no time zone")
    return moment.astimezone(UTC)


def _boolean(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError("it is neither true nor false")
    return text == "true"


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("it is not finite")
    return number


def _integer(text: str) -> int:
    number = int(text)
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError("it has more than 64 bits")
    return number


_READERS: dict[str, Callable[[str], Any]] = {
    "STRING": str,
    "INT64": _integer,
    "FLOAT64": _finite,
    "BOOL": _boolean,
    "DATE": date.fromisoformat,
    "TIMESTAMP": _timestamp,
}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A value that a query names, as `@name`: no value is ever pasted into SQL.

    Attributes:
        kind: `STRING`, `INT64`, `FLOAT64`, `BOOL`, `DATE` or `TIMESTAMP`.
        value: the value as text (`2026-11-01`, `true`, `2026-11-01T00:00:00+00:00`); a tuple of such
            texts for an array, which a query reads with `IN UNNEST(@name)`.
    """

    kind: str
    value: str | tuple[str, ...]

    def __post_init__(self) -> None:
        if self.kind not in _READERS:
            raise UsageError(f"parameter type {self.kind!r} is none of {', '.join(_READERS)}")
        self.values()

    def values(self) -> list[Any]:
        """The value, or the array's values, as Python objects.

        Raises:
            UsageError: a text is not of the type `kind`.
        """
        texts = [self.value] if isinstance(self.value, str) else list(self.value)
        read = _READERS[self.kind]
        values = []
        for text in texts:
            try:
                values.append(read(text))
            except ValueError as error:
                raise UsageError(f"parameter value {text!r} is no {self.kind}: {error}") from None
        return values

    def query_parameter(self, name: str) -> bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter:
        """The parameter as BigQuery's client takes it."""
        from google.cloud import bigquery

        values = self.values()
        if isinstance(self.value, str):
            return bigquery.ScalarQueryParameter(name, self.kind, values[0])
        return bigquery.ArrayQueryParameter(name, self.kind, values)


@dataclass(frozen=True, kw_only=True)
class BigQueryTerms:
    """What a site grants a query on BigQuery; every rule is checked when the terms are made.

    Attributes:
        project: project that runs and pays for the queries; the data may lie in another one.
        location: where the jobs run (`EU`, `europe-west3`); the datasets must lie there.
        maximum_bytes_billed: most bytes one query may be billed for, above 0. BigQuery bills at least
            10 MiB for each table a query reads, so less than that refuses every query.
        default_dataset: of tables that a query names without one: `dataset` or `project.dataset`.
        parameters: values of the query's named parameters.
        labels: put on every job, as on the bill; keys and values are made to keep BigQuery's rule.
        snapshot: time as of which every table is read, with its time zone; None for now.
        deadline_s: seconds a query may run, or a call that fails for a reason that passes is tried
            again, above 0.
        data_residency: where the data lie, where they are read, and whether they may leave Google Cloud.
        allowed_tagged_columns: columns with a policy tag that may be read: `column` or `table.column`.
        endpoint: of the REST API, where it is not the public one: `https://…` of a private endpoint, or
            `http://` of this machine itself, which is spoken to without any credentials.
        storage_endpoint: `host:port` of the Storage Read API that goes with `endpoint`.

    Raises:
        UsageError: a rule is broken.
    """

    project: str
    location: str
    maximum_bytes_billed: int
    default_dataset: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=lambda: MappingProxyType({}))
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    snapshot: datetime | None = None
    deadline_s: float = 600.0
    data_residency: DataResidency | None = None
    allowed_tagged_columns: frozenset[str] = frozenset()
    endpoint: str = ""
    storage_endpoint: str = ""

    def __post_init__(self) -> None:
        if not self.project or not self.location:
            raise UsageError("BigQuery terms need a project and a location: the query runs and is paid there")
        if self.maximum_bytes_billed <= 0:
            raise UsageError(f"maximum_bytes_billed must be above 0, got {self.maximum_bytes_billed}")
        if not 0 < self.deadline_s < math.inf:
            raise UsageError(f"deadline_s must be above 0 and finite, got {self.deadline_s}")
        if self.default_dataset and not _DATASET.fullmatch(self.default_dataset):
            raise UsageError(
                f"default_dataset {self.default_dataset!r} is neither a dataset nor project.dataset"
            )
        if self.snapshot is not None and self.snapshot.tzinfo is None:
            raise UsageError(f"snapshot {self.snapshot.isoformat()} has no time zone: write it in UTC")
        _check_parameter_names(self.parameters)
        _check_endpoints(self.endpoint, self.storage_endpoint)

    @property
    def on_this_machine(self) -> bool:
        """Whether the service is on this machine: spoken to in the clear and without credentials."""
        return self.endpoint.startswith("http://")

    @property
    def snapshot_utc(self) -> datetime | None:
        """`snapshot` in UTC."""
        return None if self.snapshot is None else self.snapshot.astimezone(UTC)

    def job_labels(self) -> dict[str, str]:
        """`labels` by BigQuery's rule."""
        return {label_key(key): label_value(value) for key, value in self.labels.items()}


def label_value(text: str) -> str:
    """`text` as the value of a label: lower case, digits, `-` and `_` (for all else), 63 at most."""
    return re.sub(r"[^a-z0-9_-]", "_", text.lower())[:_LABEL_LENGTH]


def label_key(text: str) -> str:
    """`text` as the key of a label, which also begins with a letter."""
    key = label_value(text)
    return key if re.match(r"[a-z]", key) else f"x{key}"[:_LABEL_LENGTH]


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_parameter_names(parameters: Mapping[str, Parameter]) -> None:
    taken: set[str] = set()
    for name in parameters:
        if not _PARAMETER_NAME.fullmatch(name):
            raise UsageError(f"parameter {name!r} is not a plain name: use letters, digits and _")
        if name.lower() == SNAPSHOT:
            raise UsageError(f"parameter {name!r} is reserved for the time of the snapshot: rename it")
        if name.lower() in taken:
            raise UsageError(f"parameter {name!r} is there twice: BigQuery does not tell case apart")
        taken.add(name.lower())


def _check_endpoints(endpoint: str, storage_endpoint: str) -> None:
    parts = urlsplit(endpoint)
    if endpoint and (parts.scheme not in {"https", "http"} or not parts.hostname):
        raise UsageError(f"endpoint {endpoint!r} is no URL: write https://host of a private endpoint")
    local = parts.scheme == "http"
    if local and not is_loopback(parts.hostname or ""):
        raise UsageError(
            f"endpoint {endpoint!r} is not on this machine: rows and tokens travel through https:// only"
        )
    if not storage_endpoint:
        return
    host, _, port = storage_endpoint.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"storage_endpoint {storage_endpoint!r} must be host:port")
    if not endpoint:
        raise UsageError(f"storage_endpoint {storage_endpoint!r} goes with an endpoint: name that too")
    if local != is_loopback(host.strip("[]")):
        raise UsageError(
            f"endpoint {endpoint!r} and storage_endpoint {storage_endpoint!r} must both be on this machine, "
            "or neither"
        )
