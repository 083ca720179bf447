"""Moving the common model to each cloud: how it does there before and after, and how a local one does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from components.evaluation.comparison_report.bands import Band, band
from components.evaluation.comparison_report.records import DataSet, method_order

LATE: Final = "late"
MODELS: Final = ("before", "local", "adapted")


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """One cloud's figures under one method, by seed.

    Attributes:
        name: of its site.
        late: it joined after training, with shifted data.
        accuracies: by model, one of `MODELS`, and seed.
    """

    name: str
    late: bool
    accuracies: dict[str, dict[int, float]]

    def band(self, model: str) -> Band:
        """Accuracy of a model over seeds."""
        return band(list(self.accuracies[model].values()))

    @property
    def gains(self) -> dict[int, float]:
        """Adapted less before, by seed."""
        return {
            seed: self.accuracies["adapted"][seed] - before
            for seed, before in self.accuracies["before"].items()
        }

    @property
    def leads(self) -> dict[int, float]:
        """Adapted less the better of before and local, by seed; negative where moving in costs."""
        best = {
            seed: max(before, self.accuracies["local"][seed])
            for seed, before in self.accuracies["before"].items()
        }
        return {seed: self.accuracies["adapted"][seed] - value for seed, value in best.items()}


def clouds(measured: DataSet) -> dict[tuple[str, float | None], list[Cloud]]:
    """Clouds by (method, ε), founders first."""
    grouped: dict[tuple[str, float | None], dict[tuple[bool, str], dict[str, dict[int, float]]]] = {}
    for record in measured.of_kind("migration"):
        sites = grouped.setdefault((record.method, record.epsilon), {})
        for site in record.outcome["sites"]:
            key = (site["joined"] == LATE, str(site["site"]))
            by_model = sites.setdefault(key, {model: {} for model in MODELS})
            for model in MODELS:
                by_model[model][record.seed] = float(site[model])
    order = sorted(grouped, key=lambda point: (method_order(point[0]), point[1] or 0.0))
    return {
        point: [
            Cloud(name=name, late=late, accuracies=accuracies)
            for (late, name), accuracies in sorted(grouped[point].items())
        ]
        for point in order
    }
