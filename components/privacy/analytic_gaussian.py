"""The Gaussian mechanism of sensitivity 1, in closed form (Balle and Wang 2018, arXiv:1805.06530, theorem 8).

delta = Phi(1 / 2 sigma - epsilon sigma) - exp(epsilon) Phi(-1 / 2 sigma - epsilon sigma)
"""

from __future__ import annotations

import math
from typing import Final

from components.errors import UsageError
from components.privacy.zcdp import epsilon as zcdp_epsilon

_CONTINUED: Final = 5.0
_SIGMAS: Final = (1e-3, 1e9)


def gaussian_delta(sigma: float, epsilon: float) -> float:
    """The delta of one release with noise of deviation sigma, at epsilon from 0."""
    half, shift = 1 / (2 * sigma), epsilon * sigma
    return math.exp(_log_tail(shift - half)) - math.exp(epsilon + _log_tail(shift + half))


def gaussian_epsilon(sigma: float, delta: float) -> float:
    """Smallest epsilon of one release with noise of deviation sigma, to 1e-9, rounded up.

    T releases with deviations sigma_i cost what one costs with 1 / sqrt(sum of 1 / sigma_i^2).

    Raises:
        UsageError: sigma is not from 1e-3 to 1e9, or delta not between 0 and 1.
    """
    if not _SIGMAS[0] <= sigma <= _SIGMAS[1]:
        raise UsageError(f"sigma must be from 1e-3 to 1e9, got {sigma}: choose another noise multiplier")
    low, high = 0.0, zcdp_epsilon(1 / (2 * sigma**2), delta)
    if gaussian_delta(sigma, 0.0) <= delta:
        return 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if gaussian_delta(sigma, middle) <= delta else (middle, high)
    return high


def gaussian_sigma(epsilon: float, delta: float) -> float:
    """Smallest deviation with which one release costs at most epsilon at delta, rounded up.

    Raises:
        UsageError: epsilon is not above 0, delta not between 0 and 1, or no sigma up to 1e9 is enough.
    """
    if not 0 < epsilon < math.inf or not 0 < delta < 1:
        raise UsageError(f"epsilon must be above 0 and delta between 0 and 1, got {epsilon} and {delta}")
    low, high = _SIGMAS
    if gaussian_delta(high, epsilon) > delta or gaussian_delta(low, epsilon) <= delta:
        raise UsageError(
            f"no sigma from 1e-3 to 1e9 is just enough for epsilon {epsilon} at delta {delta}: choose others"
        )
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if gaussian_delta(middle, epsilon) <= delta else (middle, high)
    return high


def _log_tail(x: float) -> float:
    """log(1 - Phi(x))."""
    if x < _CONTINUED:
        return math.log(math.erfc(x / math.sqrt(2)) / 2)
    # Laplace's continued fraction of Mills' ratio; 100 terms give float64's precision from x = 5 on.
    fraction = x
    for k in range(100, 0, -1):
        fraction = x + k / fraction
    return -x * x / 2 - math.log(fraction * math.sqrt(2 * math.pi))
