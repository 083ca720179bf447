"""What the comparison is claimed to show, and whether the bands contradict it.

Methods are compared by their paired differences: the difference is taken for each seed, and the band is that
of the mean difference. A claim says that a difference is not below a bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from components.evaluation.comparison_report.bands import ROUNDING, Band, band, paired
from components.evaluation.comparison_report.protection import MEASURES, Protection
from components.evaluation.comparison_report.records import DataSet, label
from components.evaluation.comparison_report.wording import in_band

HOLDS: Final = "holds"
TIE: Final = "tie"
FAILS: Final = "does not hold"
UNMEASURED: Final = "not measured"
WORDS: Final = (FAILS, TIE, HOLDS, UNMEASURED)

EPSILONS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
ANYWHERE: Final = "any ε"
MARGIN: Final = 0.02
FACTOR: Final = 1.05
LOW_EPSILONS: Final = (0.5, 1.0, 2.0)
DIFFERENTIAL: Final = ("ours", "dp-fl")
ENCRYPTED: Final = ("he-fl", "smc-fl")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A claim at one place.

    Attributes:
        at: where: an ε, a number of hidden units, a cloud; `ANYWHERE` for a claim about methods without.
        word: one of `WORDS`.
        finding: the numbers, or why there are none.
    """

    at: str
    word: str
    finding: str


@dataclass(frozen=True, kw_only=True)
class Relation:
    """One claim and its verdicts; `measure` is empty where it is not about protection."""

    claim: str
    measure: str
    verdicts: tuple[Verdict, ...]

    def places(self, word: str) -> tuple[str, ...]:
        """Where the verdict is `word`."""
        return tuple(verdict.at for verdict in self.verdicts if verdict.word == word)


def not_below(difference: Band, bound: float) -> str:
    """The verdict on the claim that a difference of two methods is not below `bound`.

    It fails where the whole band lies below the bound. Where the band holds 0 the two cannot be told
    apart, which is a tie. A single seed has no band: nothing can be said of a difference.
    """
    if difference.half_width is None:
        return UNMEASURED
    if difference.high < bound - ROUNDING:
        return FAILS
    return TIE if difference.contains(0.0) else HOLDS


def alike(difference: Band, margin: float) -> str:
    """The verdict on the claim that two methods differ by no more than `margin`; a tie is what it claims."""
    if difference.half_width is None:
        return UNMEASURED
    return HOLDS if -margin - ROUNDING <= difference.high and difference.low <= margin + ROUNDING else FAILS


def protection_relations(measured: DataSet) -> list[Relation]:
    """The claims about protection, under both measures."""
    protection = Protection(measured)
    found = []
    for measure in MEASURES:
        found += [
            _at_least_dp_fl(protection, measure),
            *(_above(protection, measure, method, other) for method in DIFFERENTIAL for other in ENCRYPTED),
            _encryption_alike(protection, measure),
            *(_above_fedavg(protection, measure, other) for other in ENCRYPTED),
            _product(protection, measure),
        ]
    return found


def compared(
    at: str, first: tuple[str, dict[int, float]], second: tuple[str, dict[int, float]], bound: float
) -> Verdict:
    """The verdict on `first` − `second` ≥ `bound`, both given with their names and by seed."""
    pairs = paired(first[1], second[1])
    if not pairs:
        missing = " and ".join(name for name, values in (first, second) if not values)
        missing = missing or "both with the same seed"
        return Verdict(at=at, word=UNMEASURED, finding=f"no figures of {missing}")
    difference = band(pairs)
    word = not_below(difference, bound)
    means = ", ".join(f"{name} {in_band(band(list(values.values())))}" for name, values in (first, second))
    finding = f"difference {in_band(difference, signed=True)} ({means})"
    if word == UNMEASURED:
        finding += "; one seed has no band"
    elif word != FAILS and difference.mean < bound:
        finding += f"; the mean is below {bound:+.2f}, the band is not"
    return Verdict(at=at, word=word, finding=finding)


def _effect(
    protection: Protection, measure: str, method: str, epsilon: float | None = None
) -> tuple[str, dict[int, float]]:
    return label(method), protection.effects(measure, method, epsilon)


