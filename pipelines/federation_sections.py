"""The sections of a federation file, each checked by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from components.errors import UsageError

SCHEMES = ("file", "s3", "gs", "abfs")


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


def _sql(text: str) -> str:
    from components.data_processing.query import check_sql

    problems = check_sql(text)
    if problems:
        raise ValueError("; ".join(problems))
    return text


def _rounds(value: object) -> object:
    """Here, as either of two types that does not fit would be told by itself."""
    if value != "auto" and type(value) is not int:
        raise ValueError(f"must be a whole number or 'auto', got {value!r}")
    return value


Name = Annotated[str, Field(pattern=r"^[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?$")]
Column = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Label = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\"'\\\x00-\x1f]+$")]
StoreUri = Annotated[str, Field(min_length=1), AfterValidator(_store_uri)]


class Section(BaseModel):
    """A part of the file: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Split(Section):
    """How a site's records are divided into training and test, inside its warehouse."""

    column: Column
    """Column whose fingerprint decides: records that share its value stay together; it does not leave."""
    test_fraction: float = Field(gt=0, lt=1)
    """Share of fingerprints that are test."""


class Task(Section):
    """What is to be learned from a record."""

    template: Annotated[str, AfterValidator(_template)]
    """Text for the encoder, with columns in braces. Only these columns and the label leave the warehouse."""
    label_column: Column
    """Column with the class of a record."""
    split: Split
    classes: list[Label] = Field(min_length=2)
    """Allowed labels, in the order of the model's outputs."""

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


class EncoderSection(Section):
    """The frozen language model (Eq. 3)."""

    name: str = Field(min_length=1)
    """A folder, `package:NAME` for a model carried by a Python package, or a Hugging Face hub id."""
    revision: str = ""
    """Of a hub id; a commit is best."""
    digest: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """SHA-256 of its model.safetensors; a site refuses any other."""
    max_length: int = Field(default=128, ge=4, le=8192)
    """Tokens a text is cut to."""
    dimensions: int = Field(ge=1, le=65536)
    """Width of its hidden state."""


class Head(Section):
    """The classifier that is trained on the features."""

    hidden_units: int = Field(default=0, ge=0, le=65536)
    """Of the ReLU layer; 0 makes the head linear."""
    skip: bool = False
    """Leads the features past the hidden units as well: a narrow layer then holds nothing back."""

    @model_validator(mode="after")
    def _something_to_skip(self) -> Self:
        if self.skip and not self.hidden_units:
            raise ValueError("skip needs hidden_units above 0, got 0: a linear head is one")
        return self


class Training(Section):
    """Defaults of the run parameters, and what is fixed at compile time."""

    algorithm: Literal["fedavg", "fedprox", "fedadam", "fedsgd"] = "fedavg"
    """`fedavg` averages models that sites have trained; `fedprox` holds them near the global one while they
    train; `fedadam` takes a server optimiser's step along the average; `fedsgd` sums one clipped gradient
    of every example and makes it private, for which it needs the section `privacy`."""
    proximal: float = Field(default=0.1, gt=0, le=1000, allow_inf_nan=False)
    """Of `fedprox`: how strongly sites are held near the global model."""
    server_optimizer: Literal["sgd", "momentum", "adam"] = "adam"
    """What takes the step under `fedsgd` and `fedadam`."""
    server_learning_rate: float = Field(default=0.05, gt=0, le=1000, allow_inf_nan=False)
    learning_rate: float = Field(gt=0, le=1000)
    local_epochs: int = Field(default=1, ge=1, le=1000)
    batch_size: int = Field(default=64, ge=1, le=1_000_000)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = Field(default=0, ge=0, lt=2**53)
    """Of the genesis model and the order of rows; protects nothing."""


class Quorum(Section):
    """How many sites a round needs."""

    min_sites: int = Field(ge=2)
    """A round with fewer on its roster is refused; `sealed` asks for 3 at least."""
    colluding_sites: int = Field(default=1, ge=0)
    """Sites that may work against the others, together with everybody else, without breaking the seal."""
    min_sum_sites: int | None = Field(default=None, ge=2)
    """Fewest sites in a sum that is opened; by default the fewest that the release rule allows under
    `sealed`, max(t + 2, (K + t) / 2 + 1), and `min_sites` otherwise."""


