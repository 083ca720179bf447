"""Gathers what a round published and writes its report: the round is finished when it is there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from components.agreement.adaptive_norm import norm_of
from components.agreement.attempt import Attempt
from components.agreement.model_store import read_committed
from components.agreement.released_sum import adaptive_rule
from components.agreement.server_steps import split
from components.agreement.ticket import metrics_folder
from components.artifacts.stores import Store, create_or_read, key_of, open_store, reference
from components.errors import IntegrityError, ObjectExistsError, ObjectMissingError, RefusedError
from components.evaluation.audit.record import newest_audit
from components.evaluation.metrics import Evaluation
from components.evaluation.model_evaluation.evaluation import read_figures
from components.evaluation.round_report.compression import compression
from components.evaluation.round_report.figures import RoundFigures
from components.evaluation.round_report.page import render
from components.evaluation.round_report.sealed_figures import SealedFigures, sealed_figures
from components.execution import journal
from components.execution.outcome import Outcome, disclosed_reason
from components.rounds.privacy_account import account
from components.rounds.proof import keep_proof
from components.rounds.state import RoundRecord, committed_rounds, read_record, round_key

OF_METRICS = ("count",)
"""Steps of the second exchange whose names say so."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """The second exchange of a round, as far as it got.

    Attributes:
        ticket: reference of the ticket for metrics; empty in a round without.
        receipt: reference of the receipt of the opened counts; empty where nothing was opened.
    """

    ticket: str = ""
    receipt: str = ""


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
    counted: Counted = Counted(),
) -> Outcome:
    """Writes `report.html` and `report.json` of a committed round, and keeps the proof of its metrics.

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
        counted: what became of the round's second exchange.

    Returns:
        The report's reference; the figures of the sealed sum as metrics, and its counts as a manifest.
    """
    attempt = Attempt.open(ticket, exchange_uri=exchange_uri, keys_uri=keys_uri)
    state, published = open_store(state_uri), attempt.exchange.read(key_of(attempt.exchange, committed))
    record = read_record(published, attempt.charter)
    evaluations = {
        site: _figures(attempt, site, figures, len(story.classes)) for site in attempt.charter.site_names
    }
    sealed = sealed_figures(
        attempt, record, ticket=counted.ticket, receipt=counted.receipt, classes=len(story.classes)
    )
    if sealed.counts is not None:
        opened = Attempt.open(counted.ticket, exchange_uri=exchange_uri, keys_uri=keys_uri)
        keep_proof(opened, state)
    document = _document(story, attempt, record, evaluations, reasons) | {
        "aggregate": sealed.to_dict(),
        "audit": _audit(state, record),
    }
    earlier = _earlier_rounds(state, record.round_number)
    html = render([RoundFigures.from_dict(each) for each in [*earlier, document]]).encode()
    Path(page).parent.mkdir(parents=True, exist_ok=True)
    Path(page).write_bytes(html)
    with contextlib.suppress(ObjectExistsError):
        state.create(round_key(record.round_number, "report.html"), html)
    finished = round_key(record.round_number, "report.json")
    create_or_read(state, finished, json.dumps(document, indent=1, sort_keys=True).encode())
    there = reference(state, round_key(record.round_number, "report.html"))
    return Outcome(reference=there, **_shown(sealed))


def _shown(sealed: SealedFigures) -> dict[str, Any]:
    """What Kubeflow shows of the sealed sum, as it shows open figures: numbers, and a matrix of counts."""
    if sealed.counts is None:
        return {}
    told = sealed.to_dict() or {}
    names = ("rows", "accuracy", "accuracy_half_width", "adapted_accuracy", "adapted_accuracy_half_width")
    metrics = {name: told[name] for name in (*names, "epsilon") if told[name] is not None}
    manifest = {"confusion": sealed.counts.whole_confusion.tolist()}
    return {"metrics": {**metrics, "sites": float(len(sealed.counts.members))}, "manifest": manifest}


def _document(
    story: Story,
    attempt: Attempt,
    record: RoundRecord,
    evaluations: Mapping[str, dict[str, Any] | str],
    reasons: Mapping[str, str],
) -> dict[str, Any]:
    opened = attempt.ticket
    spent = account(attempt.exchange, attempt.charter, record.model, through=record.round_number)
    entries = [
        *journal.entries(attempt.exchange, opened.folder),
        *(
            each if each.step in OF_METRICS else replace(each, step=f"metrics {each.step}")
            for each in journal.entries(attempt.exchange, metrics_folder(opened.folder))
        ),
    ]
    projected = compression(attempt)
    return {
        "format": 1,
        "federation": record.federation,
        "title": story.title,
        "method": story.method,
        "protection": attempt.charter.protection,
        "round_number": record.round_number,
        "attempt": record.attempt,
        "committed_at": record.committed_at,
        "classes": list(story.classes),
        "model_digest": record.model,
        "privacy": asdict(spent) if spent else None,
        "compression": asdict(projected) if projected else None,
        "parameters": {
            "local_epochs": opened.local_epochs,
            "learning_rate": opened.learning_rate,
            "batch_size": opened.batch_size,
            **_clipping_norm(attempt),
        },
        "sites": [
            {
                "name": site,
                "cloud": story.clouds.get(site, ""),
                "took_part": site in record.members,
                "bytes_sent": sum(entry.bytes for entry in entries if entry.site == site),
                "bytes_read": sum(entry.bytes_read for entry in entries if entry.site == site),
                "findings": [word for entry in entries if entry.site == site for word in entry.findings],
                "evaluation": evaluation if isinstance(evaluation, dict) else None,
                "reason": record.left_out.get(site)
                or reasons.get(site)
                or (evaluation if isinstance(evaluation, str) else ""),
            }
            for site, evaluation in evaluations.items()
        ],
        "steps": [asdict(entry) for entry in entries],
    }


def _clipping_norm(attempt: Attempt) -> dict[str, float]:
    """The norm that gradients of the round were clipped to, where it adapts: all parties know it."""
    if adaptive_rule(attempt.charter) is None:
        return {}
    state = split(read_committed(attempt.exchange, attempt.ticket.model))[1]
    return {"clipping_norm": norm_of(attempt.charter, state)}


def _audit(state: Store, record: RoundRecord) -> dict[str, Any] | None:
    """The newest audit that is kept beside the rounds; a report is written without one, too."""
    with contextlib.suppress(IntegrityError, ObjectMissingError):
        found = newest_audit(state)
        if found is not None and found.federation == record.federation:
            return dict(json.loads(found.to_json()))
    return None


def _earlier_rounds(state: Store, before: int) -> list[dict[str, Any]]:
    found = []
    for number in committed_rounds(state):
        if number < before:
            with contextlib.suppress(ObjectMissingError):
                found.append(json.loads(state.read(round_key(number, "report.json"))))
    return found


def _figures(
    attempt: Attempt, site: str, figures: Mapping[str, str], num_classes: int
) -> dict[str, Any] | str:
    """A site's verified figures, or why there are none (empty where the site keeps them)."""
    if not figures.get(site):
        return ""
    try:
        document = attempt.exchange.read(key_of(attempt.exchange, figures[site]), limit=1 << 22)
        found = read_figures(document, attempt.ticket, site, attempt.charter.key(site))
        sizes = {len(Evaluation.from_dict(found[name]).confusion) for name in ("global", "adapted")}
    except (IntegrityError, ObjectMissingError, RefusedError) as error:
        return disclosed_reason(error)
    return found if sizes == {num_classes} else f"refused: the figures are not of {num_classes} classes"
