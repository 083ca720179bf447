"""`crosscloud compare`: every configuration of a comparison on this machine, then its figures and report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from components.artifacts.stores import open_store
from components.evaluation.comparison_report.reporting import ComparisonReport, write_comparison
from components.evaluation.corpus_preparation.texts import Texts, read_texts
from components.evaluation.measurement_records.kept_outcomes import KeptOutcomes, Record, code_digest
from components.evaluation.measurement_records.results_document import (
    About,
    measured_dataset,
    merged,
    read_document,
    write_document,
)
from components.evaluation.method_measurement.configurations import (
    CONCENTRATIONS,
    Scope,
    cost_of,
    figures_of,
    stages,
)
from pipelines.baseline_comparison.corpus_file import corpus_bytes, corpus_path, found_or_made
from pipelines.baseline_comparison.federation_texts import federation_texts
from pipelines.baseline_comparison.pool import Configuration, Finished, Pool
from pipelines.baseline_comparison.room import OUTCOME_BYTES, REPORT_BYTES, require_room, telling_no_room
from pipelines.baseline_comparison.view import MeasuringView, budget_table, describe
from pipelines.baseline_comparison.wall_time import WallTime
from pipelines.federation import Federation
from pipelines.readiness import encoder_spec

RESULTS = "results.json"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked for.

    Attributes:
        federation: whose language model, and without `data` whose sample data.
        data: folder with train.csv and test.csv.
        output: folder of `results.json`, the report and what is kept to go on from.
        scope: figures, methods, seeds and sites.
        cores: configurations that are measured at once.
        results_page: Markdown page that is written anew; None for none.
        command: that asks for the same.
    """

    federation: Federation
    data: Path | None
    output: Path
    scope: Scope
    cores: int
    results_page: Path | None
    command: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What has come of it.

    Attributes:
        results: `results.json`.
        report: what was written of it.
        failures: configurations that failed, with their causes; the report is then without them, and no
            results page is written.
    """

    results: Path
    report: ComparisonReport
    failures: tuple[str, ...]


def compare(order: Order, console: Console) -> Comparison:
    """Measures what is not measured yet, and writes `results.json`, figures and report.

    Raises:
        UsageError: the data set cannot be used, or there is no room.
        SiteError: the data set breaks its contract, or the language model cannot be used.
        StoreError: an outcome cannot be read or written.
    """
    if order.federation.compression is not None:
        width = order.federation.encoder.dimensions
        console.print(
            f"compression: methods are compared without it, on all {width} features", highlight=False
        )
    texts = _texts(order, console)
    with telling_no_room(order.output):
        return _Comparing(order, texts, console).run()


def serves(configuration: Mapping[str, Any], scope: Scope) -> str:
    """The figure that a configuration's time is counted under: the first of a scope that needs it."""
    figures = figures_of(dict(configuration))
    return next((figure for figure in figures if figure in scope.figures), figures[0])


def _texts(order: Order, console: Console) -> Texts:
    if order.data is None:
        texts = federation_texts(order.federation, console)
    else:
        texts = read_texts(str(order.data.resolve()))
    return texts.quick() if order.scope.quick else texts


class _Comparing:
    """One start of a comparison."""

    def __init__(self, order: Order, texts: Texts, console: Console) -> None:
        self._order, self._texts, self._console = order, texts, console
        self._folder = (order.output / texts.name).absolute()
        self._stages = stages(order.scope)
        self._failures: list[str] = []

    def run(self) -> Comparison:
        order, texts, console, began = self._order, self._texts, self._console, time.monotonic()
        encoder = encoder_spec(order.federation)
        path = corpus_path(self._folder, texts, encoder)
        number = sum(map(len, self._stages))
        corpus_room = 0 if path.exists() else corpus_bytes(texts, encoder)
        require_room(order.output, corpus_room + number * OUTCOME_BYTES + REPORT_BYTES)
        known = read_document(order.output / RESULTS)
        corpus = found_or_made(path, texts, encoder, device="auto", console=console)
        kept = KeptOutcomes(open_store(str(self._folder)), corpus.digest)
        wall_time = WallTime(self._folder / "starts", f"{code_digest()[:8]}{corpus.digest[:8]}", began=began)
        records = self._measured(kept, path, wall_time)
        about = About.of(
            corpus,
            sites=order.scope.sites,
            concentration=CONCENTRATIONS[0],
            language_model=encoder.name,
        )
        entry = measured_dataset(
            about,
            records,
            corpus_digest=corpus.digest,
            command=order.command,
            quick=order.scope.quick,
            seeds=order.scope.seeds,
            seconds=wall_time.total(),
            serves=lambda configuration: serves(configuration, order.scope),
            now=datetime.now(UTC),
        )
        results = order.output / RESULTS
        write_document(results, merged(known, texts.name, entry))
        page = None if self._failures else order.results_page
        with console.status("figures and report"):
            report = write_comparison(results, output=order.output, results_page=page)
        return Comparison(results=results, report=report, failures=tuple(self._failures))

    def _measured(self, kept: KeptOutcomes, corpus: Path, wall_time: WallTime) -> list[Record]:
        """Records of all stages, in their order; what failed is left out."""
        found = [[kept.find(configuration) for configuration in stage] for stage in self._stages]
        missing = [
            [configuration for configuration, record in zip(stage, records, strict=True) if record is None]
            for stage, records in zip(self._stages, found, strict=True)
        ]
        self._tell_budget(missing)
        costs = [cost_of(configuration) for stage in missing for configuration in stage]
        number = sum(map(len, self._stages))
        view = MeasuringView(
            self._console, total=number, done=number - len(costs), costs=costs, cores=self._order.cores
        )

        def on_finished(finished: Finished) -> None:
            wall_time.keep()
            if finished.error:
                self._failures.append(f"{describe(finished.configuration)}: {finished.error}")
            view.on_finished(finished, cost_of(finished.configuration))

        pool = Pool(corpus=corpus, kept=kept, cores=self._order.cores, log=self._folder / "log.txt")
        earlier: list[Record] = []
        with view, pool:
            for stage, wanted in zip(self._stages, missing, strict=True):
                pool.measure_all(wanted, earlier, on_finished=on_finished)
                earlier += [record for each in stage if (record := kept.find(each)) is not None]
        return earlier

    def _tell_budget(self, missing: list[list[Configuration]]) -> None:
        scope, waiting = self._order.scope, [each for stage in missing for each in stage]
        rows = []
        for figure in scope.figures:
            every = [each for stage in self._stages for each in stage if serves(each, scope) == figure]
            left = [each for each in waiting if serves(each, scope) == figure]
            seconds = sum(map(cost_of, left)) / self._order.cores
            rows.append((figure, len(every), len(every) - len(left), seconds))
        texts = self._texts
        self._console.print(
            f"[bold]{texts.name}[/]  {len(texts.train):,} training rows, {len(texts.test):,} test rows, "
            f"{len(texts.classes)} classes, {scope.sites} sites, {self._order.cores} at once",
            highlight=False,
        )
        self._console.print(budget_table(rows))
