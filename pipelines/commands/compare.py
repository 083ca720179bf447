"""`crosscloud compare`: the paper's method and its rivals on the same data, with what attacks learn of it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from components.errors import SiteError, UsageError
from pipelines.commands.arguments import FederationFile, load, relative

SEEDS, QUICK_SEEDS = 3, 1
SITES = 4


def compare(
    federation: FederationFile,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder with train.csv and test.csv (text, category) in place of the file's sample data.",
        ),
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="For results, figures and report.")] = Path(
        "build/compare"
    ),
    figures: Annotated[str, typer.Option(metavar="LIST", help="Only these, separated by commas.")] = "",
    methods: Annotated[str, typer.Option(metavar="LIST", help="Only these, separated by commas.")] = "",
    seeds: Annotated[
        int | None, typer.Option(min=1, help=f"Repetitions: {SEEDS} by default, {QUICK_SEEDS} if quick.")
    ] = None,
    sites: Annotated[int, typer.Option(help="Among which the rows are dealt.")] = SITES,
    quick: Annotated[
        bool, typer.Option("--quick", help="Every method, attack and figure, with few rows and rounds.")
    ] = False,
    cores: Annotated[
        int | None, typer.Option(min=1, help="Configurations at once; all cores by default.")
    ] = None,
    results_page: Annotated[
        Path | None,
        typer.Option(metavar="FILE.md", help="Page that is written anew from the results, as RESULTS.md."),
    ] = None,
) -> None:
    """Compare all methods: protection, rounds, costs, adaptation. Goes on where it was ended."""
    from components.agreement.methods import COMPARED
    from components.evaluation.measurement_records.machine import usable_cores
    from components.evaluation.method_measurement.configurations import FIGURES, Scope
    from pipelines.baseline_comparison.comparing import Order
    from pipelines.baseline_comparison.comparing import compare as compare_methods

    scope = Scope(
        figures=_listed(figures, FIGURES),
        methods=_listed(methods, COMPARED),
        seeds=tuple(range(1, (seeds or (QUICK_SEEDS if quick else SEEDS)) + 1)),
        quick=quick,
        sites=sites,
    )
    order = Order(
        federation=load(federation),
        data=data,
        output=output,
        scope=scope,
        cores=cores or usable_cores(),
        results_page=results_page,
        command=shlex.join(["crosscloud", *sys.argv[1:]]),
    )
    try:
        done = compare_methods(order, Console())
    except SiteError as error:
        # The rows here are not a site's own: whoever typed the command can mend them.
        raise UsageError(str(error)) from None
    typer.echo(f"results  {relative(done.results.absolute())}")
    typer.echo(f"report   {relative(done.report.page.absolute())}")
    if done.report.results_page is not None:
        typer.echo(f"page     {relative(done.report.results_page.absolute())}")
    if done.failures:
        shown = len(done.failures)
        typer.echo(
            f"crosscloud: {shown} configuration{'s' if shown != 1 else ''} failed, the first: "
            f"{done.failures[0]}; type the same command again to try what failed",
            err=True,
        )
        raise typer.Exit(1)


def _listed(text: str, every: tuple[str, ...]) -> tuple[str, ...]:
    """The words of a list, each once, in the order of `every`; all of those for an empty list."""
    words = dict.fromkeys(word.strip() for word in text.split(",") if word.strip())
    return tuple(sorted(words, key=lambda word: every.index(word) if word in every else -1)) or every
