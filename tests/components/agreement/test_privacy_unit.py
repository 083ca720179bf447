"""What a site enforces of its own unit of privacy under a charter, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from components.agreement.charter import read_charter
from components.agreement.noise_terms import NoiseTerms
from components.agreement.privacy_unit import ReadUnit, read_unit
from components.agreement.site_policy import PrivacyPolicy
from components.errors import RefusedError, SignatureError
from tests.components.agreement.signed_form import NOISE, NOISED


def policy(unit: str = "patient", rows: int | None = 8) -> PrivacyPolicy:
    return PrivacyPolicy(
        dataset="visits", ledger_uri="ledger", unit=unit, rows_per_unit=rows, epsilon=8, delta=1e-5
    )


def terms(unit: str = "patient", rows: int = 8) -> NoiseTerms:
    return replace(NOISE, unit=unit, rows_per_unit=rows)


@pytest.mark.parametrize(
    ("held", "asked", "enforced"),
    [
        (policy(), terms(), ReadUnit(column="patient", rows=8, clipped=True)),
        (policy(rows=20), terms(rows=8), ReadUnit(column="patient", rows=8, clipped=True)),
        (policy(unit="Patient"), terms(), ReadUnit(column="Patient", rows=8, clipped=True)),
        (policy(), terms("row", 3), ReadUnit(column="patient", rows=3, clipped=False)),
        (policy(rows=2), terms("row", 3), ReadUnit(column="patient", rows=2, clipped=False)),
        (policy("person", None), terms("row", 3), None),
        (policy("row", None), terms("row", 3), None),
        (policy("row", None), terms("row", 1), None),
        (None, terms(), None),
        (policy(), None, None),
    ],
)
def test_what_is_enforced(
    held: PrivacyPolicy | None, asked: NoiseTerms | None, enforced: ReadUnit | None
) -> None:
    assert read_unit(held, asked) == enforced


@pytest.mark.parametrize(
    ("held", "asked", "words"),
    [
        (
            policy("row", None),
            terms(),
            "the site's policy protects single rows, the charter each patient: clipping by patient bounds "
            "what a whole patient adds, and one row less may move that by twice the norm. Set unit: patient "
            "under privacy in the policy, or leave the federation",
        ),
        (policy("customer"), terms(), "the site's policy protects each customer, the charter each patient: "),
        (
            policy(rows=5),
            terms(rows=8),
            "the charter admits 8 rows of one patient, the site's policy at most 5: set rows_per_unit under "
            "privacy in the policy to 8 or more, or leave the federation",
        ),
        (
            policy(rows=None),
            terms(),
            "the charter admits 8 rows of one patient, the site's policy no number: ",
        ),
        (
            policy(),
            terms("row", 1),
            "the site's ledger is of a patient, the charter prices single rows: it needs rows_per_unit",
        ),
    ],
)
def test_what_a_site_refuses(held: PrivacyPolicy, asked: NoiseTerms, words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read_unit(held, asked)
    assert str(caught.value).startswith(words)
    assert caught.value.disclosed == str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("asked", "priced", "words"),
    [
        (terms("row", 1), 1, "row"),
        (terms("row", 3), 3, "person with at most 3 rows at a site"),
        (terms("patient", 8), 1, "patient with at most 8 rows at a site"),
        (terms("patient", 1), 1, "patient with at most 1 row at a site"),
    ],
)
def test_what_a_unit_costs_and_is_called(asked: NoiseTerms, priced: int, words: str) -> None:
    assert (asked.priced_rows, asked.protected) == (priced, words)


def test_a_charter_that_clips_by_patient_is_read_as_it_was_written() -> None:
    charter = replace(NOISED, privacy=terms())
    assert charter.problems() == []
    assert read_charter(charter.to_json()) == charter
    assert b'"unit":"patient"' in charter.to_json()
    assert b"unit" not in NOISED.to_json().replace(b"rows_per_unit", b"")


@pytest.mark.parametrize(
    "change",
    [
        {
            "algorithm": "analytic",
            "server_optimizer": "ridge",
            "cross_weight": 1.0,
            "ridge": 1.0,
            "values_per_slot": 1,
        },
        {"algorithm": "dp-sgd", "server_optimizer": "average"},
    ],
    ids=lambda change: str(change["algorithm"]),
)
def test_algorithms_whose_contributions_are_of_rows_clip_by_no_unit(change: dict[str, Any]) -> None:
    charter = replace(NOISED, **change, privacy=terms())
    told = (
        f"privacy.unit must be row under {change['algorithm']}, whose contributions are of single rows, got "
    )
    assert f"{told}'patient': choose fedsgd to clip by patient" in charter.problems()
    with pytest.raises(SignatureError):
        read_charter(charter.to_json())
