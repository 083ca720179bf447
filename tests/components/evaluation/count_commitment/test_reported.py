"""What the report of a round says of its sealed sum, and what Kubeflow is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.agreement.released_sum import shapes_of
from components.artifacts.stores import open_store
from components.evaluation.round_report.report import Counted, Story, write_report
from components.execution import central_step, journal
from components.execution.outcome import Outcome
from components.privacy.accounting import ledger_epsilon
from components.privacy.round_noise import round_event
from components.rounds.exchange_retention import exchange_retention
from components.rounds.privacy_account import account
from components.rounds.state import round_key
from tests.components.evaluation.count_commitment.counted_sites import (
    COUNTED,
    FOUR,
    CountedSites,
    start,
    with_metrics,
)

STORY = Story(title="Four", method="ours", classes=("heart", "lung", "skin", "bone"), clouds={})


def reported(
    counted: CountedSites, receipt: str, *, ticket: str | None = None
) -> tuple[Outcome, dict[str, Any], str]:
    """The outcome of `report`, its document and its page."""
    three = counted.round
    page = Path("page.html")
    outcome = write_report(
        STORY,
        {},
        {},
        committed=counted.committed.reference,
        ticket=three.opened.reference,
        state_uri=three.state_uri,
        exchange_uri=three.exchange_uri,
        keys_uri=three.keys_uri,
        page=str(three.exchange_folder.parent / page),
        counted=Counted(
            ticket=counted.metrics.opened.reference if ticket is None else ticket, receipt=receipt
        ),
    )
    state = open_store(three.state_uri)
    document = json.loads(state.read(round_key(three.opened.ticket.round_number, "report.json")))
    return outcome, document, (three.exchange_folder.parent / page).read_text()


def test_exact_counts_are_told_as_they_are() -> None:
    counted = with_metrics(start())
    outcome, document, page = reported(counted, counted.opened())
    before, after = counted.pooled()
    told = document["aggregate"]
    assert (told["accuracy"], told["accuracy_half_width"]) == (before.accuracy, 0.0)
    assert told["adapted_accuracy"] == after.accuracy
    assert told["confusion"] == before.confusion.tolist()
    assert (told["members"], told["epsilon"], told["unit"]) == (list(FOUR), 0.0, "row")
    assert outcome.metrics["accuracy"] == before.accuracy
    assert outcome.manifest["confusion"] == before.confusion.tolist()
    assert "from the sealed sum of 4 sites" in page
    assert "The sum is exact" in page
    assert all(each["evaluation"] is None for each in document["sites"])


def test_noisy_counts_are_told_with_their_error_and_their_cost() -> None:
    three = start(privacy=COUNTED)
    counted = with_metrics(three)
    outcome, document, page = reported(counted, counted.opened())
    told = document["aggregate"]
    event = round_event(three.charter, 1, shapes_of(counted.place("alpha").model()), "metrics")
    assert told["epsilon"] == ledger_epsilon([event], COUNTED.delta)
    # σ = 5, a contribution of √3, four sites of which three are sure and one may collude.
    assert told["deviation"] == pytest.approx(5 * np.sqrt(3) * np.sqrt(4 / 2), rel=1e-4)
    assert (told["adapted_correct"], told["adapted_accuracy"]) == (None, None)
    assert "not counted under ε" in page
    assert {type(count) for row in outcome.manifest["confusion"] for count in row} == {int}
    assert min(count for row in outcome.manifest["confusion"] for count in row) >= 0
    assert "Noise of deviation 12.2 is in every count" in page
    assert document["privacy"]["releases"] == 2
    spent = account(three.exchange, three.charter, counted.model, through=1)
    assert spent
    assert document["privacy"]["epsilon_spent"] == spent.epsilon_spent
    update = round_event(three.charter, 1, shapes_of(counted.place("alpha").model()))
    assert spent.epsilon_spent == ledger_epsilon([update, event], COUNTED.delta)


def test_what_it_sent_and_took_is_told_beside_the_rounds() -> None:
    counted = with_metrics(start())
    receipt = counted.opened()
    for folder, entry in (
        (counted.round.opened.reference, journal.Entry(step="seal", site="alpha", seconds=1.0, bytes=100)),
        (counted.metrics.opened.reference, journal.Entry(step="seal", site="alpha", seconds=2.0, bytes=30)),
        (counted.metrics.opened.reference, journal.Entry(step="count", site="alpha", seconds=3.0, bytes=7)),
    ):
        journal.record(counted.round.exchange_uri, folder, entry)
    _, document, _ = reported(counted, receipt)
    steps = {each["step"]: each["bytes"] for each in document["steps"]}
    assert steps == {"seal": 100, "metrics seal": 30, "count": 7}
    assert {each["name"]: each["bytes_sent"] for each in document["sites"]}["alpha"] == 137


def test_why_there_are_none_is_told() -> None:
    counted = with_metrics(start())
    central_step.run(
        lambda: Outcome(reference=counted.metrics.roster(counted.counted(["alpha", "beta"]))),
        name="roster",
        exchange_uri=counted.metrics.exchange_uri,
        ticket=counted.metrics.opened.reference,
    )
    outcome, document, page = reported(counted, "")
    assert list(document["aggregate"]) == ["reason"]
    assert "2 of 4 sites can take part, the quorum is 3" in document["aggregate"]["reason"]
    assert "2 of 4 sites can take part" in page
    assert (outcome.metrics, outcome.manifest) == ({}, {})


def test_a_round_without_says_nothing_of_them() -> None:
    counted = with_metrics(start())
    _, document, page = reported(counted, "", ticket="")
    assert document["aggregate"] is None
    assert "figures are kept at the sites" in page


@pytest.mark.parametrize("moved", ["receipt", "ticket"])
def test_those_of_another_round_are_refused(moved: str) -> None:
    first = with_metrics(start())
    receipt = first.opened()
    reported(first, receipt)
    second = with_metrics(first.round.next_round())
    second.opened()
    ticket = first.metrics.opened.reference if moved == "ticket" else None
    _, document, _ = reported(second, receipt, ticket=ticket)
    assert document["aggregate"]["reason"].startswith("refused: ")


def test_objects_of_the_exchange_go_with_their_round_and_its_record_stays() -> None:
    from datetime import UTC, datetime, timedelta

    counted = with_metrics(start())
    counted.opened()
    three = counted.round
    for _ in range(3):
        counted = with_metrics(counted.round.next_round())
        counted.opened()
    state = open_store(three.state_uri)
    state.create(round_key(4, "report.json"), b"{}")
    later = datetime.now(UTC) + timedelta(days=9)
    erasable = exchange_retention(
        state, three.exchange, three.keys_uri, three.charter, keep_for=timedelta(days=1), now=later
    )
    gone: Mapping[str, set[str]] = {
        folder: {each.key.split("/")[2] for each in erasable if each.key.startswith(f"metrics/{folder}")}
        for folder in ("00001-1", "00004-1")
    }
    assert gone["00001-1"] == {"aggregate.safetensors", "commitments", "released", "sealed", "sum.bin"}
    assert gone["00004-1"] == {"released", "sealed", "sum.bin"}
