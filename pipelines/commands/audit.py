"""`crosscloud audit`: lower bounds on epsilon from canaries, of the mechanism as it is and of broken ones."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from components.errors import UsageError
from pipelines.commands.arguments import FederationFile, load, print_rows, relative

if TYPE_CHECKING:
    from components.evaluation.audit.record import AuditRecord
    from components.evaluation.audit.site_work import Mechanism

_EPSILONS = "0.5,1,2,4,8"


def audit(
    federation: FederationFile,
    *,
    epsilons: Annotated[
        str, typer.Option(metavar="LIST", help="Target epsilons, separated by commas.")
    ] = _EPSILONS,
    runs: Annotated[int, typer.Option(help="Trainings at each epsilon, from 1.")] = 5,
    broken: Annotated[
        bool, typer.Option("--broken", help="Audit deliberately broken mechanisms too: they must be found.")
    ] = False,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="For audit.json.")] = Path("build/audit"),
    seed: Annotated[
        int | None, typer.Option(min=0, help="To repeat a run. Without it noise is the operating system's.")
    ] = None,
    results_page: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="Page whose part about this audit is written anew.")
    ] = None,
) -> None:
    """Audit the sealed mechanism by canaries. Exits with 1 if a bound contradicts the claim."""
    from components.evaluation.audit.auditing import Asking
    from components.evaluation.audit.auditing import audit as audit_mechanisms
    from pipelines.auditing import audited, keep, write

    chosen, asked = load(federation), _numbers(epsilons)
    if runs < 1:
        raise UsageError(f"--runs must be at least 1, got {runs}: an audit of no training says nothing")
    asking = Asking(
        federation=chosen.federation,
        at=lambda epsilon: audited(chosen, epsilon),
        epsilons=asked,
        runs=runs,
        broken=broken,
        seed=seed,
    )
    with Console(stderr=True).status("audit") as status:

        def on_run(mechanism: Mechanism, number: int) -> None:
            status.update(f"{mechanism.name}, ε {mechanism.epsilon:g}: run {number} of {mechanism.runs}")

        record = audit_mechanisms(asking, on_run=on_run)
    _tell(record)
    command = shlex.join(["crosscloud", *sys.argv[1:]])
    typer.echo(f"record  {relative(write(record, output, results_page, command).absolute())}")
    if seed is None and (kept := keep(record, chosen)):
        typer.echo(f"kept    {kept}")
    require_as_expected(record)


def _tell(record: AuditRecord) -> None:
    from components.evaluation.audit.results_section import HEADER, row

    print_rows([row(record, trial) for trial in record.trials], HEADER)
    for name, reason in record.skipped.items():
        typer.echo(f"{name}: not audited, {reason}")
    typer.echo(
        f"{record.canaries} canaries, {record.guesses} guessed; bounds hold with "
        f"{100 * record.confidence:g} % at delta {record.delta:g}"
    )


def require_as_expected(record: AuditRecord) -> None:
    """Passes an audit in which every trial came out as it must.

    Raises:
        typer.Exit: with 1, after a line for each that did not.
    """
    for trial in record.trials:
        if trial.as_expected:
            continue
        if trial.is_intact:
            bound = max(trial.together.largest, trial.alone.largest)
            text = (
                f"a lower bound of {bound:.2f} contradicts the claimed epsilon {trial.claimed:.2f}: "
                "the mechanism gives away more than its ledger says"
            )
        else:
            text = (
                f"{trial.mechanism} was not found with {record.canaries} canaries and {trial.runs} runs: "
                "this audit is too weak, and says little of the intact mechanism"
            )
        typer.echo(f"crosscloud: {text}", err=True)
    if not record.as_expected:
        raise typer.Exit(1)


def _numbers(text: str) -> tuple[float, ...]:
    """The epsilons of a list, each once, in its order.

    Raises:
        UsageError: one is no number above 0, or there is none.
    """
    found = dict.fromkeys(word.strip() for word in text.split(",") if word.strip())
    try:
        numbers = tuple(float(word) for word in found)
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise UsageError(
            f"--epsilons must be numbers above 0, separated by commas, got {text!r}: {_EPSILONS}"
        )
    return numbers
