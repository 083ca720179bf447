"""`crosscloud prune`: erases what nobody needs any more, each party its own."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.arguments import FederationFile, Owners, load, print_rows

if TYPE_CHECKING:
    from pipelines.retention.parties import Pruned

_MOST_DAYS = 36_500


def prune(
    federation: FederationFile,
    *,
    owners: Owners = None,
    older_than: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=_MOST_DAYS,
            metavar="DAYS",
            help="Since the round was committed; by default the file's section 'retention'.",
        ),
    ] = None,
    records_older_than: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=_MOST_DAYS,
            metavar="DAYS",
            help="Also a site's records of what has left it, and its notes; by default they stay for ever.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would go, and erase nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Erase what is not needed any more: a site in its own store, the coordinator in the exchange."""
    from pipelines.retention.parties import Pruning, prune, pruning_parties

    chosen = load(federation)
    pruning = Pruning(
        now=datetime.now(UTC),
        older_than=older_than,
        records_older_than=records_older_than,
        dry_run=dry_run,
    )
    done = []
    for party in pruning_parties(chosen, owners):
        done.append(prune(chosen, party, pruning))
        if not as_json:
            _print(done[-1], dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run, "parties": [asdict(each) for each in done]}, indent=2))


def _print(pruned: Pruned, *, dry_run: bool) -> None:
    objects, size = (
        sum(each.objects for each in pruned.erased),
        sum(each.size for each in pruned.erased),
    )
    verb = "would be erased" if dry_run else "erased"
    remark = f"; {pruned.remark}" if pruned.remark else ""
    typer.echo(f"{pruned.party}: {objects:,} objects, {size:,} bytes {verb}{remark}")
    if pruned.erased:
        print_rows(
            [(f"  {each.kind}", f"{each.objects:,}", f"{each.size:,} bytes") for each in pruned.erased]
        )
