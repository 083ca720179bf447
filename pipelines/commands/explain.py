"""`crosscloud explain`: for a site's officer, what has left the site and what it refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.commands.arguments import FederationFile, load, print_rows

if TYPE_CHECKING:
    from components.execution.departures import Departure
    from pipelines.explanation.account import SiteAccount
    from pipelines.explanation.comparison import Comparison
    from pipelines.federation import Federation

_MOST_OF_A_MESSAGE = 300


def explain(
    federation: FederationFile,
    site: Annotated[
        str, typer.Option("--as", metavar="SITE", help="Whose officer asks: its policy must be here.")
    ],
    round_number: Annotated[
        int | None, typer.Option("--round", min=1, help="Of this round alone; by default of all.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            help="Compare all of the site's records with the exchange; exits with 1 if they differ."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Print what has left a site, when and under which ticket, and every request that it refused."""
    from pipelines.explanation.account import site_account

    chosen = load(federation)
    account = site_account(chosen, site, now=datetime.now(UTC), round_number=round_number)
    found = _compared(chosen, account, site) if check else None
    if as_json:
        typer.echo(json.dumps(_document(account, found), indent=2, ensure_ascii=False))
    else:
        _print_departures(account)
        _print_notes(account)
        typer.echo(_cost(account))
        if found:
            _print_comparison(found)
    if found and found.differences:
        raise typer.Exit(1)


def _compared(federation: Federation, account: SiteAccount, site: str) -> Comparison:
    from components.artifacts.stores import open_store
    from pipelines.explanation.account import site_account
    from pipelines.explanation.comparison import compare

    whole = site_account(federation, site, now=datetime.now(UTC))
    return compare(whole, open_store(federation.exchange_uri), federation.keys_uri)


def _print_departures(account: SiteAccount) -> None:
    from pipelines.explanation.words import purpose, released_sums

    sums = released_sums(account.store, account.site)
    rows = [
        (
            each.time[:19].replace("T", " "),
            _attempt(each),
            each.occasion.ticket[:12] or "none verified",
            each.occasion.step,
            purpose(each, sums),
            "" if each.size is None else f"{each.size:,}",
            each.sha256[:12],
        )
        for each in account.departures
    ]
    typer.echo(f"{account.site}: {len(rows)} departures{', times in UTC' if rows else ''}")
    if rows:
        print_rows(rows, ("time", "round", "ticket", "step", "what has left", "bytes", "digest"))


def _attempt(departure: Departure) -> str:
    number, attempt = departure.occasion.round_number, departure.occasion.attempt
    return f"{number}/{attempt}" if number else "?"


def _print_notes(account: SiteAccount) -> None:
    typer.echo(f"refused, or come to nothing: {len(account.notes)}")
    rows = [
        (each.time[:19].replace("T", " "), each.step, each.ticket, each.reason, _short(each.message))
        for each in account.notes
    ]
    if rows:
        print_rows(rows, ("time", "step", "ticket as given", "reason that was told", "in full"))


def _short(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= _MOST_OF_A_MESSAGE else f"{line[: _MOST_OF_A_MESSAGE - 1]}…"


def _cost(account: SiteAccount) -> str:
    terms, statement = account.terms, account.statement
    if terms is None or statement is None:
        return "privacy: its policy sets no budget, nothing is charged"
    releases = f"{statement.entries} release{'s' if statement.entries != 1 else ''}"
    return (
        f"privacy: epsilon {statement.epsilon_spent:.4g} of {terms.epsilon:g} at delta {terms.delta:g} is "
        f"spent on {terms.protected} ({statement.period}), by {releases} of all federations that read it"
    )


def _print_comparison(found: Comparison) -> None:
    for line in found.differences:
        typer.echo(line)
    parts = [f"{found.same} objects of the exchange are as recorded"]
    parts += [f"{found.erased} were erased by the coordinator since"] * bool(found.erased)
    parts += [f"{found.notices} are notices of its agent, which keeps no records"] * bool(found.notices)
    typer.echo(f"{', '.join(parts)}, {len(found.differences)} differ")


def _document(account: SiteAccount, found: Comparison | None) -> dict[str, Any]:
    from pipelines.explanation.words import purpose, released_sums

    sums = released_sums(account.store, account.site)
    return {
        "site": account.site,
        "left": [asdict(each) | {"what": purpose(each, sums)} for each in account.departures],
        "refused": [asdict(each) for each in account.notes],
        "privacy": asdict(account.statement) if account.statement else None,
        "check": asdict(found) if found else None,
    }
