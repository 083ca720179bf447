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
    TIE,
    UNMEASURED,
    Relation,
    Verdict,
    not_below,
)
from components.evaluation.comparison_report.wording import in_band, percent

HIDDEN_SIZES: Final = (32, 64, 128, 256, 512)
MOST_ROUNDS: Final = 15
TARGET: Final = 0.85
AT_EPSILON: Final = 4.0
CLAIMED: Final = Setting(features="language model", concentration=0.1)
MOST_LOST: Final = 0.01


def learning_relations(measured: DataSet) -> list[Relation]:
    """The claims about rounds and about adaptation."""
    return [rounds_relation(measured), migration_relation(measured)]


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
            verdicts.append(Verdict(at=at, word=UNMEASURED, finding="no figures of ours"))
        else:
            verdicts.append(_rounds_verdict(at, ours[size], other.get(size)))
    claim = f"ours reaches 85 % within {MOST_ROUNDS} rounds at ε = {AT_EPSILON:g} at every hidden size"
    return Relation(claim=claim, measure="", verdicts=tuple(verdicts))


def migration_relation(measured: DataSet) -> Relation:
    """Adapted is at least the better of before and local, less one point, on every cloud."""
    verdicts = []
    for (method, epsilon), sites in clouds(measured).items():
        for cloud in sites:
            lead = band(list(cloud.leads.values()))
            word = not_below(lead, -MOST_LOST)
            if word == UNMEASURED:
                word = HOLDS if lead.mean >= -MOST_LOST else FAILS
            at = f"{cloud.name} under {label(method, epsilon)}"
            finding = f"adapted less the better of before and local {in_band(lead, signed=True)}"
            verdicts.append(Verdict(at=at, word=word, finding=finding + _of_one_seed(lead)))
    if not verdicts:
        verdicts = [Verdict(at="every cloud", word=UNMEASURED, finding="no figures of any cloud")]
    claim = "an adapted model is no worse than the better of the common and a local one, to 1 point"
    return Relation(claim=claim, measure="", verdicts=tuple(verdicts))


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
    if ours.not_reached and ours.rounds < MOST_ROUNDS:
        reason = f"{ours.not_reached} of {ours.runs} runs ended after {ours.rounds} rounds without it"
        return Verdict(at=at, word=UNMEASURED, finding=reason + beside)
    # A run that never gets there takes more rounds than it was given: one more is the least it can be.
    missed, least = ours.runs - len(ours.reached), max(ours.rounds, MOST_ROUNDS) + 1
    rounds = band([*ours.reached, *[float(least)] * missed])
    unreached = f", counted as {least} rounds" if missed else ""
    finding = f"ours {ours.text()}{unreached}{_of_one_seed(rounds)}{beside}"
    return Verdict(at=at, word=within(rounds, MOST_ROUNDS), finding=finding)


def _of_one_seed(value: Band) -> str:
    return " (one seed, no band)" if value.half_width is None else ""
