from __future__ import annotations

import math
import os
import random
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.encryption.bfv.packing import PLAIN_MODULUS
from components.errors import BadDataError, UsageError
from components.privacy.mechanism import LARGEST_SUM, STEPS, SumMechanism, decoded, noisy_integers
from components.privacy.zcdp import release_rho

FEDERATIONS = [(3, 1, 3), (4, 1, 3), (4, 0, 4), (10, 1, 8), (10, 2, 8)]


def mechanism(**changes: Any) -> SumMechanism:
    values: dict[str, Any] = {
        "clipping_norm": 1.0,
        "noise_multiplier": 5.0,
        "dimensions": 8,
        "sites": 4,
        "min_sum_sites": 3,
        "colluding_sites": 1,
    }
    return SumMechanism(**{**values, **changes})


class TestNoise:
    def test_the_sensitivity_is_the_protocols_in_whole_steps(self) -> None:
        exact = 2**20 * math.sqrt(1.01) + math.sqrt(29645) + 1
        assert exact <= mechanism(dimensions=29645).sensitivity < exact + 2
        assert mechanism(dimensions=1, count_weight=0.75).sensitivity == 1.25 * 2**20 + 2

    @pytest.mark.parametrize("clipping_norm", [1e-3, 0.1, 1.0, 7.5])
    def test_the_sensitivity_is_counted_in_clipping_norms(self, clipping_norm: float) -> None:
        assert mechanism(clipping_norm=clipping_norm).sensitivity == mechanism().sensitivity

    @pytest.mark.parametrize(("sites", "colluding", "least"), FEDERATIONS)
    def test_closed_form_for_every_set_of_lost_sites(self, sites: int, colluding: int, least: int) -> None:
        made = mechanism(sites=sites, colluding_sites=colluding, min_sum_sites=least, noise_multiplier=1.7)
        central = (Fraction(1.7) * made.sensitivity) ** 2
        for members in range(least, sites + 1):
            assert members * made.share_variance == Fraction(members, least - colluding) * central
            left = (members - colluding) * made.share_variance
            assert left >= central
            assert (left == central) == (members == least)
            in_steps = made.sum_deviation(members) / made.clipping_norm * STEPS
            assert in_steps**2 == pytest.approx(float(members * made.share_variance), rel=1e-12)

    @pytest.mark.parametrize(("sites", "colluding", "least"), FEDERATIONS[:3])
    def test_sampled_for_every_set_of_lost_sites(self, sites: int, colluding: int, least: int) -> None:
        size = 20_000
        made = mechanism(dimensions=size - 1, sites=sites, colluding_sites=colluding, min_sum_sites=least)
        shares = [
            noisy_integers(np.zeros(size - 1), 0, made, random.Random(site).randbytes)
            for site in range(sites)
        ]
        central = float((5 * made.sensitivity) ** 2)
        # A sample variance of 20,000 draws has a relative deviation of sqrt(2 / size) = 0.01.
        for count in range(least, sites + 1):
            for members in combinations(range(sites), count):
                opened = sum(shares[site].astype(np.float64) for site in members)
                expected = count / (least - colluding) * central
                assert float(np.mean(opened**2)) == pytest.approx(expected, rel=0.05)
                for colluders in combinations(members, colluding):
                    left = opened - sum(shares[site].astype(np.float64) for site in colluders)
                    assert float(np.mean(left**2)) > 0.95 * central

    def test_the_event_says_what_is_left_after_collusion(self) -> None:
        made = mechanism(noise_multiplier=2.0, dimensions=100)
        event = made.event(rows_per_unit=3)
        assert (event.noise_multiplier, event.dimensions, event.sites) == (2.0, 101, 4)
        assert event.share_sigma == pytest.approx(2.0 * made.sensitivity / math.sqrt(2))
        assert release_rho(event) == pytest.approx(9 / 8)


def rounded(total: NDArray[np.float64], num_examples: int, made: SumMechanism) -> NDArray[np.int64]:
    """What noise is added to: the same bytes give the same noise, whatever the sum."""
    noise = noisy_integers(np.zeros_like(total), 0, made, random.Random(7).randbytes)
    return noisy_integers(total, num_examples, made, random.Random(7).randbytes) - noise


