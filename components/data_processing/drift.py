"""Drift: how a site's records differ from those of the last round whose records it accepted.

A round's statistics are compared with remembered ones (`compare`), the site's policy says what the findings
do (`settle`), and what passed is remembered for the next round (`remember`, `last_accepted`).

What others may learn. Every finding compares exact counts with a threshold, so one row can make or unmake
it. The words a policy lets out (`tell`) are a few bits a round about the rows; a federation without
differential privacy may accept that, as it accepts that sites are left out for a missing class. Under a
charter with differential privacy nothing that depends on rows may leave without noise and a price:

- `tell` becomes `keep`: no word leaves, and the round is the same, bit for bit, whatever was found. `keep`
  costs no epsilon, as nobody outside the site sees what it finds.
- `stop` stays possible, and is one bit a round that epsilon does not price: that the site takes no part is
  seen by everybody, and for records that lie at a threshold it depends on one row. Words and names are
  withheld, so it is that bit and no more. It is of the kind of `bad_data` for a NULL or for a label that is
  in no class: the stated epsilon holds for what is released of the rounds that a site takes part in, not for
  whether it does. The round was charged before any row was read and stays charged. A site whose reviewers
  want the guarantee to cover that bit too chooses `keep`, and has its people read the findings.

A finding's `message` holds numbers of rows: it goes to the site's own store, never into a log.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal, get_args

from components.artifacts.documents import canonical_json
from components.artifacts.stores import Store, create_or_read
from components.data_processing.row_statistics import MAX_DOCUMENT_BYTES, RowStatistics, read_statistics
from components.errors import BadDataError, IntegrityError, RefusedError, UsageError

if TYPE_CHECKING:
    from components.agreement.ticket import Ticket

Kind = Literal[
    "new_column", "column_gone", "type_changed", "new_class", "class_gone", "null_rate", "row_count"
]
Action = Literal["tell", "stop", "keep"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
_STATISTICS, _PREDECESSORS = "statistics", "predecessors"


@dataclass(frozen=True, kw_only=True)
class DriftPolicy:
    """What a site does about drift, and how much of it is none.

    Attributes:
        action: `tell` reports the kinds of findings with the round, `stop` leaves the site out of it, `keep`
            keeps them at the site.
        null_rate_band: most that a column's share of NULL may change, as a difference, from 0 to 1.
        least_row_ratio: fewest rows, as a multiple of the last accepted, from 0 to 1.
        most_row_ratio: most rows, as a multiple of the last accepted, 1 or more.
    """

    action: Action = "keep"
    null_rate_band: float = 0.05
    least_row_ratio: float = 0.5
    most_row_ratio: float = 2.0

    def problems(self) -> list[str]:
        """Every rule it breaks, one a line; empty for a policy that can be followed."""
        rules = {
            f"action must be {', '.join(ACTIONS)}, got {self.action!r}: choose one": self.action in ACTIONS,
            f"null_rate_band must be from 0 to 1, got {self.null_rate_band}: write a difference of shares": 0
            <= self.null_rate_band
            <= 1,
            f"least_row_ratio must be from 0 to 1, got {self.least_row_ratio}: 1 is as many as before": 0
            <= self.least_row_ratio
            <= 1,
            f"most_row_ratio must be 1 or more, got {self.most_row_ratio}: 1 is as many as before": 1
            <= self.most_row_ratio
            < float("inf"),
        }
        return [problem for problem, kept in rules.items() if not kept]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One difference between two rounds.

    Attributes:
        kind: one word, of a fixed list.
        message: for the site's own people, with names and numbers.
        disclosed: what other parties may read: no number, and no name but the federation file's.
    """

    kind: Kind
    message: str
    disclosed: str


