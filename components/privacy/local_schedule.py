"""From a target epsilon to the noise of local DP-SGD, by the accountant that ledgers price it with."""

from __future__ import annotations

import functools
import math
from typing import Final

from components.errors import UsageError
from components.privacy.accounting import pld_epsilon
from components.privacy.events import LocalSgd

_DECIMALS: Final = 4
_LARGEST_SIGMA: Final = 2.0**12
_PRECISION: Final = 1.0005
"""Of sigma: so much more noise than needed at most."""


@functools.lru_cache(maxsize=64)
def local_noise_multiplier(target_epsilon: float, *, delta: float, sample_rate: float, steps: int) -> float:
    """The smallest sigma, to 5 in 10,000, with which so many steps cost at most the target.

    Privacy loss distributions through dp-accounting; opacus' PRV accountant comes to the same within half a
    per cent (see the tests). Takes seconds.

    Args:
        target_epsilon: of all rounds together, above 0.
        delta: in (0, 1).
        sample_rate: q in (0, 1], with which every step draws a row.
        steps: of all rounds together, at one site.

    Returns:
        Rounded up to four decimals, as it stands in the charter.

    Raises:
        UsageError: no noise up to 2^12 keeps epsilon at the target, or dp-accounting is not installed.
    """

    def cost(sigma: float) -> float:
        return pld_epsilon([LocalSgd(noise_multiplier=sigma, sample_rate=sample_rate, steps=steps)], delta)

    # Strong composition's order of magnitude is where the search starts.
    enough = max(0.5, sample_rate * math.sqrt(steps * math.log(1 / delta)) / target_epsilon)
    while cost(enough) > target_epsilon:
        enough *= 1.5
        if enough > _LARGEST_SIGMA:
            raise _no_noise(target_epsilon, steps)
    short = enough / 1.5
    while short > 2.0**-6 and cost(short) <= target_epsilon:
        enough, short = short, short / 1.5
    while enough / short > _PRECISION:
        middle = math.sqrt(enough * short)
        enough, short = (middle, short) if cost(middle) <= target_epsilon else (enough, middle)
    if enough > _LARGEST_SIGMA:
        raise _no_noise(target_epsilon, steps)
    return math.ceil(enough * 10**_DECIMALS) / 10**_DECIMALS


def _no_noise(target_epsilon: float, steps: int) -> UsageError:
    return UsageError(
        f"no noise keeps {steps} local steps at epsilon {target_epsilon:g}: raise it, or take fewer"
    )
