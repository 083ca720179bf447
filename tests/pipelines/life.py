"""A federation that lives through everything once: what tests of its events start from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter import Charter
from components.agreement.charter_book import charter_in_force, editions, read_edition
from components.agreement.ticket import Ticket, read_ticket
from components.agreement.workplace import Workplace
from components.artifacts.stores import open_store
from components.rounds.state import RoundRecord, records
from components.rounds.verification import verify_state
from tests.conftest import SmallFederation, write_warehouse
from tests.pipelines.command_line import Say
from tests.pipelines.round_in_process import RoundInProcess

KEYS, STATE, EXCHANGE = "small/keys", "small/state", "small/exchange"


def live(made: SmallFederation, say: Say, keep: Callable[[str, SmallFederation], None]) -> None:
    """Runs through all events by the commands that people type, with one round after each.

    `keep` is given the federation after each round, as `joined`, and before it, as `agreed: joined`.
    """
    RoundInProcess(made).finish()
    keep("founded", made)

    add_site(made, "delta", rows=45)
    typed(say, "keys", "init", made, "--as", "delta")
    agree(made, say)
    keep("agreed: joined", made)
    RoundInProcess(made).finish()
    keep("joined", made)

    typed(say, "keys", "replace", made, "--as", "beta")
    # Steps go on with the old keys until the edition is in force, which ends the attempt that is open then.
    interrupted = RoundInProcess(made)
    interrupted.learn()
    interrupted.call()
    keep("interrupted", made)
    agree(made, say)
    keep("agreed: replaced", made)
    RoundInProcess(made).finish()
    keep("replaced", made)

    agree(made, say, "--take-back", "3")
    keep("agreed: taken back", made)
    RoundInProcess(made).finish()
    keep("taken back", made)

    made.document["sites"] = [site for site in made.document["sites"] if site["name"] != "gamma"]
    made.save()
    agree(made, say)
    keep("agreed: left", made)
    RoundInProcess(made).finish()
    keep("left", made)


def add_site(made: SmallFederation, name: str, *, rows: int) -> None:
    """One site more in the file, with records of its own."""
    site: dict[str, Any] = dict(made.site("gamma"))
    site |= {"name": name, "cloud": name, "store_uri": f"small/sites/{name}/store"}
    site["data"] = site["data"] | {"uri": f"small/sites/{name}/warehouse.duckdb"}
    made.document["sites"].append(site)
    made.save()
    if rows:
        write_warehouse(made.warehouse(name), rows, seed=9)


def agree(made: SmallFederation, say: Say, *options: str) -> None:
    """A new edition, signed by all."""
    typed(say, "charter", "new", made, *options)
    typed(say, "charter", "sign", made, "--all")


def typed(say: Say, group: str, command: str, made: SmallFederation, *options: str) -> list[str]:
    """What a command that succeeded printed; what steps told of their progress before it is passed over."""
    said = say(group, command, made.path, *options)
    wrong = [line for line in said.err.splitlines() if not line.startswith("crosscloud-progress: ")]
    assert (said.code, wrong) == (0, [])
    return said.out.splitlines()


def committed_records() -> list[RoundRecord]:
    """Of the federation in CROSSCLOUD_HOME."""
    return records(open_store(STATE), KEYS, charter_in_force(KEYS))


def private(made: SmallFederation, owner: str, name: str) -> Path:
    """A file in a party's private folder."""
    return made.home / KEYS / owner / name


def problems(charter: str = "") -> tuple[str, ...]:
    """What `verify` finds."""
    return verify_state(STATE, keys_uri=KEYS, charter=charter).problems


def ticket_of(number: int, attempt: int = 1) -> Ticket:
    """The ticket of an attempt, verified under the edition it names."""
    keys, exchange = open_store(KEYS), open_store(EXCHANGE)
    document = exchange.read(f"rounds/{number:05d}-{attempt}/ticket.json")
    named = json.loads(document)["body"]["charter"]
    charters = (read_edition(keys, number) for number in editions(keys))
    return read_ticket(document, next(each for each in charters if each.digest == named))


def ask(ticket: Ticket, key: Ed25519PrivateKey, name: str = "offer.json") -> str:
    """Publishes a ticket that somebody has signed; its reference."""
    open_store(EXCHANGE).create(name, ticket.signed(key))
    return f"{EXCHANGE}/{name}"


def at_work(site: str, ticket: str) -> Workplace:
    """A site under a ticket that somebody has handed it."""
    store = f"small/sites/{site}/store"
    return Workplace.open(site=site, store_uri=store, exchange_uri=EXCHANGE, keys_uri=KEYS, ticket=ticket)


def next_ticket(charter: Charter, *, model: str) -> Ticket:
    """What the coordinator could ask for after the last committed round."""
    last = committed_records()[-1]
    return replace(
        ticket_of(last.round_number, last.attempt),
        charter=charter.digest,
        round_number=last.round_number + 1,
        attempt=1,
        void="",
        model=model,
        previous=last.receipt,
        previous_folder=last.folder,
    )


def accept(place: Workplace) -> None:
    """What `ingest` does first."""
    place.accept(datetime.now(UTC))
