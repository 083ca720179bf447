"""Zero-concentrated differential privacy: the price rho of a release, and epsilon at delta of a rho.

rho-zCDP bounds the Renyi divergence of every order alpha > 1 by rho alpha; prices add up over releases.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from components.errors import UsageError
from components.privacy.events import DiscreteGaussianSum, Event, Release, releases

_UP: Final = 1 + 1e-12
"""Above the error of a few dozen float64 operations: results are on the safe side."""
_LARGEST_RHO: Final = 1e6


def excess(share_sigma: float, sites: int, dimensions: int) -> float:
    """The term tau sqrt(d): how far a sum of discrete Gaussian shares is from being one discrete Gaussian.

    tau = 10 * sum over k = 1 .. K - 1 of exp(-2 pi^2 share_sigma^2 k / (k + 1))
    (Kairouz, Liu and Steinke 2021, arXiv:2102.06387, proposition 14, share_sigma >= 1/2). A result below
    1e-300 may read as 0: that is far below the margin by which every epsilon is rounded up.
    """
    exponent = -2 * math.pi**2 * share_sigma**2
    tau = 10 * math.fsum(math.exp(exponent * k / (k + 1)) for k in range(1, sites))
    return tau * math.sqrt(dimensions)


def release_rho(release: Release) -> float:
    """Price of one release.

    Of local DP-SGD: steps / (2 sigma^2), what it would cost if every step drew all rows. Drawing some of
    them costs less, of which rho can say nothing: see `accounting.ledger_epsilon`.

    Of an opened sum: rho = m^2 (1/sigma + tau sqrt(d))^2 / 2.

    Proposition 14 of Kairouz, Liu and Steinke bounds the divergence of order alpha of a sum of n shares
    by alpha/2 (Delta / (sqrt(n) share_sigma) + tau sqrt(d))^2. The first term is largest for the fewest
    shares, n = u_min - t_sites, where it is 1/sigma; tau is largest for the most. A unit of m rows costs
    m^2 times a row (group privacy, Bun and Steinke 2016, proposition 27).
    """
    if not isinstance(release, DiscreteGaussianSum):
        return release.steps / (2 * release.noise_multiplier * release.noise_multiplier)
    root = 1 / release.noise_multiplier + excess(release.share_sigma, release.sites, release.dimensions)
    return release.rows_per_unit * release.rows_per_unit * root * root / 2


def rho(events: Iterable[Event]) -> float:
    """Sum of the prices of all releases; the same whatever their order."""
    return math.fsum(release_rho(release) for event in events for release in releases(event))


def epsilon(rho: float, delta: float) -> float:
    """Smallest epsilon that rho-zCDP gives at delta, rounded up by less than 1e-9.

    delta = inf over alpha > 1 of exp((alpha - 1)(alpha rho - epsilon)) / (alpha - 1) * (1 - 1/alpha)^alpha
    (Canonne, Kamath and Steinke 2020, corollary 13). Any alpha gives a valid epsilon; the best is where
    (alpha - 1)^2 rho + log(alpha) = log(1/delta), whose left side only grows.

    Args:
        rho: from 0.
        delta: above 0, below 1.

    Returns:
        From 0; infinite for a rho above 1e6, which protects nothing.

    Raises:
        UsageError: a value is out of its range.
    """
    _require_delta(delta)
    if not rho >= 0:
        raise UsageError(f"rho must be at least 0, got {rho}: a release has no negative price")
    if rho == 0:
        return 0.0
    if rho > _LARGEST_RHO:
        return math.inf
    log_inverse = -math.log(delta)
    low, high = 0.0, 1 / delta
    while low < (middle := (low + high) / 2) < high:
        beyond = middle * middle * rho + math.log1p(middle) > log_inverse
        low, high = (low, middle) if beyond else (middle, high)
    # alpha - 1; it may be so small that 1 + x is rounded to 1, so alpha itself is never formed.
    x = high
    best = (1 + x) * rho + (log_inverse - (1 + x) * math.log1p(x) + x * math.log(x)) / x
    return max(0.0, best * _UP + 1e-13)


def rho_for(epsilon: float, delta: float) -> float:
    """Largest rho that costs at most epsilon at delta, rounded down: `epsilon(rho_for(e, d), d) <= e`.

    Raises:
        UsageError: epsilon is not above 0, or so large that it says nothing; delta is not from 0 to 1.
    """
    _require_delta(delta)
    if not 0 < epsilon <= _LARGEST_RHO:
        raise UsageError(
            f"epsilon must be above 0 and at most {_LARGEST_RHO:g}, got {epsilon}: choose another"
        )
    return _largest_rho(epsilon, delta)


def _largest_rho(most: float, delta: float) -> float:
    low, high = 0.0, _LARGEST_RHO
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if epsilon(middle, delta) <= most else (low, middle)
    return low


def _require_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise UsageError(f"delta must be above 0 and below 1, got {delta}: choose one below 1/population")
