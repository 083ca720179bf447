"""What a site lets be read of its warehouse, and what becomes of its records before a model reads them.

These are sections of the site policy. A pipeline names a query and a warehouse; who pays, how much at most,
where rows may go and which tagged columns may be read stands here and in no run parameter.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

Kind = Literal["iban", "card", "email", "ip", "ssn", "phone"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def _text(value: Any) -> Any:
    """A scalar as YAML reads it, as text; a list of them as a tuple of texts."""
    if isinstance(value, list | tuple):
        return tuple(_text(each) for each in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date | datetime):
        return value.isoformat()
    return str(value) if isinstance(value, int | float) else value


_SCALAR = {"type": ["string", "number", "boolean"]}
ParameterValue = Annotated[
    str | tuple[str, ...],
    BeforeValidator(_text),
    WithJsonSchema({"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}),
]


class _Rules(BaseModel):
    """Unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class QueryParameter(_Rules):
    """A value that a site's query names as `@name`."""

    type: Literal["STRING", "INT64", "FLOAT64", "BOOL", "DATE", "TIMESTAMP"]
    """In BigQuery's words."""
    value: ParameterValue
    """A scalar, or a list for `IN UNNEST(@name)`."""


class DataResidencyPolicy(_Rules):
    """The way rows take from the warehouse to the step that reads them."""

    warehouse: Annotated[str, Field(min_length=1)]
    """Where every table must lie, as BigQuery writes it: `EU`, `europe-west3`."""
    reader: Annotated[str, Field(pattern=r"^[a-z]+:[a-z0-9-]+$")]
    """Cloud and region of the step that reads: `gcp:europe-west3`, `aws:eu-central-1`."""
    may_leave: bool = False
    """Whether rows may leave Google Cloud."""


class BigQueryPolicy(_Rules):
    """On what terms a site's BigQuery is read."""

    project: Annotated[str, Field(min_length=1)]
    """Runs and pays for the queries."""
    dataset: str = ""
    """Of tables that the query names alone: `dataset` or `project.dataset`."""
    location: Annotated[str, Field(min_length=1)]
    """Where the jobs run."""
    maximum_bytes_billed: Annotated[int, Field(gt=0)]
    """Most that one query may be billed for."""
    parameters: dict[str, QueryParameter] = Field(default_factory=dict)
    """Values of the query's named parameters."""
    endpoint: str = ""
    """Of the REST API, where it is a private one."""
    storage_endpoint: str = ""
    """`host:port` of the Storage Read API that goes with it."""
    data_residency: DataResidencyPolicy | None = None
    """Needed wherever the reader is outside Google Cloud."""
    allowed_tagged_columns: tuple[str, ...] = ()
    """Columns with a policy tag that may be read: `column` or `table.column`."""

    @property
    def uri(self) -> str:
        """As a federation file names the warehouse."""
        return f"bigquery://{self.project}/{self.dataset}".rstrip("/")


class DriftRules(_Rules):
    """What a site does when its records are not as in the last round whose records it accepted."""

    action: Literal["tell", "stop", "keep"] = "keep"
    """`keep` writes it down at the site, `tell` tells kinds of findings too, `stop` leaves the site out."""
    null_rate_band: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Most that a column's share of NULL may change."""
    least_row_ratio: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Fewest rows, as a multiple of the last accepted."""
    most_row_ratio: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    """Most rows, as a multiple of the last accepted."""


class MaskingRules(_Rules):
    """Which values are replaced in texts before the language model reads them."""

    kinds: tuple[Kind, ...] = KINDS
    """All of them unless the site says otherwise; an empty list masks nothing."""
