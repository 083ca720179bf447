"""`crosscloud run`: compile, then run the compiled pipeline on this machine, one run per round."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape

from components import errors
from components.agreement.charter_book import charter_in_force
from components.artifacts.stores import Store, crosscloud_home, local_path, open_store
from components.errors import CrosscloudError, UsageError
from components.rounds.state import committed_rounds, round_key
from pipelines.chartering import ensure_charter
from pipelines.compile import compile_round
from pipelines.console import (
    RoundFigures,
    RoundView,
    closing_table,
    print_left_out,
    round_figures,
)
from pipelines.federation import Federation
from pipelines.local import ENCODER_MODULES, WARM_MODULES, LocalRunner, RunOutcome
from pipelines.privacy_standing import require_rounds
from pipelines.readiness import check_ready
from pipelines.taking_back import rounds_taken_back

MENDABLE = ("bad_data", "bad_encoder", "unreachable", "refused")


class RunFailureError(CrosscloudError):
    """A round that failed, with the exit code that its cause asks for."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def run_federation(
    federation: Federation, *, rounds: int, arguments: Mapping[str, Any], warm: bool, console: Console
) -> list[RoundFigures]:
    """Runs rounds one after another, resuming after the last committed one.

    Args:
        federation: to be run.
        rounds: how many; finishing an interrupted round counts as one.
        arguments: run parameters that differ from the file's.
        warm: whether steps run in forks of a warm interpreter.
        console: for the person at the terminal.

    Raises:
        CrosscloudError: something is not in order, or a round failed.
    """
    check_ready(federation)
    charter = ensure_charter(federation)
    require_rounds(federation, charter, rounds, now=datetime.now(UTC))
    make_sample_data(federation, console)
    folder = _run_folder(federation)
    spec = compile_round(federation, folder / "round.yaml")
    titles = _titles(spec)
    state = open_store(federation.state_uri)
    done: list[RoundFigures] = []
    console.print(
        f"[bold]{escape(federation.title)}[/]  {federation.method}, {len(federation.sites)} sites",
        highlight=False,
    )
    # Features are computed in the first round as a rule, and found in later ones.
    modules = WARM_MODULES if committed_rounds(state) else (*WARM_MODULES, *ENCODER_MODULES)
    log = folder / "log.txt"
    with LocalRunner(home=crosscloud_home(), log_path=log, warm=warm, modules=modules) as runner:
        for number in range(1, rounds + 1):
            began = datetime.now(UTC)
            with RoundView(console, titles) as view:
                outcome = runner.run(
                    spec, arguments, pipeline_root=folder / f"run-{number}", on_event=view.on_event
                )
            _print_notes(console, federation, began)
            if not outcome.succeeded:
                if done:
                    console.print(closing_table(done))
                raise _failure(outcome, log)
            done.append(_figures(state, outcome))
            console.print(
                f"[bold green]round {done[-1].round_number} committed[/] in {outcome.seconds:.1f} s",
                highlight=False,
            )
    console.print()
    console.print(closing_table(done))
    print_left_out(console, done)
    return done


def make_sample_data(federation: Federation, console: Console) -> None:
    """Makes the sample warehouses before the first round, where none of them is there."""
    if federation.sample_data is None or committed_rounds(open_store(federation.state_uri)):
        return
    warehouses = {site.name: local_path(site.data.uri) for site in federation.sites}
    if any(path.exists() for path in warehouses.values()):
        return
    from pipelines.quickstart.hospitals import build

    with console.status("making the sample warehouses: real diagnoses, synthetic patients"):
        build(warehouses)


def newest_report(federation: Federation) -> Path:
    """The page of the newest round that stands and has a report, as a local file.

    Raises:
        UsageError: no round has been finished yet.
    """
    state = open_store(federation.state_uri)
    committed = committed_rounds(state)
    undone = rounds_taken_back(federation, charter_in_force(federation.keys_uri)) if committed else set()
    standing = [number for number in committed if number not in undone]
    finished = [number for number in standing if state.exists(round_key(number, "report.html"))]
    if not finished:
        raise UsageError(f"{federation.federation} has no finished round yet: run one with 'crosscloud run'")
    key = round_key(finished[-1], "report.html")
    if "://" not in federation.state_uri:
        return local_path(federation.state_uri) / key
    target = crosscloud_home() / federation.federation / "reports" / f"{finished[-1]:05d}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(state.read(key))
    return target


def _run_folder(federation: Federation) -> Path:
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    folder = crosscloud_home() / federation.federation / "runs" / name
    folder.mkdir(parents=True, mode=0o700)
    return folder


def _titles(spec: Path) -> list[str]:
    document = next(yaml.load_all(spec.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    return [task["taskInfo"]["name"] for task in document["root"]["dag"]["tasks"].values()]


def _figures(state: Store, outcome: RunOutcome) -> RoundFigures:
    number = int(outcome.parameters["open round"]["round_number"])
    return round_figures(json.loads(state.read(round_key(number, "report.json"))), outcome.seconds)


def _print_notes(console: Console, federation: Federation, since: datetime) -> None:
    """What the sites' own people would read in their stores, for the person who is all of them."""
    for site in federation.sites:
        if "://" in site.store_uri:
            continue
        store = open_store(site.store_uri)
        for key in store.keys("notes"):
            if key.partition("/")[2] >= f"{since:%Y%m%dT%H%M%S.%f}":
                note = json.loads(store.read(key))
                text = " ".join(note["message"].split())[:300]
                console.print(
                    f"  [yellow]{site.name}[/] {note['step']}: {escape(text)}",
                    highlight=False,
                    soft_wrap=True,
                )


def _failure(outcome: RunOutcome, log: Path) -> RunFailureError:
    kind = getattr(errors, outcome.error_type, None) if outcome.error_type else None
    code = kind.exit_code if isinstance(kind, type) and issubclass(kind, CrosscloudError) else 1
    reasons = [
        str(parameters["reason"]) for parameters in outcome.parameters.values() if parameters.get("reason")
    ]
    mendable = reasons and all(reason.startswith(MENDABLE) for reason in reasons)
    # Once the roster is called nothing has to be mended: the next run goes on by itself.
    called = outcome.parameters.get("roster", {}).get("roster")
    if kind is errors.QuorumNotReachedError and mendable and not called:
        code = UsageError.exit_code
    return RunFailureError(f"{outcome.error} (log: {log})", code)
