"""What runs say together, what a record says of them, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scipy import stats

from components.errors import IntegrityError, UsageError
from components.evaluation.audit.auditing import Asking, audit, bounds, chance_of_each
from components.evaluation.audit.gaussian_bound import mu_epsilon, mu_lower_bound
from components.evaluation.audit.record import read_audit
from components.evaluation.audit.results_section import section
from tests.components.evaluation.audit.audit_records import record, trial
from tests.components.evaluation.audit.small_audit import small


@pytest.mark.parametrize(("runs", "agreeing"), [(1, 1), (5, 5), (20, 18)])
def test_runs_that_agree_by_chance_are_a_binomial_tail(runs: int, agreeing: int) -> None:
    each = chance_of_each(runs, agreeing, 1e-4)
    assert stats.binom.sf(agreeing - 1, runs, each) == pytest.approx(1e-4, rel=1e-9)


def test_bounds_pay_for_every_view_and_for_both_theorems() -> None:
    right = {"one": [150, 160, 158], "two": [120, 121, 122]}
    game = {"guesses": 192, "canaries": 960}
    together, alone = bounds(right, **game, delta=1e-5, confidence=0.99)
    chance = 0.01 / 4
    least = mu_lower_bound(right=150, **game, confidence=1 - chance ** (1 / 3))
    most = mu_lower_bound(right=160, **game, confidence=1 - chance)
    assert together.gaussian == pytest.approx(mu_epsilon(least, 1e-5), rel=1e-6)
    assert alone.gaussian == pytest.approx(mu_epsilon(most, 1e-5), rel=1e-6)
    assert together.gaussian > together.any_mechanism > 0


def test_a_claim_is_kept_or_contradicted() -> None:
    intact, above = trial(), trial(gaussian=1.01)
    assert (intact.as_expected, intact.verdict) == (True, "below the claim")
    assert (above.as_expected, above.verdict) == (False, "ABOVE THE CLAIM")
    found, missed = trial("clipping skipped", 1.5), trial("clipping skipped", 0.9)
    assert (found.as_expected, found.verdict) == (True, "found by the Gaussian bound")
    assert (missed.as_expected, missed.verdict) == (False, "NOT FOUND")
    assert record(intact, found).as_expected
    assert not record(intact, missed).as_expected


def test_a_record_is_read_as_it_was_written() -> None:
    made = record(trial(), trial("clipping skipped", 1.5, says="no site clips"))
    assert read_audit(made.to_json()) == made


@pytest.mark.parametrize(
    "changes",
    [{"format": 2}, {"trials": []}, {"delta": "small"}, {"trials": [{}]}, {"surplus": 1}, {"version": 3}],
)
def test_another_document_is_no_record(changes: dict[str, Any]) -> None:
    document = json.loads(record(trial()).to_json())
    with pytest.raises(IntegrityError, match="not the record of an audit"):
        read_audit(json.dumps(document | changes).encode())
    with pytest.raises(IntegrityError, match="not the record of an audit"):
        read_audit(b"[1")


def test_the_page_says_what_was_found_and_what_it_means() -> None:
    told = section(
        record(trial(), trial("clipping skipped", 1.5, says="no site clips")), "crosscloud audit F"
    )
    assert told.startswith("## Audit of hospitals\n")
    assert "| intact | 2 | 1.00 | 0.70 | 0.40 | 0.50 | 7–9 of 10 | below the claim |" in told
    assert "- **clipping skipped**: no site clips." in told
    assert "- **one seed in all rounds**: not audited, no two rounds." in told
    assert "it does not prove the claim" in told


def test_an_audit_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="an epsilon and a run at least"):
        audit(Asking(federation="small", at=small, epsilons=()), on_run=lambda *_: None)
