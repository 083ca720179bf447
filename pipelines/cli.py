"""The `crosscloud` command."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from components.errors import CrosscloudError, IntegrityError, UsageError
from components.images import VERSION
from pipelines.commands import (
    audit,
    charter,
    check,
    compare,
    doctor,
    explain,
    keys,
    prune,
    schedule,
    status,
    submit,
)
from pipelines.commands import privacy as privacy_command
from pipelines.commands.arguments import FederationFile, Method, load, relative

if TYPE_CHECKING:
    from pipelines.federation import Federation

app = typer.Typer(
    name="crosscloud",
    help="Federated learning across clouds, on data that never leaves the cloud it is in.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(keys.app, name="keys")
app.add_typer(charter.app, name="charter")
app.command()(privacy_command.privacy)
app.command()(explain.explain)
app.command()(prune.prune)
app.command()(doctor.doctor)
app.command()(check.check)
app.command()(compare.compare)
app.command()(audit.audit)
app.command()(submit.submit)
app.command()(schedule.schedule)
app.command()(status.status)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"crosscloud {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of every command."""
    if debug:
        os.environ["CROSSCLOUD_DEBUG"] = "1"


@app.command()
def run(
    federation: FederationFile,
    rounds: Annotated[
        int, typer.Option(min=1, help="Rounds to run; finishing an interrupted one counts.")
    ] = 1,
    method: Method = None,
    local_epochs: Annotated[int | None, typer.Option(min=1, help="Passes over a site's rows.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of the local steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Rows a step.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    warm: Annotated[bool, typer.Option(help="Run steps in forks of a warm interpreter.")] = True,
) -> None:
    """Compile the round and run it on this machine, resuming after the last committed round."""
    from pipelines.federation_run import newest_report, run_federation

    chosen = load(federation, method)
    arguments = {
        "local_epochs": local_epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "device": device,
    }
    console = Console()
    run_federation(
        chosen,
        rounds=rounds,
        arguments={name: value for name, value in arguments.items() if value is not None},
        warm=warm,
        console=console,
    )
    console.print(f"report  {relative(newest_report(chosen))}", highlight=False, soft_wrap=True)


@app.command("compile")
def compile_(
    federation: FederationFile,
    output: Annotated[Path, typer.Option(help="Folder for the spec.")] = Path("build"),
    method: Method = None,
    kubernetes_manifests: Annotated[
        bool,
        typer.Option(
            "--kubernetes-manifests", help="Write Pipeline and PipelineVersion objects too, for GitOps."
        ),
    ] = False,
    comparison: Annotated[
        bool, typer.Option("--comparison", help="The comparison of all methods in place of the round.")
    ] = False,
) -> None:
    """Compile the federation to a Kubeflow pipeline spec."""
    from pipelines.compile import compile_round

    if comparison:
        if method or kubernetes_manifests:
            raise UsageError("--comparison has all methods: leave --method and --kubernetes-manifests out")
        typer.echo(relative(_compile_comparison(load(federation), output)))
        return
    chosen = load(federation, method)
    spec = compile_round(chosen, output / f"{chosen.federation}-round.yaml")
    typer.echo(relative(spec))
    if kubernetes_manifests:
        from pipelines.kubernetes_manifests import compile_objects

        objects = output / f"{chosen.federation}-round-objects.yaml"
        typer.echo(relative(compile_objects(chosen, spec, objects)))


def _compile_comparison(federation: Federation, output: Path) -> Path:
    from components.evaluation.method_measurement.configurations import Scope
    from pipelines.compile import compile_comparison

    return compile_comparison(federation, Scope(), output / f"{federation.federation}-comparison.yaml")


@app.command()
def report(
    federation: FederationFile,
    browser: Annotated[
        bool, typer.Option(help="Open it in the browser; otherwise only its path is printed.")
    ] = True,
) -> None:
    """Open the newest report."""
    import webbrowser

    from pipelines.federation_run import newest_report

    path = newest_report(load(federation))
    typer.echo(relative(path))
    if browser and sys.stdout.isatty():
        webbrowser.open(path.as_uri())


@app.command()
def predict(
    federation: FederationFile,
    site: Annotated[str, typer.Option(help="Whose adapted model to use.")],
    texts: Annotated[
        Path | None, typer.Argument(metavar="[TEXTS]", help="One text a line; standard input by default.")
    ] = None,
    use_global: Annotated[bool, typer.Option("--global", help="Use the global model as it is.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Label texts with what was trained: label, probability and text, separated by tabs."""
    from pipelines.prediction import newest_labeller

    labeller = newest_labeller(load(federation), site, use_global=use_global)
    if not labeller.is_adapted and not use_global:
        typer.echo(
            f"{site} has not adapted the model of round {labeller.round_number}: the global one is used",
            err=True,
        )
    lines = [line.strip() for line in _read(texts).splitlines() if line.strip()]
    for each in labeller.label(lines) if lines else []:
        if as_json:
            typer.echo(json.dumps({"label": each.label, "probability": each.probability, "text": each.text}))
        else:
            typer.echo(f"{each.label}\t{each.probability:.3f}\t{each.text}")


@app.command()
def schema() -> None:
    """Print the JSON schema of the federation file, for editors."""
    from pipelines.federation import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command()
def verify(
    state: Annotated[str, typer.Argument(metavar="STATE_URI", help="Store of the committed rounds.")],
    keys_uri: Annotated[
        str, typer.Option("--keys", metavar="KEYS_URI", help="By default the folder 'keys' beside the state.")
    ] = "",
    pinned: Annotated[
        str, typer.Option("--charter", metavar="CD", help="Digest of the charter you have signed.")
    ] = "",
) -> None:
    """Check the whole chain of rounds offline: charter, tickets, rosters, receipts, models."""
    from components.rounds.verification import verify_state

    place = _place(state)
    parent, separator, _ = place.rpartition("/")
    found = verify_state(place, keys_uri=_place(keys_uri or f"{parent}{separator}keys"), charter=pinned)
    if found.problems:
        raise IntegrityError("\n".join(found.problems))
    if not found.rounds + found.voided:
        raise UsageError(f"no round has ended in {state}: name the state_uri of a federation that has run")
    compared = "" if pinned else ", which was compared with none that is pinned (--charter)"
    rounds = f"{found.rounds} round{'s' if found.rounds != 1 else ''} committed, {found.voided} void"
    model = found.newest_model or "(none)"
    typer.echo(f"in order: {rounds}, newest model {model}, under charter {found.charter}{compared}")


def _place(uri: str) -> str:
    """A store's address; one without a scheme is looked for below CROSSCLOUD_HOME, then from here.

    Raises:
        UsageError: there is no such folder.
    """
    from components.artifacts.stores import crosscloud_home, local_path

    bare = uri.rstrip("/")
    if "://" in bare:
        return bare
    here = Path(bare)
    if ".." not in here.parts and local_path(bare).is_dir():
        return bare
    if here.is_dir():
        return str(here.resolve())
    home = relative(crosscloud_home())
    raise UsageError(
        f"there is no folder {uri}, neither below {home} nor here: name a federation's state_uri"
    )


def _read(path: Path | None) -> str:
    if path is None:
        return sys.stdin.read()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as UTF-8 text: {type(error).__name__}") from None


def main() -> NoReturn:
    """Runs the command; an error on purpose is one line a problem, and its exit code."""
    try:
        app()
    except CrosscloudError as error:
        if os.environ.get("CROSSCLOUD_DEBUG"):
            raise
        for line in str(error).splitlines():
            typer.echo(f"crosscloud: {line}", err=True)
        sys.exit(getattr(error, "code", error.exit_code))
    sys.exit(0)
