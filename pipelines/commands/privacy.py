"""`crosscloud privacy`: what was spent of the sites' privacy budgets, and what is left."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

from components.errors import UsageError
from pipelines.commands.arguments import FederationFile, load, print_rows

_MONTHS = (
    "spent and left are the running month's; months add up: ever is what all of them cost together, and has "
    "no end while rounds go on"
)


def privacy(federation: FederationFile) -> None:
    """Print the sites' privacy ledgers: releases, epsilon spent and left, rounds that remain."""
    from components.agreement.charter_book import charter_in_force
    from pipelines.privacy_standing import standings

    chosen = load(federation)
    charter = charter_in_force(chosen.keys_uri)
    if charter.privacy is None:
        raise UsageError(
            f"the charter of {chosen.federation} has no differential privacy, its algorithm is "
            f"{charter.algorithm}: there is nothing to account for; method 'ours' has it"
        )
    found = standings(chosen, charter, now=datetime.now(UTC))
    terms = charter.privacy
    span = f"over rounds {terms.first_round} to {terms.last_round}"
    if terms.per == "month":
        span = f"in every calendar month (UTC) of {len(terms.noise_multipliers)} rounds"
    typer.echo(
        f"schedule: epsilon {terms.target_epsilon:g} at delta {terms.delta:g} {span}, noise multiplier "
        f"{min(terms.noise_multipliers):.4g}, of one {terms.protected}"
    )
    if terms.per == "month":
        typer.echo(_MONTHS)
    if not found:
        raise UsageError("no site's policy lies on this machine: each site asks its own ledger")
    rows = [
        (
            each.site,
            each.policy.dataset,
            each.policy.unit,
            each.statement.period,
            str(each.statement.entries),
            f"{each.statement.epsilon_spent:.4g}",
            f"{each.statement.epsilon_left:.4g} of {each.policy.epsilon:g}",
            f"{each.policy.delta:g}",
            f"{each.statement.epsilon_ever:.4g}",
            str(each.rounds_left),
        )
        for each in found
    ]
    spent = ("releases", "spent", "left", "at delta", "ever", "rounds left")
    print_rows(rows, ("site", "dataset", "unit", "period", *spent))
