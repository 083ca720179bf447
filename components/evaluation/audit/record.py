"""What an audit found, as a JSON document that is read again by reports and pages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from components.artifacts.stores import Store
from components.errors import IntegrityError

FORMAT: Final = 1
INTACT: Final = "intact"
FOLDER: Final = "audits"
"""In a federation's state."""
_UNKNOWN: Final = "not the record of an audit that this version knows"


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Lower bounds on epsilon at the audit's delta.

    Attributes:
        gaussian: of f-DP with Gaussian trade-off functions.
        any_mechanism: of (epsilon, delta)-DP, whatever the mechanism.
    """

    gaussian: float
    any_mechanism: float

    @property
    def largest(self) -> float:
        """The larger of both."""
        return max(self.gaussian, self.any_mechanism)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """All runs of one mechanism at one epsilon.

    Attributes:
        mechanism: `intact`, or the name of a fault.
        says: what its sites do; empty for the intact one.
        claimed: epsilon as the ledgers have it of the charter.
        right: right guesses of each run, by view.
        together: bounds from all runs together.
        alone: the highest that a single run gave.
    """

    mechanism: str
    says: str
    claimed: float
    right: Mapping[str, tuple[int, ...]]
    together: Bounds
    alone: Bounds

    @property
    def runs(self) -> int:
        """How many there were."""
        return len(next(iter(self.right.values())))

    @property
    def is_intact(self) -> bool:
        """Whether the sites did what the charter says."""
        return self.mechanism == INTACT

    @property
    def exceeds(self) -> bool:
        """Whether a bound is above what is claimed."""
        return max(self.together.largest, self.alone.largest) > self.claimed

    @property
    def as_expected(self) -> bool:
        """Above the claim for a fault, and not above it otherwise."""
        return self.exceeds != self.is_intact

    @property
    def best_view(self) -> str:
        """The view with the most right guesses."""
        return max(self.right, key=lambda view: sum(self.right[view]))

    @property
    def verdict(self) -> str:
        """In words."""
        if self.is_intact:
            return "ABOVE THE CLAIM" if self.exceeds else "below the claim"
        seen = {
            "both bounds": min(self.together.gaussian, self.together.any_mechanism) > self.claimed,
            "the Gaussian bound": self.together.gaussian > self.claimed,
            "a single run": self.exceeds,
        }
        by = next((name for name, found in seen.items() if found), "")
        return f"found by {by}" if by else "NOT FOUND"


@dataclass(frozen=True, kw_only=True)
class AuditRecord:
    """One audit of one federation's terms.

    Attributes:
        federation: its id.
        version: of crosscloud.
        finished_at: UTC, ISO 8601.
        seed: None where all randomness was the operating system's.
        delta: of the claims and bounds.
        confidence: with which the bounds of a trial's runs together hold, and those of a single run.
        canaries: m of a run.
        guesses: r of a run, fixed beforehand.
        sites: in every sum.
        honest: of them, whose noise the claim counts on.
        values: d + 1 of an opened sum.
        rounds: of a training.
        seconds: that it took.
        machine: what it ran on.
        trials: in their order.
        skipped: faults that the schedule leaves no way to see, with the reason.
    """

    federation: str
    version: str
    finished_at: str
    seed: int | None
    delta: float
    confidence: float
    canaries: int
    guesses: int
    sites: int
    honest: int
    values: int
    rounds: int
    seconds: float
    machine: Mapping[str, Any]
    trials: tuple[Trial, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def as_expected(self) -> bool:
        """Whether every trial came out as it must."""
        return all(trial.as_expected for trial in self.trials)

    @property
    def intact(self) -> tuple[Trial, ...]:
        """Trials of the mechanism as it is."""
        return tuple(trial for trial in self.trials if trial.is_intact)

    @property
    def broken(self) -> tuple[Trial, ...]:
        """Trials of faults."""
        return tuple(trial for trial in self.trials if not trial.is_intact)

    def to_json(self) -> bytes:
        """The document."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()


def read_audit(content: bytes) -> AuditRecord:
    """Inverse of `AuditRecord.to_json`.

    Raises:
        IntegrityError: it is no such document.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(_UNKNOWN) from error
    return audit_of(document)


def audit_of(document: object) -> AuditRecord:
    """The audit of a JSON value.

    Raises:
        IntegrityError: it is none that this version knows.
    """
    try:
        fields: Mapping[str, Any] = dict(document)  # type: ignore[call-overload]
        trials = tuple(_trial(each) for each in fields["trials"])
        record = AuditRecord(**{**fields, "trials": trials})
        known = type(record.format) is int and record.format == FORMAT
        numbers = [record.delta, record.confidence, record.seconds, record.canaries, record.guesses]
        numbers += [number for trial in trials for number in (trial.claimed, trial.together.largest)]
        sound = all(type(number) in (int, float) for number in numbers) and bool(trials)
        texts = (
            record.federation,
            record.version,
            record.finished_at,
            *(trial.mechanism for trial in trials),
        )
        sound = sound and all(isinstance(text, str) for text in texts)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise IntegrityError(_UNKNOWN) from error
    if not (known and sound):
        raise IntegrityError(_UNKNOWN)
    return record


def newest_audit(state: Store) -> AuditRecord | None:
    """The audit that was kept last in a federation's state; None where there is none.

    Raises:
        IntegrityError: it is no record of an audit.
    """
    keys = sorted(state.keys(FOLDER))
    return read_audit(state.read(keys[-1], limit=1 << 22)) if keys else None


def _trial(document: Mapping[str, Any]) -> Trial:
    right = {
        str(view): tuple(int(number) for number in numbers) for view, numbers in document["right"].items()
    }
    bounds = {name: Bounds(**document[name]) for name in ("together", "alone")}
    if len({len(numbers) for numbers in right.values()}) != 1 or not min(map(len, right.values())):
        raise ValueError("every view has as many runs")
    return Trial(**(dict(document) | {"right": right} | bounds))
