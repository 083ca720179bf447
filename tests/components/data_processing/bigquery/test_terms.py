from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.bigquery.terms import (
    BigQueryTerms,
    Parameter,
    is_loopback,
    label_key,
    label_value,
)
from components.errors import UsageError


def terms(**changes: Any) -> BigQueryTerms:
    plain: dict[str, Any] = {"project": "clinic-1", "location": "EU", "maximum_bytes_billed": 10**9}
    return BigQueryTerms(**(plain | changes))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"maximum_bytes_billed": 0}, "maximum_bytes_billed must be above 0, got 0"),
        ({"project": ""}, "need a project and a location"),
        ({"location": ""}, "need a project and a location"),
        ({"deadline_s": 0.0}, "deadline_s must be above 0 and finite, got 0"),
        ({"deadline_s": float("inf")}, "deadline_s must be above 0 and finite, got inf"),
        ({"default_dataset": "a.b.c d"}, "'a.b.c d' is neither a dataset nor project.dataset"),
        ({"snapshot": datetime(2026, 1, 1)}, "2026-01-01T00:00:00 has no time zone"),
        ({"parameters": {"a b": Parameter(kind="STRING", value="")}}, "'a b' is not a plain name"),
        ({"parameters": {"Snapshot": Parameter(kind="STRING", value="")}}, "'Snapshot' is reserved"),
        (
            {"parameters": {name: Parameter(kind="STRING", value="") for name in ("day", "DAY")}},
            "'DAY' is there twice",
        ),
        ({"endpoint": "bigquery.example"}, "'bigquery.example' is no URL"),
        ({"endpoint": "http://10.0.0.7:9050"}, "'http://10.0.0.7:9050' is not on this machine"),
        ({"endpoint": "http://127.0.0.1.example:1"}, "is not on this machine"),
        ({"endpoint": "http://127.0.0.1@evil.example"}, "is not on this machine"),
        ({"storage_endpoint": "127.0.0.1:1"}, "goes with an endpoint"),
        (
            {"endpoint": "https://bq-psc.p.googleapis.com", "storage_endpoint": "127.0.0.1:1"},
            "must both be on this machine, or neither",
        ),
        (
            {"endpoint": "http://127.0.0.1:1", "storage_endpoint": "10.0.0.7:443"},
            "must both be on this machine, or neither",
        ),
        ({"endpoint": "https://x.example", "storage_endpoint": "x.example"}, "must be host:port"),
    ],
)
def test_terms_that_break_a_rule_are_refused_in_one_line(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=re.escape(complaint)) as caught:
        terms(**changes)
    assert "\n" not in str(caught.value)


def test_a_private_endpoint_and_this_machine_are_endpoints() -> None:
    assert not terms(endpoint="https://bq-psc.p.googleapis.com").on_this_machine
    assert terms(endpoint="http://[::1]:9050", storage_endpoint="[::1]:9060").on_this_machine


@pytest.mark.parametrize(
    ("kind", "value", "meant"),
    [
        ("STRING", "it's @x; DROP", ["it's @x; DROP"]),
        ("INT64", "-9223372036854775808", [-(2**63)]),
        ("FLOAT64", "1e-3", [0.001]),
        ("BOOL", "false", [False]),
        ("DATE", "2026-11-01", [date(2026, 11, 1)]),
        ("TIMESTAMP", "2026-11-01T02:00:00+02:00", [datetime(2026, 11, 1, tzinfo=UTC)]),
        ("INT64", ("1", "2"), [1, 2]),
        ("STRING", (), []),
    ],
)
def test_a_parameter_is_text_with_a_type(kind: str, value: str | tuple[str, ...], meant: list[Any]) -> None:
    assert Parameter(kind=kind, value=value).values() == meant


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INT64", "1.5"),
        ("INT64", "9223372036854775808"),
        ("FLOAT64", "nan"),
        ("BOOL", "True"),
        ("DATE", "2026-02-30"),
        ("TIMESTAMP", "2026-11-01T02:00:00"),
        ("INT64", ("1", "x")),
    ],
)
def test_text_of_another_type_is_refused_when_the_terms_are_made(
    kind: str, value: str | tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match=f"is no {kind}: "):
        Parameter(kind=kind, value=value)


def test_a_type_that_parameters_do_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match="'BYTES' is none of STRING, INT64"):
        Parameter(kind="BYTES", value="")


@given(st.text(max_size=200))
def test_any_label_keeps_bigquerys_rule(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9_-]{0,63}", label_value(text))
    assert re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", label_key(text))


def test_labels_that_keep_the_rule_stay_as_they_are() -> None:
    labels = {"federation": "hospitals-eu", "Round": "12", "site": "St. Anna", "7step": "x" * 70}
    assert terms(labels=labels).job_labels() == {
        "federation": "hospitals-eu",
        "round": "12",
        "site": "st__anna",
        "x7step": "x" * 63,
    }


def test_a_snapshot_is_kept_in_utc() -> None:
    moment = datetime(2026, 11, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert terms(snapshot=moment).snapshot_utc == datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("x", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