def distance(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    return math.sqrt(sum(int(each) ** 2 for each in first - second))


class TestSensitivity:
    @settings(max_examples=150)
    @given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 400), st.sampled_from([1e-3, 1.0, 3.7]))
    def test_random_neighbours(self, seed: int, dimensions: int, others: int, norm: float) -> None:
        generator = np.random.default_rng(seed)
        made = mechanism(dimensions=dimensions, clipping_norm=norm)
        rows = generator.normal(size=(others + 1, dimensions))
        rows *= norm / np.linalg.norm(rows, axis=1, keepdims=True)
        order = generator.permutation(others)
        without, with_one = rows[:-1][order].sum(axis=0), rows.sum(axis=0)
        gap = distance(rounded(without, others, made), rounded(with_one, others + 1, made))
        assert gap <= made.sensitivity

    @pytest.mark.parametrize("dimensions", [2, 3, 10, 300])
    def test_the_worst_of_many_directions(self, dimensions: int) -> None:
        """Every coordinate lies just below a half step and the example takes it just over one."""
        made = mechanism(dimensions=dimensions)
        generator = np.random.default_rng(dimensions)
        below_half = np.full(dimensions, (0.5 - 2.0**-20) / STEPS)
        gaps = []
        for _ in range(200):
            example = np.abs(generator.normal(size=dimensions))
            example /= np.linalg.norm(example)
            # From 2 to 3 examples the count rounds up: 209715.2 and 314572.8.
            before, after = rounded(below_half, 2, made), rounded(below_half + example, 3, made)
            gaps.append(distance(before, after))
        assert max(gaps) <= made.sensitivity
        assert max(gaps) > STEPS * math.sqrt(1.01) + 0.35 * math.sqrt(dimensions)

    @pytest.mark.parametrize("dimensions", [1, 4, 2**8, 2**14, 2**18])
    def test_the_worst_rounding_is_the_stated_one(self, dimensions: int) -> None:
        """Contributions of whole steps: nothing is rounded but d half steps that are crossed at once."""
        made = mechanism(dimensions=dimensions)
        example = np.full(dimensions, 1 / math.sqrt(dimensions))
        before = np.full(dimensions, 0.5 / STEPS) - 2.0**-26 * example
        # As long as clipping to C (1 + 2^-24) may leave it.
        after = before + example * (1 + 2.0**-24)
        gap = distance(rounded(before, 2, made), rounded(after, 3, made))
        assert STEPS * math.sqrt(1.01) + 0.98 * math.sqrt(dimensions) < gap <= made.sensitivity

    def test_what_float64_and_clipping_may_add_is_covered(self) -> None:
        """2 - sqrt(2) or more is left: 0.5 for the sums, 2^20 2^-24 for clipping, 2^25 2^-31 for scaling."""
        for dimensions in (1, 2, 10, 10**6):
            left = math.sqrt(dimensions) + 1 - math.sqrt(dimensions + 1)
            assert left >= 2 - math.sqrt(2) - 1e-12 > 0.5 + 2.0**-4 + 2.0**-6


class TestIntegers:
    def test_a_sum_comes_back_within_its_noise(self) -> None:
        made = mechanism(dimensions=5000, clipping_norm=2.0, noise_multiplier=0.5)
        total = np.random.default_rng(0).normal(size=5000)
        kept = total.copy()
        shares = [noisy_integers(total, 300 + site, made, os.urandom) for site in range(4)]
        assert np.array_equal(total, kept)
        opened, count = decoded(np.sum(shares, axis=0), made)
        error = opened - 4 * total
        assert error.std() == pytest.approx(made.sum_deviation(4), rel=0.06)
        assert abs(count - 1206) < 6 * made.sum_deviation(4) / (0.1 * 2.0)

    def test_noise_is_drawn_anew(self) -> None:
        first, second = (noisy_integers(np.zeros(8), 0, mechanism()) for _ in range(2))
        assert not np.array_equal(first, second)

    def test_the_smallest_noise_leaves_a_sum_as_it_is(self) -> None:
        made = mechanism(noise_multiplier=2.0**-10)
        total = np.arange(8) / 8
        opened, count = decoded(noisy_integers(total, 4, made), made)
        assert np.allclose(opened, total, atol=0.01)
        assert count == pytest.approx(4, abs=0.1)

    @pytest.mark.parametrize("worst", [3.001, math.nan, math.inf])
    def test_a_sum_that_was_not_clipped_is_refused(self, worst: float) -> None:
        total = np.zeros(8)
        total[3] = worst
        with pytest.raises(BadDataError, match="longer than clipped contributions") as refused:
            noisy_integers(total, 3, mechanism())
        assert str(worst) not in refused.value.disclosed

    def test_other_shapes_are_a_fault_of_the_caller(self) -> None:
        with pytest.raises(ValueError, match=r"float64 of shape \(8,\)"):
            noisy_integers(np.zeros(7), 1, mechanism())
        with pytest.raises(ValueError, match="float64 of shape"):
            noisy_integers(np.zeros(8, np.float32), 1, mechanism())
        with pytest.raises(ValueError, match="num_examples must be at least 0"):
            noisy_integers(np.zeros(8), -1, mechanism())
        with pytest.raises(ValueError, match=r"an opened sum has shape \(9,\)"):
            decoded(np.zeros(8, np.int64), mechanism())


