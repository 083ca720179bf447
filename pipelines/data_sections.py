"""The sections of a federation file about records: what is learned from them, and where they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from components.agreement.data_policy import QueryParameter
from components.errors import UsageError

SCHEMES = ("file", "s3", "gs", "abfs")
BIGQUERY_SCHEME = "bigquery://"
_BIGQUERY_URI = re.compile(r"bigquery://[a-z][a-z0-9.:-]*(?:/(?:[a-z0-9.:-]+\.)?[A-Za-z0-9_]+)?/?")


def _store_uri(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    if separator and (scheme not in SCHEMES or not rest.strip("/")):
        allowed = ", ".join(f"{known}://" for known in SCHEMES)
        raise ValueError(f"must be a path below CROSSCLOUD_HOME or one of {allowed}, got {uri!r}")
    if "::" in uri or (not separator and ".." in Path(uri).parts):
        raise ValueError(f"must be a plain address without '..' or chained protocols, got {uri!r}")
    return uri.rstrip("/")


def _template(text: str) -> str:
    from components.data_processing.template import columns_of

    try:
        columns_of(text)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return text


def _sql(text: str, info: ValidationInfo) -> str:
    from components.data_processing.query import check_sql

    terms = info.data.get("bigquery")
    parameters = tuple(terms.parameters) if terms else ()
    if terms is None and info.data.get("source") == "bigquery":
        # What is wrong with its section is told by itself; here every name passes.
        parameters = tuple(re.findall(r"@(\w+)", text))
    problems = check_sql(text, parameters)
    if problems:
        raise ValueError("; ".join(problems))
    return text


StoreUri = Annotated[str, Field(min_length=1), AfterValidator(_store_uri)]
Column = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Label = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\"'\\\x00-\x1f]+$")]


class Section(BaseModel):
    """A part of the file: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Split(Section):
    """How a site's records are divided into training and test, inside its warehouse."""

    column: Column
    """Column whose fingerprint decides: records that share its value stay together; it does not leave."""
    test_fraction: float = Field(gt=0, lt=1)
    """Share of fingerprints that are test."""


class ColumnSection(Section):
    """A column that every site's query must return, whatever its warehouse."""

    name: str = Field(min_length=1)
    """Compared without case."""
    type: str = Field(min_length=1)
    """In BigQuery's words: STRING, INT64, FLOAT64, NUMERIC, BOOL, DATE, TIMESTAMP, JSON, STRUCT, ARRAY, ….
    In the template, STRUCT, ARRAY and JSON become sentences of their parts."""
    nullable: bool = True
    """Whether a row may have NULL in it; in the template such a NULL is an empty text."""
    description: str = ""
    """What it holds, for people."""
    allowed_values: list[str] = Field(default_factory=list)
    """The only values that a STRING may have; those of the label are `classes`."""


class Task(Section):
    """What is to be learned from a record."""

    template: Annotated[str, AfterValidator(_template)]
    """Text for the encoder, with columns in braces. Only these columns and the label leave the warehouse."""
    label_column: Column
    """Column with the class of a record."""
    split: Split
    classes: list[Label] = Field(min_length=2)
    """Allowed labels, in the order of the model's outputs."""
    columns: list[ColumnSection] = Field(default_factory=list)
    """What the sites' queries return, checked before a row is read or paid for; others do not matter."""

    @model_validator(mode="after")
    def _declared(self) -> Self:
        from components.data_processing.declared_columns import DeclaredColumn, check_declarations

        problems = check_declarations(
            [
                DeclaredColumn(**{**column.model_dump(), "allowed_values": tuple(column.allowed_values)})
                for column in self.columns
            ]
        )
        label = self.label_column.lower()
        problems += [
            f"column {column.name!r} is the label: declare it STRING, and its values under classes"
            for column in self.columns
            if column.name.lower() == label and (column.type != "STRING" or column.allowed_values)
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        doubled = sorted({label for label in self.classes if self.classes.count(label) > 1})
        if doubled:
            raise ValueError(f"classes must be distinct, {', '.join(doubled)} stands twice")
        from components.data_processing.query import check_columns
        from components.data_processing.template import columns_of

        problems = check_columns(
            columns=columns_of(self.template),
            label_column=self.label_column,
            split_column=self.split.column,
            test_fraction=self.split.test_fraction,
        )
        if problems:
            raise ValueError("\n".join(problems))
        return self


class BigQuerySection(Section):
    """Of a site whose records are in BigQuery; its policy, which the site writes, is what binds."""

    location: str = Field(min_length=1)
    """Where the jobs run: `EU`, `europe-west3`."""
    maximum_bytes_billed: int = Field(gt=0)
    """Most that one query may be billed for; BigQuery bills at least 10 MiB for each table."""
    parameters: dict[str, QueryParameter] = Field(default_factory=dict)
    """Values of the query's named parameters."""
    endpoint: str = ""
    """Of a private REST API."""
    storage_endpoint: str = ""
    """`host:port` of the Storage Read API that goes with it."""


class Data(Section):
    """A site's records."""

    source: Literal["duckdb", "parquet", "bigquery"]
    uri: str = Field(min_length=1)
    """The warehouse: a path below CROSSCLOUD_HOME, a glob of Parquet files, read as table `records`, or
    `bigquery://PROJECT/DATASET`: the project that pays, and the dataset of tables that are named alone."""
    dataset: str = Field(default="", max_length=200)
    """What the site's people call these records in their privacy ledger; by default their address."""
    ledger_uri: StoreUri | None = None
    """Store of that ledger, which all federations that read the records share; by default beside a file's
    warehouse. Under an epsilon a BigQuery site names both: its address is of who pays, not of the data."""
    bigquery: BigQuerySection | None = None
    """Needed for source `bigquery`."""
    sql: Annotated[str, AfterValidator(_sql)]
    """One SELECT in BigQuery's dialect that yields the template's columns, the label and the split column."""

    @property
    def bigquery_address(self) -> tuple[str, str]:
        """Project and dataset, which may be empty, of a BigQuery `uri`."""
        project, _, dataset = self.uri.removeprefix(BIGQUERY_SCHEME).rstrip("/").partition("/")
        return project, dataset

    @model_validator(mode="after")
    def _terms(self) -> Self:
        if self.source != "bigquery":
            if self.bigquery is not None:
                raise ValueError(f"the section bigquery is for source bigquery, got source {self.source}")
            return self
        if self.bigquery is None:
            raise ValueError("source bigquery needs the section bigquery: location, maximum_bytes_billed")
        if not _BIGQUERY_URI.fullmatch(self.uri):
            raise ValueError(f"uri of source bigquery must be bigquery://PROJECT/DATASET, got {self.uri!r}")
        problem = _terms_problem(self.bigquery, *self.bigquery_address)
        if problem:
            raise ValueError(problem)
        return self


def _terms_problem(section: BigQuerySection, project: str, dataset: str) -> str:
    """What the terms that a site's policy would be written with say against them; empty for nothing."""
    from components.data_processing.bigquery.terms import BigQueryTerms, Parameter

    try:
        BigQueryTerms(
            project=project,
            location=section.location,
            maximum_bytes_billed=section.maximum_bytes_billed,
            default_dataset=dataset,
            parameters={
                name: Parameter(kind=each.type, value=each.value) for name, each in section.parameters.items()
            },
            endpoint=section.endpoint,
            storage_endpoint=section.storage_endpoint,
        )
    except UsageError as error:
        return f"bigquery: {error}"
    return ""