def compare(
    previous: RowStatistics,
    current: RowStatistics,
    policy: DriftPolicy,
    *,
    named_columns: Collection[str],
    named_classes: Collection[str],
) -> tuple[Finding, ...]:
    """What has changed beyond the policy's bands; nothing for equal statistics.

    A change of exactly a band is within it. NULLs are compared in columns that were counted both times.

    Args:
        previous: Of the last accepted round.
        current: Of this one.
        policy: Whose bands are used.
        named_columns: Columns that the federation file names; others are not named in `disclosed`.
        named_classes: Classes that it names.

    Raises:
        UsageError: The policy breaks a rule.
    """
    _require_policy(policy)
    columns = {name.lower(): name for name in named_columns}
    return (
        *_column_findings(previous.columns, current.columns, columns),
        *_class_findings(previous, current, frozenset(named_classes)),
        *_null_findings(previous, current, policy, columns),
        *_row_findings(previous, current, policy),
    )


def settle(
    findings: Sequence[Finding], policy: DriftPolicy, *, differentially_private: bool
) -> tuple[Kind, ...]:
    """The kinds that are reported with the round, sorted; none under `keep`, or without findings.

    Under differential privacy `tell` is `keep`, and `stop` discloses that the site stops and not why; what
    that leaves unpriced stands at the top of this module.

    Args:
        findings: Of `compare`.
        policy: The site's.
        differentially_private: Whether the charter promises differential privacy.

    Raises:
        BadDataError: The policy is to stop, and there are findings.
        UsageError: The policy breaks a rule.
    """
    _require_policy(policy)
    if not findings or policy.action == "keep":
        return ()
    if policy.action == "stop":
        messages = [finding.message for finding in findings]
        told = dict.fromkeys(finding.disclosed for finding in findings)
        withheld = "the site's policy stops this round"
        raise BadDataError(
            f"the records differ from those of the last accepted round: {'; '.join(messages)}; mend them, or "
            "set the drift action of the site's policy to tell or keep for one round",
            disclosed=withheld if differentially_private else "; ".join(told),
        )
    return () if differentially_private else tuple(sorted({finding.kind for finding in findings}))


def last_accepted(store: Store, ticket: Ticket) -> RowStatistics | None:
    """What a ticket's records are compared with: the newest statistics before its round; None before any.

    The first answer for a ticket stays, so a retry compares with the same predecessor whatever was remembered
    in between. Earlier attempts of the ticket's own round are no predecessors.

    Args:
        store: The site's own.
        ticket: Accepted.

    Raises:
        IntegrityError: What was remembered was altered, or is gone.
    """
    earlier = [key for key in store.keys(_STATISTICS) if key < _statistics_key(ticket.round_number, 0)]
    newest = max(earlier, default="")
    pinned = create_or_read(store, f"{_PREDECESSORS}/{ticket.digest}.txt", newest.encode()).decode()
    return _read(store, pinned)[1] if pinned else None


def remember(store: Store, ticket: Ticket, statistics: RowStatistics) -> RowStatistics:
    """Keeps statistics that passed the site's policy as its accepted ones; the first of a ticket stay.

    Nothing is remembered of records that `settle` stopped, or they would pass in the next round.

    Args:
        store: The site's own.
        ticket: Accepted.
        statistics: Of the records that were ingested under it.

    Returns:
        The ticket's statistics that are remembered.

    Raises:
        RefusedError: The attempt has statistics of another ticket.
        IntegrityError: What was remembered was altered.
    """
    key = _statistics_key(ticket.round_number, ticket.attempt)
    document = {"statistics": json.loads(statistics.to_json()), "ticket": ticket.digest}
    create_or_read(store, key, canonical_json(document))
    owner, kept = _read(store, key)
    if owner != ticket.digest:
        text = f"attempt {ticket.attempt} of round {ticket.round_number} was ingested under another ticket"
        raise RefusedError(text, disclosed=text)
    return kept


