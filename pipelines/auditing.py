"""From a federation file to what is audited of it: its own terms, with as few sites as a sum may have."""

from __future__ import annotations

import base64
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from components.agreement.charter import GRADIENT_SUMS, Charter, SitePublicKeys
from components.agreement.noise_terms import ROW
from components.agreement.server_optimizer import with_state
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import create_or_read, open_store, reference
from components.errors import UsageError
from components.evaluation.audit.audited_run import Audited, most_rows
from components.evaluation.audit.record import FOLDER, AuditRecord
from components.evaluation.audit.results_section import section
from components.evaluation.comparison_report.reporting import write_file
from components.evaluation.comparison_report.results_page import results_page as written_page
from components.execution.padding import padded
from components.rounds.state import committed_rounds
from pipelines.charter_comparison import shape, terms
from pipelines.federation import Federation

RECORD: Final = "audit.json"


def audited(federation: Federation, epsilon: float) -> Audited:
    """What is audited of a federation at an epsilon.

    The terms are those that its charter would have: schedule, delta, clipping norm, server step. Sites are
    as few as may be in a sum, as the claim counts on no more, and one of them colludes even where the file
    expects none to. Privacy is that of a row.

    Args:
        federation: of method `ours`, with a linear head.
        epsilon: that its privacy section asks for here.

    Raises:
        UsageError: it has no sums of clipped gradients with noise, or the terms break a rule.
    """
    privacy, algorithm = federation.privacy, federation.training.algorithm
    if privacy is None or algorithm != GRADIENT_SUMS:
        raise UsageError(
            f"an audit is of sums of clipped gradients with noise, training.algorithm {GRADIENT_SUMS} with a "
            f"section privacy; {federation.federation} has {algorithm}: choose that, or audit another file"
        )
    asked = federation.model_copy(
        update={"privacy": privacy.model_copy(update={"target_epsilon": epsilon, "rows_per_unit": 1})}
    )
    found = terms(asked)
    honest = asked.min_sum_sites - asked.quorum.colluding_sites
    sites = honest + max(1, asked.quorum.colluding_sites)
    weights = shape(asked).weights()
    committed = with_state(found["server_optimizer"], weights)
    noise = replace(found["privacy"], unit=ROW, rows_per_unit=1, metrics=None, adaptive=None, per="total")
    charter = Charter(
        **found
        | {
            "privacy": noise,
            "min_sites": sites,
            "edition": 1,
            "previous": "",
            "sites": {f"site-{number:05d}": _keys() for number in range(1, sites + 1)},
            "coordinator": _key(),
            "key_holder": _key(),
            "genesis": digest(tensors.encode(committed)),
        }
    )
    made = Audited(charter=charter, committed=committed)
    rows = max(charter.max_examples, padded(most_rows(made)))
    made = replace(made, charter=replace(charter, max_examples=rows))
    if problems := made.charter.problems():
        raise UsageError("\n".join(problems))
    return made


def write(record: AuditRecord, output: Path, results_page: Path | None, command: str) -> Path:
    """Writes `audit.json`, and the part of a page about this audit; each file is there whole or not at all.

    Raises:
        StoreError: a file cannot be written.
    """
    path = output / RECORD
    write_file(path, record.to_json())
    if results_page is not None:
        existing = results_page.read_text(encoding="utf-8") if results_page.exists() else ""
        audits = {record.federation: section(record, command)}
        write_file(results_page, written_page((), existing, audits).encode())
    return path


def keep(record: AuditRecord, federation: Federation) -> str:
    """Keeps the record beside a federation's committed rounds, where its next report reads it.

    Returns:
        Where it lies; empty for a federation that has no round yet, of which nothing is kept.
    """
    state = open_store(federation.state_uri)
    if not committed_rounds(state):
        return ""
    content = record.to_json()
    key = f"{FOLDER}/{datetime.fromisoformat(record.finished_at):%Y%m%dT%H%M%S}-{digest(content)[:16]}.json"
    create_or_read(state, key, content)
    return reference(state, key)


def _keys() -> SitePublicKeys:
    return SitePublicKeys(signing=_key(), agreement=_key())


def _key() -> str:
    """32 bytes in the place of a public key: every sealed sum draws keys of its own."""
    return base64.b64encode(os.urandom(32)).decode()
