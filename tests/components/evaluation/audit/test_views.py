"""The estimate of coins against their closed form, and canaries that do not disturb each other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from components.agreement.released_sum import CLASS_SUMS, GRADIENTS
from components.errors import UsageError
from components.evaluation.attacks.advantage import auc
from components.evaluation.attacks.sighting import Sighting, part_norms, parts_sum, row_errors
from components.evaluation.audit.orthogonal_canaries import LARGEST, drawn, guessed_right, labels_each
from components.evaluation.audit.views import (
    DIFFERENCES,
    OWN,
    SHARED,
    VIEWS,
    Seen,
    possible_views,
    scores,
)
from components.evaluation.rehearsal.dealing import taken
from components.training import heads

FEATURES, CLASSES = 64, 9
MODEL = heads.initial(FEATURES, 0, CLASSES, 1, False)


def sighting(of: str, length: int) -> Sighting:
    nothing = np.zeros(length)
    return Sighting(of=of, model=MODEL, seen=nothing, background=nothing, clipping_norm=1.0)


def test_canaries_reach_the_clipping_norm_and_hardly_disturb_each_other() -> None:
    found = drawn(FEATURES, CLASSES, owners=2, generator=np.random.default_rng(1))
    assert (found.axes, found.labels_each, found.count) == (FEATURES, CLASSES - 1, FEATURES * (CLASSES - 1))
    canaries = found.canaries
    assert np.linalg.norm(canaries.examples.features, axis=1) == pytest.approx(math.sqrt(FEATURES), rel=1e-5)
    assert set(canaries.owners.tolist()) == {0, 1}
    assert abs(canaries.included.mean() - 0.5) < 5 * 0.5 / math.sqrt(found.count)
    shown = sighting(GRADIENTS, CLASSES * (FEATURES + 1))
    errors = row_errors(shown, canaries.examples)
    assert part_norms(shown, errors, canaries.examples) == pytest.approx(1.0, rel=1e-5)
    inner = (errors @ errors.T) * (canaries.examples.features @ canaries.examples.features.T + 1)
    np.fill_diagonal(inner, 0)
    assert np.abs(inner).max() < 0.3
    for start in range(0, found.count, found.labels_each):
        labels = canaries.examples.labels[start : start + found.labels_each]
        assert len(set(labels.tolist())) == found.labels_each


def test_a_head_with_many_classes_has_a_limited_number_of_canaries() -> None:
    assert labels_each(384, 21) == 20
    assert labels_each(384, 77) * 384 <= LARGEST < (labels_each(384, 77) + 1) * 384
    assert labels_each(LARGEST + 1, 5) == 1
    with pytest.raises(UsageError, match="2 classes"):
        labels_each(384, 1)


@pytest.mark.parametrize("mu", [0.5, 1.5])
def test_one_round_of_class_sums_is_worth_what_gaussian_noise_leaves(mu: float) -> None:
    """Class sums of canaries are orthogonal: AUC = Φ(μ/√2), Dong, Roth and Su 2022."""
    generator = np.random.default_rng(7)
    found = drawn(384, 21, owners=2, generator=generator)
    model = heads.initial(384, 0, 21, 1, False)
    norm = math.sqrt(384)
    shown = Sighting(
        of=CLASS_SUMS,
        model=model,
        seen=np.zeros(21 * 384),
        background=np.zeros(21 * 384),
        clipping_norm=norm,
    )
    rows = taken(found.canaries.examples, found.canaries.included)
    total = parts_sum(shown, row_errors(shown, rows), rows)
    own = norm / mu * generator.standard_normal(total.size)
    seen = Seen(
        of=CLASS_SUMS,
        model=model,
        clipping_norm=norm,
        total=total + own + norm / mu * generator.standard_normal(total.size),
        known=np.zeros(total.size),
        unclipped_known=np.zeros(total.size),
        own=own,
        one=own,
        members=2,
        deviation=norm / mu,
    )
    told = scores([seen], found)
    assert set(told) == set(VIEWS) - {DIFFERENCES}
    included = found.canaries.included
    reached = auc(told[OWN][included], told[OWN][~included])
    closed_form = 0.5 * (1 + math.erf(mu / 2))
    assert reached == pytest.approx(closed_form, abs=5 * 0.5 / math.sqrt(3 * found.count / 2))


def test_a_way_of_looking_is_left_out_where_no_rounds_allow_it() -> None:
    assert possible_views([(CLASS_SUMS, 1.0), (GRADIENTS, 1.0)]) == tuple(
        v for v in VIEWS if v != DIFFERENCES
    )
    assert possible_views([(GRADIENTS, 1.0), (GRADIENTS, 2.0)])[-1] == SHARED
    assert possible_views([(CLASS_SUMS, 9.0), (GRADIENTS, 2.0), (GRADIENTS, 2.0)]) == VIEWS


def test_half_of_the_guesses_are_that_a_canary_was_left_out() -> None:
    scores_of = np.array([0.9, 0.1, 0.8, 0.2, 0.5, 0.4])
    included = np.array([True, False, False, True, False, False])
    assert guessed_right(scores_of, included, 4) == 2
    assert guessed_right(scores_of, included, 2) == 2