class Limits(Section):
    """What the charter lets a round ask of the sites, and what bounds an update."""

    clipping_norm: float = Field(default=100.0, gt=0, allow_inf_nan=False)
    """Largest L2 norm of a site's update; a longer one is scaled down."""
    largest_value: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Largest magnitude of one number of an update; an update beyond it is scaled down as a whole."""
    max_examples: int = Field(default=100_000, ge=1)
    """Most training rows of a site. The seal is the more exact the closer this is to the truth."""
    values_per_slot: Literal[1, 2] = 2
    """Under `sealed`: 2 sends half the bytes, 1 has 23 bits more for each number."""
    local_epochs: int = Field(default=100, ge=1)
    learning_rate: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    batch_size: int = Field(default=1_000_000, ge=1)
    rounds: int = Field(default=10_000, ge=1)
    """Number of the last round."""
    key_rotation_rounds: int = Field(default=1_000, ge=1)
    """Rounds that one encryption key may serve."""


class Privacy(Section):
    """Differential privacy of the opened sums.

    Whoever sees all models of the schedule learns little more than he would without any one row.
    """

    target_epsilon: float = Field(allow_inf_nan=False)
    """What all rounds of the schedule cost together."""
    delta: float = Field(allow_inf_nan=False)
    """At this delta, below 1 / public_population."""
    public_population: int
    """People that the records may be of, as is publicly known."""
    clipping_norm: float | None = Field(default=None, allow_inf_nan=False)
    """Largest L2 norm of one example's gradient; longer ones are scaled down to it."""
    rounds: Annotated[int | Literal["auto"], BeforeValidator(_rounds)] = "auto"
    """Of the schedule. `auto` takes the more, the larger epsilon is."""
    rows_per_unit: int = 1
    """Most rows that one protected person has at a site: privacy is then of a person."""
    per: Literal["total", "month"] = "total"
    """Whether the sites' budgets, of one schedule each, are for good or for a calendar month."""


class Accelerator(Section):
    """A GPU request."""

    type: str = Field(default="nvidia.com/gpu", min_length=1)
    count: int = Field(default=1, ge=1, le=16)


class Placement(Section):
    """Where a party's steps run in Kubernetes, and how long a step may take."""

    kind: Literal["node-pool"] = "node-pool"
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes in the party's cloud."""
    accelerator: Accelerator | None = None
    """For `augment` and `train`."""
    memory: str | None = Field(default=None, pattern=r"^[1-9][0-9]*(?:\.[0-9]+)?[KMGTP]i?$")
    """Such as 8Gi."""
    keys_secret: str | None = Field(default=None, pattern=r"^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$")
    """Secret with the party's private keys, mounted as files."""
    deadline_seconds: int = Field(default=3600, ge=1, le=7 * 24 * 3600)
    """A step of a site that takes longer leaves the site out of the round."""


class Data(Section):
    """A site's records."""

    source: Literal["duckdb", "parquet"]
    uri: str = Field(min_length=1)
    """The warehouse: a path below CROSSCLOUD_HOME, or a glob of Parquet files, read as table `records`."""
    dataset: str = Field(default="", max_length=200)
    """What the site's people call these records in their privacy ledger; by default their address."""
    sql: Annotated[str, AfterValidator(_sql)]
    """One SELECT in BigQuery's dialect that yields the template's columns, the label and the split column."""


class EvaluationSection(Section):
    """What of a site's evaluation may be published."""

    release: Literal["none", "per_site"] = "none"
    """`per_site` publishes accuracy and confusion counts of this site; `none` keeps them in its own store."""


class Site(Section):
    """One organisation, or one cloud of an organisation."""

    name: Name
    cloud: str = Field(min_length=1, max_length=40, pattern=r"^[\w .-]+$")
    data: Data
    store_uri: StoreUri
    """The site's own store: rows, features and adapted models stay there."""
    evaluation: EvaluationSection = EvaluationSection()
    placement: Placement = Placement()
