"""What the privacy benchmark asks: how many sites, which epsilon, which heads, how often."""

from __future__ import annotations

import os
from typing import Final

from tests.benchmarks.privacy_methods import Setting

QUICK: Final = bool(os.environ.get("QUICK"))
SEEDS: Final = (1,) if QUICK else (1, 2, 3)
EPSILONS: Final = (1.0, 4.0) if QUICK else (1.0, 2.0, 4.0, 8.0, 0.5)
HIDDEN_UNITS: Final = (32, 512) if QUICK else (32, 64, 128, 256, 512)
HIDDEN_SITES: Final = 4
HIDDEN_EPSILON: Final = 4.0
TARGET: Final = 0.85

SETTINGS: Final = {
    sites: Setting(sites=sites, min_sum_sites=least, colluding_sites=1)
    for sites, least in (((4, 3),) if QUICK else ((3, 3), (4, 3), (10, 8)))
}
NO_LOSS: Final = {sites: Setting(sites=sites, min_sum_sites=sites, colluding_sites=0) for sites in SETTINGS}


GROUPS: Final = tuple(
    tuple(SETTINGS[sites] for sites in group if sites in SETTINGS) for group in ((4,), (3, 10))
)
"""Choices are made for the first of a group. For a sum they depend on a setting by K/(u_min - t_sites)
alone, as it does not matter who has which row: 10/7 shares those of 3/2."""
NO_LOSS_GROUP: Final = tuple(NO_LOSS.values())
"""K/(u_min - t_sites) is 1 for all of them."""
