from __future__ import annotations

import pytest

from components.errors import (
    DigestMismatchError,
    ObjectMissingError,
    ObjectTooLargeError,
    RefusedError,
    StoreError,
    UsageError,
)
from components.rounds.findings import Findings


def _fail(error: Exception) -> int:
    raise error


def test_problems_of_all_subjects_stand_in_one_list() -> None:
    findings = Findings("charter")
    findings.add("is old")
    about = findings.about("round 7")
    about.require("roster", "is small", kept=False)
    about.require("roster", "is large", kept=True)
    assert about.checked("model", lambda: 3) == 3
    assert findings.problems == ["charter: is old", "round 7: roster: is small"]


@pytest.mark.parametrize(
    "error",
    [DigestMismatchError, ObjectMissingError, ObjectTooLargeError, RefusedError, UsageError],
)
def test_a_refusal_is_a_problem_in_one_printable_line(error: type[Exception]) -> None:
    findings = Findings("round 1")
    assert findings.checked("model", lambda: _fail(error("one\n  two \x1b[31mred"))) is None
    assert findings.problems == ["round 1: model: one two �[31mred"]


@pytest.mark.parametrize("error", [StoreError, TypeError])
def test_what_is_no_refusal_passes_on(error: type[Exception]) -> None:
    with pytest.raises(error):
        Findings("round 1").checked("model", lambda: _fail(error("no disk")))
