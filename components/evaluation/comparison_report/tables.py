"""Every number behind the figures, as tables of text that any page can show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from components.evaluation.comparison_report import prose
from components.evaluation.comparison_report.bands import Band, band
from components.evaluation.comparison_report.convergence import (
    AXES,
    HIDDEN_UNITS,
    LEARNING_RATE,
    TARGETS,
    places_of,
    series,
    settings,
)
from components.evaluation.comparison_report.costs import costs
from components.evaluation.comparison_report.migration import clouds
from components.evaluation.comparison_report.protection import MEASURES, Protection
from components.evaluation.comparison_report.records import DataSet, label
from components.evaluation.comparison_report.wording import NONE, amount, in_band, number, seconds


@dataclass(frozen=True, kw_only=True)
class Table:
    """Text in rows; the first column heads its row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def effect(protection: Protection, measure: str, method: str, epsilon: float | None) -> Band | None:
    """Protection at a point over seeds; None without attempts."""
    values = list(protection.effects(measure, method, epsilon).values())
    return band(values) if values else None


def of_figure(measured: DataSet, figure: str) -> tuple[Table, ...]:
    """The tables of one of the five figures; none where there are no records."""
    return _TABLES[figure](measured)


def _protection(measured: DataSet) -> tuple[Table, ...]:
    protection = Protection(measured)
    if not protection.points:
        return ()
    made = [_accuracies(protection)]
    made += [_effects(protection, measure) for measure in MEASURES]
    made.append(_attacks(protection))
    for key, caption in (("label_error", prose.LABEL_ERROR), ("reidentified", prose.REIDENTIFIED)):
        made += _by_view(measured, protection, key, caption)
    return tuple(made)


def _accuracies(protection: Protection) -> Table:
    rows = []
    for method, epsilon in protection.points:
        records = protection.measured.of_kind("protection", method=method, epsilon=epsilon)
        accuracy = band([float(record.outcome["accuracy"]) for record in records])
        relative = list(protection.relative_accuracy(method, epsilon).values())
        rows.append((label(method, epsilon), in_band(accuracy), _over(relative), str(accuracy.count)))
    central = f" Centralised: {in_band(protection.centralised)}." if protection.centralised else ""
    return Table(
        caption=f"Accuracy on the test rows.{central}",
        columns=("method", "accuracy", "relative to centralised", "seeds"),
        rows=tuple(rows),
    )


def _effects(protection: Protection, measure: str) -> Table:
    rows = []
    for method, epsilon in protection.points:
        found = effect(protection, measure, method, epsilon)
        best = protection.strongest_at(measure, method, epsilon)
        rows.append(
            (
                label(method, epsilon),
                in_band(found) if found else NONE,
                _over(list(protection.products(measure, method, epsilon).values())),
                f"{best.attack}: {best.variant}" if best else NONE,
                best.view if best else NONE,
                in_band(best.auc) if best else NONE,
            )
        )
    return Table(
        caption=f"Protection under {measure}, with the attack whose AUC is farthest from ½.",
        columns=(
            "method",
            "protection",
            "× relative accuracy",
            "strongest attack",
            "its view",
            "its AUC",
        ),
        rows=tuple(rows),
    )


def _attacks(protection: Protection) -> Table:
    """For each point, attack and view the variant that did best."""
    points = protection.points
    kinds = sorted({key[:2] for point in points for key in protection.aucs(*point)})
    rows = []
    for method, epsilon in points:
        aucs, scored = protection.aucs(method, epsilon), protection.scored(method, epsilon)
        for attack, view in kinds:
            found = [value for key, value in aucs.items() if key[:2] == (attack, view)]
            if found:
                best = max(found, key=lambda value: abs(value.mean - 0.5))
                members = f"{scored[attack]:,}"
                rows.append((label(method, epsilon), attack, view, in_band(best), members))
    return Table(
        caption="AUC of every attack and view: of its variants the one farthest from ½, which by itself "
        "overstates it a little.",
        columns=("method", "attack", "view", "AUC", "members a seed"),
        rows=tuple(rows),
    )


def _by_view(measured: DataSet, protection: Protection, key: str, caption: str) -> list[Table]:
    """A table of an outcome that is a number by view; none where no record has it."""
    by_point: dict[tuple[str, float | None], dict[str, list[float]]] = {}
    for record in measured.of_kind("protection"):
        for view, value in record.outcome.get(key, {}).items():
            by_point.setdefault((record.method, record.epsilon), {}).setdefault(view, []).append(float(value))
    views = sorted(
        {view for found in by_point.values() for view in found}, key=lambda view: (view == "guess", view)
    )
    rows = tuple(
        (label(*point), *(_over(by_point[point].get(view, [])) for view in views))
        for point in protection.points
        if point in by_point
    )
    return [Table(caption=caption, columns=("method", *views), rows=rows)] if rows else []


