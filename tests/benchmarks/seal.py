"""The seal against what the field ships, side by side: nine interleaved rounds, medians.

Writes build/bench/seal.json and prints a table. The baseline is NVFlare's shipped CKKS setting
(N = 8192, [60, 40, 40], scale 2^40, symmetric: one key for all clients, and the server divides).
Everything of ours is timed: fixed point, commitment, masks, encryption, digests, signatures,
releases, verification, the key holder's own addition, opening. Stores are memory on both sides, and
each method has a process of its own, as a step has. Both sides may use all processors: the baseline has
TenSEAL's threads, ours hashes beside what it does.

A client is one site; its sealing is timed once a round. The aggregator and the key holder work on
the sealed updates of all sites, made before the rounds. SCALE=1 adds 10^8 values, once.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.benchmarks.method_process import MethodProcess, Round, Times, timed
from tests.benchmarks.sealing_methods import METHODS

OUTPUT = Path("build/bench/seal.json")
BASELINE = "nvflare_ckks"
ROUNDS = 9
SIZES = (10_000, 1_000_000)
SITES = (3, 20)
SCALE = 100_000_000


def main() -> None:
    """Runs all cases, writes the document, prints the table."""
    console = Console()
    results: list[dict[str, Any]] = []
    for values in SIZES:
        for sites in SITES:
            with console.status(f"{values:,} values, {sites} sites"):
                results += _case(values, sites)
    document: dict[str, Any] = {
        "machine": {"processor": platform.processor() or platform.machine(), "processors": os.cpu_count()},
        "rounds": ROUNDS,
        "memcpy_bytes_per_second": _memcpy(),
        "results": results,
    }
    if os.environ.get("SCALE"):
        document["scale"] = _scale(results, console)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(document, indent=1))
    console.print(_table(results))
    if "scale" in document:
        console.print(json.dumps(document["scale"], indent=1))
    console.print(f"written to {OUTPUT}")


def _case(values: int, sites: int) -> list[dict[str, Any]]:
    """All methods on the same updates, round by round in turn, each in a process of its own."""
    methods = {name: MethodProcess(name, values, sites) for name in METHODS}
    rounds: dict[str, list[Round]] = {name: [] for name in methods}
    for _ in range(ROUNDS):
        for name, method in methods.items():
            rounds[name].append(method.round())
    for method in methods.values():
        method.close()
    times = {name: [each.times for each in done] for name, done in rounds.items()}
    return [
        {
            "method": name,
            "n": values,
            "sites": sites,
            **_ratios(times[BASELINE], times[name]),
            "bytes_per_value": method.sealed_bytes / values,
            "relative_error": rounds[name][-1].relative_error,
            "seconds": _medians(times[name]),
        }
        for name, method in methods.items()
    ]


def _ratios(baseline: list[Times], ours: list[Times]) -> dict[str, float]:
    """How many times faster than the baseline in the same round, median over the rounds."""
    return {
        f"{part}_ratio": statistics.median(
            getattr(before, part) / max(getattr(after, part), 1e-9)
            for before, after in zip(baseline, ours, strict=True)
        )
        for part in ("client", "aggregator", "total")
    }


def _medians(times: list[Times]) -> dict[str, float]:
    parts = ("client", "aggregator", "opening", "total")
    return {part: statistics.median(getattr(each, part) for each in times) for part in parts}


def _memcpy() -> float:
    source = np.ones(1 << 25, np.uint8)
    target = np.empty_like(source)
    seconds = [timed(lambda: np.copyto(target, source))[0] for _ in range(9)]
    return source.nbytes / statistics.median(seconds)


def _scale(results: list[dict[str, Any]], console: Console) -> dict[str, Any]:
    """10^8 values, three sites, one round; ratios are per value, against 10^6 values of the baseline."""
    baseline = next(
        row for row in results if (row["method"], row["n"], row["sites"]) == (BASELINE, 1_000_000, 3)
    )
    rows = [_scaled(name, baseline, console) for name in ("plain", "sealed", "masked")]
    return {
        "note": f"one round of {SCALE:,} values; ratios are per value against {BASELINE} at 1,000,000",
        "results": rows,
        "peak_memory_mb_beyond_the_update": {
            f"{name}, {sites} sites": _memory(name, sites, console)
            for name, sites in (("sealed", 3), ("masked", 5))
        },
    }


def _memory(protection: str, sites: int, console: Console) -> dict[str, float]:
    from tests.benchmarks.seal_memory import measure

    with (
        tempfile.TemporaryDirectory(dir=OUTPUT.parent) as home,
        console.status(f"{protection}: memory, from and to stores"),
    ):
        os.environ["CROSSCLOUD_HOME"] = home
        return measure(SCALE, protection, sites)


def _scaled(name: str, baseline: Mapping[str, Any], console: Console) -> dict[str, Any]:
    weights = np.array([500, 300, 200])
    method = METHODS[name](weights, SCALE)
    exact, clients, blobs = np.zeros(SCALE), [], []
    for site, weight in enumerate(weights):
        update = np.random.default_rng(site).normal(0, 0.02, SCALE)
        exact += update * (weight / weights.sum())
        blob = cast(BinaryIO, tempfile.TemporaryFile(dir=OUTPUT.parent))  # noqa: SIM115
        work = partial(method.client, site, update, blob)
        with console.status(f"{name}: site {site + 1} of 3"):
            clients.append(timed(work)[0])
        blobs.append(blob)
    total = cast(BinaryIO, tempfile.TemporaryFile(dir=OUTPUT.parent))  # noqa: SIM115
    for blob in blobs:
        blob.seek(0)
    aggregator, _ = timed(lambda: method.aggregator(blobs, total))
    size = blobs[0].tell()
    for each in (*blobs, total):
        each.seek(0)
    opening, opened = timed(lambda: method.opening(blobs, total))
    times = Times(client=statistics.median(clients), aggregator=aggregator, opening=opening)
    per_value = baseline["n"] / SCALE
    return {
        "method": name,
        "n": SCALE,
        "sites": 3,
        **{
            f"{part}_ratio": baseline["seconds"][part] / (getattr(times, part) * per_value)
            for part in ("client", "aggregator", "total")
        },
        "bytes_per_value": size / SCALE,
        "relative_error": float(np.abs(opened - exact).max() / np.abs(exact).max()),
        "seconds": _medians([times]),
    }


def _table(results: list[dict[str, Any]]) -> Table:
    table = Table(title=f"times faster than {BASELINE}, medians of {ROUNDS} interleaved rounds")
    for column in ("method", "values", "sites", "client", "aggregator", "whole path", "bytes", "error"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for row in results:
        table.add_row(
            row["method"],
            f"{row['n']:,}",
            str(row["sites"]),
            *(f"{row[f'{part}_ratio']:.2f}" for part in ("client", "aggregator", "total")),
            f"{row['bytes_per_value']:.2f}",
            f"{row['relative_error']:.1e}",
        )
    return table


if __name__ == "__main__":
    main()
