"""What a round costs: bytes and seconds by step, party and method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from components.evaluation.comparison_report.records import DataSet, method_order


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs of one round.

    Attributes:
        methods: that were measured.
        rows: (step, who), in the order in which steps run.
        cells: (seconds, bytes) by row and method; a method may lack steps.
        parameters: of the model, by method.
        sites: in the round, by method.
    """

    methods: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    cells: Mapping[tuple[str, str, str], tuple[float, int]]
    parameters: Mapping[str, int]
    sites: Mapping[str, int]

    def value(self, row: tuple[str, str], method: str, what: str | Literal["bytes", "seconds"]) -> float:
        """Bytes or seconds of a step; 0 where the method lacks it."""
        return self.cells.get((*row, method), (0.0, 0))[1 if what == "bytes" else 0]

    def total(self, method: str, what: str, who: str | None = None) -> float:
        """Over all steps, or over those of one party."""
        return sum(self.value(row, method, what) for row in self.rows if who is None or row[1] == who)

    @property
    def parties(self) -> tuple[str, ...]:
        """Who has a step, in the order of the first ones."""
        return tuple(dict.fromkeys(who for _, who in self.rows))


def costs(measured: DataSet) -> Costs:
    """The costs that were measured on a data set."""
    records = sorted(measured.of_kind("costs"), key=lambda record: method_order(record.method))
    cells: dict[tuple[str, str, str], tuple[float, int]] = {}
    rows: list[tuple[str, str]] = []
    for record in records:
        # A step that others lack stands behind the one that it follows.
        place = 0
        for step in record.outcome["steps"]:
            row = (str(step["step"]), str(step["who"]))
            if row not in rows:
                rows.insert(place, row)
            place = rows.index(row) + 1
    for record in records:
        for step in record.outcome["steps"]:
            key = (str(step["step"]), str(step["who"]), record.method)
            before = cells.get(key, (0.0, 0))
            cells[key] = (before[0] + float(step["seconds"]), before[1] + int(step["bytes"]))
    return Costs(
        methods=tuple(record.method for record in records),
        rows=tuple(rows),
        cells=cells,
        parameters={record.method: int(record.outcome["parameters"]) for record in records},
        sites={record.method: int(record.outcome["sites"]) for record in records},
    )
