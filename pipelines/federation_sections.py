"""The sections of a federation file, each checked by itself."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from pipelines.data_sections import SCHEMES, Data, Section, StoreUri, Task
from pipelines.placement_sections import SitePlacement

__all__ = [
    "SCHEMES",
    "Data",
    "EncoderSection",
    "EvaluationSection",
    "Head",
    "Limits",
    "LocalNoise",
    "MetricsBudget",
    "Name",
    "Privacy",
    "PublicCorpus",
    "Quorum",
    "Section",
    "Site",
    "StoreUri",
    "Task",
    "Training",
]


def _rounds(value: object) -> object:
    """Here, as either of two types that does not fit would be told by itself."""
    if value != "auto" and type(value) is not int:
        raise ValueError(f"must be a whole number or 'auto', got {value!r}")
    return value


Name = Annotated[str, Field(pattern=r"^[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?$")]


class PublicCorpus(Section):
    """Public texts of the records' own kind, whose mean feature is taken off all features."""

    file: str = Field(min_length=1)
    """Beside the federation file, or an absolute path: UTF-8, one text a line, at most 4 MiB."""
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Its SHA-256, which the charter names; the file is needed where the charter is proposed."""


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
    public_corpus: PublicCorpus | None = None


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

    algorithm: Literal["fedavg", "fedprox", "fedadam", "fedsgd", "analytic", "dp-sgd"] = "fedavg"
    """`fedavg` averages models that sites have trained; `fedprox` holds them near the global one while they
    train; `fedadam` takes a server optimiser's step along the average. The others are private and need the
    section `privacy`: `fedsgd` sums one clipped gradient of every example, `analytic` solves one sum of
    outer products, `dp-sgd` averages models that each site has trained with noise of its own."""
    proximal: float = Field(default=0.1, gt=0, le=1000, allow_inf_nan=False)
    """Of `fedprox`: how strongly sites are held near the global model."""
    server_optimizer: Literal["sgd", "momentum", "adam"] = "adam"
    """What takes the step under `fedsgd` and `fedadam`."""
    server_learning_rate: float = Field(default=0.05, gt=0, le=1000, allow_inf_nan=False)
    cross_weight: float = Field(default=2.0, gt=0, le=100, allow_inf_nan=False)
    """Of `analytic`: weight of the sums by class beside those of features, which share its noise."""
    ridge: float = Field(default=1.0, gt=0, le=1000, allow_inf_nan=False)
    """Of `analytic`: multiple of the ridge that the noise asks for."""
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


class LocalNoise(Section):
    """Of `dp-sgd`: how every site trains with noise of its own.

    A step is divided by `sample_rate` times `limits.max_examples`, a number that tells nothing of a site.
    """

    steps: int = Field(default=8, ge=1, le=100_000)
    """In every round."""
    sample_rate: float = Field(default=0.25, gt=0, le=1)
    """Probability with which a step draws a row: 1 over a whole number."""
    learning_rate: float = Field(default=4.0, gt=0, le=1000, allow_inf_nan=False)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(1 / self.sample_rate - round(1 / self.sample_rate)) > 1e-9:
            raise ValueError(
                f"sample_rate must be 1 over a whole number, such as 0.25, got {self.sample_rate:g}"
            )
        return self


class AdaptiveNorm(Section):
    """Of `fedsgd`: a clipping norm that follows the gradients, round by round, at a small price in noise."""

    quantile: float = Field(default=0.2, gt=0, lt=1)
    """Share of the gradients that are to be no longer than the norm."""
    learning_rate: float = Field(default=0.5, gt=0, le=1)
    """How fast it follows: a round changes its logarithm by at most this."""
    weight: float = Field(default=0.1, gt=0, le=1)
    """Of what is told of each gradient's length: 0.1 costs 0.12 % more noise."""


class MetricsBudget(Section):
    """What sealed sums of confusion counts may cost, where sites release their figures as `aggregate`."""

    fraction: float = Field(default=0.05, gt=0, le=0.05, allow_inf_nan=False)
    """Share of the budget, at most 0.05; the updates have the rest."""
    every: Annotated[int | Literal["auto"], BeforeValidator(_rounds)] = "auto"
    """Rounds from one sum of counts to the next, the last having one; `auto` makes some four."""


class Privacy(Section):
    """Differential privacy of what rounds release.

    Whoever sees all models of the schedule learns little more than he would without any one row.
    """

    target_epsilon: float = Field(allow_inf_nan=False)
    """What all rounds of the schedule cost together."""
    delta: float = Field(allow_inf_nan=False)
    """At this delta, below 1 / public_population."""
    public_population: int
    """People that the records may be of, as is publicly known."""
    clipping_norm: float | None = Field(default=None, allow_inf_nan=False)
    """Largest L2 norm of one example's gradient; longer ones are scaled down to it. Of the first round
    where `adaptive_clipping` is there."""
    adaptive_clipping: AdaptiveNorm | None = None
    """Lets the norm follow the gradients; without it one norm holds in all rounds."""
    rounds: Annotated[int | Literal["auto"], BeforeValidator(_rounds)] = "auto"
    """Of the schedule. `auto` takes the more, the larger epsilon is; `analytic` has one."""
    start_fraction: float = Field(default=0.0, allow_inf_nan=False)
    """Of `fedsgd`: share of the budget for a first round that sums features by class and starts from
    there; 0 for none."""
    local: LocalNoise = LocalNoise()
    unit: str = Field(default="row", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")
    """What is protected: `row`, or the column of every site's query that names it, such as patient. Rows with
    one value in it are clipped together, as one contribution; each site's policy names the column too."""
    rows_per_unit: int = 1
    """Most rows that one protected unit has at a site. With a column as unit, rows beyond are left out;
    without, privacy is of a person with so many rows, at the price of their square."""
    metrics: MetricsBudget = MetricsBudget()
    per: Literal["total", "month"] = "total"
    """Whether target and rounds are for good, or for every calendar month (UTC) anew; months add up."""


class EvaluationSection(Section):
    """What of a site's evaluation may be known."""

    release: Literal["none", "aggregate", "per_site"] | None = None
    """`aggregate` counts this site's test rows in a sealed sum with others', of which nobody sees a part;
    it is the default where the protection hides single sites. `per_site` publishes accuracy and confusion
    counts of this site; `none`, the default elsewhere, keeps them in its own store."""


class Site(Section):
    """One organisation, or one cloud of an organisation."""

    name: Name
    cloud: str = Field(min_length=1, max_length=40, pattern=r"^[\w .-]+$")
    data: Data
    store_uri: StoreUri
    """The site's own store: rows, features and adapted models stay there."""
    evaluation: EvaluationSection = EvaluationSection()
    placement: SitePlacement = SitePlacement()
