"""The whole exchange of sealed counts: what is opened equals what pooling the open figures would give."""

from __future__ import annotations

import numpy as np
import pytest

from components.agreement.released_sum import shapes_of
from components.agreement.ticket import METRICS
from components.privacy.charging import open_ledger
from components.privacy.round_noise import round_event, round_mechanism
from tests.components.aggregation.three_sites import CLASSES, privacy_policy
from tests.components.evaluation.count_commitment.counted_sites import COUNTED, FOUR, start, with_metrics


@pytest.mark.parametrize("protection", ["sealed", "masked", "smc"])
def test_without_noise_the_sum_is_exactly_the_pooled_counts(protection: str) -> None:
    counted = with_metrics(start(protection))
    counted.opened()
    before, after = counted.pooled()
    correct, adapted, *cells, rows = counted.total().tolist()
    assert (rows, correct) == (before.num_examples, int(np.trace(before.confusion)))
    assert adapted == int(np.trace(after.confusion))
    assert np.array_equal(np.reshape(cells, (CLASSES, CLASSES)), before.confusion)
    assert correct / rows == before.accuracy


def test_with_noise_the_sum_is_the_pooled_counts_within_the_stated_deviation() -> None:
    three = start(privacy=COUNTED)
    counted = with_metrics(three)
    counted.opened()
    before, _ = counted.pooled()
    exact = np.array(
        [
            np.trace(before.confusion),
            *before.confusion.ravel(),
            before.num_examples,
        ],
        np.float64,
    )
    shapes = shapes_of(counted.place("alpha").model())
    mechanism = round_mechanism(three.charter, 1, shapes, METRICS)
    deviation = mechanism.sum_deviation(len(FOUR))
    errors = counted.total() - exact
    assert np.abs(errors).max() < 5 * deviation
    assert errors.std() > deviation / 10  # noise there is
    for site in FOUR:
        entries = open_ledger(privacy_policy("small", site)).entries()
        assert [entry.charge.purpose for entry in entries] == ["update", "metrics"]
        assert entries[1].event == round_event(three.charter, 1, shapes, METRICS)
