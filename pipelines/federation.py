"""The federation file: who takes part, on what data, with which model, under which protection.

Every problem of a file is reported at once, each with its path. Public keys and secrets never
stand in it.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from components.agreement.charter import least_sum_sites
from components.errors import FederationFileError, UnknownSiteError, UsageError

METHODS = {"fedavg": ("none", "fedavg"), "he-fl": ("he", "fedavg"), "sealed": ("sealed", "fedavg")}
MAX_HE_SITES = 64
SCHEMES = ("file", "s3", "gs", "abfs")
RESERVED = {"coordinator", "key-holder", "aggregator", "contexts", "certificates", "charters", "cards"}
SEALED = "sealed"


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


class Training(Section):
    """Defaults of the run parameters, and what is fixed at compile time."""

    algorithm: Literal["fedavg"] = "fedavg"
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


class Federation(Section):
    """A federation of sites that train one model."""

    federation: Name
    """Its id."""
    title: str = Field(min_length=1, max_length=120)
    task: Task
    encoder: EncoderSection
    head: Head = Head()
    training: Training
    protection: Literal["none", "he", "sealed"] = "sealed"
    """How updates are sealed: `sealed` opens one agreed sum and nothing else, `he` is CKKS under one
    key, `none` sends them in clear."""
    quorum: Quorum
    limits: Limits = Limits()
    state_uri: StoreUri
    """Store of the committed rounds."""
    exchange_uri: StoreUri
    """Store that all parties read: tickets, sealed updates, published models."""
    aggregator: Placement = Placement()
    key_holder: Placement = Placement()
    coordinator: Placement = Placement()
    sites: list[Site] = Field(min_length=2)
    sample_data: Literal["hospitals"] | None = None
    """Sample warehouses that `crosscloud run` makes before the first round where none is there yet."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = _disagreements(self.model_dump())
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def site_names(self) -> list[str]:
        """Names of the sites in the order of the file."""
        return [site.name for site in self.sites]

    @property
    def keys_uri(self) -> str:
        """Folder of the public keys, beside the state."""
        parent, separator, _ = self.state_uri.rpartition("/")
        return f"{parent}{separator}keys"

    @property
    def key_holder_uri(self) -> str:
        """The key holder's own store, where it remembers what it has opened."""
        parent, separator, _ = self.state_uri.rpartition("/")
        return f"{parent}{separator}key-holder"

    @property
    def min_sum_sites(self) -> int:
        """u_min, fewest sites in a sum that is opened."""
        if self.quorum.min_sum_sites is not None:
            return self.quorum.min_sum_sites
        if self.protection != SEALED:
            return self.quorum.min_sites
        return least_sum_sites(len(self.sites), self.quorum.colluding_sites)

    @property
    def method(self) -> str:
        """Name of the method that protection and algorithm make."""
        wanted = (self.protection, self.training.algorithm)
        return next(name for name, parts in METHODS.items() if parts == wanted)

    def site(self, name: str) -> Site:
        """The site of this name.

        Raises:
            UnknownSiteError: there is none.
        """
        for site in self.sites:
            if site.name == name:
                return site
        raise UnknownSiteError(name, self.site_names)

    def with_method(self, method: str) -> Federation:
        """The same federation under one of the named methods.

        Raises:
            UsageError: no method has this name.
        """
        if method not in METHODS:
            raise UsageError(f"unknown method {method!r}: known are {', '.join(METHODS)}")
        protection, algorithm = METHODS[method]
        training = self.training.model_copy(update={"algorithm": algorithm})
        return self.model_copy(update={"protection": protection, "training": training})


