"""`crosscloud keys`: makes, replaces, rotates, shows and checks the parties' keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.errors import UsageError
from pipelines.commands.arguments import FederationFile, Owners, load, print_rows, relative

if TYPE_CHECKING:
    from components.agreement.charter import Charter
    from components.agreement.key_certificate import KeyCertificate
    from pipelines.federation import Federation

app = typer.Typer(no_args_is_help=True, help="The parties' keys.")


@app.command("init")
def init(federation: FederationFile, owners: Owners = None) -> None:
    """Make private keys on this machine and offer their public halves for the next charter."""
    from components.agreement.charter import KEY_HOLDER
    from components.agreement.private_keys import SIGNING_KEY, private_folder
    from components.encryption.keys import initialise_keys
    from pipelines.encryption_key import make_wrapping_key
    from pipelines.keyring import chosen_parties, first_encryption_key

    chosen = load(federation)
    parties = chosen_parties(chosen, owners)
    folders = {owner: private_folder(chosen.keys_uri, owner) for owner in parties}
    kept = {owner for owner in parties if (folders[owner] / SIGNING_KEY).is_file()}
    initialise_keys(chosen.federation, parties, keys_uri=chosen.keys_uri)
    rows = [(owner, "kept" if owner in kept else "made", relative(folders[owner])) for owner in parties]
    print_rows(rows, ("owner", "keys", "private keys lie in"))
    if KEY_HOLDER in parties:
        _warn_of_development(chosen)
        if wrapping := make_wrapping_key(chosen):
            typer.echo(wrapping)
        if made := first_encryption_key(chosen):
            typer.echo(_certified(made))
    typer.echo(_next_after_init(chosen, str(federation)))


@app.command("rotate")
def rotate(
    federation: FederationFile,
    first_round: Annotated[
        int | None, typer.Option(min=1, help="First round of the new key; by default the first it can serve.")
    ] = None,
) -> None:
    """Make the key holder's next encryption key and certify it."""
    from pipelines.keyring import rotate_key

    chosen = load(federation)
    _warn_of_development(chosen)
    typer.echo(_certified(rotate_key(chosen, first_round=first_round)))


@app.command("wrap")
def wrap(
    federation: FederationFile,
    before: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="OLD.yaml",
            help="The provider.yaml until now; without it, keys that lie in the clear are moved.",
        ),
    ] = None,
) -> None:
    """Move the key holder's secret keys under the provider that its provider.yaml names."""
    from pipelines.encryption_key import wrap_keys

    chosen = load(federation)
    moves = wrap_keys(chosen, before=before)
    _warn_of_development(chosen)
    if not moves:
        typer.echo("there are no secret keys here to move")
        return
    rows = [(move.file, "moved" if move.moved else "kept", relative(Path(move.place))) for move in moves]
    print_rows(rows, ("secret key", "done", "lies in"))


@app.command("replace")
def replace(
    federation: FederationFile,
    owner: Annotated[str, typer.Option("--as", metavar="OWNER", help="A site, coordinator or key-holder.")],
) -> None:
    """Make new keys for a party whose keys are lost, stolen or due, and offer them for the next charter."""
    from components.agreement.private_keys import private_folder
    from components.encryption.keys import replace_keys
    from pipelines.keyring import chosen_parties

    chosen = load(federation)
    chosen_parties(chosen, [owner])
    number, aside = replace_keys(chosen.federation, owner, keys_uri=chosen.keys_uri)
    folder = relative(private_folder(chosen.keys_uri, owner))
    typer.echo(f"{owner} has new keys in {folder} and offers them on card {number}")
    if aside:
        typer.echo(f"set aside in {folder}: {', '.join(aside)}; needed until the next edition is in force")
    typer.echo(f"next: crosscloud charter new {federation}, which all sign; until then the old keys count")


