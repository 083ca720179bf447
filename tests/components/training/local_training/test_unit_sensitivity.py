"""What one unit of privacy can move of a site's integers, by search for one that moves them by more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.agreement.released_sum import shapes_of
from components.errors import BadDataError, RefusedError
from components.privacy.events import DiscreteGaussianSum
from components.privacy.mechanism import STEPS
from components.privacy.round_noise import round_event, round_mechanism
from components.training import heads
from components.training.features import Examples
from components.training.local_training.contributions import contribution
from tests.components.agreement.signed_form import NOISE, NOISED, TICKET

FEATURES, CLASSES = 12, 4
MOST_ROWS = 50
PATIENTS = replace(
    NOISED,
    max_examples=10_000,
    privacy=replace(NOISE, first_round=1, unit="patient", rows_per_unit=MOST_ROWS, class_sum_start=True),
)
"""Round 1 sums features by class, rounds 2 and 3 gradients; C = 2.5, beta = 0.125."""
ROUNDS = {"class sums": 1, "gradients": 2}
rounds = pytest.mark.parametrize("released", ROUNDS)
Row = tuple[NDArray[np.float32], int]


def head(seed: int = 0, size: float = 0.5) -> heads.Head:
    generator = np.random.default_rng(seed)
    like = heads.initial(FEATURES, 0, CLASSES, 0)
    return {name: generator.normal(0, size, array.shape).astype(np.float32) for name, array in like.items()}


def patients(count: int = 25, seed: int = 0) -> Examples:
    """Patients of 1 to 50 rows, few of whom have many, with features as `augment` stores them."""
    generator = np.random.default_rng(seed)
    sizes = np.minimum(generator.zipf(1.6, count), MOST_ROWS)
    units = np.repeat(generator.integers(-(2**63), 2**63 - 1, count), sizes)
    return Examples(
        features=unit_length(generator.normal(size=(len(units), FEATURES))),
        labels=generator.integers(CLASSES, size=len(units)),
        units=units,
    )


def unit_length(features: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows at norm √d."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (features / lengths * np.sqrt(FEATURES)).astype(np.float32)
    return scaled


def joined(rows: Examples, features: NDArray[np.float32], labels: NDArray[np.int64], unit: int) -> Examples:
    """The same data set with one patient more, wherever his digest stands among the others'."""
    assert rows.units is not None
    assert not (rows.units == unit).any()
    return Examples(
        features=np.concatenate([rows.features, features]),
        labels=np.concatenate([rows.labels, labels]),
        units=np.concatenate([rows.units, np.full(len(labels), unit)]),
    )


def integers(
    rows: Examples, round_number: int, model: heads.Head, norm: float | None = None
) -> NDArray[np.int64]:
    """A site's vector before noise: what `mechanism.noisy_integers` rounds, written apart from it."""
    charter = replace(PATIENTS, clipping_norm=norm, largest_value=norm) if norm else PATIENTS
    total, count = contribution(
        charter, replace(TICKET, round_number=round_number), "alpha", model, rows, device="cpu"
    )
    scale = round_mechanism(charter, round_number, shapes_of(model)).clipping_norm / STEPS
    beta = charter.privacy.count_weight  # type: ignore[union-attr]
    rounded: NDArray[np.int64] = np.rint(np.append(total / scale, beta * STEPS * count)).astype(np.int64)
    return rounded


def moved(rows: Examples, neighbour: Examples, round_number: int, model: heads.Head) -> float:
    """Norm of what the neighbour's vector differs by, as a share of the sensitivity."""
    change = integers(neighbour, round_number, model) - integers(rows, round_number, model)
    sensitivity = round_mechanism(PATIENTS, round_number, shapes_of(model)).sensitivity
    return float(np.linalg.norm(change.astype(np.float64))) / sensitivity


