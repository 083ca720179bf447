"""What the coordinator may erase in the exchange: objects of rounds that have ended, a while ago.

Rounds are let go from the oldest on: where a ticket's model can be traced to a receipt, every later receipt
can be followed too. Of every attempt, and of its metrics, the documents of record stay (ticket, roster,
cut-off, receipt, void, commit), of the two newest committed rounds also what the next ticket's model is
recomputed from. `verify` needs none of it: its proof lies in the state.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from components.agreement.charter import Charter
from components.agreement.model_store import model_key
from components.artifacts.erasing import Erasable
from components.artifacts.stores import Store
from components.errors import ObjectMissingError
from components.rounds.state import (
    RoundRecord,
    committed_rounds,
    is_finished,
    next_round_number,
    record_of,
    round_key,
)

OF_RECORD = frozenset(
    {
        "ticket.json",
        "roster.json",
        "cutoff.json",
        "shortfall.json",
        "receipt.json",
        "void.json",
        "committed.json",
    }
)
LINEAGE_ROUNDS = 2
"""Newest committed rounds whose sums and models stay, so that the last of them can still be taken back."""
_AGGREGATE = "aggregate.safetensors"
_KINDS = {
    "sealed": "sealed updates and their manifests",
    "sum.bin": "sums of sealed updates",
    "commitments": "commitments",
    "released": "releases",
    "shares": "shares of keys",
    "sharers.json": "sets of sharers",
    "unmasked": "unmaskings",
    "figures": "figures",
    "journal": "journals",
    _AGGREGATE: "opened sums",
}
_OBJECT = re.compile(r"(?:rounds|metrics)/([0-9]{5,9})-([0-9]{1,6})/(.+)")
_FOLDER = re.compile(r"(?:.*/)?(?:rounds|metrics)/([0-9]{5,9})-[0-9]{1,6}/ticket\.json")
_ANSWERED = re.compile(r"(requests|outcomes|notices)/[^/]+/([0-9a-f]{64})\.json")


@dataclass(frozen=True, kw_only=True)
class _Rounds:
    """Where the rounds of a federation stand.

    Attributes:
        records: of committed rounds, by number.
        over: numbers of rounds that may be let go: every one up to the first that may not.
    """

    records: Mapping[int, RoundRecord]
    over: frozenset[int] = field(default_factory=frozenset)

    @property
    def lineage(self) -> list[RoundRecord]:
        """The newest committed rounds."""
        return [self.records[number] for number in sorted(self.records)[-LINEAGE_ROUNDS:]]


def exchange_retention(
    state: Store, exchange: Store, keys_uri: str, charter: Charter, *, keep_for: timedelta, now: datetime
) -> list[Erasable]:
    """What may go, in the order in which it is to go.

    Args:
        state: store of the committed rounds.
        exchange: store that all parties read.
        keys_uri: folder of the charters.
        charter: in force.
        keep_for: time since a round was committed; of one that is void, since the next that was.
        now: with its time zone.

    Raises:
        IntegrityError: a committed round is not one of the federation's, or one is missing.
    """
    # First: an answer comes after its request, so none that comes meanwhile is taken for an old one.
    answers = [*exchange.keys("outcomes"), *exchange.keys("notices")]
    rounds = _rounds(state, keys_uri, charter, keep_for=keep_for, now=now)
    keys = [*exchange.keys("rounds"), *exchange.keys("metrics")]
    erasable = [*_asked(exchange, answers, rounds)]
    erasable += _of_attempts(keys, rounds)
    erasable += _models(exchange, keys, rounds, charter)
    return erasable


def _rounds(state: Store, keys_uri: str, charter: Charter, *, keep_for: timedelta, now: datetime) -> _Rounds:
    records = {
        number: record_of(state.read(round_key(number, "round.json"), limit=1 << 20), keys_uri, charter)
        for number in committed_rounds(state)
    }
    over: list[int] = []
    for number in range(1, next_round_number(state)):
        ended = next((records[later] for later in sorted(records) if later >= number), None)
        # A round without its report is resumed, and one that is void has no time of its own.
        if ended is None or not is_finished(state, ended.round_number):
            break
        if now - datetime.fromisoformat(ended.committed_at) < keep_for:
            break
        over.append(number)
    return _Rounds(records=records, over=frozenset(over))


def _of_attempts(keys: list[str], rounds: _Rounds) -> Iterator[Erasable]:
    lineage = {record.folder for record in rounds.lineage}
    for key in keys:
        found = _OBJECT.fullmatch(key)
        if found is None or int(found[1]) not in rounds.over or found[3] in OF_RECORD:
            continue
        part = found[3].partition("/")[0]
        if f"rounds/{found[1]}-{found[2]}" in lineage and part in {_AGGREGATE, "commitments"}:
            continue
        yield Erasable(kind=_KINDS.get(part, "other objects of attempts"), key=key)


def _models(exchange: Store, keys: list[str], rounds: _Rounds, charter: Charter) -> Iterator[Erasable]:
    """Models that only rounds have made, or started from, that are over."""
    staying = [
        *rounds.lineage,
        *(each for number, each in rounds.records.items() if number not in rounds.over),
    ]
    # A round may be about to start from the model that the charter goes back to.
    kept = {charter.restart, *(model for record in staying for model in (record.model, record.parent))}
    kept |= {
        _asked_model(exchange, key)
        for key in keys
        if key.endswith("/ticket.json")
        and (found := _OBJECT.fullmatch(key))
        and int(found[1]) not in rounds.over
    }
    there = set(exchange.keys("models"))
    seen: set[str] = set()
    for number in sorted(rounds.over & rounds.records.keys()):
        record = rounds.records[number]
        for model in (record.parent, record.model):
            if model not in kept | seen and model_key(model) in there:
                seen.add(model)
                yield Erasable(kind="older models", key=model_key(model))


def _asked_model(exchange: Store, key: str) -> str:
    """The model a ticket names; whether it is the coordinator's matters not for what is kept."""
    try:
        return str(json.loads(exchange.read(key, limit=1 << 16))["body"]["model"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _asked(exchange: Store, answers: list[str], rounds: _Rounds) -> Iterator[Erasable]:
    """Requests of rounds that are over, then their answers: an agent takes what is not answered for new."""
    open_requests: set[str] = set()
    for key in exchange.keys("requests"):
        found = _ANSWERED.fullmatch(key)
        if found is None:
            continue
        if _asked_round(exchange, key) in rounds.over:
            yield Erasable(kind="requests of steps", key=key)
        else:
            open_requests.add(found[2])
    for key in answers:
        found = _ANSWERED.fullmatch(key)
        if found and found[2] not in open_requests:
            yield Erasable(kind="answers of steps", key=key)


def _asked_round(exchange: Store, key: str) -> int:
    """Round of the ticket that a request names; 0 of what is no request."""
    try:
        ticket = json.loads(exchange.read(key, limit=1 << 20))["body"]["ticket"]
        found = _FOLDER.fullmatch(ticket)
    except (ValueError, KeyError, TypeError, RecursionError, ObjectMissingError):
        return 0
    return int(found[1]) if found else 0
