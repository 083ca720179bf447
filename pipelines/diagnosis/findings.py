"""What a check has found, in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from components.errors import CrosscloudError

State = Literal["ok", "fault", "not checked"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line.

    Attributes:
        party: a site, or the federation.
        check: what was looked at, in a word or two.
        state: `ok`; `fault` where a round would fail or a person has something to mend; `not checked`
            where it cannot be told from here.
        text: what was found, the fault with its mend, or why it was not checked; one line, and of row
            values nothing.
    """

    party: str
    check: str
    state: State
    text: str


class NotCheckedError(Exception):
    """A check cannot be made from here; the message says why."""


def look(party: str, check: str, examine: Callable[[], str]) -> list[Finding]:
    """The findings of one check: one that is `ok` or `not checked`, or one for each line of an error.

    Args:
        party: whom it is about.
        check: its name.
        examine: gives what is in order. It raises `NotCheckedError`, or what a round would meet: a
            `CrosscloudError`, one problem a line.
    """
    try:
        return [Finding(party=party, check=check, state="ok", text=examine())]
    except NotCheckedError as reason:
        return [Finding(party=party, check=check, state="not checked", text=str(reason))]
    except CrosscloudError as error:
        lines = [line.removeprefix(f"{party}: ") for line in str(error).splitlines()]
        return [Finding(party=party, check=check, state="fault", text=line) for line in lines]