@st.composite
def adversaries(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A patient's rows: all alike, in pairs that cancel, in all directions, of any length."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, MOST_ROWS))
    kind = draw(st.sampled_from(["aligned", "cancelling", "scattered", "one class"]))
    features = generator.normal(size=(count, FEATURES))
    labels = generator.integers(CLASSES, size=count)
    if kind == "aligned":
        features, labels = np.repeat(features[:1], count, axis=0), np.repeat(labels[:1], count)
    elif kind == "cancelling":
        features = np.repeat(features[: (count + 1) // 2], 2, axis=0)[:count]
        features[1::2] *= -1
        labels = np.repeat(labels[:1], count)
    elif kind == "one class":
        labels = np.repeat(labels[:1], count)
    length = np.exp(draw(st.floats(-8, 4)))
    return (unit_length(features) * np.float32(length)), labels


class TestNeighbours:
    @rounds
    @settings(max_examples=40)
    @given(rows=adversaries(), unit=st.integers(-(2**63), 2**63 - 1), seed=st.integers(0, 5))
    def test_no_patient_moves_the_sum_by_more_than_the_sensitivity(
        self, released: str, rows: tuple[NDArray[np.float32], NDArray[np.int64]], unit: int, seed: int
    ) -> None:
        data = patients(seed=seed)
        assert moved(data, joined(data, *rows, unit), ROUNDS[released], head(seed)) <= 1

    @rounds
    @pytest.mark.parametrize("count", [1, 8, MOST_ROWS])
    def test_a_patient_whose_rows_agree_moves_it_by_all_of_it(self, released: str, count: int) -> None:
        """Or the noise would be more than is needed: his gradient is clipped to C, and he is counted once."""
        generator = np.random.default_rng(count)
        features = np.repeat(unit_length(generator.normal(size=(1, FEATURES))), count, axis=0)
        labels = np.zeros(count, np.int64)
        data = patients()
        found = moved(data, joined(data, features, labels, 7), ROUNDS[released], head(size=0.0))
        assert 0.99 <= found <= 1

    @rounds
    def test_an_ascent_over_rows_and_labels_ends_at_the_sensitivity(self, released: str) -> None:
        """Coordinate by coordinate, from rows that cancel: what is found is C and never beyond."""
        generator = np.random.default_rng(3)
        model, data, number = head(1, 0.1), patients(10), ROUNDS[released]
        features = unit_length(np.repeat(generator.normal(size=(4, FEATURES)), 2, axis=0)) * np.float32(0.02)
        features[1::2] *= -1
        labels = np.arange(8) // 2 % CLASSES
        best = start = moved(data, joined(data, features, labels, 7), number, model)
        for _ in range(120):
            tried, named = features.copy(), labels.copy()
            row = generator.integers(8)
            tried[row] = np.clip(tried[row] + generator.normal(0, 0.5, FEATURES), -2, 2)
            named[row] = generator.integers(CLASSES)
            found = moved(data, joined(data, tried, named, 7), number, model)
            assert found <= 1
            if found >= best:
                features, labels, best = tried, named, found
        assert start < 0.9
        assert best >= 0.99

    def test_the_same_rows_without_units_move_it_by_their_number(self) -> None:
        """What clipping by unit is for, and what m²ρ pays for without it."""
        by_rows = replace(PATIENTS, privacy=replace(PATIENTS.privacy, unit="row"))  # type: ignore[type-var]
        model, data = head(size=0.0), patients()
        features = unit_length(np.repeat(np.ones((1, FEATURES)), 8, axis=0))
        neighbour = joined(data, features, np.zeros(8, np.int64), 7)
        sums = [
            contribution(by_rows, replace(TICKET, round_number=2), "alpha", model, each, device="cpu")
            for each in (data, neighbour)
        ]
        assert np.linalg.norm(sums[1][0] - sums[0][0]) == pytest.approx(8 * 2.5, rel=1e-9)
        assert sums[1][1] - sums[0][1] == 8
        priced = round_event(by_rows, 2, shapes_of(model))
        assert isinstance(priced, DiscreteGaussianSum)
        assert priced.rows_per_unit == MOST_ROWS
        assert round_event(PATIENTS, 2, shapes_of(model)) == replace(priced, rows_per_unit=1)


class TestOthers:
    """Whoever joins, what the others add stays as it is: their rounding too.

    In blocks of 256 rows, their norms from pairs of rows, the patient below moved the sum by 12.6 steps.
    """

    NORM = 1e-5

    def cancelling(self) -> Examples:
        """300 patients of four rows whose gradients are a million times as long as their sum."""
        generator = np.random.default_rng(5)
        features = np.repeat(unit_length(generator.normal(size=(600, FEATURES))), 2, axis=0)
        features[1::2] += generator.normal(0, 3e-6, size=(600, FEATURES)).astype(np.float32)
        labels = np.tile([0, 1], 600)
        return Examples(features=features, labels=labels, units=np.repeat(np.arange(300), 4))

    def change(self) -> float:
        """Steps by which a patient with a gradient of zero moves what others add."""
        rows = self.cancelling()
        model = {"output.weight": np.zeros((2, FEATURES), np.float32), "output.bias": np.zeros(2, np.float32)}
        nothing = np.zeros((2, FEATURES), np.float32)
        neighbour = joined(rows, nothing, np.array([0, 1]), -1)
        first, second = (integers(each, 2, model, norm=self.NORM) for each in (rows, neighbour))
        return float(np.linalg.norm((second - first)[:-1].astype(np.float64)))

    def test_a_patient_who_adds_nothing_changes_nothing(self) -> None:
        assert self.change() == 0


class TestCounting:
    def test_what_is_counted_are_patients(self) -> None:
        rows = patients()
        for number in ROUNDS.values():
            ticket = replace(TICKET, round_number=number)
            _, count = contribution(PATIENTS, ticket, "alpha", head(), rows, device="cpu")
            assert count == 25 < len(rows.labels)

    def test_rows_are_bounded_by_the_charter_all_the_same(self) -> None:
        rows = patients()
        few = replace(PATIENTS, max_examples=len(rows.labels) - 1)
        with pytest.raises(BadDataError, match="allowed are 1 to"):
            contribution(few, replace(TICKET, round_number=2), "alpha", head(), rows, device="cpu")

    def test_features_that_name_no_unit_are_refused(self) -> None:
        with pytest.raises(RefusedError, match="do not say which rows are of one") as caught:
            contribution(
                PATIENTS,
                replace(TICKET, round_number=2),
                "alpha",
                head(),
                replace(patients(), units=None),
                device="cpu",
            )
        assert caught.value.disclosed

    @rounds
    def test_nobody_adds_nothing(self, released: str) -> None:
        nobody = Examples(
            features=np.zeros((0, FEATURES), np.float32),
            labels=np.zeros(0, np.int64),
            units=np.zeros(0, np.int64),
        )
        assert not integers(nobody, ROUNDS[released], head()).any()
