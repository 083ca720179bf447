"""`crosscloud charter`: drafts, signs, shows and checks what the parties have agreed to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from components.errors import UsageError
from pipelines.commands.arguments import (
    FederationFile,
    Method,
    Owners,
    load,
    print_rows,
    relative,
)

if TYPE_CHECKING:
    from components.agreement.charter import Charter
    from pipelines.federation import Federation

app = typer.Typer(no_args_is_help=True, help="What all sites and the key holder have signed.")


@app.command("new")
def new(
    federation: FederationFile,
    take_back: Annotated[
        int | None,
        typer.Option("--take-back", metavar="ROUND", min=1, help="Take back this round and all after it."),
    ] = None,
    keep_rounds: Annotated[
        bool, typer.Option("--keep-rounds", help="Let rounds stand that the edition before would take back.")
    ] = False,
    method: Method = None,
) -> None:
    """Draft the next edition from the federation file and the parties' public keys."""
    from pipelines.charter_comparison import changes
    from pipelines.chartering import newest_edition, propose_charter
    from pipelines.taking_back import told

    chosen = load(federation, method)
    before = newest_edition(chosen)
    if take_back is not None and keep_rounds:
        raise UsageError("--take-back and --keep-rounds say opposite things: name one")
    charter = propose_charter(chosen, take_back=take_back, keep_rounds=keep_rounds)
    typer.echo(f"proposed edition {charter.edition} of the charter of {charter.federation}")
    typer.echo(f"cd  {charter.digest}")
    if before:
        typer.echo(f"against edition {before.edition}:")
        for line in [*changes(before, charter), *told(chosen, charter)]:
            typer.echo(f"  {line}")
    typer.echo(f"to be signed by {', '.join(charter.signers)}, each with its own keys:")
    typer.echo(f"  crosscloud charter sign {federation} --as {charter.signers[0]}")


@app.command("sign")
def sign(
    federation: FederationFile,
    owners: Owners = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="As every party: their keys are all on this machine.")
    ] = False,
    renew_policy: Annotated[
        bool, typer.Option("--renew-policy", help="Write the policy anew from the federation file.")
    ] = False,
    method: Method = None,
) -> None:
    """Sign the newest edition as one party, and pin it in that party's policy."""
    from components.agreement.private_keys import private_folder
    from components.agreement.site_policy import POLICY
    from pipelines.chartering import sign_charter, unsigned

    chosen = load(federation, method)
    charter = _edition(chosen, None, str(federation))
    signers = _signers(charter, owners, everybody=everybody)
    _require_agreement(chosen, charter, signers)
    _print_terms(chosen, charter)
    for signer in signers:
        sign_charter(chosen, charter, signer, renew_policy=renew_policy)
        path = relative(private_folder(chosen.keys_uri, signer) / POLICY)
        typer.echo(f"{signer} has signed; its policy is {path}")
    missing = unsigned(chosen, charter)
    state = f"waits for {', '.join(missing)}" if missing else "is in force"
    typer.echo(f"edition {charter.edition} {state}")


@app.command("show")
def show(
    federation: FederationFile,
    edition: Annotated[int | None, typer.Option(min=1, help="By default the newest.")] = None,
) -> None:
    """Print an edition: its terms, its parties, who has signed, and what changed."""
    from components.agreement.charter import COORDINATOR
    from pipelines.charter_comparison import changes
    from pipelines.chartering import unsigned
    from pipelines.keyring import charter_keys, edition_in_force, fingerprint
    from pipelines.taking_back import told

    chosen = load(federation)
    charter = _edition(chosen, edition, str(federation))
    missing = unsigned(chosen, charter)
    _print_terms(chosen, charter)
    rows = []
    for party in (COORDINATOR, *charter.signers):
        signing, agreement = charter_keys(charter, party)
        signature = "missing" if party in missing else "signed"
        if party == COORDINATOR:
            signature = "signs rounds, not charters"
        rows.append((party, fingerprint(signing), fingerprint(agreement), signature))
    print_rows(rows, ("party", "signing key", "agreement key", "signature"))
    typer.echo()
    if charter.edition > 1:
        typer.echo(f"against edition {charter.edition - 1}:")
        before = _edition(chosen, charter.edition - 1, str(federation))
        for line in [*changes(before, charter), *told(chosen, charter)[:1]]:
            typer.echo(f"  {line}")
    in_force = edition_in_force(chosen)
    typer.echo(
        f"in force: edition {in_force.edition}" if in_force else "in force: none yet, signatures are missing"
    )


@app.command("check")
def check(
    federation: FederationFile,
    site: Annotated[
        str | None, typer.Option("--as", metavar="SITE", help="Look at the policy of this party alone.")
    ] = None,
    method: Method = None,
) -> None:
    """Compare the federation file and the policies on this machine with the charter in force."""
    from pipelines.charter_check import charter_problems

    chosen = load(federation, method)
    charter = _edition(chosen, None, str(federation))
    problems = charter_problems(chosen, site or "")
    if problems:
        raise UsageError("\n".join(problems))
    typer.echo(
        f"edition {charter.edition} of the charter of {charter.federation} is in force, signed by "
        f"{', '.join(charter.signers)}; nothing differs from it"
    )


def _edition(federation: Federation, edition: int | None, file: str) -> Charter:
    from components.agreement.charter_book import editions, read_edition
    from components.artifacts.stores import open_store

    store = open_store(federation.keys_uri)
    proposed = editions(store)
    if not proposed:
        raise UsageError(
            f"{federation.federation} has no charter yet: draft one with 'crosscloud charter new {file}'"
        )
    if edition is not None and edition not in proposed:
        there = ", ".join(map(str, proposed))
        raise UsageError(f"there is no edition {edition} of the charter of {federation.federation}: {there}")
    return read_edition(store, edition or proposed[-1])


def _signers(charter: Charter, owners: list[str] | None, *, everybody: bool) -> tuple[str, ...]:
    if everybody == bool(owners):
        raise UsageError("name who signs with --as OWNER, or sign as every party with --all, not both")
    for owner in owners or ():
        if owner not in charter.signers:
            raise UsageError(f"{owner} does not sign charters: {', '.join(charter.signers)} do")
    return charter.signers if everybody else tuple(dict.fromkeys(owners or ()))


def _require_agreement(federation: Federation, charter: Charter, signers: tuple[str, ...]) -> None:
    """Nobody signs other terms than those of the file he works with, or a model that no round has made."""
    from pipelines.charter_comparison import disagreements
    from pipelines.taking_back import require_possible

    require_possible(federation, charter)

    found = disagreements(federation, charter)
    if found:
        raise UsageError(
            "\n".join(
                f"{signers[0]} does not sign: {name}: the federation file has {asked}, edition "
                f"{charter.edition} has {agreed}: change the file first if that is right"
                for name, asked, agreed in found
            )
        )


def _print_terms(federation: Federation, charter: Charter) -> None:
    from pipelines.charter_terms import explained
    from pipelines.taking_back import told

    typer.echo(f"edition {charter.edition} of the charter of {charter.federation}")
    typer.echo(f"cd  {charter.digest}")
    typer.echo()
    print_rows(explained(charter))
    typer.echo()
    lines = told(federation, charter)
    for line in lines:
        typer.echo(f"this edition {line}" if line == lines[0] else f"  {line}")
    if lines:
        typer.echo()
