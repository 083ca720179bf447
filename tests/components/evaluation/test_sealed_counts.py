"""What an opened sum of counts says, and that the error it states is the error it has."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from components.errors import IntegrityError
from components.evaluation.count_commitment.counting import confusion_counts
from components.evaluation.sealed_counts import LEAST_SIGNAL, NORMAL_95, SealedCounts, counts_of
from components.privacy.mechanism import SumMechanism, decoded, noisy_integers

CLASSES = 3
MEMBERS = ("alpha", "beta", "gamma", "delta")
MECHANISM = SumMechanism(
    clipping_norm=math.sqrt(2),
    noise_multiplier=4.0,
    dimensions=1 + CLASSES**2,
    sites=5,
    min_sum_sites=4,
    colluding_sites=1,
    count_weight=1 / math.sqrt(2),
)


def rows(count: int, seed: int) -> tuple[Any, int]:
    """Counts of rows of which the committed model gets about two in three right."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, count)
    said = np.where(generator.random(count) < 0.6, labels, generator.integers(0, CLASSES, count))
    return confusion_counts(labels, said, classes=CLASSES)


class TestStatedError:
    def test_it_is_that_of_a_contribution_of_root_3_and_all_shares_of_noise(self) -> None:
        # By hand: σ·√3 is left after t sites have taken theirs off, √(U / (u_min − t)) of it is there.
        expected = 4.0 * math.sqrt(3) * math.sqrt(4 / 3)
        assert MECHANISM.sum_deviation(4) == pytest.approx(expected, rel=1e-5)

    def test_of_many_draws_it_is_the_deviation_that_is_stated(self) -> None:
        sites = [rows(count, seed) for seed, count in enumerate((400, 250, 600, 150))]
        exact = np.sum([np.append(*each) for each in sites], axis=0)
        deviation = MECHANISM.sum_deviation(len(sites))
        errors, shares = [], []
        for _ in range(300):
            total = np.sum([noisy_integers(*each, MECHANISM) for each in sites], axis=0)
            opened = np.append(*decoded(total, MECHANISM))
            errors.append(opened - exact)
            found = counts_of(opened, classes=CLASSES, members=MEMBERS, deviation=deviation, adapted=False)
            assert found.global_share
            shares.append((found.global_share.accuracy, found.global_share.half_width))
        drawn = np.array(errors)
        # 300 × 11 draws: the deviation of a sample deviation is σ/√(2·3300), 1.2 %; five of them.
        assert drawn.std() == pytest.approx(deviation, rel=0.06)
        assert abs(drawn.mean()) < 5 * deviation / math.sqrt(drawn.size)
        # The row count, which has its weight β taken off, has no more noise than the counts.
        assert drawn[:, -1].std() == pytest.approx(deviation, rel=0.21)
        accuracy, half_width = np.array(shares).T
        truth = exact[0] / exact[-1]
        stated = half_width.mean() / NORMAL_95
        # Of 300 draws: 4.1 % a deviation, five of them; and 95 % within the interval, give or take 5·1.3 %.
        assert (accuracy - truth).std() == pytest.approx(stated, rel=0.21)
        assert 0.885 <= np.mean(np.abs(accuracy - truth) <= half_width) <= 1.0

    def test_it_is_the_delta_methods(self) -> None:
        found = of(rows=1000.0, correct=600.0, adapted_correct=800.0, deviation=15.0)
        assert found.global_share
        assert found.adapted_share
        assert found.global_share.accuracy == 0.6
        assert found.global_share.half_width == pytest.approx(1.96 * 15 * math.sqrt(1.36) / 1000)
        assert found.adapted_share.half_width == pytest.approx(1.96 * 15 * math.sqrt(1.64) / 1000)

    @pytest.mark.parametrize("number", [0.0, -4.0, LEAST_SIGNAL * 15 - 0.1])
    def test_there_is_none_where_the_noise_drowns_it(self, number: float) -> None:
        found = of(rows=number, correct=3.0, adapted_correct=3.0, deviation=15.0)
        assert (found.global_share, found.adapted_share) == (None, None)

    def test_no_noise_is_no_error_and_noise_makes_no_share_beyond_all_or_none(self) -> None:
        exact = of(rows=8.0, correct=2.0, adapted_correct=4.0, deviation=0.0)
        assert exact.global_share
        assert (exact.global_share.accuracy, exact.global_share.half_width) == (0.25, 0.0)
        noisy = of(rows=100.0, correct=-3.0, adapted_correct=104.0, deviation=5.0)
        assert noisy.global_share
        assert noisy.adapted_share
        assert (noisy.global_share.accuracy, noisy.adapted_share.accuracy) == (0.0, 1.0)


class TestForm:
    def test_adapted_models_that_are_not_counted_have_no_share(self) -> None:
        found = of(adapted_correct=None)
        assert found.adapted_share is None
        assert SealedCounts.from_dict(found.to_dict()).adapted_correct is None
        opened = np.array([2.0, 1, 0, 0, 1, 2])
        assert counts_of(opened, classes=2, members=MEMBERS, deviation=0.0, adapted=False).correct == 2

    def test_cells_are_shown_as_counts(self) -> None:
        found = of(confusion=np.array([[1.4, -2.0], [-0.4, 2.6]]), deviation=1.0)
        assert found.whole_confusion.tolist() == [[1, 0], [0, 3]]

    def test_it_is_read_as_it_was_written(self) -> None:
        found = of(confusion=np.array([[1.5, -2.0], [0.0, 2.5]]), deviation=1.0)
        assert SealedCounts.from_dict(found.to_dict()).to_dict() == found.to_dict()

    @pytest.mark.parametrize(
        "change", [{"rows": "many"}, {"rows": math.nan}, {"confusion": [[1.0, 2.0]]}, {"members": 3}]
    )
    def test_what_is_none_is_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(IntegrityError, match="sealed counts"):
            SealedCounts.from_dict(of().to_dict() | change)

    @pytest.mark.parametrize(
        "opened",
        [
            [1, 1, 1, 0, 0, 1],
            [1, 1, 1, 0, 0, 1, 2, 3],
            [1, 1, 1, 0, 0, 1, math.nan],
            [1, 1, 1.5, 0, 0, 0.5, 2],
            [2, 1, 3, -1, 0, 0, 2],
            [2, 3, 1, 0, 0, 1, 2],
            [1, 1, 1, 0, 0, 1, 2],
            [2, 1, 1, 0, 0, 1, 3],
        ],
    )
    def test_exact_counts_that_contradict_each_other_are_refused(self, opened: list[float]) -> None:
        counts_of(np.array([2.0, 1, 1, 0, 0, 1, 2]), classes=2, members=MEMBERS, deviation=0.0, adapted=True)
        with pytest.raises(IntegrityError, match="counts"):
            counts_of(np.array(opened, np.float64), classes=2, members=MEMBERS, deviation=0.0, adapted=True)


def of(**changes: Any) -> SealedCounts:
    fields: dict[str, Any] = {
        "members": MEMBERS,
        "rows": 4.0,
        "correct": 2.0,
        "adapted_correct": 3.0,
        "confusion": np.array([[1.0, 1.0], [1.0, 1.0]]),
        "deviation": 0.0,
    }
    return SealedCounts(**{**fields, **changes})
