"""The sum mechanism: clipped contributions as integers, with each site's share of the noise.

A site rounds s * (sum of its examples' contributions) and s * beta * C * (number of examples), with
s = 2^20 / C, and adds discrete Gaussian noise of variance sigma^2 Delta^2 / (u_min - t_sites) to every
coordinate. At least u_min sites are in a sum that is opened; when t_sites of them subtract what they
added, noise of variance sigma^2 Delta^2 is left. The sensitivity

    Delta = s C sqrt(1 + beta^2) + sqrt(d) + 1

is that of adding or removing one example at one site: its contribution and its count, and both
roundings (up to 1 in each of d + 1 coordinates: sqrt(d + 1)). What sqrt(d) + 1 leaves beyond that, at
least 2 - sqrt(2), pays for float64: 0.5 for summing n examples by chains of at most h additions, n h <=
`SUMMATION_LIMIT` (each side errs by up to h n 2^20 2^-53, Higham eq. 4.4), the rest for contributions that
are clipped to C (1 + 2^-24). Clipping in float32 is not that exact.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.errors import BadDataError, UsageError
from components.privacy.discrete_gaussian import MOST_VARIANCE, discrete_gaussian
from components.privacy.events import DiscreteGaussianSum
from components.privacy.exact_uniform import RandomBytes

STEPS: Final = 2**20
"""Integer steps in one clipping norm."""
LARGEST_SUM: Final = (70368743669761 - 1) // 2
"""Largest magnitude of an opened sum, (p - 1) / 2 for the plaintext modulus p with one value a slot."""
SUMMATION_LIMIT: Final = 2**31
"""Most n * h for n examples that are summed in float64 with h additions one after another."""
LEAST_SHARE_SIGMA: Final = 4
"""From here on sums of discrete Gaussians cost what one costs, up to 1e-60 (see `zcdp`)."""
_TAIL_BITS: Final = 60
_NORM_TOLERANCE: Final = 2.0**-20


@dataclass(frozen=True, kw_only=True)
class SumMechanism:
    """How one round's sums are made private; the same at every site.

    Attributes:
        clipping_norm: C, largest L2 norm of an example's contribution, above 0.
        noise_multiplier: sigma, from 2^-10 to 2^20.
        dimensions: d, length of a contribution, from 1.
        sites: K, sites of the charter.
        min_sum_sites: u_min, fewest sites in a sum that is opened, at most K.
        colluding_sites: t_sites, sites that may subtract their own noise; at most u_min - 2.
        count_weight: beta, weight of the count against a contribution of norm C; above 0, at most 1.

    Raises:
        UsageError: values break their rules: all of them, in one line.
    """

    clipping_norm: float
    noise_multiplier: float
    dimensions: int
    sites: int
    min_sum_sites: int
    colluding_sites: int
    count_weight: float = 0.1

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise UsageError("; ".join(problems))

    @cached_property
    def sensitivity(self) -> int:
        """Delta in integer steps, each of its terms rounded up."""
        weight = Fraction(self.count_weight)
        return _root_above(STEPS**2 * (1 + weight**2)) + _root_above(Fraction(self.dimensions)) + 1

    @cached_property
    def share_variance(self) -> Fraction:
        """sigma^2 Delta^2 / (u_min - t_sites): variance of one site's noise in every coordinate."""
        noise = Fraction(self.noise_multiplier) * self.sensitivity
        return noise**2 / (self.min_sum_sites - self.colluding_sites)

    @property
    def share_sigma(self) -> float:
        """Deviation of one site's noise, in integer steps."""
        return math.sqrt(self.share_variance)

    def sum_deviation(self, members: int) -> float:
        """Deviation of the noise of a decoded sum of `members` sites, in the contributions' own unit."""
        return math.sqrt(members * self.share_variance) * self.clipping_norm / STEPS

    def event(self, *, rows_per_unit: int = 1) -> DiscreteGaussianSum:
        """What opening one sum releases."""
        return DiscreteGaussianSum(
            noise_multiplier=self.noise_multiplier,
            share_sigma=self.share_sigma,
            dimensions=self.dimensions + 1,
            sites=self.sites,
            rows_per_unit=rows_per_unit,
        )

    def require_range(self, *, max_examples: int, additions: int) -> None:
        """Passes when no site's value can leave its K-th part of the plaintext space.

        Noise is sub-Gaussian with the deviation of its share (Canonne, Kamath and Steinke 2020): over all
        sites and coordinates, P[some |noise| >= z] <= 2 K (d + 1) exp(-z^2 / 2 share_sigma^2) <= 2^-60.

        Args:
            max_examples: most examples of a site, from 1.
            additions: most float64 additions one after another between an example's contribution and the
                site's sum: rows of a batch and number of batches.

        Raises:
            UsageError: a value could leave its range, or float64 sums could pass the sensitivity.
        """
        tail = math.log(2 * self.sites * (self.dimensions + 1)) + _TAIL_BITS * math.log(2)
        largest = max_examples * STEPS + 1 + math.ceil(self.share_sigma * math.sqrt(2 * tail))
        bound = LARGEST_SUM // self.sites
        if max_examples < 1 or largest > bound:
            raise UsageError(
                f"{max_examples} examples and their noise can reach {largest} steps, a site of {self.sites} "
                f"has {bound}: lower max_examples (from 1) or the noise multiplier"
            )
        if not 1 <= additions <= SUMMATION_LIMIT // max_examples:
            raise UsageError(
                f"{max_examples} examples summed with {additions} additions in a row round by more than the "
                f"sensitivity covers, {SUMMATION_LIMIT // max_examples} additions: choose another batch size"
            )

    def _problems(self) -> list[str]:
        honest = self.min_sum_sites - self.colluding_sites
        rules = {
            f"clipping_norm must be above 0 and finite, got {self.clipping_norm}": 0
            < self.clipping_norm
            < math.inf,
            f"noise_multiplier must be above 0, from 2^-10 to 2^20, got {self.noise_multiplier}": (
                2.0**-10 <= self.noise_multiplier <= 2.0**20
            ),
            f"dimensions must be at least 1, got {self.dimensions}": self.dimensions >= 1,
            f"count_weight must be above 0 and at most 1, got {self.count_weight}": 0
            < self.count_weight
            <= 1,
            f"colluding_sites must be at least 0, got {self.colluding_sites}": self.colluding_sites >= 0,
            f"min_sum_sites must be at most the {self.sites} sites, got {self.min_sum_sites}": (
                self.min_sum_sites <= self.sites
            ),
            "min_sum_sites less colluding_sites must be at least 2, "
            f"got {self.min_sum_sites} - {self.colluding_sites}: noise of one site would protect alone": (
                honest >= 2
            ),
        }
        broken = [problem for problem, kept in rules.items() if not kept]
        if not broken and not LEAST_SHARE_SIGMA**2 <= self.share_variance <= MOST_VARIANCE:
            broken = [
                f"noise_multiplier {self.noise_multiplier:g} makes a share {self.share_sigma:g} steps, "
                f"allowed are {LEAST_SHARE_SIGMA} to 2^42"
            ]
        return broken


