"""`crosscloud status`: where a federation's rounds, budgets and schedule stand."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.commands.arguments import FederationFile, load, print_rows
from pipelines.console import percent
from pipelines.kubeflow import command_options as options

if TYPE_CHECKING:
    from pipelines.federation import Federation
    from pipelines.kubeflow.address import Address
    from pipelines.kubeflow.round_history import CommittedRound, History
    from pipelines.kubeflow.standing import Standing

_NO_ENDPOINT = "no endpoint was asked: name one with --endpoint or in KF_PIPELINES_ENDPOINT"


def status(
    federation: FederationFile,
    *,
    rounds: Annotated[int, typer.Option(min=1, help="Newest rounds to show.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    time_zone: options.TimeZone = "UTC",
    endpoint: options.EndpointUrl = "",
    namespace: options.Namespace = "",
    token_file: options.TokenFile = None,
    ca_file: options.CaFile = None,
) -> None:
    """Show rounds, participants, budgets, runs and the next round. Exits with 1 if a schedule fails."""
    from pipelines.kubeflow.address import find_address
    from pipelines.kubeflow.round_history import history

    chosen = load(federation)
    zone = options.zone(time_zone)
    now = datetime.now(UTC)
    address = find_address(endpoint=endpoint, token_file=token_file, ca_file=ca_file, namespace=namespace)
    past = history(chosen, most=rounds, now=now)
    if not as_json:
        _print_history(chosen, past)
    found = _asked(chosen, address, now, zone) if address else None
    if as_json:
        typer.echo(json.dumps(_document(chosen, past, address, found), indent=2, ensure_ascii=False))
    elif found is None or address is None:
        typer.echo(_NO_ENDPOINT)
    else:
        _print_standing(address, found)
    if found is not None and found.faults:
        raise typer.Exit(1)


def _asked(federation: Federation, address: Address, now: datetime, zone: tzinfo) -> Standing:
    connected = options.connected(address)
    from pipelines.kubeflow.standing import standing

    return standing(connected, federation, now=now, zone=zone)


def _print_history(federation: Federation, past: History) -> None:
    typer.echo(f"{federation.federation}: {federation.title}")
    if past.rounds:
        noised = any(each.epsilon_spent is not None for each in past.rounds)
        header = ("round", "committed", "sites", "accuracy", *(("ε spent", "ε left") if noised else ()))
        print_rows([_row(each, noised=noised) for each in past.rounds], header)
    for each in past.rounds:
        for site, reason in sorted(each.left_out.items()):
            typer.echo(f"round {each.round_number}: {site} left out: {reason}")
    if past.budgets:
        rows = [
            (each.site, f"{each.epsilon_spent:.4g}", f"{each.epsilon_left:.4g}", str(each.rounds_left))
            for each in past.budgets
        ]
        print_rows(rows, ("site", "ε spent", "ε left", "rounds left"))
    typer.echo(f"{past.committed} committed, next is round {past.next_round}")


def _row(each: CommittedRound, *, noised: bool) -> tuple[str, ...]:
    sites = f"{len(each.members)} of {len(each.members) + len(each.left_out)}"
    measured = "not finished" if not each.finished else "kept at the sites"
    accuracy = measured if each.accuracy is None else percent(each.accuracy, each.half_width)
    if each.taken_back:
        accuracy += ", taken back"
    figures = (each.epsilon_spent, each.epsilon_left) if noised else ()
    spent = tuple("" if figure is None else f"{figure:.2f}" for figure in figures)
    return (str(each.round_number), each.committed_at[:16].replace("T", " "), sites, accuracy, *spent)


def _print_standing(address: Address, found: Standing) -> None:
    typer.echo(f"endpoint  {address.url}")
    if found.schedule is None:
        typer.echo("schedule  none")
    else:
        state = "enabled" if found.schedule.enabled else "suspended"
        upcoming = f", next {found.next_at:%Y-%m-%d %H:%M:%S} UTC" if found.next_at else ""
        typer.echo(f"schedule  {found.schedule.cron}  {state}{upcoming}")
    rows = [
        (
            "run     ",
            f"{run.due_at:%Y-%m-%d %H:%M} UTC",
            run.state,
            "scheduled" if run.recurring_run_id else "submitted",
            address.run_page(run.run_id),
        )
        for run in found.runs
    ]
    if rows:
        print_rows(rows)
    for note in found.notes:
        typer.echo(f"note      {note}")
    for fault in found.faults:
        typer.echo(f"fault     {fault}")
    if not found.faults:
        typer.echo("in order")


def _document(
    federation: Federation, past: History, address: Address | None, found: Standing | None
) -> dict[str, Any]:
    """For programs; times are ISO 8601 in UTC."""
    told: dict[str, Any] = {"format": 1, "federation": federation.federation, **asdict(past)}
    told |= {"endpoint": address.url if address else None, "schedule": None, "next_at": None, "runs": None}
    told |= {"notes": [], "faults": [], "in_order": None}
    if address is None or found is None:
        return told
    if found.schedule is not None:
        told["schedule"] = {
            "recurring_run_id": found.schedule.recurring_run_id,
            "cron": found.schedule.cron,
            "enabled": found.schedule.enabled,
            "version_id": found.schedule.version_id,
        }
    return told | {
        "next_at": _time(found.next_at),
        "runs": [
            {
                "run_id": run.run_id,
                "state": run.state,
                "created_at": _time(run.created_at),
                "scheduled_at": _time(run.scheduled_at),
                "finished_at": _time(run.finished_at),
                "scheduled": bool(run.recurring_run_id),
                "error": run.error,
                "page": address.run_page(run.run_id),
            }
            for run in found.runs
        ],
        "notes": list(found.notes),
        "faults": list(found.faults),
        "in_order": not found.faults,
    }


def _time(value: datetime | None) -> str | None:
    return value.isoformat(timespec="seconds") if value else None
