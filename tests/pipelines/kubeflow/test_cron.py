"""Times by cron expressions, and every mistake of one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipelines.kubeflow.cron import CronError, parse_cron

SATURDAY = datetime(2026, 11, 28, 17, 20, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "following"),
    [
        ("0 0 3 * * *", "2026-11-29 03:00:00"),
        ("30 20 17 * * ?", "2026-11-29 17:20:30"),
        ("31 20 17 * * ?", "2026-11-28 17:20:31"),
        ("0 */15 * * * *", "2026-11-28 17:30:00"),
        ("0 5/20 * * * *", "2026-11-28 17:25:00"),
        ("0 0 3 * * MON-FRI", "2026-11-30 03:00:00"),
        ("0 0 3 * * sun", "2026-11-29 03:00:00"),
        ("0 0 3 1,15 * *", "2026-12-01 03:00:00"),
        ("0 0 0 31 Jan-Mar/2 ?", "2027-01-31 00:00:00"),
        ("0 0 0 29 2 *", "2028-02-29 00:00:00"),
        # Where both days are restricted, either will do: the 1st of December is a Tuesday.
        ("0 0 0 1 * MON", "2026-11-30 00:00:00"),
        ("0 0 0 1 * 2", "2026-12-01 00:00:00"),
        ("0 59 23 31 12 *", "2026-12-31 23:59:00"),
    ],
)
def test_the_time_that_follows(text: str, following: str) -> None:
    assert parse_cron(text).after(SATURDAY) == datetime.fromisoformat(f"{following}+00:00")


def test_all_times_of_a_span() -> None:
    cron = parse_cron("0 0 */6 * * *")
    found = list(cron.times(SATURDAY, datetime(2026, 11, 29, 6, tzinfo=UTC)))
    assert [time.hour for time in found] == [18, 0, 6]


def test_both_days_must_match_where_one_is_open() -> None:
    cron = parse_cron("0 0 0 */2 * MON")
    found = list(cron.times(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC)))
    assert [time.day for time in found] == [9, 23]


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("0 0 3 * * *", (31, "2026-12")),
        ("0 0 3 1,15 * *", (2, "2026-11")),
        ("0 */30 * * * MON", (5 * 48, "2026-11")),
        ("0 0 0 29 2 *", (1, "2028-02")),
        ("0 0 0 1 * MON", (6, "2026-11")),
    ],
)
def test_the_fullest_month(text: str, most: tuple[int, str]) -> None:
    cron = parse_cron(text)
    assert cron.most_in_a_month(SATURDAY) == most
    year, month = map(int, most[1].split("-"))
    start = datetime(year, month, 1, tzinfo=UTC)
    end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    second = timedelta(seconds=1)
    assert len(list(cron.times(start - second, end - second))) == most[0]


def test_spaces_are_evened_out() -> None:
    assert parse_cron("  0 0   3 * * * ").text == "0 0 3 * * *"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "0 3 * * *",
            [
                "must have six fields (seconds, minutes, hours, day of month, month, day of week), such as "
                "'0 0 3 * * *', got 5 in '0 3 * * *': put the second before it, such as '0 0 3 * * *'"
            ],
        ),
        ("@daily", ["must have six fields"]),
        ("* 0 3 * * *", ["seconds must be one number from 0 to 59, got '*'"]),
        ("0,30 0 3 * * *", ["seconds must be one number from 0 to 59, got '0,30'"]),
        ("TZ=Europe/Rome 0 0 3 * * *", ["takes no time zone, got 'TZ=Europe/Rome'"]),
        ("CRON_TZ=UTC 0 0 3 * * *", ["takes no time zone, got 'CRON_TZ=UTC'"]),
        (
            "0 61 25 * * 7",
            [
                "minutes must be from 0 to 59, got '61'",
                "hours must be from 0 to 23, got '25'",
                "day of week must be from 0 to 6 or one of sun, mon, tue, wed, thu, fri, sat, got '7'",
            ],
        ),
        ("0 0 5-3 * * *", ["hours must be a range that ascends, in steps of 1 or more, got '5-3'"]),
        ("0 0 */0 * * *", ["hours must be a range that ascends, in steps of 1 or more, got '*/0'"]),
        ("0 0 *-3 * * *", ["hours must be a range that ascends, in steps of 1 or more, got '*-3'"]),
        ("0 0 0 L * *", ["day of month must be from 1 to 31, got 'L'"]),
        ("0 0 0 * * 6#3", ["day of week must be numbers, ranges and steps from 0 to 6"]),
        ("0 0 , * * *", ["hours must be numbers, ranges and steps from 0 to 23"]),
        ("0 0 0 30 feb *", ["never comes within five years: '0 0 0 30 feb *'"]),
    ],
)
def test_every_problem_is_told(text: str, problems: list[str]) -> None:
    with pytest.raises(CronError) as caught:
        parse_cron(text)
    told = str(caught.value).splitlines()
    assert len(told) == len(problems)
    for line, problem in zip(told, problems, strict=True):
        assert line.startswith(problem)