def load_federation(path: Path) -> Federation:
    """Reads and validates a federation file.

    Raises:
        FederationFileError: it cannot be read, or breaks one or more rules; all are listed.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506
    except FileNotFoundError:
        raise FederationFileError(str(path), ["there is no such file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FederationFileError(str(path), [f"cannot be read: {type(error).__name__}"]) from None
    except yaml.YAMLError as error:
        raise FederationFileError(str(path), [f"is not YAML: {_one_line(str(error))}"]) from None
    if not isinstance(document, dict):
        raise FederationFileError(str(path), ["must be a mapping of keys to values"])
    try:
        return Federation.model_validate(document)
    except ValidationError as error:
        problems = _problems(error)
        problems += [problem for problem in _disagreements(document) if problem not in problems]
        raise FederationFileError(str(path), problems) from None


def json_schema() -> dict[str, Any]:
    """JSON schema of the file, for editors."""
    return Federation.model_json_schema() | {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "crosscloud federation file",
    }


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key that stands twice instead of silently keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                mark = node.value[number][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", mark)
        return super().construct_mapping(node, deep)


def _problems(error: ValidationError) -> list[str]:
    problems: list[str] = []
    for each in error.errors(include_url=False):
        path = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", ".".join(str(part) for part in each["loc"]))
        message = each["msg"].removeprefix("Value error, ")
        given = "" if each["type"] in {"value_error", "missing"} else f", got {_shown(each['input'])}"
        for line in message.splitlines():
            problems.append(f"{path}: {line}{given}" if path else f"{line}{given}")
    return problems


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _disagreements(document: dict[str, Any]) -> list[str]:
    """Rules between parts of the file, checked on whatever is there, to be told with the others."""
    listed = document.get("sites")
    sites = [site for site in listed if isinstance(site, dict)] if isinstance(listed, list) else []
    quorum = document.get("quorum")
    least = quorum.get("min_sites") if isinstance(quorum, dict) else None
    problems = _name_problems([str(site.get("name")) for site in sites])
    stores = {key: document.get(key) for key in ("state_uri", "exchange_uri")}
    stores |= {f"sites[{number}].store_uri": site.get("store_uri") for number, site in enumerate(sites)}
    problems += _store_problems({key: uri.rstrip("/") for key, uri in stores.items() if isinstance(uri, str)})
    if document.get("protection") == "he" and len(sites) > MAX_HE_SITES:
        problems.append(f"sites: he takes at most {MAX_HE_SITES}, got {len(sites)}")
    if isinstance(quorum, dict) and isinstance(least, int) and sites:
        sealed = document.get("protection", SEALED) == SEALED
        problems += _quorum_problems(quorum, least, len(sites), sealed=sealed)
    problems += _limit_problems(document)
    return problems


def _quorum_problems(quorum: dict[str, Any], least: int, sites: int, *, sealed: bool) -> list[str]:
    colluding, smallest = quorum.get("colluding_sites", 1), quorum.get("min_sum_sites")
    if least > sites:
        return [f"quorum.min_sites: must be at most the number of sites, {sites}, got {least}"]
    if not isinstance(colluding, int) or not isinstance(smallest, int | None):
        return []
    problems: list[str] = []
    needed = least_sum_sites(sites, colluding)
    if sealed and least < max(3, needed):
        problems.append(
            f"quorum.min_sites: sealed needs at least {max(3, needed)} of {sites} sites on a roster when "
            f"{colluding} may collude, got {least}"
        )
    if sealed and smallest is not None and smallest < needed:
        problems.append(
            f"quorum.min_sum_sites: must be at least {needed} for {sites} sites of which {colluding} may "
            f"collude, got {smallest}"
        )
    if smallest is not None and smallest > least:
        problems.append(f"quorum.min_sum_sites: must be at most min_sites, {least}, got {smallest}")
    return problems


def _limit_problems(document: dict[str, Any]) -> list[str]:
    """What a run asks for by default must lie within the limits."""
    training, given = document.get("training"), document.get("limits")
    if not isinstance(training, dict):
        return []
    limits = {name: field.default for name, field in Limits.model_fields.items()}
    limits |= given if isinstance(given, dict) else {}
    largest, norm = limits["largest_value"], limits["clipping_norm"]
    problems: list[str] = []
    numbers = isinstance(largest, int | float) and isinstance(norm, int | float)
    if numbers and 0 < norm < largest < math.inf:
        problems.append(
            f"limits.largest_value: must be at most limits.clipping_norm, {norm:g}, got {largest:g}"
        )
    return problems + [
        f"training.{name}: must be at most limits.{name}, {limits[name]:g}, got {training[name]:g}"
        for name in ("local_epochs", "learning_rate", "batch_size")
        if isinstance(training.get(name), int | float) and isinstance(limits[name], int | float)
        if training[name] > limits[name]
    ]


def _name_problems(names: list[str]) -> list[str]:
    doubled = sorted({name for name in names if names.count(name) > 1})
    reserved = sorted(RESERVED & set(names))
    return [f"sites: the name {name} stands twice" for name in doubled] + [
        f"sites: {name} is the name of a role, not of a site" for name in reserved
    ]


def _store_problems(stores: dict[str, str]) -> list[str]:
    named = list(stores.items())
    return [
        f"{later}: must lie apart from {earlier}, got {second} and {first}"
        for number, (earlier, first) in enumerate(named)
        for later, second in named[number + 1 :]
        if _within(first, second) or _within(second, first)
    ]


def _within(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(f"{outer}/")
