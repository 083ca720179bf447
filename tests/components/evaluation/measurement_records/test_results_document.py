"""`results.json`: data sets side by side, figures asked for one by one."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.errors import UsageError
from components.evaluation.measurement_records.machine import machine, software, usable_cores
from components.evaluation.measurement_records.results_document import (
    About,
    measured_dataset,
    merged,
    read_document,
    write_document,
)


def entry(*records: dict[str, Any], corpus: str = "corpus", seconds: float = 9.0) -> dict[str, Any]:
    return measured_dataset(
        About(
            name="bank",
            train_rows=100,
            test_rows=50,
            classes=3,
            sites=4,
            concentration=0.1,
            language_model="package:small",
            words=1536,
        ),
        records,
        corpus_digest=corpus,
        command="crosscloud compare bank.yaml",
        quick=False,
        seeds=(2, 1),
        seconds=seconds,
        serves=lambda configuration: configuration["kind"],
        now=datetime(2026, 11, 28, 12, tzinfo=UTC),
    )


def record(kind: str, accuracy: float, seconds: float = 1.0) -> dict[str, Any]:
    return {"configuration": {"kind": kind}, "outcome": {"accuracy": accuracy}, "seconds": seconds}


def test_an_entry_says_what_was_measured_on_what() -> None:
    found = entry(
        record("costs", 0.5, 1.25), record("migration", 0.5), {**record("costs", 1), "seconds": 2.5}
    )
    assert found["figure_seconds"] == {"costs": 3.8, "migration": 1.0}
    assert (found["seeds"], found["measured_at"]) == ([1, 2], "2026-11-28T12:00:00+00:00")
    assert found["machine"] == machine()
    assert found["versions"] == software()
    assert found["about"]["train_rows"] == 100


def test_data_sets_stand_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "compare/results.json"
    write_document(path, merged(read_document(path), "bank", entry(record("costs", 0.5))))
    write_document(path, merged(read_document(path), "ward", entry(record("costs", 0.6))))
    document = read_document(path)
    assert document is not None
    assert list(document["datasets"]) == ["bank", "ward"]
    assert document["format"] == 1
    assert document["datasets"]["bank"]["records"] == [record("costs", 0.5)]
    assert [each.name for each in path.parent.iterdir()] == ["results.json"]


def test_figures_of_the_same_code_and_corpus_add_up_and_the_newest_of_each_stays() -> None:
    first = merged(None, "bank", entry(record("costs", 0.5), record("migration", 0.1)))
    both = merged(first, "bank", entry(record("costs", 0.7)))["datasets"]["bank"]
    assert both["records"] == [record("migration", 0.1), record("costs", 0.7)]
    assert both["figure_seconds"] == {"costs": 1.0, "migration": 1.0}
    changed = merged(first, "bank", entry(record("costs", 0.7), corpus="changed"))["datasets"]["bank"]
    assert changed["records"] == [record("costs", 0.7)]


@pytest.mark.parametrize("content", ["", "[]", '{"format": 2, "datasets": {}}', '{"format": 1}'])
def test_another_file_is_not_written_over(content: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"is no results\.json of this version: move it away"):
        read_document(path)


def test_the_machine_is_this_one() -> None:
    found = machine()
    assert found["cores"] == usable_cores() >= 1
    assert found["memory_gib"] > 0
    assert found["processor"]
    assert software()["python"] == platform.python_version()
