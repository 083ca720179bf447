"""What a charter says of differential privacy: how much noise every round's sum must carry.

All parties compute the same noise from it: the sites draw their shares, the ledger prices the release,
and nobody can ask for less. PROTOCOL: noise is drawn before the commitment, never after.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, TypeVar, get_args

from components.errors import SignatureError

LEAST_HONEST_SITES = 2
"""u_min - t_sites: with fewer, the noise of one site would have to protect alone."""
ROW: Final = "row"
"""The unit of privacy where no column names one."""
Allowance = Literal["total", "month"]
_LATER: Final[Mapping[str, Any]] = {"unit": ROW, "metrics": None, "adaptive": None, "per": "total"}
_Part = TypeVar("_Part")
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """How every site trains by itself under `dp-sgd`: what its own noise is added to.

    Attributes:
        steps: of DP-SGD in every round, from 1.
        sample_rate: probability with which a step draws a row, 1 over a whole number.
        learning_rate: of the steps, above 0.
        max_grad_norm: largest L2 norm of one example's gradient, above 0.
    """

    steps: int
    sample_rate: float
    learning_rate: float
    max_grad_norm: float

    def problems(self) -> Iterator[str]:
        """Every rule it breaks."""
        if type(self.steps) is not int or self.steps < 1:
            yield f"steps must be a whole number of at least 1, got {self.steps!r}"
        for name in ("learning_rate", "max_grad_norm"):
            if not _positive(value := getattr(self, name), math.inf):
                yield f"{name} must be a finite number above 0, got {value!r}"
        rate = self.sample_rate
        if not _positive(rate, 1.0) or abs(1 / rate - round(1 / rate)) > 1e-9:
            yield f"sample_rate must be 1 over a whole number, got {rate!r}"


@dataclass(frozen=True, kw_only=True)
class MetricsNoise:
    """What the sealed sums of confusion counts cost, and in which rounds there is one.

    Attributes:
        noise_multiplier: sigma of each of them, in units of a unit's whole contribution, above 0.
        rounds: numbers of the rounds, rising.
    """

    noise_multiplier: float
    rounds: tuple[int, ...]

    def problems(self) -> Iterator[str]:
        """Every rule it breaks."""
        if not _positive(self.noise_multiplier, math.inf):
            yield f"noise_multiplier must be a finite number above 0, got {self.noise_multiplier!r}"
        rising = all(earlier < later for earlier, later in zip(self.rounds, self.rounds[1:], strict=False))
        if not self.rounds or not rising or any(type(each) is not int or each < 1 for each in self.rounds):
            yield f"rounds must be whole numbers from 1, rising, got {list(self.rounds)!r}"


@dataclass(frozen=True, kw_only=True)
class AdaptiveClipping:
    """The rule by which the clipping norm follows the gradients (Andrew et al. 2021, Algorithm 1).

    Attributes:
        quantile: gamma, share of the examples whose gradient is to be no longer than the norm; between
            0 and 1.
        learning_rate: eta of the norm's geometric steps, above 0, at most 1.
        weight: of an example's indicator against its clipped gradient, above 0, at most 1.
    """

    quantile: float
    learning_rate: float
    weight: float

    def problems(self) -> Iterator[str]:
        """Every rule it breaks."""
        for name in ("quantile", "learning_rate", "weight"):
            if not _positive(value := getattr(self, name), 1.0):
                yield f"{name} must be a finite number above 0 and at most 1, got {value!r}"
        if self.quantile == 1:
            yield "quantile must be below 1: no norm is long enough for every gradient there may be"


@dataclass(frozen=True, kw_only=True)
class NoiseTerms:
    """A schedule of noise.

    Attributes:
        target_epsilon: what all rounds of the schedule cost together, above 0; under `month` those of one
            calendar month (UTC).
        delta: at this delta, below 1 / public_population.
        public_population: people that the records may be of, as is publicly known.
        first_round: number of the schedule's first round.
        noise_multipliers: sigma of each round: deviation of the noise that is left in a sum when the
            colluding sites have subtracted theirs, in units of the sum's sensitivity.
        count_weight: beta, weight of an example's count against its contribution.
        rows_per_unit: most rows of one protected unit (a person, say).
        class_sum_start: whether the first round sums features by class instead of gradients.
        local: of `dp-sgd`: every site's own noise, in units of its clipped gradients; None where the
            sites share the noise of their sum.
        unit: `row`, or the column that names what is protected: contributions are then clipped for each
            of its values, of which at most `rows_per_unit` rows take part.
        metrics: the noise of sealed confusion counts; None where none are released.
        adaptive: the rule of the clipping norm; None where it is the charter's in every round.
        per: `total`, or `month`: there are as many rounds in every calendar month, and no last one. Only
            the first month's first round starts with class sums; later months have the last round's noise.
    """

    target_epsilon: float
    delta: float
    public_population: int
    first_round: int
    noise_multipliers: tuple[float, ...]
    count_weight: float
    rows_per_unit: int
    class_sum_start: bool = False
    local: LocalTraining | None = None
    unit: str = ROW
    metrics: MetricsNoise | None = None
    adaptive: AdaptiveClipping | None = None
    per: Allowance = "total"

    def document(self) -> dict[str, Any]:
        """The terms in a charter's body; what was added to the form later only where it says something."""
        body = asdict(self)
        return {name: value for name, value in body.items() if name not in _LATER or value != _LATER[name]}

    @property
    def last_round(self) -> int:
        """Number of the schedule's last round; under `month` of the first month's, if all come off."""
        return self.first_round + len(self.noise_multipliers) - 1

    @property
    def has_unit_column(self) -> bool:
        """Whether a column names what is protected, and contributions are clipped for each of its values."""
        return self.unit != ROW

    @property
    def priced_rows(self) -> int:
        """M of the price m²ρ of a unit: 1 where all rows of a unit are clipped as one contribution."""
        return 1 if self.has_unit_column else self.rows_per_unit

    @property
    def protected(self) -> str:
        """What epsilon is of, in words: `row`, or a person or a column's value and its most rows."""
        if not self.has_unit_column and self.rows_per_unit == 1:
            return ROW
        rows = "1 row" if self.rows_per_unit == 1 else f"{self.rows_per_unit} rows"
        return f"{self.unit if self.has_unit_column else 'person'} with at most {rows} at a site"

    def noise_multiplier(self, round_number: int) -> float | None:
        """Sigma of a round; None outside the schedule, where nothing may be released."""
        if round_number < self.first_round:
            return None
        if round_number > self.last_round and self.per == "total":
            return None
        return self.noise_multipliers[min(round_number, self.last_round) - self.first_round]

    def metrics_in(self, round_number: int) -> bool:
        """Whether the schedule sets noise aside for a round's confusion counts; every month is one alike."""
        if self.metrics is None or round_number < self.first_round:
            return False
        if self.per == "month":
            since = (round_number - self.first_round) % len(self.noise_multipliers)
            round_number = self.first_round + since
        return round_number in self.metrics.rounds

    def problems(self) -> list[str]:
        """Every rule it breaks, one a line."""
        return [f"privacy.{problem}" for problem in self._problems()]

    def _problems(self) -> Iterator[str]:
        for name, least in (("public_population", 1), ("first_round", 1), ("rows_per_unit", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                yield f"{name} must be a whole number of at least {least}, got {value!r}"
        reals = {"target_epsilon": math.inf, "delta": 1.0, "count_weight": 1.0}
        for name, most in reals.items():
            if not _positive(value := getattr(self, name), most):
                yield f"{name} must be a finite number above 0 and at most {most:g}, got {value!r}"
        people = self.public_population
        if type(people) is int and people > 0 and _positive(self.delta, 1.0) and self.delta * people >= 1:
            yield f"delta must be below 1/public_population, {1 / people:.3g}, got {self.delta:g}"
        if not self.noise_multipliers:
            yield "noise_multipliers must name the noise of one round at least"
        yield from self._kind_problems()
        for number, sigma in enumerate(self.noise_multipliers, 1):
            if not _positive(sigma, math.inf):
                yield f"noise_multipliers[{number}] must be a finite number above 0, got {sigma!r}"

    def _kind_problems(self) -> Iterator[str]:
        start: object = self.class_sum_start
        if type(start) is not bool:
            yield f"class_sum_start must be true or false, got {start!r}"
        elif start and self.first_round != 1:
            yield f"class_sum_start belongs to a schedule from round 1, got one from {self.first_round!r}"
        if not isinstance(self.unit, str) or not _COLUMN.fullmatch(self.unit):
            yield f"unit must be {ROW} or the plain name of a column, got {self.unit!r}"
        if self.per not in get_args(Allowance):
            yield f"per must be {' or '.join(get_args(Allowance))}, got {self.per!r}"
        for name, part in (("metrics", self.metrics), ("adaptive", self.adaptive)):
            yield from (f"{name}.{problem}" for problem in (part.problems() if part else ()))
        if self.metrics and not any(self.metrics.problems()):
            first, last = self.metrics.rounds[0], self.metrics.rounds[-1]
            if type(self.first_round) is int and not self.first_round <= first <= last <= self.last_round:
                allowed = f"{self.first_round} to {self.last_round}"
                yield f"metrics.rounds must be rounds of the schedule, {allowed}, got {first} to {last}"
        if self.local is None:
            return
        if self.metrics:
            yield "metrics belong to noise that sites share, got them with local noise"
        yield from (f"local.{problem}" for problem in self.local.problems())
        if self.rows_per_unit != 1:
            yield f"rows_per_unit must be 1 with local noise, which protects rows, got {self.rows_per_unit!r}"


def read_noise_terms(document: Mapping[str, Any] | None) -> NoiseTerms | None:
    """The terms in a charter's body; None where it has none.

    Raises:
        SignatureError: they are in another form.
    """
    if document is None:
        return None
    try:
        written = {field.name: {**_LATER, **document}[field.name] for field in fields(NoiseTerms)}
        read = {
            "noise_multipliers": tuple(written["noise_multipliers"]),
            "local": _part(LocalTraining, written["local"]),
            "metrics": _part(MetricsNoise, written["metrics"]),
            "adaptive": _part(AdaptiveClipping, written["adaptive"]),
        }
        return NoiseTerms(**{**document, **written, **read})
    except (TypeError, KeyError):
        raise SignatureError("a charter is not in the form this version knows") from None


def _part(kind: type[_Part], document: Mapping[str, Any] | None) -> _Part | None:
    """One part of the terms; lists of JSON are tuples."""
    if document is None:
        return None
    return kind(**{name: tuple(each) if isinstance(each, list) else each for name, each in document.items()})


def _positive(value: object, most: float) -> bool:
    return type(value) in (int, float) and 0 < value <= most and math.isfinite(value)  # type: ignore[operator,arg-type]
