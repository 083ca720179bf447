"""Claims about learning: rounds to 85 %, and migration without degradation."""

from __future__ import annotations

from typing import Final

from components.evaluation.comparison_report.bands import Band, band
from components.evaluation.comparison_report.convergence import (
    HIDDEN_UNITS,
    Cell,
    Series,
    Setting,
    series,
)
from components.evaluation.comparison_report.migration import clouds
from components.evaluation.comparison_report.protection import Protection
from components.evaluation.comparison_report.records import DataSet, label
from components.evaluation.comparison_report.relations import (
    FAILS,
    HOLDS,
    NO_FIGURES,
    TIE,
    UNMEASURED,
    Relation,
    Verdict,
    not_below,
)
from components.evaluation.comparison_report.wording import in_band, percent
from components.evaluation.rehearsal.corpus import LANGUAGE_MODEL

HIDDEN_SIZES: Final = (32, 64, 128, 256, 512)
MOST_ROUNDS: Final = 15
TARGET: Final = 0.85
AT_EPSILON: Final = 4.0
CLAIMED: Final = Setting(features=LANGUAGE_MODEL, concentration=0.1)
MOST_LOST: Final = 0.01


def learning_relations(measured: DataSet) -> list[Relation]:
    """The claims about rounds and about adaptation."""
    return [rounds_relation(measured), *migration_relations(measured)]


def rounds_relation(measured: DataSet) -> Relation:
    """Ours reaches 85 % within 15 rounds at ε = 4, with a language model and Dirichlet 0.1."""
    lines = series(measured, HIDDEN_UNITS, CLAIMED, "rounds_to_85")
    ours, other = _line(lines, "ours"), _line(lines, "dp-fl")
    sizes = sorted({*HIDDEN_SIZES, *(int(size) for size in ours)})
    central = Protection(measured).centralised
    verdicts = []
    for size in sizes:
        at = f"hidden units = {size}"
        if central is not None and central.mean < TARGET:
            reason = f"centralised training itself reaches only {percent(central.mean)}"
            verdicts.append(Verdict(at=at, word=UNMEASURED, finding=reason))
        elif size not in ours:
            verdicts.append(Verdict(at=at, word=UNMEASURED, finding=f"{NO_FIGURES} ours"))
        else:
            verdicts.append(_rounds_verdict(at, ours[size], other.get(size)))
    claim = f"ours reaches 85 % within {MOST_ROUNDS} rounds at ε = {AT_EPSILON:g} at every hidden size"
    return Relation(claim=claim, under="", verdicts=tuple(verdicts))


def migration_relations(measured: DataSet) -> list[Relation]:
    """Adapted is at least the better of before and local, less one point, on every cloud."""
    said = "an adapted model is no worse than the better of the common and a local one, to 1 point"
    found = []
    for (method, epsilon), sites in clouds(measured).items():
        verdicts = []
        for cloud in sites:
            lead = band(list(cloud.leads.values()))
            word = not_below(lead, -MOST_LOST)
            if word == UNMEASURED:
                word = HOLDS if lead.mean >= -MOST_LOST else FAILS
            finding = f"adapted less the better of before and local {in_band(lead, signed=True)}"
            verdicts.append(Verdict(at=cloud.name, word=word, finding=finding + _of_one_seed(lead)))
        under = label(method) if epsilon is None else f"{label(method)} at ε = {epsilon:g}"
        found.append(Relation(claim=said, under=under, verdicts=tuple(verdicts)))
    if not found:
        nothing = Verdict(at="every cloud", word=UNMEASURED, finding=f"{NO_FIGURES} any cloud")
        found = [Relation(claim=said, under="", verdicts=(nothing,))]
    return found


def within(rounds: Band, most: int) -> str:
    """The verdict on the claim that a number of rounds is at most `most`; a tie where the band holds it."""
    if rounds.low > most:
        return FAILS
    return HOLDS if rounds.high <= most else TIE


def _line(lines: list[Series], method: str) -> dict[int, Cell]:
    for line in lines:
        if line.method == method and line.epsilon == AT_EPSILON:
            return {int(size): cell for size, cell in line.cells.items()}
    return {}


def _rounds_verdict(at: str, ours: Cell, other: Cell | None) -> Verdict:
    beside = f"; {label('dp-fl')} {other.text() if other else 'not measured'}"
    if ours.not_reached and ours.allowed < MOST_ROUNDS:
        reason = f"{ours.not_reached} of {ours.runs} runs were allowed {ours.allowed} rounds, without success"
        return Verdict(at=at, word=UNMEASURED, finding=reason + beside)
    # A run that never gets there takes more rounds than its plan has: one more is the least it can be.
    missed, least = ours.runs - len(ours.reached), max(ours.planned, MOST_ROUNDS) + 1
    rounds = band([*ours.reached, *[float(least)] * missed])
    unreached = f", counted as {least} rounds" if missed else ""
    finding = f"ours {ours.text()}{unreached}{_of_one_seed(rounds)}{beside}"
    return Verdict(at=at, word=within(rounds, MOST_ROUNDS), finding=finding)


def _of_one_seed(value: Band) -> str:
    return " (one seed, no band)" if value.half_width is None else ""
