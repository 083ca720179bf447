"""Constructed results of a comparison: every number is given here, nothing is measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from components.evaluation.comparison_report.records import DataSet, read_results

Records = list[dict[str, Any]]
LINES: tuple[tuple[str, float | None], ...] = (
    ("fedavg", None),
    ("smc-fl", None),
    ("he-fl", None),
    ("dp-fl", 4.0),
    ("ours", 4.0),
)
METHODS: tuple[tuple[str, float], ...] = (("fedavg", 0.3), ("smc-fl", 0.6), ("he-fl", 0.6))


def record(kind: str, outcome: dict[str, Any], **configuration: Any) -> dict[str, Any]:
    return {"configuration": {"kind": kind, **configuration}, "outcome": outcome, "seconds": 1.0}


def attempt(protection: float, attack: str = "canaries", view: str = "aggregator") -> dict[str, Any]:
    """An attempt whose cross-fitted advantage is 1 − protection, the same on both halves."""
    auc = 1 - protection / 2
    return {
        "attack": attack,
        "view": view,
        "variant": "all rounds alike",
        "auc_halves": [auc, auc],
        "members": 5000,
        "others": 5000,
    }


def protections(
    method: str, epsilon: float | None, values: Sequence[float], accuracy: float = 0.8, **extra: Any
) -> Records:
    """Protection records with the given example-level protection, of seeds 1, 2 and so on."""
    return [
        record(
            "protection",
            {"accuracy": accuracy, "curve": [accuracy], "attempts": [attempt(value)], **extra},
            method=method,
            epsilon=epsilon,
            seed=seed,
        )
        for seed, value in enumerate(values, 1)
    ]


def convergences(
    reached: Sequence[int | None], *, method: str = "ours", epsilon: float | None = 4.0, **changes: Any
) -> Records:
    """Convergence records with so many rounds to 85 % of seeds 1, 2 and so on; None where not reached."""
    configuration = {
        "figure": "hidden-units",
        "hidden_units": 32,
        "features": "language model",
        "concentration": 0.1,
        "learning_rate": 0.05,
        "rounds": 60,
    } | {key: value for key, value in changes.items() if key not in {"ended", "length", "planned"}}
    return [
        record(
            "convergence",
            {
                "curve": [0.5] * (found or changes.get("length", 40)),
                "rounds_planned": changes.get("planned", 40),
                "rounds_to_85": found,
                "rounds_to_95_of_central": None if found is None else found - 1,
                "seconds_to_85": None if found is None else 0.5 * found,
                "seconds_to_95_of_central": None if found is None else 0.5 * found - 0.5,
                "ended": changes.get("ended", "not reached") if found is None else "reached",
            },
            method=method,
            epsilon=epsilon,
            seed=seed,
            **configuration,
        )
        for seed, found in enumerate(reached, 1)
    ]


def migrations(clouds: Mapping[str, Sequence[tuple[float, float, float]]], late: str = "") -> Records:
    """Migration records: by cloud (before, local, adapted) of seeds 1, 2 and so on."""
    return [
        record(
            "migration",
            {
                "sites": [
                    {
                        "site": name,
                        "joined": "late" if name == late else "founder",
                        "rows": 100,
                        "test_rows": 50,
                        **dict(zip(("before", "local", "adapted"), values[seed - 1], strict=True)),
                    }
                    for name, values in clouds.items()
                ]
            },
            method="ours",
            epsilon=4.0,
            seed=seed,
        )
        for seed in range(1, 1 + len(next(iter(clouds.values()))))
    ]


def full() -> Records:
    """Records of every kind, with something that holds, a tie and something that does not."""
    made = [record("centralised", {"accuracy": 0.9, "epochs": 5}, seed=seed) for seed in (1, 2, 3)]
    made += [
        record(
            "choice",
            {"plan": {"rounds": 20, "learning_rate": 0.05}, "tried": [{"plan": {}, "accuracy": 0.8}] * 4},
            method="ours",
            epsilon=1.0,
        )
    ]
    extra = {"label_error": {"aggregator": 0.2, "guess": 0.5}, "reidentified": {"aggregator": 0.25}}
    for method, level in METHODS:
        made += protections(method, None, [level, level + 0.01, level - 0.01], 0.88, **extra)
    for spent in (0.5, 1.0, 2.0, 4.0, 8.0):
        level = 0.99 - 0.02 * spent
        made += protections("dp-fl", spent, [level, level + 0.01, level - 0.01], 0.6 + 0.03 * spent)
        made += protections("ours", spent, [level, level - 0.01, level + 0.01], 0.7 + 0.02 * spent)
    shared = {"by_seed": {"1": [attempt(0.9, "likelihood-ratio", "model")]}, "shadows": 16}
    made += [record("likelihood-ratio", shared | {"stands_for": ["ours"]}, method="ours", epsilon=8.0)]
    for features in ("language model", "words"):
        for concentration in (0.1, 0.5):
            for hidden in (32, 64, 128, 256, 512):
                for method, epsilon in (
                    *((name, None) for name, _ in METHODS),
                    ("dp-fl", 4.0),
                    ("ours", 4.0),
                ):
                    slow = (method == "dp-fl" and hidden < 64) or features == "words"
                    rounds: list[int | None] = [None, None, None] if slow else [9, 10, 11]
                    made += convergences(
                        rounds,
                        method=method,
                        epsilon=epsilon,
                        hidden_units=hidden,
                        features=features,
                        concentration=concentration,
                    )
    for rate in (0.001, 0.01, 0.1):
        where: dict[str, Any] = {"figure": "learning-rate", "hidden_units": 128, "learning_rate": rate}
        made += convergences([20, 21, None if rate < 0.01 else 25], **where)
        made += convergences(
            [None] * 3 if rate == 0.1 else [20, 30, 25],
            method="fedavg",
            epsilon=None,
            ended="diverged",
            **where,
        )
    for method, _ in METHODS:
        steps = [
            {"step": "train", "who": "site", "seconds": 0.2, "bytes": 0},
            {"step": "seal", "who": "site", "seconds": 0.01, "bytes": 240_000},
            {"step": "aggregate", "who": "aggregator", "seconds": 0.002, "bytes": 120_000},
        ]
        made += [record("costs", {"parameters": 29_645, "sites": 4, "steps": steps}, method=method)]
    founders: dict[str, Sequence[tuple[float, float, float]]] = {
        f"cloud-{rank}": [(0.85, 0.7, 0.87), (0.86, 0.71, 0.88), (0.84, 0.7, 0.865)] for rank in (1, 2, 3)
    }
    late: Sequence[tuple[float, float, float]] = [(0.4, 0.6, 0.7), (0.41, 0.6, 0.73), (0.38, 0.62, 0.72)]
    return made + migrations({**founders, "cloud-5": late}, late="cloud-5")


def document(**data_sets: Records) -> dict[str, Any]:
    return {
        "format": 1,
        "datasets": {
            name: {
                "about": {"name": name, "train_rows": 8000, "classes": 77, "sites": 4, "concentration": 0.1},
                "machine": {"processor": "a processor", "cores": 2, "memory_gib": 24.0},
                "versions": {"crosscloud": "0.3.0", "numpy": "2.4.6"},
                "command": f"make compare DATA={name}",
                "quick": False,
                "seeds": [1, 2, 3],
                "seconds": 1800.0,
                "figure_seconds": {"protection": 2000.0},
                "measured_at": "2026-11-28T22:00:00Z",
                "records": records,
            }
            for name, records in data_sets.items()
        },
    }


class Results:
    """Makes results for a test."""

    record = staticmethod(record)
    attempt = staticmethod(attempt)
    protections = staticmethod(protections)
    convergences = staticmethod(convergences)
    migrations = staticmethod(migrations)
    full = staticmethod(full)
    document = staticmethod(document)

    def __init__(self, folder: Path) -> None:
        self.path = folder / "results.json"

    def write(self, **data_sets: Records) -> Path:
        """Writes `results.json` about data sets, by name."""
        self.path.write_text(json.dumps(document(**data_sets)))
        return self.path

    def data_set(self, records: Records) -> DataSet:
        """The data set that the records are read as."""
        return read_results(self.write(sample=records))[0]


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path)
