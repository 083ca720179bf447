"""Sealed bytes: what an attack reads off words before they are masked, and that it reads nothing after."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.released_sum import WEIGHTED_UPDATES
from components.encryption.ckks.context import generate_contexts
from components.encryption.ckks.roles import HeSealer
from components.encryption.framing import HEADER_BYTES
from components.encryption.masking.masks import Masks
from components.encryption.ring import RingSealer
from components.errors import UsageError
from components.evaluation.attacks.advantage import auc, chance_interval
from components.evaluation.attacks.canaries import Canaries, Sighting, drawn_canaries, trajectory_scores
from components.evaluation.attacks.inversion import candidate_scores, inverted
from components.evaluation.attacks.label_inference import presence_scores
from components.evaluation.attacks.opaque import as_numbers
from tests.components.evaluation.attacks.population import blank, rows, taken, updated, zeros

Float = NDArray[np.float64]
CLASSES, FEATURES = 8, 64
LENGTH = CLASSES * (FEATURES + 1)
CERTAIN = 1 - 1e-9
"""Confidence of the interval of chance: TenSEAL draws its own randomness, and one test in a billion fails."""
SCALE = 2.0**20


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    return drawn_canaries(
        400, sites=1, features=FEATURES, classes=CLASSES, generator=np.random.default_rng(1)
    )


@pytest.fixture(scope="module")
def update(canaries: Canaries) -> Float:
    """Δw of one site whose only rows are the canaries that it includes."""
    return updated(blank(CLASSES, FEATURES), taken(canaries.examples, canaries.included))


def strengths(numbers: Float, canaries: Canaries) -> dict[str, float]:
    """AUC of every variant on a vector."""
    model = blank(CLASSES, FEATURES)
    sighting = Sighting(of=WEIGHTED_UPDATES, model=model, seen=numbers, background=zeros(model))
    public = rows(300, classes=CLASSES, features=FEATURES, seed=2)
    scores = trajectory_scores([sighting], canaries.examples, public)
    scores |= {name: candidate_scores(found, canaries.examples) for name, found in inverted(sighting).items()}
    return {name: auc(each[canaries.included], each[~canaries.included]) for name, each in scores.items()}


def test_words_before_they_are_masked_give_canaries_away(update: Float, canaries: Canaries) -> None:
    blob = np.rint(update * SCALE).astype("<i4").tobytes()
    found = strengths(as_numbers(blob, LENGTH), canaries)
    assert found["jointly"] > 0.99
    assert found["rounds by their noise"] > 0.8


def test_masked_words_are_at_chance(update: Float, canaries: Canaries) -> None:
    values = np.rint(update * SCALE).astype(np.int32)
    masks = Masks(added=(bytes(range(32)),), subtracted=(bytes(range(1, 33)),))
    blob = b"".join(RingSealer("masked", b"", masks, sites=4).seal(values))
    members = int(canaries.included.sum())
    low, high = chance_interval(members, 400 - members, CERTAIN)
    for name, found in strengths(as_numbers(blob, LENGTH), canaries).items():
        assert low < found < high, name


def test_ciphertexts_are_at_chance(update: Float, canaries: Canaries) -> None:
    public_context, _ = generate_contexts()
    blob = b"".join(HeSealer(public_context).seal(update))
    members = int(canaries.included.sum())
    low, high = chance_interval(members, 400 - members, CERTAIN)
    numbers = as_numbers(blob, LENGTH)
    for name, found in strengths(numbers, canaries).items():
        assert low < found < high, name
    model = blank(CLASSES, FEATURES)
    sighting = Sighting(of=WEIGHTED_UPDATES, model=model, seen=numbers, background=zeros(model))
    scores = presence_scores(sighting, rows(300, classes=CLASSES, features=FEATURES, seed=3))
    assert all(np.isfinite(values).all() for values in scores.values())


def test_numbers_have_mean_0_and_variance_1_by_place_in_a_pair() -> None:
    words = np.random.default_rng(4).integers(0, 2**60, 500, dtype=np.uint64)
    numbers = as_numbers(words.astype("<u8").tobytes(), 1000)
    for place in (0, 1):
        assert numbers[place::2].mean() == pytest.approx(0, abs=1e-12)
        assert numbers[place::2].std() == pytest.approx(1)
    again = as_numbers(b"XCSEALED" + bytes(HEADER_BYTES - 8) + words.astype("<u8").tobytes(), 1000)
    assert np.array_equal(numbers, again)


def test_values_beyond_the_last_word_are_zero_and_words_beyond_the_last_value_unread() -> None:
    blob = np.arange(6, dtype="<i4").tobytes() + b"abc"
    assert as_numbers(blob, 9)[6:].tolist() == [0, 0, 0]
    assert np.array_equal(as_numbers(blob, 4), as_numbers(blob[:16], 4))
    assert as_numbers(bytes(12), 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("blob", "length"), [(b"", 3), (b"abc", 3), (bytes(40), 0), (b"XCSEALED", 1)])
def test_what_holds_no_word_is_refused(blob: bytes, length: int) -> None:
    with pytest.raises(UsageError, match="no word"):
        as_numbers(blob, length)
