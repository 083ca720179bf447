"""What a charter says of differential privacy: how much noise every round's sum must carry.

All parties compute the same noise from it: the sites draw their shares, the ledger prices the release,
and nobody can ask for less. PROTOCOL: noise is drawn before the commitment, never after.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from components.errors import SignatureError

LEAST_HONEST_SITES = 2
"""u_min - t_sites: with fewer, the noise of one site would have to protect alone."""


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
class NoiseTerms:
    """A schedule of noise.

    Attributes:
        target_epsilon: what all rounds of the schedule cost together, above 0.
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

    @property
    def last_round(self) -> int:
        """Number of the schedule's last round."""
        return self.first_round + len(self.noise_multipliers) - 1

    def noise_multiplier(self, round_number: int) -> float | None:
        """Sigma of a round; None outside the schedule, where nothing may be released."""
        if not self.first_round <= round_number <= self.last_round:
            return None
        return self.noise_multipliers[round_number - self.first_round]

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
        if self.local is None:
            return
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
        written = {field.name: document[field.name] for field in fields(NoiseTerms)}
        local = written["local"]
        read = {
            "noise_multipliers": tuple(written["noise_multipliers"]),
            "local": None if local is None else LocalTraining(**local),
        }
        return NoiseTerms(**{**document, **read})
    except (TypeError, KeyError):
        raise SignatureError("a charter is not in the form this version knows") from None


def _positive(value: object, most: float) -> bool:
    return type(value) in (int, float) and 0 < value <= most and math.isfinite(value)  # type: ignore[operator,arg-type]
