"""Measured protection: what is left of it under the strongest attack that was run.

The *privacy protection effect* of a method is 1 − A, where A is the advantage 2·AUC − 1 of the strongest
attack over the views of all parties. To choose the strongest and to report it on the same scores would
overstate it, so the choice is made on one half of what was scored and measured on the other, both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from components.evaluation.attacks.advantage import Attempt, strongest
from components.evaluation.comparison_report.bands import Band, band
from components.evaluation.comparison_report.records import DataSet, method_order
from components.evaluation.rehearsal.corpus import LANGUAGE_MODEL

ALL_ATTACKS: Final = "all attacks"
EXAMPLE_LEVEL: Final = "example-level attacks"
# Whether a site has a class at all is a property of the site: an ε for examples says nothing of it.
ATTACKS_OF: Final[Mapping[str, frozenset[str] | None]] = {
    ALL_ATTACKS: None,
    EXAMPLE_LEVEL: frozenset({"canaries", "likelihood-ratio", "inversion"}),
}
MEASURES: Final = tuple(ATTACKS_OF)
SPARSE: Final = frozenset({"likelihood-ratio"})
"""Attacks that are made at some ε only, for what they cost."""
Point = tuple[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Strongest:
    """The attack whose AUC is farthest from a half at a point, both halves together and mean over seeds."""

    attack: str
    view: str
    variant: str
    auc: Band


@dataclass(frozen=True)
class Protection:
    """Protection, accuracy and their product by method, ε and seed."""

    measured: DataSet

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """(method, ε) of every protection record, in the order in which they are told."""
        found = {(record.method, record.epsilon) for record in self.measured.of_kind("protection")}
        return tuple(sorted(found, key=lambda point: (method_order(point[0]), point[1] or 0.0)))

    @property
    def centralised(self) -> Band | None:
        """Accuracy of centralised training on a language model's features; None where not measured."""
        return self.centralised_by_features.get(LANGUAGE_MODEL)

    @cached_property
    def centralised_by_features(self) -> dict[str, Band]:
        """Accuracy of centralised training over seeds."""
        found: dict[str, list[float]] = {}
        for record in self.measured.of_kind("centralised"):
            features = str(record.configuration.get("features", LANGUAGE_MODEL))
            found.setdefault(features, []).append(float(record.outcome["accuracy"]))
        return {features: band(values) for features, values in sorted(found.items())}

    def attempts(self, method: str, epsilon: float | None) -> dict[int, list[Attempt]]:
        """Every attack's attempts at a point, by seed."""
        return self._attempts.get((method, epsilon), {})

    def effects(
        self, measure: str, method: str, epsilon: float | None, *, without: frozenset[str] = frozenset()
    ) -> dict[int, float]:
        """1 − the strongest cross-fitted advantage, by seed; seeds without such an attack are left out.

        Args:
            measure: one of `MEASURES`.
            method: name of the method.
            epsilon: its ε.
            without: attacks that are not to count.
        """
        counted = ATTACKS_OF[measure]
        found = {}
        for seed, attempts in self.attempts(method, epsilon).items():
            used = [
                each
                for each in attempts
                if (counted is None or each.attack in counted) and each.attack not in without
            ]
            if used:
                found[seed] = 1.0 - strongest(used)
        return found

    def unshared(self, first: Point, second: Point) -> frozenset[str]:
        """Attacks of `SPARSE` that were made at one of two points only, which therefore compare nothing."""
        made = [
            {each.attack for attempts in self.attempts(*point).values() for each in attempts} & SPARSE
            for point in (first, second)
        ]
        return frozenset(made[0] ^ made[1])

    def relative_accuracy(self, method: str, epsilon: float | None) -> dict[int, float]:
        """Accuracy over the mean accuracy of centralised training, by seed."""
        if self.centralised is None or self.centralised.mean <= 0:
            return {}
        mean = self.centralised.mean
        records = self.measured.of_kind("protection", method=method, epsilon=epsilon)
        return {record.seed: float(record.outcome["accuracy"]) / mean for record in records}

    def products(
        self, measure: str, method: str, epsilon: float | None, *, without: frozenset[str] = frozenset()
    ) -> dict[int, float]:
        """Protection × relative accuracy, by seed; arguments as for `effects`."""
        accuracy = self.relative_accuracy(method, epsilon)
        effects = self.effects(measure, method, epsilon, without=without)
        return {seed: effects[seed] * accuracy[seed] for seed in effects.keys() & accuracy.keys()}

    def strongest_at(self, measure: str, method: str, epsilon: float | None) -> Strongest | None:
        """The attack that did best at a point, told for orientation: nothing is computed from it."""
        counted = ATTACKS_OF[measure]
        told = {
            key: value
            for key, value in self.aucs(method, epsilon).items()
            if counted is None or key[0] in counted
        }
        if not told:
            return None
        attack, view, variant = best = max(told, key=lambda key: abs(told[key].mean - 0.5))
        return Strongest(attack=attack, view=view, variant=variant, auc=told[best])

    def aucs(self, method: str, epsilon: float | None) -> dict[tuple[str, str, str], Band]:
        """AUC of every (attack, view, variant) at a point, mean of its halves, over seeds."""
        grouped: dict[tuple[str, str, str], list[float]] = {}
        for _, attempts in sorted(self.attempts(method, epsilon).items()):
            for each in attempts:
                key = (each.attack, each.view, each.variant)
                grouped.setdefault(key, []).append(sum(each.auc_halves) / 2)
        return {key: band(grouped[key]) for key in sorted(grouped)}

    def scored(self, method: str, epsilon: float | None) -> dict[str, int]:
        """The most members that each attack scored a seed at a point."""
        found: dict[str, int] = {}
        for attempts in self.attempts(method, epsilon).values():
            for each in attempts:
                found[each.attack] = max(found.get(each.attack, 0), each.members)
        return dict(sorted(found.items()))

    @cached_property
    def _attempts(self) -> dict[Point, dict[int, list[Attempt]]]:
        found: dict[Point, dict[int, list[Attempt]]] = {}
        for record in self.measured.of_kind("protection"):
            attempts = [Attempt.from_dict(each) for each in record.outcome["attempts"]]
            found.setdefault((record.method, record.epsilon), {})[record.seed] = attempts
        for record in self.measured.of_kind("likelihood-ratio"):
            for method in record.outcome["stands_for"]:
                seeds = found.get((method, record.epsilon), {})
                for seed, attempts in record.outcome["by_seed"].items():
                    if int(seed) in seeds:
                        seeds[int(seed)].extend(Attempt.from_dict(each) for each in attempts)
        return found
