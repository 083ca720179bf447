"""How numbers are written."""

from __future__ import annotations

import pytest

from components.evaluation.comparison_report.bands import Band
from components.evaluation.comparison_report.wording import (
    amount,
    duration,
    in_band,
    listed,
    number,
    percent,
    seconds,
)


def test_a_mean_is_written_with_half_its_band() -> None:
    assert in_band(Band(mean=0.9123, half_width=0.0041, count=3)) == "0.912 ± 0.004"
    assert in_band(Band(mean=-0.05, half_width=None, count=1), 2, signed=True) == "−0.05"
    assert number(-0.0004) == "0.000"
    assert percent(0.8513) == "85.1 %"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (264_000, "264 kB"),
        (999_600, "1.0 MB"),
        (1e15, "1000 TB"),
    ],
)
def test_bytes_have_decimal_units(size: float, text: str) -> None:
    assert amount(size) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "12.3 ms"), (0.9999, "1 s"), (12.34, "12.3 s"), (1234.4, "1234 s")]
)
def test_computations_are_told_to_three_digits(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(("value", "text"), [(42.4, "42 s"), (725, "12 min 05 s"), (3725, "1 h 02 min")])
def test_waits_are_told_as_people_say_them(value: float, text: str) -> None:
    assert duration(value) == text


def test_settings_are_told_in_a_row_without_the_name() -> None:
    settings = {"name": "x", "train_rows": 8000, "concentration": 0.1, "memory_gib": 23.5, "quick": True}
    assert listed(settings) == "train rows 8,000, concentration 0.1, memory GiB 23.5, quick True"
