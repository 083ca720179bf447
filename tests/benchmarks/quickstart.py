"""The quick start without noise against the same head trained centrally on the pooled features.

Writes build/bench/quickstart.json and prints a table. Every choice of the central models (learning
rate, epochs, regularisation) is made on a validation split of the training rows by category, as the
test split is made, so that no validation row has a sibling in training. scikit-learn's logistic
regression stands beside them as a check that the central head is no straw man.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from components.training import heads
from components.training.features import Examples
from components.training.local_training.federated_averaging import local_update
from tests.benchmarks.process_memory import PeakMemory

FEDERATION = Path("manifests/federations/quickstart.yaml")
OUTPUT = Path("build/bench/quickstart.json")
METHOD = "sealed"
ROUNDS = 15
LEARNING_RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
REGULARISATIONS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
MAX_EPOCHS = 40


@dataclass(frozen=True, kw_only=True)
class Pool:
    """All sites' examples in one place, as no federation would have them."""

    fitting: Examples
    validation: Examples
    train: Examples
    test: Examples


def main() -> None:
    """Runs the federation, then the central models, and writes both."""
    home = Path("build/bench/quickstart-home").absolute()
    shutil.rmtree(home, ignore_errors=True)
    os.environ["CROSSCLOUD_HOME"] = str(home)
    console = Console()
    rounds, peak = _federated(console)
    pool = _pool(home)
    accuracy, learning_rate, epochs = _central(pool)
    regression, strength = _logistic_regression(pool)
    document = {
        "rounds": rounds,
        "centralised_accuracy": accuracy,
        "centralised": {"learning_rate": learning_rate, "epochs": epochs},
        "logistic_regression_accuracy": regression,
        "logistic_regression": {"C": strength},
        "peak_memory_mb": round(peak),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
    }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(document, indent=1))
    table = Table("model", "accuracy on all test rows", box=None)
    table.add_row(f"federated, round {ROUNDS}", f"{rounds[-1]['global_accuracy']:.4f}")
    table.add_row(f"federated, round {ROUNDS}, adapted", f"{rounds[-1]['adapted_accuracy']:.4f}")
    table.add_row(f"central, lr {learning_rate:g}, {epochs} epochs", f"{accuracy:.4f}")
    table.add_row(f"scikit-learn logistic regression, C {strength:g}", f"{regression:.4f}")
    console.print(table)
    first, later = rounds[0]["seconds"], _later(rounds)
    console.print(f"first round {first:.1f} s, later rounds {later:.1f} s (median), peak {peak:.0f} MB")


def _later(rounds: list[dict[str, float]]) -> float:
    return float(np.median([each["seconds"] for each in rounds[1:]]))


def _federated(console: Console) -> tuple[list[dict[str, float]], float]:
    from pipelines.federation import load_federation
    from pipelines.federation_run import run_federation

    federation = load_federation(FEDERATION).with_method(METHOD)
    with PeakMemory(os.getpid()) as memory:
        done = run_federation(federation, rounds=ROUNDS, arguments={}, warm=True, console=console)
    rounds = [
        {
            "round": each.round_number,
            "global_accuracy": each.accuracy or 0.0,
            "adapted_accuracy": each.adapted_accuracy or 0.0,
            "seconds": round(each.seconds, 2),
        }
        for each in done
    ]
    return rounds, memory.peak_mb


def _pool(home: Path) -> Pool:
    from components.artifacts.tensors import decode_any

    parts: dict[str, list[NDArray[np.generic]]] = {name: [] for name in ("x", "y", "test", "validation")}
    for store in sorted(home.glob("hospitals/sites/*/store")):
        (features,) = store.glob("features/*.safetensors")
        found = decode_any(features.read_bytes())
        parts["x"].append(found["features"])
        parts["y"].append(found["labels"])
        parts["test"].append(found["is_test"].astype(bool))
        parts["validation"].append(_validation_rows(store))
    x, y = np.concatenate(parts["x"]).astype(np.float32), np.concatenate(parts["y"]).astype(np.int64)
    test = np.concatenate(parts["test"]).astype(bool)
    validation = np.concatenate(parts["validation"]).astype(bool) & ~test

    def rows(chosen: NDArray[np.bool_]) -> Examples:
        return Examples(features=x[chosen], labels=y[chosen])

    return Pool(
        fitting=rows(~test & ~validation), validation=rows(validation), train=rows(~test), test=rows(test)
    )


def _validation_rows(store: Path) -> NDArray[np.bool_]:
    """Rows, in the order of the features, whose category has a second fingerprint below 20 %."""
    import duckdb

    from components.data_processing.fingerprint import farm_fingerprint
    from components.data_processing.record_ingestion.row_shards import from_parquet

    (rows,) = store.glob("rows/*.parquet")
    table = from_parquet(rows.read_bytes())
    with duckdb.connect(str(store.parent / "warehouse.duckdb"), read_only=True) as connection:
        found = connection.execute("SELECT diagnosis_text, chapter, icd_category FROM encounters").fetchall()
    category = {(text, chapter): group for text, chapter, group in found}
    keys = zip(table.column("diagnosis_text").to_pylist(), table.column("label").to_pylist(), strict=True)
    return np.array([farm_fingerprint(f"validation {category[key]}") % 1000 < 200 for key in keys])


def _central(pool: Pool) -> tuple[float, float, int]:
    """Test accuracy of SGD on the pooled rows at the learning rate and epoch best on validation."""
    best = (0.0, 0.0, 0)
    for learning_rate in LEARNING_RATES:
        for epoch, model in enumerate(_epochs(pool.fitting, learning_rate, MAX_EPOCHS), start=1):
            best = max(best, (_accuracy(model, pool.validation), learning_rate, epoch))
    _, learning_rate, epochs = best
    *_, model = _epochs(pool.train, learning_rate, epochs)
    return _accuracy(model, pool.test), learning_rate, epochs


def _epochs(examples: Examples, learning_rate: float, epochs: int) -> list[heads.Head]:
    model = heads.initial(examples.features.shape[1], 0, int(examples.labels.max()) + 1, 0)
    models = []
    for epoch in range(epochs):
        update = local_update(
            model,
            examples,
            local_epochs=1,
            learning_rate=learning_rate,
            batch_size=64,
            seed=epoch,
            device="cpu",
        )
        model = {name: (model[name] + update[name]).astype(np.float32) for name in model}
        models.append(model)
    return models


def _logistic_regression(pool: Pool) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression

    def fitted(examples: Examples, strength: float) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=500).fit(examples.features, examples.labels)

    _, strength = max(
        (fitted(pool.fitting, each).score(pool.validation.features, pool.validation.labels), each)
        for each in REGULARISATIONS
    )
    return float(fitted(pool.train, strength).score(pool.test.features, pool.test.labels)), strength


def _accuracy(model: heads.Head, examples: Examples) -> float:
    return float((heads.logits(model, examples.features).argmax(axis=1) == examples.labels).mean())


if __name__ == "__main__":
    main()
