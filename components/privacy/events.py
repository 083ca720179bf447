"""What was released, as frozen events; what it costs is an accountant's to say.

An event is written into a site's ledger as JSON and read again years later, so it holds what was done
and no price.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from components.errors import IntegrityError, UsageError

_SUM = "discrete_gaussian_sum"
_LOCAL = "local_sgd"
_COMPOSED = "composed"
_MOST = {"dimensions": 2**40, "sites": 2**16, "rows_per_unit": 2**31}


@dataclass(frozen=True, kw_only=True)
class DiscreteGaussianSum:
    """One opened sum of clipped contributions to which every site has added its share of noise.

    Attributes:
        noise_multiplier: sigma, above 0: the deviation of the noise that is there even after the colluding
            sites have subtracted their own, in units of the sensitivity.
        share_sigma: deviation of one site's share in integer steps, at least 1/2.
        dimensions: coordinates of the opened vector, the count included, from 1.
        sites: most shares that one sum can hold, from 1 to 2^16.
        rows_per_unit: rows that one protected unit (a person, say) may have had in it, from 1 to 2^31.

    Raises:
        UsageError: a value is out of its range.
    """

    noise_multiplier: float
    share_sigma: float
    dimensions: int
    sites: int
    rows_per_unit: int = 1

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise UsageError(
                    f"{name} must be a whole number from 1 to {most}, got {value!r}: correct the event"
                )
        for name, least in (("noise_multiplier", 0.0), ("share_sigma", 0.5)):
            value = getattr(self, name)
            if type(value) not in (int, float) or not math.isfinite(value) or value <= 0 or value < least:
                raise UsageError(
                    f"{name} must be finite, above 0 and at least {least:g}, got {value!r}: correct the event"
                )


@dataclass(frozen=True, kw_only=True)
class LocalSgd:
    """A model that one site has trained by DP-SGD (Abadi et al. 2016) and shows openly.

    Attributes:
        noise_multiplier: sigma, above 0: deviation of the noise of a step, in units of the clipping norm.
        sample_rate: probability with which a step draws a row, above 0, at most 1.
        steps: number of steps, from 1 to 2^31.

    Raises:
        UsageError: a value is out of its range.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int

    def __post_init__(self) -> None:
        if type(self.steps) is not int or not 1 <= self.steps <= 2**31:
            raise UsageError(
                f"steps must be a whole number from 1 to {2**31}, got {self.steps!r}: correct the event"
            )
        for name, most in (("noise_multiplier", math.inf), ("sample_rate", 1.0)):
            value = getattr(self, name)
            if type(value) not in (int, float) or not math.isfinite(value) or not 0 < value <= most:
                raise UsageError(
                    f"{name} must be finite, above 0 and at most {most:g}, got {value!r}: correct the event"
                )


@dataclass(frozen=True, kw_only=True)
class Composed:
    """Several releases about the same data, in any order.

    Attributes:
        events: what was released, possibly nothing.
    """

    events: tuple[Event, ...]


Release = DiscreteGaussianSum | LocalSgd
Event = Release | Composed


def releases(event: Event) -> Iterator[Release]:
    """The single releases an event is made of."""
    if not isinstance(event, Composed):
        yield event
        return
    for part in event.events:
        yield from releases(part)


def event_document(event: Event) -> dict[str, Any]:
    """An event as a JSON value; `read_event` is the inverse."""
    if isinstance(event, DiscreteGaussianSum):
        return {"event": _SUM, **asdict(event)}
    if isinstance(event, LocalSgd):
        return {"event": _LOCAL, **asdict(event)}
    return {"event": _COMPOSED, "events": [event_document(part) for part in event.events]}


def read_event(document: object) -> Event:
    """The event of a JSON value.

    Raises:
        IntegrityError: it is none that this version knows.
    """
    fields = dict(document) if isinstance(document, Mapping) else {}
    kind = fields.pop("event", None)
    if kind == _COMPOSED and set(fields) == {"events"} and isinstance(fields["events"], list):
        return Composed(events=tuple(read_event(part) for part in fields["events"]))
    try:
        if kind == _SUM:
            return DiscreteGaussianSum(**fields)
        if kind == _LOCAL:
            return LocalSgd(**fields)
    except (TypeError, UsageError) as error:
        raise IntegrityError(f"not a privacy event that this version knows: {error}") from None
    raise IntegrityError(f"not a privacy event that this version knows: {str(kind)[:40]!r}")
