"""Accountants: what a list of events costs.

The ledger and every promise go by `LedgerAccountant`. Comparisons of methods go by `PldAccountant` on both
sides: it is tight, but takes discrete noise for continuous noise of the same deviation.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable
from typing import Final, Protocol

from components.errors import UsageError
from components.privacy.events import DiscreteGaussianSum, Event, LocalSgd, Release, releases
from components.privacy.zcdp import epsilon, rho

_FINE: Final = 1e-4
_COARSE: Final = 1e-3
"""Of privacy losses. Losses between two points are shared out so that no price is too low (Doroshenko et
al. 2022, "Connect the Dots"): above epsilon 1 the coarse grid adds less than 1e-3 of it."""
_LARGE_EPSILON: Final = 1.0
_Steps = tuple[tuple[tuple[float, float], int], ...]


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


class LedgerAccountant:
    """What ledgers go by: a price that is proved for the noise that is really drawn.

    Opened sums are priced by zCDP, whose proof holds for sums of discrete Gaussians. Local DP-SGD is priced
    by privacy loss distributions: its noise is continuous, and zCDP knows nothing of drawing rows. Where a
    dataset has both, each is priced at half of delta and the epsilons are added (basic composition, Dwork
    and Roth 2014, theorem 3.16), or all by zCDP where that is less.
    """

    def epsilon(self, events: Iterable[Event], delta: float) -> float:
        """See `Accountant`."""
        return ledger_epsilon(events, delta)


def ledger_epsilon(events: Iterable[Event], delta: float) -> float:
    """See `LedgerAccountant`.

    Raises:
        UsageError: delta is not between 0 and 1, or there is local DP-SGD and no dp-accounting.
    """
    single = [release for event in events for release in releases(event)]
    local = [release for release in single if isinstance(release, LocalSgd)]
    if not local:
        return epsilon(rho(single), delta)
    sums = [release for release in single if not isinstance(release, LocalSgd)]
    if not sums:
        return pld_epsilon(local, delta)
    both = epsilon(rho(sums), delta / 2) + pld_epsilon(local, delta / 2)
    return min(both, epsilon(rho(single), delta))


def pld_epsilon(events: Iterable[Event], delta: float) -> float:
    """Epsilon of Gaussian releases of the events' noise multipliers, composed numerically.

    A unit of m rows divides the noise multiplier of a sum by m.

    Raises:
        UsageError: delta is not between 0 and 1, or dp-accounting is not installed.
    """
    if not 0 < delta < 1:
        raise UsageError(f"delta must be above 0 and below 1, got {delta}: choose one below 1/population")
    found: Counter[tuple[float, float]] = Counter()
    for event in events:
        for release in releases(event):
            found[_gaussian(release)] += release.steps if isinstance(release, LocalSgd) else 1
    return _composed(tuple(sorted(found.items())), delta) if found else 0.0


def _gaussian(release: Release) -> tuple[float, float]:
    """Noise multiplier and sampling rate of each Gaussian step of a release."""
    if isinstance(release, DiscreteGaussianSum):
        return release.noise_multiplier / release.rows_per_unit, 1.0
    return release.noise_multiplier, release.sample_rate


@functools.lru_cache(maxsize=256)
def _composed(steps: _Steps, delta: float) -> float:
    """The price on a coarse grid, and on one ten times finer where it is small; either is an upper bound."""
    coarse = _on_grid(steps, delta, _COARSE)
    return coarse if coarse >= _LARGE_EPSILON else _on_grid(steps, delta, _FINE)


def _on_grid(steps: _Steps, delta: float, interval: float) -> float:
    try:
        import dp_accounting
        from dp_accounting import pld
    except ImportError:
        text = "numerical prices need dp-accounting: pip install 'crosscloud[comparison]'"
        raise UsageError(text) from None
    accountant = pld.PLDAccountant(value_discretization_interval=interval)
    for (sigma, sample_rate), count in steps:
        event = dp_accounting.GaussianDpEvent(sigma)
        if sample_rate < 1:
            event = dp_accounting.PoissonSampledDpEvent(sample_rate, event)
        accountant.compose(event, count)
    return max(0.0, float(accountant.get_epsilon(delta)))
