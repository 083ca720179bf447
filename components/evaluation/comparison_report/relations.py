"""What the comparison is claimed to show, and whether the bands contradict it.

Methods are compared by their paired differences: the difference is taken for each seed, and the band is that
of the mean difference. A claim says that a difference is not below a bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from components.evaluation.comparison_report.bands import ROUNDING, Band, band, paired
from components.evaluation.comparison_report.protection import MEASURES, Point, Protection
from components.evaluation.comparison_report.records import DataSet, label
from components.evaluation.comparison_report.wording import in_band

HOLDS: Final = "holds"
TIE: Final = "tie"
FAILS: Final = "does not hold"
UNMEASURED: Final = "not measured"
WORDS: Final = (FAILS, TIE, HOLDS, UNMEASURED)

EPSILONS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
NO_FIGURES: Final = "no figures of"
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
    """One claim and its verdicts.

    Attributes:
        claim: in plain words.
        under: the measure of protection or the method that it is judged under; empty for a claim that is
            judged once.
        verdicts: one a place.
    """

    claim: str
    under: str
    verdicts: tuple[Verdict, ...]

    @property
    def reason(self) -> str:
        """Why nothing was judged although there are figures; empty where that is not so."""
        findings = {verdict.finding for verdict in self.verdicts if verdict.word == UNMEASURED}
        found = "".join(findings) if len(findings) == 1 else ""
        return "" if found.startswith(NO_FIGURES) else found

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
        return Verdict(at=at, word=UNMEASURED, finding=f"{NO_FIGURES} {missing}")
    difference = band(pairs)
    word = not_below(difference, bound)
    means = ", ".join(f"{name} {in_band(band(list(values.values())))}" for name, values in (first, second))
    finding = f"difference {in_band(difference, signed=True)} ({means})"
    if word == UNMEASURED:
        finding += "; one seed has no band"
    elif word != FAILS and difference.mean < bound:
        finding += f"; the mean is below {bound:+.2f}, the band is not"
    return Verdict(at=at, word=word, finding=finding)


def _points_compared(
    protection: Protection, measure: str, at: str, first: Point, second: Point, *, bound: float = 0.0
) -> Verdict:
    """Compares protection at two points by the attacks that were made at both."""
    without = protection.unshared(first, second)
    named = [
        (label(point[0]), protection.effects(measure, *point, without=without)) for point in (first, second)
    ]
    return _without(compared(at, named[0], named[1], bound), without)


def _without(verdict: Verdict, without: frozenset[str]) -> Verdict:
    if verdict.word == UNMEASURED or not without:
        return verdict
    said = f"{verdict.finding}; without {', '.join(sorted(without))}, not made on both"
    return Verdict(at=verdict.at, word=verdict.word, finding=said)


def _at(epsilon: float) -> str:
    return f"ε = {epsilon:g}"


def _epsilons(protection: Protection, claimed: Sequence[float] = EPSILONS) -> Sequence[float]:
    """The ε that are claimed, and others that were measured below the highest of them."""
    measured = {epsilon for _, epsilon in protection.points if epsilon is not None}
    return sorted({*claimed, *(each for each in measured if each <= max(claimed))})


def _at_least_dp_fl(protection: Protection, measure: str) -> Relation:
    verdicts = [
        _points_compared(
            protection, measure, _at(epsilon), ("ours", epsilon), ("dp-fl", epsilon), bound=-MARGIN
        )
        for epsilon in _epsilons(protection)
    ]
    claim = f"ours protects no worse than DP-FL less {MARGIN:g}"
    return Relation(claim=claim, under=measure, verdicts=tuple(verdicts))


def _above(protection: Protection, measure: str, method: str, other: str) -> Relation:
    verdicts = [
        _points_compared(protection, measure, _at(epsilon), (method, epsilon), (other, None))
        for epsilon in _epsilons(protection)
    ]
    claim = f"{label(method)} protects better than {label(other)}"
    return Relation(claim=claim, under=measure, verdicts=tuple(verdicts))


def _encryption_alike(protection: Protection, measure: str) -> Relation:
    verdict = _points_compared(protection, measure, ANYWHERE, ("he-fl", None), ("smc-fl", None))
    without = protection.unshared(("he-fl", None), ("smc-fl", None))
    pairs = paired(
        protection.effects(measure, "he-fl", None, without=without),
        protection.effects(measure, "smc-fl", None, without=without),
    )
    if pairs:
        verdict = Verdict(at=verdict.at, word=alike(band(pairs), MARGIN), finding=verdict.finding)
    claim = f"HE-FL and SMC-FL protect alike, to {MARGIN:g}"
    return Relation(claim=claim, under=measure, verdicts=(verdict,))


def _above_fedavg(protection: Protection, measure: str, method: str) -> Relation:
    verdict = _points_compared(protection, measure, ANYWHERE, (method, None), ("fedavg", None))
    claim = f"{label(method)} protects better than FedAvg"
    return Relation(claim=claim, under=measure, verdicts=(verdict,))


def _product(protection: Protection, measure: str) -> Relation:
    verdicts = []
    for epsilon in _epsilons(protection, LOW_EPSILONS):
        without = protection.unshared(("ours", epsilon), ("dp-fl", epsilon))
        ours = protection.products(measure, "ours", epsilon, without=without)
        other = protection.products(measure, "dp-fl", epsilon, without=without)
        scaled = {seed: FACTOR * value for seed, value in other.items()}
        verdict = compared(_at(epsilon), ("ours", ours), (f"{FACTOR:g} × DP-FL", scaled), 0.0)
        verdicts.append(_without(verdict, without))
    claim = (
        f"ours has at least {FACTOR:g} times DP-FL's protection × relative accuracy "
        f"at ε ≤ {max(LOW_EPSILONS):g}"
    )
    return Relation(claim=claim, under=measure, verdicts=tuple(verdicts))


def spoken(relations: Sequence[Relation], word: str) -> list[str]:
    """The claims that have a verdict, and where; what is alike under several measures or methods is one."""
    told: dict[tuple[str, str], list[str]] = {}
    under: dict[str, set[str]] = {}
    for relation in relations:
        under.setdefault(relation.claim, set()).add(relation.under)
        places = relation.places(word)
        if places:
            everywhere = len(places) == len(relation.verdicts)
            where = "" if everywhere else f" ({said_once(places)})"
            if word == UNMEASURED and relation.reason:
                where += f" ({relation.reason})"
            told.setdefault((relation.claim, where), []).append(relation.under)
    return [
        f"{claim}{'' if set(found) == under[claim] else f' under {_all_of(found)}'}{where}"
        for (claim, where), found in told.items()
    ]


def _all_of(names: Sequence[str]) -> str:
    """A, B and C."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def said_once(places: Sequence[str]) -> str:
    """Places in a row; what all of them begin with, as "ε = ", is said once."""
    heads = {place.partition(" = ")[0] for place in places if " = " in place}
    if len(heads) == 1 and all(" = " in place for place in places):
        return f"{heads.pop()} = {', '.join(place.partition(' = ')[2] for place in places)}"
    return ", ".join(places)
