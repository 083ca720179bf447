from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import BadDataError, UsageError
from components.evaluation.rehearsal.dealing import dealt, is_validation

LABELS = np.random.default_rng(3).integers(0, 7, 900)
TEST_LABELS = np.random.default_rng(4).integers(0, 7, 300)


@settings(max_examples=25)
@given(sites=st.integers(2, 6), concentration=st.sampled_from([0.3, 1.0, 100.0]), seed=st.integers(0, 10**6))
def test_every_row_is_dealt_to_exactly_one_site(sites: int, concentration: float, seed: int) -> None:
    hands = dealt(LABELS, TEST_LABELS, sites=sites, concentration=concentration, seed=seed, least_rows=1)
    assert len(hands) == sites
    for place, labels in enumerate((LABELS, TEST_LABELS)):
        np.testing.assert_array_equal(
            np.sort(np.concatenate([hand[place] for hand in hands])), np.arange(len(labels))
        )


def test_the_same_seed_deals_the_same_hands_and_another_others() -> None:
    first, again, other = (
        dealt(LABELS, TEST_LABELS, sites=4, concentration=0.5, seed=seed) for seed in (1, 1, 2)
    )
    assert all(np.array_equal(one, two) for one, two in zip(first[0], again[0], strict=True))
    assert not np.array_equal(first[0][0], other[0][0])


def test_test_rows_follow_the_proportions_of_training_rows() -> None:
    for own, seen in dealt(LABELS, TEST_LABELS, sites=3, concentration=1.0, seed=5):
        trained = np.bincount(LABELS[own], minlength=7) / np.bincount(LABELS, minlength=7)
        tested = np.bincount(TEST_LABELS[seen], minlength=7) / np.bincount(TEST_LABELS, minlength=7)
        # Rounded to a row: of some 40 test rows a class.
        assert np.abs(trained - tested).max() < 0.05


def test_a_small_concentration_gives_a_site_few_classes() -> None:
    def classes_of(concentration: float) -> float:
        hands = dealt(LABELS, TEST_LABELS, sites=4, concentration=concentration, seed=1)
        return float(np.mean([np.mean(np.bincount(LABELS[own], minlength=7) > 20) for own, _ in hands]))

    assert classes_of(0.1) < 0.6 < classes_of(100.0)


@pytest.mark.parametrize(
    ("sites", "concentration", "rule"),
    [(1, 0.1, "at least 2 sites, got 1"), (4, 0.0, "concentration must be above 0, got 0")],
)
def test_numbers_out_of_range_are_refused(sites: int, concentration: float, rule: str) -> None:
    with pytest.raises(UsageError, match=rule):
        dealt(LABELS, TEST_LABELS, sites=sites, concentration=concentration, seed=1)


def test_too_few_rows_for_so_many_sites_are_told() -> None:
    with pytest.raises(BadDataError, match="10 training and 5 test rows are too few for 4 sites"):
        dealt(LABELS[:10], TEST_LABELS[:5], sites=4, concentration=0.1, seed=1)


def test_validation_rows_are_the_share_asked_for() -> None:
    chosen = is_validation(500, share=0.1, seed=1)
    assert chosen.sum() == 50
    np.testing.assert_array_equal(chosen, is_validation(500, share=0.1, seed=1))
    assert not np.array_equal(chosen, is_validation(500, share=0.1, seed=2))
