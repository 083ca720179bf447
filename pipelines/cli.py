"""The `crosscloud` command."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from components.errors import CrosscloudError, UsageError
from components.images import VERSION

app = typer.Typer(
    name="crosscloud",
    help="Federated learning across clouds, on data that never leaves the cloud it is in.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
keys_app = typer.Typer(no_args_is_help=True, help="The parties' keys.")
app.add_typer(keys_app, name="keys")

FederationFile = Annotated[Path, typer.Argument(metavar="FEDERATION.yaml", help="The federation file.")]
Method = Annotated[str | None, typer.Option(help="fedavg or he-fl, instead of the file's protection.")]


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

    chosen = _load(federation, method)
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
    console.print(f"report  {_relative(newest_report(chosen))}", highlight=False, soft_wrap=True)


@app.command("compile")
def compile_(
    federation: FederationFile,
    output: Annotated[Path, typer.Option(help="Folder for the spec.")] = Path("build"),
    method: Method = None,
) -> None:
    """Compile the federation to a Kubeflow pipeline spec."""
    from pipelines.compile import compile_round

    chosen = _load(federation, method)
    typer.echo(_relative(compile_round(chosen, output / f"{chosen.federation}-round.yaml")))


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

    path = newest_report(_load(federation, None))
    typer.echo(_relative(path))
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

    labeller = newest_labeller(_load(federation, None), site, use_global=use_global)
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


@keys_app.command("init")
def keys_init(federation: FederationFile) -> None:
    """Make the keys of a federation whose parties are all on this machine."""
    from components.encryption.keys import initialise_keys
    from components.encryption.protection import PROTECTIONS

    chosen = _load(federation, None)
    initialise_keys(chosen.federation, chosen.site_names, keys_uri=chosen.keys_uri, protections=PROTECTIONS)
    keys_show(federation)


@keys_app.command("show")
def keys_show(federation: FederationFile) -> None:
    """Print the public keys."""
    from components.agreement.parties import load_parties

    typer.echo(load_parties(_load(federation, None).keys_uri).to_yaml().decode(), nl=False)


def _load(path: Path, method: str | None):  # type: ignore[no-untyped-def]
    from pipelines.federation import load_federation

    federation = load_federation(path)
    return federation.with_method(method) if method else federation


def _read(path: Path | None) -> str:
    if path is None:
        return sys.stdin.read()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as UTF-8 text: {type(error).__name__}") from None


def _relative(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


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
