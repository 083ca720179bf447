"""What lies on the disk of a small federation, and what its chain says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from components.rounds.verification import verify_state
from tests.conftest import SmallFederation

Content = dict[str, bytes]


def content(folder: Path) -> Content:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def exchange(made: SmallFederation) -> Content:
    return content(made.home / "small/exchange")


def own(made: SmallFederation, site: str) -> Content:
    return content(made.home / f"small/sites/{site}/store")


def below(found: Content, folder: str) -> set[str]:
    return {key for key in found if key.startswith(f"{folder}/")}


def in_order(rounds: int) -> None:
    found = verify_state("small/state", keys_uri="small/keys")
    assert (found.problems, found.rounds) == ((), rounds)


AfterRounds = Callable[[int], SmallFederation]
