from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.artifacts.documents import canonical_json
from components.errors import IntegrityError, UsageError
from components.privacy.events import (
    Composed,
    DiscreteGaussianSum,
    Event,
    LocalSgd,
    event_document,
    read_event,
    releases,
)

SUM = DiscreteGaussianSum(noise_multiplier=4.0, share_sigma=2.5e6, dimensions=29646, sites=4)
sums = st.builds(
    DiscreteGaussianSum,
    noise_multiplier=st.floats(min_value=1e-3, max_value=1e6),
    share_sigma=st.floats(min_value=0.5, max_value=1e12),
    dimensions=st.integers(1, 2**40),
    sites=st.integers(1, 2**16),
    rows_per_unit=st.integers(1, 2**31),
)
local = st.builds(
    LocalSgd,
    noise_multiplier=st.floats(min_value=1e-3, max_value=1e6),
    sample_rate=st.floats(min_value=1e-6, max_value=1),
    steps=st.integers(1, 2**31),
)
events = st.recursive(
    sums | local, lambda parts: st.lists(parts, max_size=3).map(lambda each: Composed(events=tuple(each)))
)


@given(events)
def test_an_event_is_the_same_after_years_in_a_ledger(event: Event) -> None:
    written = canonical_json(event_document(event))
    assert read_event(json.loads(written)) == event
    assert canonical_json(event_document(read_event(json.loads(written)))) == written


def test_the_written_form() -> None:
    assert event_document(Composed(events=(SUM,))) == {
        "event": "composed",
        "events": [
            {
                "event": "discrete_gaussian_sum",
                "noise_multiplier": 4.0,
                "share_sigma": 2.5e6,
                "dimensions": 29646,
                "sites": 4,
                "rows_per_unit": 1,
            }
        ],
    }


def test_the_written_form_of_local_training() -> None:
    event = LocalSgd(noise_multiplier=1.5, sample_rate=0.25, steps=12)
    written = {"event": "local_sgd", "noise_multiplier": 1.5, "sample_rate": 0.25, "steps": 12}
    assert event_document(event) == written
    assert list(releases(event)) == [event]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"steps": 0}, "steps must be a whole number from 1 to 2147483648, got 0"),
        ({"steps": 1.0}, "steps must be a whole number"),
        ({"sample_rate": 1.5}, "sample_rate must be finite, above 0 and at most 1, got 1.5"),
        ({"sample_rate": 0}, "sample_rate must be finite, above 0"),
        ({"noise_multiplier": float("inf")}, "noise_multiplier must be finite, above 0"),
        ({"noise_multiplier": True}, "noise_multiplier must be finite, above 0"),
    ],
    ids=str,
)
def test_local_training_out_of_range_is_no_event(change: dict[str, Any], told: str) -> None:
    good: dict[str, Any] = {"noise_multiplier": 1.5, "sample_rate": 0.25, "steps": 12}
    with pytest.raises(UsageError, match=told):
        LocalSgd(**(good | change))
    with pytest.raises(IntegrityError, match="not a privacy event that this version knows"):
        read_event({"event": "local_sgd", **good, **change})


def test_releases_are_those_of_all_parts() -> None:
    nested = Composed(events=(SUM, Composed(events=(SUM, SUM)), Composed(events=())))
    assert list(releases(nested)) == [SUM, SUM, SUM]


@pytest.mark.parametrize(
    "change",
    [
        {"noise_multiplier": 0.0},
        {"noise_multiplier": -1.0},
        {"noise_multiplier": float("inf")},
        {"noise_multiplier": float("nan")},
        {"noise_multiplier": "4"},
        {"noise_multiplier": True},
        {"share_sigma": 0.49},
        {"dimensions": 0},
        {"dimensions": 1.5},
        {"sites": 0},
        {"sites": 2**16 + 1},
        {"rows_per_unit": 0},
        {"rows_per_unit": True},
        {"surprise": 1},
        {"event": "gaussian"},
    ],
)
def test_what_is_no_event_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match=r"^not a privacy event that this version knows: .+$"):
        read_event({**event_document(SUM), **change})


@pytest.mark.parametrize(
    "document", [None, [], "x", {}, {"event": "composed"}, {"event": "composed", "events": 1}]
)
def test_other_json_is_refused(document: object) -> None:
    with pytest.raises(IntegrityError, match="not a privacy event"):
        read_event(document)


def test_a_field_that_is_missing_is_told() -> None:
    with pytest.raises(
        UsageError, match="sites must be a whole number from 1 to 65536, got 0: correct the event"
    ):
        DiscreteGaussianSum(noise_multiplier=1.0, share_sigma=1.0, dimensions=1, sites=0)
