"""What the next run of a federation is given, and the next edition of its charter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from components.rounds.round_opening import opening
from components.rounds.round_opening.opening import OpenedRound
from tests.components.aggregation.three_sites import ThreeSites, put_in_force

ASKED: dict[str, Any] = {"local_epochs": 9, "learning_rate": 0.5, "batch_size": 99, "seed": 77}


def again(three: ThreeSites, *, shape: dict[str, Any] | None = None, **asked: Any) -> OpenedRound:
    return opening.open_round(
        replace(three.request, **asked),
        replace(three.shape, **(shape or {})),
        state_uri=three.state_uri,
        exchange_uri=three.exchange_uri,
        keys_uri=three.keys_uri,
    )


def amend(three: ThreeSites, **changes: Any) -> ThreeSites:
    """The next edition of the charter, in force and pinned."""
    edition = replace(
        three.charter, edition=three.charter.edition + 1, previous=three.charter.digest, **changes
    )
    put_in_force(three.name, edition)
    return three