def _convergence(figure: str, measured: DataSet) -> tuple[Table, ...]:
    whats = ("rounds",) if figure == HIDDEN_UNITS else ("rounds", "seconds")
    found = settings(measured, figure)
    made = [_centralised(measured)] if found and figure == HIDDEN_UNITS else []
    for setting in found:
        for key, target in TARGETS.items():
            for what in whats:
                lines = series(measured, figure, setting, f"{what}_{key}")
                axis = places_of(lines)
                rows = tuple(
                    (
                        label(line.method, line.epsilon),
                        *(line.cells[place].text() if place in line.cells else NONE for place in axis),
                    )
                    for line in lines
                )
                name = "Rounds" if what == "rounds" else "Processor seconds"
                made.append(
                    Table(
                        caption=f"{name} to {target}, {setting.title}, by {AXES[figure].replace('_', ' ')}.",
                        columns=("method", *(f"{place:g}" for place in axis)),
                        rows=rows,
                    )
                )
    return tuple(made)


def _centralised(measured: DataSet) -> Table:
    """What 95 % is of."""
    found = Protection(measured).centralised_by_features
    return Table(
        caption="Accuracy of centralised training, by features.",
        columns=("features", "accuracy"),
        rows=tuple((features, in_band(value)) for features, value in found.items()),
    )


def _costs(measured: DataSet) -> tuple[Table, ...]:
    found = costs(measured)
    made = []
    for what, name, write in (("bytes", "Bytes sent", amount), ("seconds", "Seconds", seconds)):
        rows = [
            (
                f"{row[0]} ({row[1]})",
                *(
                    write(value) if (value := found.value(row, method, what)) else NONE
                    for method in found.methods
                ),
            )
            for row in found.rows
        ]
        rows += [
            (f"all steps ({who})", *(write(found.total(method, what, who)) for method in found.methods))
            for who in found.parties
        ]
        columns = ("step (party)", *(label(method) for method in found.methods))
        made.append(Table(caption=f"{name} by one party, by step.", columns=columns, rows=tuple(rows)))
    sizes = {(found.parameters[method], found.sites[method]) for method in found.methods}
    told = "; ".join(f"{parameters:,} parameters, {sites} sites" for parameters, sites in sorted(sizes))
    first = made[0]
    made[0] = Table(caption=f"{first.caption[:-1]} ({told}).", columns=first.columns, rows=first.rows)
    return tuple(made) if found.methods else ()


def _migration(measured: DataSet) -> tuple[Table, ...]:
    return tuple(
        Table(
            caption=f"Accuracy on each cloud, {label(*point)}; gains in points.",
            columns=("cloud", "joined", "common model", "local only", "adapted", "gain", "over the better"),
            rows=tuple(
                (
                    cloud.name,
                    "late" if cloud.late else "founder",
                    *(in_band(cloud.band(model)) for model in ("before", "local", "adapted")),
                    _points(list(cloud.gains.values())),
                    _points(list(cloud.leads.values())),
                )
                for cloud in sites
            ),
        )
        for point, sites in clouds(measured).items()
    )


def choices(measured: DataSet) -> Table | None:
    """The plan that each method was given, as chosen on validation rows."""
    rows = []
    heads = {"linear": "linear head", "deep": "hidden units"}
    for record in measured.of_kind("choice"):
        plan = {name: value for name, value in record.outcome["plan"].items() if name not in _SAID_ELSEWHERE}
        text = ", ".join(f"{name.replace('_', ' ')} {_plain(plan[name])}" for name in sorted(plan))
        purpose = str(record.configuration.get("purpose", ""))
        name = label(record.method, record.epsilon)
        rows.append((name, heads.get(purpose, purpose), text, str(len(record.outcome["tried"]))))
    if not rows:
        return None
    return Table(caption=prose.PLANS, columns=("method", "for", "plan", "tried"), rows=tuple(sorted(rows)))


def _over(values: list[float]) -> str:
    return in_band(band(values)) if values else NONE


def _unless_none(write: Callable[[float], str], value: float) -> str:
    return write(value) if value else NONE


def _points(values: list[float]) -> str:
    return in_band(band([100 * value for value in values]), 1, signed=True)


def _plain(value: object) -> str:
    return number(value, 4).rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


_SAID_ELSEWHERE: Final = frozenset({"method", "epsilon", "hidden_units"})
_TABLES: Final[dict[str, Callable[[DataSet], tuple[Table, ...]]]] = {
    "protection": _protection,
    HIDDEN_UNITS: lambda measured: _convergence(HIDDEN_UNITS, measured),
    LEARNING_RATE: lambda measured: _convergence(LEARNING_RATE, measured),
    "costs": _costs,
    "migration": _migration,
}
