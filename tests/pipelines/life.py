"""A federation that lives through everything once: what tests of its events start from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.agreement.charter_book import charter_in_force
from components.artifacts.stores import open_store
from components.rounds.state import RoundRecord, records
from tests.conftest import SmallFederation, write_warehouse
from tests.pipelines.command_line import Say
from tests.pipelines.round_in_process import RoundInProcess

KEYS, STATE = "small/keys", "small/state"


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
