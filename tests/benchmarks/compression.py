"""A public projection to half of the features, and a quarter: its cost in accuracy, the bytes it spares.

Writes build/bench/compression.json and prints tables. `ours` at four sites (Dirichlet 0.1, delta 1e-5) on
Banking77's features and on the same projected by the product's own code; the rounds are rehearsed with the
product's own modules. The directions are those of sentences in Python's manual, which have nothing to do with
questions to a bank; what other public texts and random directions do on validation rows stands beside it.

All sides follow the plan that `make compare` chose on validation rows for all features. A gradient is clipped
to one norm whatever the number of features, while logits grow with the norm √d of a row: the same way of
logits takes a rate that is √(d / d') times as large, and nothing else is changed. Noise alone moves one
accuracy by half a point to a point, so each deal is run with several draws of it. Bytes are what a site's
sealer really makes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import platform
import re
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from components.data_processing.feature_augmentation.projecting import principal_directions, projected
from components.evaluation.rehearsal.dealing import dealt, is_validation, taken
from components.evaluation.rehearsal.plans import DELTA, Plan, site_names
from components.evaluation.rehearsal.rounds import Rehearsal, accuracy
from components.training.features import Examples
from tests.benchmarks.banking77 import CONCENTRATION, ENCODER, VALIDATION, corpus, encoded

OUTPUT = Path("build/bench/compression.json")
CODE_LIST = Path("manifests/federations/icd-10-cm-texts.txt")
WORKERS = 2
SITES = 4
SEEDS = (1, 2, 3)
"""Of the deal."""
DRAWS = {"validation": 2, "test": 4}
"""Of the noise, in each deal."""
FULL = ENCODER.dimensions
WIDTHS = (FULL, FULL // 2, FULL // 4)
CHOSEN = {
    1.0: Plan(
        method="ours", epsilon=1.0, rounds=15, learning_rate=7.333, optimizer="sgd", start_fraction=0.3
    ),
    2.0: Plan(
        method="ours", epsilon=2.0, rounds=25, learning_rate=1.2015, optimizer="momentum", start_fraction=0.3
    ),
    4.0: Plan(method="ours", epsilon=4.0, rounds=40, learning_rate=1.9272, optimizer="momentum"),
}
"""By epsilon, as `make compare` chose them on Banking77's validation rows."""
PROMISED = 0.01
"""Accuracy that half the payload costs at most."""
SHORT, LONG, MANUAL = "code list", "4,000 codes", "Python's manual"
RANDOM, NONE = "random directions", "all features"
PUBLIC = MANUAL
"""Chosen on validation rows: sentences about anything serve better than a list of one kind."""
Row = dict[str, Any]
Features = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One schedule: on what, how, and which rows tell what has come of it."""

    epsilon: float
    dimensions: int
    public: str
    seed: int
    draw: int
    part: str

    @property
    def plan(self) -> Plan:
        """As chosen for all features, with a rate that is made to fit."""
        chosen = CHOSEN[self.epsilon]
        rate = chosen.learning_rate * (FULL / self.dimensions) ** 0.5
        return replace(chosen, learning_rate=rate)


def main() -> None:
    """Chooses on validation rows, measures on test rows, prints the tables."""
    started, console = time.monotonic(), Console()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    name = corpus().name  # the encoder runs here once and not in two processes
    for public in (SHORT, LONG, MANUAL):
        encoded(public_texts(public))
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        measure = partial(_measured, pool, console=console)
        found = measure([*_runs(WIDTHS, (PUBLIC,), "test")])
        tried = measure([*_runs((FULL, FULL // 2), (SHORT, LONG, MANUAL, RANDOM), "validation")])
    document = {
        "machine": {"processor": platform.processor() or platform.machine(), "workers": WORKERS},
        "dataset": name,
        "delta": DELTA,
        "sites": SITES,
        "deals": list(SEEDS),
        "draws_of_noise": DRAWS,
        "public_texts": PUBLIC,
        "public_texts_sha256": hashlib.sha256("\n".join(public_texts(PUBLIC)).encode()).hexdigest(),
        "sealed_bytes": {width: sealed_bytes(width) for width in WIDTHS},
        "results": [_row(found, epsilon, width) for epsilon, width in itertools.product(CHOSEN, WIDTHS)],
        "corpora": _corpora(tried),
        "measured": [*found, *tried],
        "seconds": round(time.monotonic() - started, 1),
    }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(document, indent=1))
    _print(document, console)


def measured(run: Run) -> float:
    """Accuracy of the last model on the rows that are asked for."""
    texts = corpus()
    train, test = (
        Examples(features=_narrow(each.features, run), labels=each.labels)
        for each in (texts.train, texts.test)
    )
    hands = dealt(train.labels, test.labels, sites=SITES, concentration=CONCENTRATION, seed=run.seed)
    held = np.zeros(len(train.labels), bool)
    if run.part == "validation":
        held = is_validation(len(train.labels), share=VALIDATION, seed=run.seed)
        test = taken(train, held)
    sites = {
        site: taken(train, own[~held[own]]) for site, (own, _) in zip(site_names(SITES), hands, strict=True)
    }
    seed = run.seed + 100 * run.draw
    *_, last = Rehearsal(run.plan, sites, classes=texts.classes, seed=seed).rounds()
    return accuracy(last.after, test)


def sealed_bytes(width: int) -> int:
    """What one site uploads of a gradient round, sealed for real."""
    texts = corpus()
    run = Run(epsilon=4.0, dimensions=width, public=PUBLIC, seed=1, draw=0, part="test")
    few = taken(texts.train, np.arange(SITES * 2))
    few = Examples(features=_narrow(few.features, run), labels=few.labels)
    sites = {site: taken(few, np.arange(2) + 2 * place) for place, site in enumerate(site_names(SITES))}
    rehearsal = Rehearsal(run.plan, sites, classes=texts.classes, seed=1)
    sizes = {len(blob) for blob in rehearsal.protected(rehearsal.round(1).vectors).sealed.values()}
    (size,) = sizes
    return size


def public_texts(name: str) -> list[str]:
    """Texts that anybody has."""
    if name == SHORT:
        return CODE_LIST.read_text(encoding="utf-8").splitlines()
    if name == LONG:
        from pipelines.quickstart.corpus import diagnoses

        return [each.diagnosis_text for each in diagnoses(rows_per_class=190, seed=2026)]
    from pydoc_data.topics import topics

    sentences = re.split(r"(?<=[.!?]) ", " ".join(" ".join(topics.values()).split()))
    return sorted({each for each in sentences if 20 < len(each) < 200})


@cache
def directions(name: str, dimensions: int) -> Features:
    """Rows of the projection."""
    if name == RANDOM:
        drawn = np.random.default_rng(2026).normal(size=(FULL, dimensions))
        return np.ascontiguousarray(np.linalg.qr(drawn)[0].T, np.float32)
    return principal_directions(encoded(public_texts(name)), dimensions)


def _narrow(features: Features, run: Run) -> Features:
    if run.dimensions == FULL:
        return features
    return projected(features, directions(run.public, run.dimensions))


def _runs(widths: Sequence[int], publics: Sequence[str], part: str) -> Iterator[Run]:
    """All features need no public texts: they are measured once."""
    for draw, epsilon, width, public in itertools.product(range(DRAWS[part]), CHOSEN, widths, publics):
        if width == FULL and public != publics[0]:
            continue
        name = NONE if width == FULL else public
        for seed in SEEDS:
            yield Run(epsilon=epsilon, dimensions=width, public=name, seed=seed, draw=draw, part=part)


def _measured(pool: ProcessPoolExecutor, runs: Sequence[Run], *, console: Console) -> list[Row]:
    rows: list[Row] = []
    for run, found in zip(runs, pool.map(measured, runs), strict=True):
        rows.append({**vars(run), "accuracy": found})
        told = f"epsilon {run.epsilon:g}, {run.dimensions} features, {run.public}: {found:.3f}"
        console.log(f"{run.part} {len(rows)} of {len(runs)}, {told}", highlight=False)
    return rows


def _mean(rows: Sequence[Row], **wanted: float | str) -> float:
    return statistics.fmean(
        row["accuracy"] for row in rows if all(row[name] == value for name, value in wanted.items())
    )


def _row(found: Sequence[Row], epsilon: float, width: int) -> Row:
    """Means of the deals, and how far the mean of all is likely to be off by the draw of noise."""
    rows = [row for row in found if (row["epsilon"], row["dimensions"]) == (epsilon, width)]
    deals = [[row["accuracy"] for row in rows if row["seed"] == seed] for seed in SEEDS]
    spread = statistics.fmean(statistics.variance(deal) for deal in deals) ** 0.5
    return {
        "epsilon": epsilon,
        "dimensions": width,
        "accuracy": statistics.fmean(map(statistics.fmean, deals)),
        "by_deal": [statistics.fmean(deal) for deal in deals],
        "standard_error": spread / len(rows) ** 0.5,
    }


def _corpora(tried: Sequence[Row]) -> list[Row]:
    return [
        {
            "public": public,
            "texts": len(public_texts(public)) if public in (SHORT, LONG, MANUAL) else None,
            "validation": {epsilon: _mean(tried, epsilon=epsilon, public=public) for epsilon in CHOSEN},
        }
        for public in (NONE, SHORT, LONG, MANUAL, RANDOM)
    ]


def _print(document: dict[str, Any], console: Console) -> None:
    results = {(row["epsilon"], row["dimensions"]): row for row in document["results"]}
    costs = {
        (epsilon, width): results[epsilon, FULL]["accuracy"] - results[epsilon, width]["accuracy"]
        for epsilon, width in results
    }
    table = Table("features", "sealed bytes", *(f"ε = {epsilon:g}" for epsilon in CHOSEN))
    for width in WIDTHS:
        shown = [
            f"{results[epsilon, width]['accuracy']:.4f} ± {results[epsilon, width]['standard_error']:.4f} "
            f"({-costs[epsilon, width]:+.4f})"
            for epsilon in CHOSEN
        ]
        table.add_row(str(width), f"{document['sealed_bytes'][width]:,}", *shown)
    console.print(
        f"test accuracy on {document['dataset']}, {len(SEEDS)} deals with {DRAWS['test']} draws of noise each"
    )
    console.print(table)
    others = Table(f"{FULL // 2} directions of", "texts", *(f"ε = {epsilon:g}" for epsilon in CHOSEN))
    for row in document["corpora"]:
        accuracies = (f"{row['validation'][epsilon]:.4f}" for epsilon in CHOSEN)
        others.add_row(row["public"], str(row["texts"] or "–"), *accuracies)
    console.print(f"accuracy on validation rows; {PUBLIC} gave the directions")
    console.print(others)
    cost = max(costs[epsilon, FULL // 2] for epsilon in CHOSEN)
    kept = "kept" if cost <= PROMISED else "NOT KEPT"
    console.print(f"half the features cost at most {PROMISED:g}: {kept}, {cost:+.4f} at worst")
    console.print(f"{document['seconds']} s, written to {OUTPUT}")


if __name__ == "__main__":
    main()
