from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.stores import Store, open_store
from components.errors import RefusedError
from components.execution.outcome import Outcome
from components.site_steps import steps
from components.site_steps.running import run_at_site
from components.site_steps.steps import STEPS, bound
from tests.components.site_steps.paper import FIRST, NOTING, found, issue


@pytest.fixture(autouse=True)
def federation(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found()
    monkeypatch.setattr(steps, "STEPS", {**STEPS, "train": NOTING})


def at_site(*, ticket: str, reason: str = "", step: str = "train", **arguments: Any) -> Outcome:
    return run_at_site(
        step,
        {"features": "f", **arguments},
        site="alpha",
        store_uri="store",
        exchange_uri="exchange",
        keys_uri="keys",
        ticket=ticket,
        deadline_s=20,
        reason=reason,
    )


class TestHere:
    def test_in_a_process_of_its_own(self, exchange: Store) -> None:
        outcome = at_site(ticket=issue(exchange))
        assert (outcome.reference, outcome.bytes_sent) == ("alpha", 12)
        assert int(open_store("store").read("worked").split()[0]) != os.getpid()
        assert json.loads(exchange.read("rounds/00007-1/journal/train-alpha.json"))["bytes"] == 12

    def test_a_forged_ticket_becomes_a_reason_and_no_work(self, exchange: Store) -> None:
        assert at_site(ticket=issue(exchange, by="beta")) == Outcome(
            reason="refused: the signature of coordinator on a ticket document does not verify"
        )
        assert not open_store("store").exists("worked")

    def test_what_the_site_refuses_is_told_to_the_others(self, exchange: Store) -> None:
        reference = issue(exchange, replace(FIRST, local_epochs=6))
        assert at_site(ticket=reference) == Outcome(
            reason="refused: the charter allows local_epochs of at most 5, the ticket asks for 6"
        )
        assert not open_store("store").exists("worked")

    def test_a_site_left_out_does_nothing(self, exchange: Store) -> None:
        reason = "timeout: augment did not end within 9 s"
        assert at_site(ticket="", reason=reason) == Outcome(reason=reason)
        assert open_store("store").keys() == exchange.keys() == []

    def test_arguments_that_the_step_does_not_take_become_a_reason(self, exchange: Store) -> None:
        outcome = at_site(ticket=issue(exchange), place="x")
        assert outcome.reason.startswith("refused: train takes other arguments")
        assert not open_store("store").exists("worked")

    def test_a_step_that_there_is_not_becomes_a_reason(self, exchange: Store) -> None:
        outcome = at_site(ticket=issue(exchange), step="subprocess")
        assert outcome.reason.startswith("refused: there is no step subprocess")


@pytest.mark.parametrize("step", STEPS)
def test_every_step_is_there_and_takes_what_its_component_hands_on(step: str) -> None:
    """The workplace by position, everything else by name."""
    module, _, name = STEPS[step].partition(":")
    function = getattr(importlib.import_module(module), name)
    first, *others = inspect.signature(function).parameters.values()
    assert first.name == "place"
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in others)


def test_a_step_that_lacks_an_argument_is_refused() -> None:
    with pytest.raises(RefusedError, match="seal takes other arguments: missing a required"):
        bound("seal", {})


SITE_COMPONENTS = [
    path for path in Path("components").glob("*/*/component.py") if "run_at_site" in path.read_text()
]


def test_every_site_step_has_a_component() -> None:
    assert len(SITE_COMPONENTS) == len(STEPS)


@pytest.mark.parametrize("path", SITE_COMPONENTS, ids=lambda path: path.parent.name)
def test_a_component_needs_nothing_that_a_dispatchers_image_lacks(path: Path) -> None:
    """It runs in the aggregator's image where the step runs as a Job: without warehouse, torch or model."""
    imported = {
        node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("components.")
    }
    assert "components.site_steps.running" in imported
    assert {name.split(".")[1] for name in imported} <= {"site_steps", "execution"}


def test_a_dispatcher_loads_no_library_of_a_step() -> None:
    code = (
        "import sys\n"
        "import components.site_steps.running, components.site_steps.dispatch\n"
        "heavy = {'torch', 'transformers', 'tenseal', 'duckdb', 'pyarrow', 'google.cloud.bigquery'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
