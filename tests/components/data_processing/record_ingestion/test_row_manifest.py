"""What a manifest tells of rows: powers of two, or no number at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.record_ingestion.row_manifest import (
    Reading,
    row_manifest,
)
from components.data_processing.record_ingestion.row_shards import KeptRows
from components.execution.padding import padded
from components.execution.shown_manifest import artifact_metadata

KEPT = KeptRows(key="rows/k.json", digest="d1", schema={"note": "string"}, size=3000)
READING = Reading(
    account={"job_id": "job-7", "bytes_processed": 5000, "bytes_billed": 10 * 2**20, "slot_milliseconds": 0},
    masked={"card": 3, "email": 0},
    drift=("new_class", "row_count"),
)


def made(*, private: bool, reading: Reading = READING) -> dict[str, Any]:
    return row_manifest("store/rows/k.json", KEPT, reading, private=private)


def test_numbers_are_padded() -> None:
    assert made(private=False) == {
        "uri": "store/rows/k.json",
        "digest": "d1",
        "schema": {"note": "string"},
        "padded_size": 4096,
        "account": {
            "job_id": "job-7", "bytes_processed": 8192, "bytes_billed": 2**24, "slot_milliseconds": 1
        },
        "masked": {"card": 4, "email": 1},
        "drift": ["new_class", "row_count"],
    }  # fmt: skip


def test_under_differential_privacy_there_are_none() -> None:
    manifest = made(private=True)
    assert manifest == {
        "uri": "store/rows/k.json",
        "digest": "d1",
        "schema": {"note": "string"},
        "account": {"job_id": "job-7"},
    }


@given(st.integers(0, 2**40), st.dictionaries(st.sampled_from("abc"), st.integers(0, 2**40)), st.booleans())
def test_nothing_of_a_private_manifest_depends_on_a_number(
    size: int, counts: dict[str, int], found: bool
) -> None:
    kept = KeptRows(key="k", digest="d1", schema={"note": "string"}, size=size)
    reading = Reading(account={**counts, "api": "rest"}, masked=counts, drift=("row_count",) if found else ())
    manifest = row_manifest("u", kept, reading, private=True)
    least = row_manifest(
        "u",
        KeptRows(key="k", digest="d1", schema={"note": "string"}, size=0),
        Reading(account={"api": "rest"}, masked={}, drift=()),
        private=True,
    )
    assert json.dumps(manifest) == json.dumps(least)


def test_what_costs_nothing_and_finds_nothing_says_nothing() -> None:
    manifest = made(private=False, reading=Reading(account={}, masked={}, drift=()))
    assert manifest.keys() == {"uri", "digest", "schema", "padded_size"}
    assert artifact_metadata(manifest) == {}


def test_the_artifact_shows_what_the_manifest_says() -> None:
    assert artifact_metadata(made(private=False)) == {
        "account_job_id": "job-7",
        "account_bytes_processed": 8192,
        "account_bytes_billed": 2**24,
        "account_slot_milliseconds": 1,
        "masked_card": 4,
        "masked_email": 1,
        "drift": "new_class, row_count",
    }
    assert artifact_metadata(made(private=True)) == {"account_job_id": "job-7"}
    assert artifact_metadata({}) == {}, "of a site that was left out"


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (2**40, 2**40), (2**40 + 1, 2**41)],
)
def test_padded_is_the_next_power_of_two(number: int, expected: int) -> None:
    assert padded(number) == expected