def noisy_integers(
    total: NDArray[np.float64],
    num_examples: int,
    mechanism: SumMechanism,
    random_bytes: RandomBytes = os.urandom,
) -> NDArray[np.int64]:
    """What a site commits to: its sum and its count as integers, with its share of the noise.

    Args:
        total: sum of the contributions, each clipped to C in float64; shape (d,), not changed.
        num_examples: how many there are, from 0.
        mechanism: of this round.
        random_bytes: the operating system's, but for tests.

    Returns:
        Shape (d + 1,), the count last.

    Raises:
        BadDataError: the sum is not finite, or longer than so many clipped contributions can be.
        ValueError: another shape or type than stated.
    """
    if total.shape != (mechanism.dimensions,) or total.dtype != np.float64:
        raise ValueError(
            f"a sum is float64 of shape ({mechanism.dimensions},), got {total.dtype} {total.shape}"
        )
    if num_examples < 0:
        raise ValueError(f"num_examples must be at least 0, got {num_examples}")
    longest = num_examples * mechanism.clipping_norm * (1 + _NORM_TOLERANCE)
    # Not finite: neither compares.
    if not float(np.linalg.norm(total)) <= longest:
        text = "the sum is longer than clipped contributions of so many examples can be: clip each of them"
        raise BadDataError(text, disclosed=text)
    values = np.empty(mechanism.dimensions + 1, np.float64)
    np.multiply(total, STEPS / mechanism.clipping_norm, out=values[:-1])
    values[-1] = mechanism.count_weight * STEPS * num_examples
    noise = discrete_gaussian(mechanism.share_variance, values.size, random_bytes)
    noise += np.rint(values).astype(np.int64)
    return noise


def decoded(opened: NDArray[np.int64], mechanism: SumMechanism) -> tuple[NDArray[np.float64], float]:
    """The sum of contributions, shape (d,), and the number of examples, both noisy.

    Args:
        opened: sum of what the sites committed to, shape (d + 1,); not changed.
        mechanism: of this round.

    Raises:
        ValueError: another shape.
    """
    if opened.shape != (mechanism.dimensions + 1,):
        raise ValueError(f"an opened sum has shape ({mechanism.dimensions + 1},), got {opened.shape}")
    count = float(opened[-1]) / (mechanism.count_weight * STEPS)
    return opened[:-1].astype(np.float64) * (mechanism.clipping_norm / STEPS), count


def _root_above(value: Fraction) -> int:
    """Smallest whole number whose square is at least `value`."""
    return math.isqrt(math.ceil(value) - 1) + 1
