"""Gathers what a round published and writes its report: the round is finished when it is there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.agreement.parties import Parties, load_parties
from components.agreement.ticket import Ticket, read_ticket
from components.artifacts.stores import Store, create_or_read, key_of, open_store, reference
from components.errors import IntegrityError, ObjectExistsError, ObjectMissingError
from components.evaluation.model_evaluation.evaluation import read_figures
from components.evaluation.round_report.figures import RoundFigures
from components.evaluation.round_report.page import render
from components.execution import journal
from components.execution.outcome import Outcome, disclosed_reason
from components.rounds.state import RoundRecord, committed_rounds, read_record, round_key


@dataclass(frozen=True, kw_only=True)
class Story:
    """What the report calls things.

    Attributes:
        title: of the federation.
        method: one of the methods' names.
        classes: labels in the order of the model's outputs.
        clouds: cloud by site.
    """

    title: str
    method: str
    classes: tuple[str, ...]
    clouds: Mapping[str, str]


def write_report(
    story: Story,
    figures: Mapping[str, str],
    reasons: Mapping[str, str],
    *,
    committed: str,
    ticket: str,
    state_uri: str,
    exchange_uri: str,
    keys_uri: str,
    page: str,
) -> Outcome:
    """Writes `report.html` and `report.json` of a committed round.

    Args:
        story: what the report calls things.
        figures: reference of each site's published figures, empty where they are kept.
        reasons: why a site could not be evaluated.
        committed: reference of the committed round in the exchange.
        ticket: reference of the ticket.
        state_uri: store of the committed rounds.
        exchange_uri: store that all parties read.
        keys_uri: folder of the public keys.
        page: local path of the page that Kubeflow shows.
    """
    parties, exchange, state = load_parties(keys_uri), open_store(exchange_uri), open_store(state_uri)
    opened = read_ticket(exchange.read(key_of(exchange, ticket), limit=1 << 16), parties)
    record = read_record(exchange.read(key_of(exchange, committed), limit=1 << 20), parties)
    entries = journal.entries(exchange, opened.folder)
    document: dict[str, Any] = {
        "format": 1,
        "federation": record.federation,
        "title": story.title,
        "method": story.method,
        "protection": opened.protection,
        "round_number": record.round_number,
        "attempt": record.attempt,
        "committed_at": record.committed_at,
        "classes": list(story.classes),
        "model_digest": record.model,
        "parameters": {
            "local_epochs": opened.local_epochs,
            "learning_rate": opened.learning_rate,
            "batch_size": opened.batch_size,
        },
        "sites": [
            _site(site, story, record, entries, _figures(exchange, opened, site, figures, parties), reasons)
            for site in opened.sites
        ],
        "steps": [asdict(entry) for entry in entries],
    }
    earlier = _earlier_rounds(state, record.round_number)
    html = render([RoundFigures.from_dict(each) for each in [*earlier, document]]).encode()
    Path(page).parent.mkdir(parents=True, exist_ok=True)
    Path(page).write_bytes(html)
    with contextlib.suppress(ObjectExistsError):
        state.create(round_key(record.round_number, "report.html"), html)
    finished = round_key(record.round_number, "report.json")
    create_or_read(state, finished, json.dumps(document, indent=1, sort_keys=True).encode())
    return Outcome(reference=reference(state, round_key(record.round_number, "report.html")))


def _earlier_rounds(state: Store, before: int) -> list[dict[str, Any]]:
    found = []
    for number in committed_rounds(state):
        if number < before:
            with contextlib.suppress(ObjectMissingError):
                found.append(json.loads(state.read(round_key(number, "report.json"))))
    return found


def _figures(
    exchange: Store, ticket: Ticket, site: str, figures: Mapping[str, str], parties: Parties
) -> dict[str, Any] | str:
    """A site's verified figures, or why there are none (empty where the site keeps them)."""
    if not figures.get(site):
        return ""
    try:
        document = exchange.read(key_of(exchange, figures[site]), limit=1 << 22)
        return read_figures(document, ticket, site, parties.key(site))
    except (IntegrityError, ObjectMissingError) as error:
        return disclosed_reason(error)


def _site(
    site: str,
    story: Story,
    record: RoundRecord,
    entries: list[journal.Entry],
    evaluation: dict[str, Any] | str,
    reasons: Mapping[str, str],
) -> dict[str, Any]:
    measured = isinstance(evaluation, dict)
    reason = record.left_out.get(site) or reasons.get(site, "") or ("" if measured else evaluation)
    return {
        "name": site,
        "cloud": story.clouds.get(site, ""),
        "took_part": site in record.members,
        "reason": reason,
        "bytes_sent": sum(entry.bytes for entry in entries if entry.site == site),
        "evaluation": evaluation if measured else None,
    }