def _at(epsilon: float) -> str:
    return f"ε = {epsilon:g}"


def _epsilons(protection: Protection, claimed: Sequence[float] = EPSILONS) -> Sequence[float]:
    """The ε that are claimed, and others that were measured below the highest of them."""
    measured = {epsilon for _, epsilon in protection.points if epsilon is not None}
    return sorted({*claimed, *(each for each in measured if each <= max(claimed))})


def _at_least_dp_fl(protection: Protection, measure: str) -> Relation:
    verdicts = [
        compared(
            _at(epsilon),
            _effect(protection, measure, "ours", epsilon),
            _effect(protection, measure, "dp-fl", epsilon),
            -MARGIN,
        )
        for epsilon in _epsilons(protection)
    ]
    return Relation(
        claim=f"ours protects no worse than DP-FL less {MARGIN:g}", measure=measure, verdicts=tuple(verdicts)
    )


def _above(protection: Protection, measure: str, method: str, other: str) -> Relation:
    verdicts = [
        compared(
            _at(epsilon),
            _effect(protection, measure, method, epsilon),
            _effect(protection, measure, other),
            0.0,
        )
        for epsilon in _epsilons(protection)
    ]
    claim = f"{label(method)} protects better than {label(other)}"
    return Relation(claim=claim, measure=measure, verdicts=tuple(verdicts))


def _encryption_alike(protection: Protection, measure: str) -> Relation:
    first, second = _effect(protection, measure, "he-fl"), _effect(protection, measure, "smc-fl")
    verdict = compared(ANYWHERE, first, second, -MARGIN)
    pairs = paired(first[1], second[1])
    if pairs:
        verdict = Verdict(at=verdict.at, word=alike(band(pairs), MARGIN), finding=verdict.finding)
    claim = f"HE-FL and SMC-FL protect alike, to {MARGIN:g}"
    return Relation(claim=claim, measure=measure, verdicts=(verdict,))


def _above_fedavg(protection: Protection, measure: str, method: str) -> Relation:
    first, second = _effect(protection, measure, method), _effect(protection, measure, "fedavg")
    claim = f"{label(method)} protects better than FedAvg"
    return Relation(claim=claim, measure=measure, verdicts=(compared(ANYWHERE, first, second, 0.0),))


def _product(protection: Protection, measure: str) -> Relation:
    verdicts = []
    for epsilon in _epsilons(protection, LOW_EPSILONS):
        ours = protection.products(measure, "ours", epsilon)
        other = protection.products(measure, "dp-fl", epsilon)
        scaled = {seed: FACTOR * value for seed, value in other.items()}
        verdicts.append(compared(_at(epsilon), ("ours", ours), (f"{FACTOR:g} × DP-FL", scaled), 0.0))
    claim = (
        f"ours has at least {FACTOR:g} times DP-FL's protection × relative accuracy "
        f"at ε ≤ {max(LOW_EPSILONS):g}"
    )
    return Relation(claim=claim, measure=measure, verdicts=tuple(verdicts))


def spoken(relations: Iterable[Relation], word: str) -> list[str]:
    """The claims that have the verdict `word` somewhere, with the places, measures together where alike."""
    told: dict[tuple[str, str], list[str]] = {}
    for relation in relations:
        places = relation.places(word)
        if places:
            everywhere = len(places) == len(relation.verdicts)
            where = "" if everywhere else f" ({said_once(places)})"
            told.setdefault((relation.claim, where), []).append(relation.measure)
    sentences = []
    for (claim, where), measures in told.items():
        under = "" if set(measures) in ({""}, set(MEASURES)) else f" under {measures[0]}"
        sentences.append(f"{claim}{under}{where}")
    return sentences


def said_once(places: Sequence[str]) -> str:
    """Places in a row; what all of them begin with, as "ε = ", is said once."""
    heads = {place.partition(" = ")[0] for place in places if " = " in place}
    if len(heads) == 1 and all(" = " in place for place in places):
        return f"{heads.pop()} = {', '.join(place.partition(' = ')[2] for place in places)}"
    return ", ".join(places)
