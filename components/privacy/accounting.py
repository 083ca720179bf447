"""Accountants: what a list of events costs.

The ledger and every promise go by `ZcdpAccountant`: its price is proved for the noise that is really
drawn. Comparisons with other methods go by `PldAccountant` on both sides: it is tight, but takes the
discrete noise for continuous noise of the same deviation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from components.errors import UsageError
from components.privacy.events import Event, releases
from components.privacy.zcdp import epsilon, rho


class Accountant(Protocol):
    """Prices events."""

    def epsilon(self, events: Iterable[Event], delta: float) -> float:
        """An epsilon from 0 at which all events together are (epsilon, delta)-private; 0 for no event.

        It may be infinite where there is too little noise.

        Raises:
            UsageError: delta is not between 0 and 1.
        """
        ...


class ZcdpAccountant:
    """Adds up rho and converts once; see `zcdp`."""

    def epsilon(self, events: Iterable[Event], delta: float) -> float:
        """See `Accountant`."""
        return epsilon(rho(events), delta)


class PldAccountant:
    """Composes privacy loss distributions numerically, through dp_accounting; rounded up by its grid."""

    def epsilon(self, events: Iterable[Event], delta: float) -> float:
        """See `Accountant`."""
        return pld_epsilon(events, delta)


def pld_epsilon(events: Iterable[Event], delta: float) -> float:
    """Epsilon of Gaussian releases of the events' noise multipliers, composed numerically.

    A unit of m rows divides the noise multiplier by m. Takes seconds for very small noise.

    Raises:
        UsageError: delta is not between 0 and 1, or dp-accounting is not installed.
    """
    if not 0 < delta < 1:
        raise UsageError(f"delta must be above 0 and below 1, got {delta}: choose one below 1/population")
    try:
        import dp_accounting
        from dp_accounting import pld
    except ImportError:
        raise UsageError("numerical prices need dp-accounting: pip install dp-accounting==0.6.0") from None
    found = Counter(
        release.noise_multiplier / release.rows_per_unit for event in events for release in releases(event)
    )
    if not found:
        return 0.0
    accountant = pld.PLDAccountant()
    for sigma, count in sorted(found.items()):
        accountant.compose(dp_accounting.GaussianDpEvent(sigma), count)
    return max(0.0, float(accountant.get_epsilon(delta)))
