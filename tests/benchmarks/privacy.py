"""Accuracy under differential privacy: one dose of noise in a sealed sum against a dose at every site.

Writes build/bench/privacy.json and prints tables. `ours` is `fedsgd` through the real mechanism: each
site's integers with its own share of exact discrete noise, added, decoded, and the product's server step.
`dp-fl` is DP-SGD at every site and an average in clear with equal weights. Both hold epsilon for every
example at delta = 1e-5 against everybody, and both are priced numerically: T Gaussian sums by privacy loss
distributions (the closed form gives the noise, the accountant its price), local DP-SGD by PRV.

`results` holds the settings in which t_sites = 1 site may collude. `no_loss_tolerated` holds the same rows
for t_sites = 0 and u_min = K, where a sum has the noise of a trusted centre. Sums always have all K sites
in them: more noise than the promise needs, as in a federation in which nobody is late. Everything is chosen
on validation rows; the test rows are for what is reported. QUICK=1: four sites, two epsilons, one seed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.benchmarks import privacy_measurements as work
from tests.benchmarks import privacy_tables as tables
from tests.benchmarks.banking77 import corpus
from tests.benchmarks.privacy_methods import DELTA
from tests.benchmarks.privacy_settings import (
    EPSILONS,
    GROUPS,
    HIDDEN_EPSILON,
    HIDDEN_SITES,
    HIDDEN_UNITS,
    NO_LOSS_GROUP,
    QUICK,
    SETTINGS,
)

OUTPUT = Path("build/bench/privacy.json")
WORKERS = 2


def main() -> None:
    """Works in two processes, writes what there is after every task, prints the tables."""
    started = time.monotonic()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    console = Console()
    corpus()  # the encoder runs here once and not in two processes
    context = multiprocessing.get_context("spawn")
    found: dict[bool, list[work.Outcome]] = {False: [], True: []}
    with ProcessPoolExecutor(WORKERS, mp_context=context, initializer=work.ready) as pool:
        asked = {pool.submit(task, *arguments): no_loss for no_loss, task, arguments in _tasks()}
        for done, task in enumerate(as_completed(asked), 1):
            outcome = task.result()
            found[asked[task]].append(outcome)
            document = _document(found, time.monotonic() - started, unfinished=len(asked) - done)
            OUTPUT.parent.mkdir(parents=True, exist_ok=True)
            OUTPUT.write_text(json.dumps(document, indent=1))
            console.log(f"{done} of {len(asked)}: {_line(outcome)}", highlight=False)
    _print(document, console)


def _tasks() -> Iterator[tuple[bool, Callable[..., work.Outcome], tuple[Any, ...]]]:
    """Whether no loss is tolerated, what to do, and with what."""
    deep = (SETTINGS[HIDDEN_SITES],)
    for epsilon in EPSILONS:
        for setting in reversed(SETTINGS.values()):
            yield False, work.rival, ((setting,), epsilon)
        for group in (*filter(None, GROUPS), NO_LOSS_GROUP):
            for task in (work.ours, work.gram, work.one_shot):
                yield group is NO_LOSS_GROUP, task, (group, epsilon)
    for hidden_units in reversed(HIDDEN_UNITS):
        for skip in (True, False):
            shape = work.Shape(hidden_units=hidden_units, skip=skip)
            yield False, work.ours_soonest, (deep, HIDDEN_EPSILON, shape)
    for shape in (work.LINEAR, *(work.Shape(hidden_units=each, skip=True) for each in HIDDEN_UNITS)):
        yield False, work.centre, (shape,)


def _document(found: dict[bool, list[work.Outcome]], seconds: float, *, unfinished: int) -> dict[str, Any]:
    rows, no_loss = ([row for outcome in found[each] for row in outcome.rows] for each in (False, True))
    return {
        "machine": {"processor": platform.processor() or platform.machine(), "workers": WORKERS},
        "quick": QUICK,
        "delta": DELTA,
        "results": rows,
        "no_loss_tolerated": no_loss,
        "promises": tables.all_promises(rows),
        "promises_no_loss_tolerated": tables.promises([*no_loss, *_beside(rows)]),
        "choices": [outcome.choice for outcome in (*found[False], *found[True])],
        "seconds": round(seconds, 1),
        "unfinished": unfinished,
    }


def _beside(rows: list[work.Row]) -> list[work.Row]:
    """The rivals do not depend on what a sum tolerates: they stand beside both."""
    return [row for row in rows if row["method"] in ("dp-fl", "centralised")]


def _print(document: dict[str, Any], console: Console) -> None:
    rows, no_loss = document["results"], document["no_loss_tolerated"]
    console.print(tables.accuracies(rows, "test accuracy, one site may collude"))
    beside = [*no_loss, *_beside(rows)]
    console.print(tables.accuracies(beside, "test accuracy, none colludes, no loss tolerated"))
    console.print(tables.rounds(rows))
    for promise in document["promises"]:
        console.print(tables.kept(promise))
    for promise in document["promises_no_loss_tolerated"]:
        console.print(f"no loss tolerated: {tables.kept(promise)}")
    console.print(f"{document['seconds']} s, written to {OUTPUT}")


def _line(outcome: work.Outcome) -> str:
    first = outcome.rows[0]
    measured = ", ".join(f"{row['sites']}: {row['accuracy']:.3f}" for row in outcome.rows)
    return f"{first['method']}, epsilon {first['epsilon']}, {measured}"


if __name__ == "__main__":
    main()
