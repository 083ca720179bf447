"""What a check has found wrong: every problem, each in one line that names where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from components.errors import IntegrityError, ObjectMissingError, RefusedError, UsageError

T = TypeVar("T")
_FOUND = (IntegrityError, ObjectMissingError, RefusedError, UsageError)


@dataclass(frozen=True)
class Findings:
    """Problems of one subject, in a list that all subjects share."""

    subject: str = ""
    problems: list[str] = field(default_factory=list)

    def about(self, subject: str) -> Findings:
        """The same list, for problems of something else."""
        return Findings(subject, self.problems)

    def add(self, problem: str) -> None:
        """Notes a problem, as one line: it may quote what nobody vouches for."""
        line = " ".join(f"{self.subject}: {problem}".split())
        self.problems.append("".join(letter if letter.isprintable() else "�" for letter in line))

    def require(self, rule: str, problem: str, *, kept: bool) -> None:
        """Notes the problem unless the rule is kept."""
        if not kept:
            self.add(f"{rule}: {problem}")

    def checked(self, rule: str, check: Callable[[], T]) -> T | None:
        """What the check returns, or None where it refuses; why is noted.

        A store that cannot be read at all is no finding: its error passes on.
        """
        try:
            return check()
        except _FOUND as error:
            self.add(f"{rule}: {error}")
            return None
