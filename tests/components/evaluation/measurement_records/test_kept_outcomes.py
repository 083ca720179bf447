"""Outcomes by what they follow from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from components.artifacts.stores import open_store
from components.errors import IntegrityError, RefusedError
from components.evaluation.measurement_records import kept_outcomes
from components.evaluation.measurement_records.kept_outcomes import (
    COMPUTING,
    KeptOutcomes,
    code_digest,
    records_at,
    source_digest,
)

CONFIGURATION = {"kind": "protection", "epsilon": 0.5, "seed": 1}


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """The digest of a folder with one module of this text, a wrapper beside it."""
    monkeypatch.setattr(kept_outcomes, "_COMPONENTS", tmp_path)
    (tmp_path / "folder").mkdir()

    def digest(text: str) -> str:
        (tmp_path / "folder/module.py").write_text(text)
        (tmp_path / "folder/component.py").write_text(f"size = {len(text)}")
        return source_digest(["folder"])

    return digest


def test_what_is_kept_is_found_by_the_same_configuration_and_corpus_alone(tmp_path: Path) -> None:
    kept = KeptOutcomes(open_store(str(tmp_path)), "corpus")
    record = kept.keep(CONFIGURATION, {"accuracy": 0.75, "curve": [1, 2]}, seconds=1.23456)
    assert record == {
        "configuration": CONFIGURATION,
        "outcome": {"accuracy": 0.75, "curve": [1, 2]},
        "seconds": 1.235,
    }
    assert kept.find(dict(reversed(CONFIGURATION.items()))) == record
    assert kept.find(CONFIGURATION | {"seed": 2}) is None
    assert KeptOutcomes(open_store(str(tmp_path)), "another").find(CONFIGURATION) is None


def test_who_is_first_stays(tmp_path: Path) -> None:
    kept = KeptOutcomes(open_store(str(tmp_path)), "corpus")
    first = kept.keep(CONFIGURATION, {"accuracy": 0.75}, seconds=1)
    assert kept.keep(CONFIGURATION, {"accuracy": 0.5}, seconds=2) == first


def test_what_is_no_record_is_told(tmp_path: Path) -> None:
    kept = KeptOutcomes(open_store(str(tmp_path)), "corpus")
    path = tmp_path / kept.key(CONFIGURATION)
    path.parent.mkdir()
    for content in ("half of", "[]", '{"configuration": {}, "outcome": {}}'):
        path.write_text(content)
        with pytest.raises(IntegrityError, match=r"is no outcome of its configuration: remove it"):
            kept.find(CONFIGURATION)


def test_numbers_that_are_none_are_not_written(tmp_path: Path) -> None:
    kept = KeptOutcomes(open_store(str(tmp_path)), "corpus")
    with pytest.raises(ValueError, match="not JSON compliant"):
        kept.keep(CONFIGURATION, {"accuracy": float("nan")}, seconds=1)
    assert kept.find(CONFIGURATION) is None


def test_a_changed_computation_is_another_and_a_changed_comment_is_not(sources: Callable[[str], str]) -> None:
    text = '"""Says."""\n\n\ndef half(x: float) -> float:\n    """Half."""\n    return x / 2\n'
    before = sources(text)
    assert sources(text.replace("Half.", "A half.").replace("\n\n\n", "\n\n# why\n")) == before
    assert sources(text.replace("x / 2", "x / 3")) != before
    assert sources(text.replace("    return", '    "not a docstring" + "";\n    return')) != before


def test_every_folder_that_computes_is_there_and_counts() -> None:
    """A folder that was renamed would silently stop to count."""
    assert all(source_digest([folder]) != source_digest([]) for folder in COMPUTING)
    assert len(code_digest()) == 64


def test_records_are_read_from_their_own_store_alone(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.create("records/one.json", b'[{"seconds": 1}]')
    store.create("records/two.json", b'[{"seconds": 2}, {"seconds": 3}]')
    references = {"b": f"{tmp_path}/records/one.json", "a": f"{tmp_path}/records/two.json"}
    assert [record["seconds"] for record in records_at(references, str(tmp_path))] == [2, 3, 1]
    with pytest.raises(RefusedError):
        records_at({"a": "/elsewhere/records/one.json"}, str(tmp_path))