@app.command("show")
def show(federation: FederationFile) -> None:
    """Print the fingerprints of public keys, and which encryption key serves from which round on."""
    from pipelines.keyring import edition_in_force, offered_card, parties

    chosen = load(federation)
    charter = edition_in_force(chosen)
    cards = {owner: offered_card(chosen, owner) for owner in parties(chosen)}
    if charter is None and not any(cards.values()):
        raise UsageError(
            f"there are no public keys at {chosen.keys_uri}: make them with "
            f"'crosscloud keys init {federation}'"
        )
    print_rows(_party_rows(chosen, charter), ("owner", "signing key", "agreement key", "named by"))
    if charter is None:
        typer.echo("no charter is in force: these are the keys that the parties offer for the first")
        return
    _print_certificates(chosen, charter)


@app.command("check")
def check(federation: FederationFile, owners: Owners = None) -> None:
    """Check that private keys are there, private, and those that the charter names."""
    from components.agreement.charter import KEY_HOLDER
    from pipelines.keyring import chosen_parties, key_problems

    chosen = load(federation)
    parties = chosen_parties(chosen, owners)
    if KEY_HOLDER in parties:
        _warn_of_development(chosen)
    found = key_problems(chosen, parties)
    for line in found.soon:
        typer.echo(f"crosscloud: {line}", err=True)
    if found.wrong:
        raise UsageError("\n".join(found.wrong))
    typer.echo(f"the keys of {', '.join(parties)} are in order")


def _warn_of_development(federation: Federation) -> None:
    """One line on standard error where whoever reads the key holder's files has its secret keys."""
    from components.encryption.secret_keys.key_store import DEVELOPMENT
    from pipelines.encryption_key import keeps_for_development

    if keeps_for_development(federation):
        typer.echo(f"crosscloud: key-holder: {DEVELOPMENT}", err=True)


def _certified(key: KeyCertificate) -> str:
    serves = f"serves from round {key.first_round} on, public context {key.context[:16]}"
    return f"encryption key {key.number} for protection {key.protection} {serves}"


def _next_after_init(federation: Federation, file: str) -> str:
    from pipelines.chartering import newest_edition
    from pipelines.keyring import edition_in_force, offered_card, parties

    missing = [owner for owner in parties(federation) if offered_card(federation, owner) is None]
    if missing:
        return f"no keys yet of {', '.join(missing)}: crosscloud keys init {file} --as {missing[0]}"
    if newest_edition(federation) is None:
        return f"next: crosscloud charter new {file}"
    if edition_in_force(federation) is None:
        return f"next: crosscloud charter sign {file} --as …"
    return f"next: crosscloud keys check {file}"


def _party_rows(federation: Federation, charter: Charter | None) -> list[tuple[str, str, str, str]]:
    from pipelines.keyring import charter_keys, fingerprint, offered_card, parties

    owners = list(parties(federation))
    owners += [site for site in charter.site_names if site not in owners] if charter else []
    rows: list[tuple[str, str, str, str]] = []
    for owner in owners:
        named = charter_keys(charter, owner) if charter else ("", "")
        card = offered_card(federation, owner)
        offered = (card.signing, card.agreement) if card else ("", "")
        if charter and named[0]:
            source = f"edition {charter.edition} of the charter"
            source += "; its card offers others" if card and offered != named else ""
        else:
            named, source = offered, "its card" if card else "nobody"
        rows.append((owner, fingerprint(named[0]), fingerprint(named[1]), source))
    return rows


def _print_certificates(federation: Federation, charter: Charter) -> None:
    from components.agreement.key_certificate import certified_keys
    from components.artifacts.stores import open_store

    keys = open_store(federation.keys_uri).keys("certificates")
    rows: list[tuple[str, ...]] = []
    for protection in sorted({key.split("/")[1] for key in keys}):
        chain = [each.certificate for each in certified_keys(federation.keys_uri, charter, protection)]
        for certificate, follower in zip(chain, [*chain[1:], None], strict=True):
            last = certificate.first_round + charter.rotation_rounds
            last = min(last, follower.first_round if follower else last) - 1
            rounds = (str(certificate.first_round), str(last))
            rows.append((str(certificate.number), protection, *rounds, certificate.context[:16]))
    if rows:
        typer.echo()
        print_rows(rows, ("encryption key", "protection", "from round", "to round", "public context"))