class TestRange:
    def test_no_value_of_an_admitted_federation_reaches_its_bound(self) -> None:
        made = mechanism(dimensions=30_000, sites=10, min_sum_sites=8, noise_multiplier=20.0)
        made.require_range(max_examples=3_000_000, additions=700)
        values = noisy_integers(np.full(30_000, 100.0), 3_000_000, made)
        assert int(np.abs(values).max()) < LARGEST_SUM // 10

    def test_the_bound_is_where_the_tail_is_below_two_to_the_minus_sixty(self) -> None:
        many = {"sites": 8, "min_sum_sites": 7, "dimensions": 10**6}
        made = mechanism(noise_multiplier=2.0**19, **many)
        z = LARGEST_SUM // 8 - STEPS - 1
        tail = math.log2(2 * 8 * (10**6 + 1)) - (z / made.share_sigma) ** 2 / 2 / math.log(2)
        assert tail < -60
        made.require_range(max_examples=1, additions=1)
        with pytest.raises(UsageError, match=r"lower max_examples .* or the noise multiplier"):
            mechanism(noise_multiplier=2.0**20, **many).require_range(max_examples=1, additions=1)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"max_examples": 0}, "0 examples and their noise"),
            ({"max_examples": 8_388_608}, "8388608 examples and their noise can reach .* a site of 4 has"),
            ({"additions": 0}, "round by more than the sensitivity covers, 2147 additions"),
            ({"additions": 2148}, "1000000 examples summed with 2148 additions in a row"),
        ],
    )
    def test_refusals(self, changes: dict[str, int], message: str) -> None:
        asked = {"max_examples": 1_000_000, "additions": 2147}
        mechanism().require_range(**asked)
        with pytest.raises(UsageError, match=message):
            mechanism().require_range(**{**asked, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clipping_norm": 0.0}, "clipping_norm must be above 0 and finite, got 0.0"),
        ({"clipping_norm": math.inf}, "clipping_norm"),
        ({"noise_multiplier": 0.0}, r"noise_multiplier must be above 0, from 2\^-10 to 2\^20, got 0.0"),
        ({"noise_multiplier": math.nan}, "noise_multiplier"),
        ({"dimensions": 0}, "dimensions must be at least 1"),
        ({"count_weight": 0.0}, "count_weight"),
        ({"colluding_sites": -1}, "colluding_sites must be at least 0"),
        ({"min_sum_sites": 5}, "min_sum_sites must be at most the 4 sites"),
        ({"colluding_sites": 2}, "min_sum_sites less colluding_sites must be at least 2, got 3 - 2"),
        ({"noise_multiplier": 2.0**20, "dimensions": 2**60}, r"allowed are 4 to 2\^42"),
    ],
)
def test_what_is_no_mechanism_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        mechanism(**changes)
    assert "\n" not in str(refused.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"clipping_norm .*; noise_multiplier .*; dimensions"):
        mechanism(clipping_norm=-1.0, noise_multiplier=-1.0, dimensions=-1)


def test_the_range_is_that_of_the_seal_with_one_value_a_slot() -> None:
    assert LARGEST_SUM == (PLAIN_MODULUS - 1) // 2
