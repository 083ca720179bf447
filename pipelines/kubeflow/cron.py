"""Times by a cron expression as Kubeflow Pipelines reads it: six fields, of which the first is seconds.

The fields are those of robfig/cron, version 1: numbers, names of months and days, lists, ranges and steps.
There is no time zone: the scheduler of an installation has one for all, UTC unless it was set otherwise.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}


class _Field(NamedTuple):
    name: str
    least: int
    most: int
    words: Mapping[str, int]


_FIELDS = (
    _Field("seconds", 0, 59, {}),
    _Field("minutes", 0, 59, {}),
    _Field("hours", 0, 23, {}),
    _Field("day of month", 1, 31, {}),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 6, _DAYS),
)
_ITEM = re.compile(r"(?P<first>\*|\?|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?", re.ASCII)
_FURTHEST = timedelta(days=366 * 5)
"""The scheduler looks no further ahead; a 29th of February is at most eight years off, but it gives up."""
EXAMPLE = "0 0 3 * * *"


class CronError(ValueError):
    """An expression that is not one; each line of the message is a problem."""


@dataclass(frozen=True, kw_only=True)
class Cron:
    """One expression, read.

    Attributes:
        text: as written, fields parted by one space.
        values: what each of the six fields matches.
        any_day: whether day of month and day of week, in this order, were left open by `*` or `?`.
    """

    text: str
    values: tuple[frozenset[int], ...]
    any_day: tuple[bool, bool]

    def after(self, time: datetime) -> datetime:
        """The first time after `time`, in its time zone.

        Raises:
            CronError: there is none within five years.
        """
        seconds, minutes, hours, _, months, _ = self.values
        found = time.replace(microsecond=0) + timedelta(seconds=1)
        end = time + _FURTHEST
        while found <= end:
            if found.month not in months or not self._is_day(found):
                found = found.replace(hour=0, minute=0, second=0) + timedelta(days=1)
            elif found.hour not in hours:
                found = found.replace(minute=0, second=0) + timedelta(hours=1)
            elif found.minute not in minutes:
                found = found.replace(second=0) + timedelta(minutes=1)
            elif found.second not in seconds:
                found += timedelta(seconds=1)
            else:
                return found
        raise CronError(f"never comes within five years: {self.text!r}")

    def times(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """All times after `since` up to and with `until`, ascending."""
        time = self.after(since)
        while time <= until:
            yield time
            time = self.after(time)

    def most_in_a_month(self, since: datetime) -> tuple[int, str]:
        """How often it comes in the fullest calendar month of the next five years, and that month's name.

        Args:
            since: from the month of this time on.
        """
        seconds, minutes, hours, _, months, _ = self.values
        day, counts = since.replace(day=1, hour=0, minute=0, second=0, microsecond=0), dict[str, int]()
        while day < since + _FURTHEST:
            if day.month in months and self._is_day(day):
                name = f"{day:%Y-%m}"
                counts[name] = counts.get(name, 0) + len(seconds) * len(minutes) * len(hours)
            day += timedelta(days=1)
        fullest = max(counts, key=lambda name: counts[name])
        return counts[fullest], fullest

    def _is_day(self, time: datetime) -> bool:
        """Both day fields must match, or either of them if both are restricted."""
        of_month = time.day in self.values[3]
        of_week = time.isoweekday() % 7 in self.values[5]
        return of_month and of_week if any(self.any_day) else of_month or of_week


def parse_cron(text: str) -> Cron:
    """Reads an expression that starts a round at most once a minute.

    Raises:
        CronError: every problem of it.
    """
    fields = text.split()
    if text.startswith(("TZ=", "CRON_TZ=")):
        raise CronError(
            f"takes no time zone, got {fields[0]!r}: the scheduler of the installation has one for all, "
            "UTC by default"
        )
    if len(fields) != len(_FIELDS):
        mend = f": put the second before it, such as '0 {text.strip()}'" if len(fields) == 5 else ""
        names = ", ".join(field.name for field in _FIELDS)
        raise CronError(
            f"must have six fields ({names}), such as '{EXAMPLE}', got {len(fields)} in {text!r}{mend}"
        )
    values, problems = [], []
    for text_of, field in zip(fields, _FIELDS, strict=True):
        try:
            values.append(_matched(text_of, field))
        except CronError as error:
            problems.append(str(error))
    if not problems and len(values[0]) != 1:
        problems.append(
            f"seconds must be one number from 0 to 59, got {fields[0]!r}: a round starts at most "
            "once a minute"
        )
    if problems:
        raise CronError("\n".join(problems))
    open_days = (fields[3][0] in "*?", fields[5][0] in "*?")
    cron = Cron(text=" ".join(fields), values=tuple(values), any_day=open_days)
    cron.after(datetime.now(UTC))
    return cron


def _matched(text: str, field: _Field) -> frozenset[int]:
    matched: set[int] = set()
    for item in text.split(","):
        found = _ITEM.fullmatch(item)
        if found is None:
            raise CronError(
                f"{field.name} must be numbers, ranges and steps from {field.least} to {field.most} such as "
                f"{field.least}, {field.least}-{field.most} or */2, got {text!r}"
            )
        step = int(found["step"] or 1)
        if found["first"] in "*?":
            first, last = field.least, field.most
        else:
            first = _number(found["first"], field)
            # A single number with a step goes on to the end of its range.
            last = field.most if found["step"] else first
        if found["last"]:
            last = _number(found["last"], field)
        if not step or last < first or (found["first"] in "*?" and found["last"]):
            raise CronError(f"{field.name} must be a range that ascends, in steps of 1 or more, got {item!r}")
        matched |= set(range(first, last + 1, step))
    return frozenset(matched)


def _number(text: str, field: _Field) -> int:
    number = field.words.get(text.lower(), int(text) if text.isdigit() else None)
    if number is None or not field.least <= number <= field.most:
        named = f" or one of {', '.join(field.words)}" if field.words else ""
        raise CronError(f"{field.name} must be from {field.least} to {field.most}{named}, got {text!r}")
    return number