def _column_findings(
    previous: Mapping[str, str], current: Mapping[str, str], named: Mapping[str, str]
) -> Iterator[Finding]:
    before = {name.lower(): (name, kind) for name, kind in previous.items()}
    now = {name.lower(): (name, kind) for name, kind in current.items()}
    for key in sorted(before.keys() | now.keys()):
        name, kind = now.get(key) or before[key]
        disclosed = _column(name, named)
        if key not in before:
            yield Finding(
                kind="new_column", message=f"column {name!r} ({kind}) is new", disclosed=f"{disclosed} is new"
            )
        elif key not in now:
            yield Finding(
                kind="column_gone",
                message=f"column {name!r} ({kind}) is gone",
                disclosed=f"{disclosed} is gone",
            )
        elif before[key][1] != kind:
            yield Finding(
                kind="type_changed",
                message=f"column {name!r} was {before[key][1]} and is {kind}",
                disclosed=f"{disclosed} has another type",
            )


def _class_findings(
    previous: RowStatistics, current: RowStatistics, named: frozenset[str]
) -> Iterator[Finding]:
    unlisted = "a label that is in no class"
    pairs = [
        (
            f"class {name!r}",
            f"class {name!r}" if name in named else "a class",
            previous.rows_by_class.get(name, 0),
            current.rows_by_class.get(name, 0),
        )
        for name in sorted(previous.rows_by_class.keys() | current.rows_by_class.keys())
    ]
    pairs.append((unlisted, unlisted, previous.unlisted_rows, current.unlisted_rows))
    for name, disclosed, before, now in pairs:
        if now and not before:
            yield Finding(
                kind="new_class",
                message=f"{name} had no row and has {now}",
                disclosed=f"{disclosed} has rows and had none",
            )
        elif before and not now:
            yield Finding(
                kind="class_gone",
                message=f"{name} had {before} rows and has none",
                disclosed=f"{disclosed} has no rows any more",
            )


def _null_findings(
    previous: RowStatistics, current: RowStatistics, policy: DriftPolicy, named: Mapping[str, str]
) -> Iterator[Finding]:
    before = {name.lower(): previous.null_rate(name) for name in previous.null_counts}
    for name in sorted(current.null_counts):
        if name.lower() not in before:
            continue
        was, rate = before[name.lower()], current.null_rate(name)
        if abs(rate - was) > _exact(policy.null_rate_band):
            yield Finding(
                kind="null_rate",
                message=f"column {name!r} was NULL in {float(was):.2%} of rows and is in {float(rate):.2%}: "
                f"the band is {policy.null_rate_band:.2%}",
                disclosed=f"the share of NULL in {_column(name, named)} has changed",
            )


def _row_findings(previous: RowStatistics, current: RowStatistics, policy: DriftPolicy) -> Iterator[Finding]:
    least = _exact(policy.least_row_ratio) * previous.rows
    most = _exact(policy.most_row_ratio) * previous.rows
    if not least <= current.rows <= most:
        yield Finding(
            kind="row_count",
            message=f"there were {previous.rows} rows and there are {current.rows}: the band is "
            f"{policy.least_row_ratio:g} to {policy.most_row_ratio:g} of them",
            disclosed="the number of rows has changed",
        )


def _column(name: str, named: Mapping[str, str]) -> str:
    """A column as the federation file writes it; what else the warehouse has is the site's own affair."""
    written = named.get(name.lower())
    return "a column" if written is None else f"column {written!r}"


def _exact(ratio: float) -> Fraction:
    """The decimal that a person wrote: 0.05 is one in twenty and not the float beside it."""
    return Fraction(repr(float(ratio)))


def _require_policy(policy: DriftPolicy) -> None:
    problems = policy.problems()
    if problems:
        raise UsageError("; ".join(problems))


def _statistics_key(round_number: int, attempt: int) -> str:
    return f"{_STATISTICS}/{round_number:09d}-{attempt:06d}.json"


def _read(store: Store, key: str) -> tuple[str, RowStatistics]:
    """The ticket and the statistics of a remembered document."""
    if not store.exists(key):
        raise IntegrityError(f"the site's record {key} is gone: restore the site's store")
    try:
        document = json.loads(store.read(key, limit=MAX_DOCUMENT_BYTES))
        owner, statistics = document["ticket"], canonical_json(document["statistics"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise IntegrityError(f"the site's record {key} was altered") from None
    return owner, read_statistics(statistics)
