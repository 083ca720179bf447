"""What a site counts, that one unit changes it by 2 at most, and when it refuses to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.cache_uses import note_use
from components.agreement.released_sum import shapes_of
from components.agreement.site_update import update_key
from components.artifacts import tensors
from components.artifacts.stores import key_of, reference
from components.encryption.update_vector import to_vector
from components.errors import BadDataError, PrivacyBudgetExceededError, RefusedError
from components.evaluation.count_commitment.counting import confusion_counts, count, units_of
from components.privacy.charging import open_ledger
from components.privacy.mechanism import STEPS
from components.privacy.round_noise import round_mechanism
from components.training.features import read_features
from components.training.local_training.training import train
from tests.components.aggregation.three_sites import CLASSES, NOISE, ThreeSites, privacy_policy, set_policy
from tests.components.evaluation.count_commitment.counted_sites import (
    COUNTED,
    allow,
    metrics_ticket,
    noised,
    start,
    with_metrics,
)


def entries_of(site: str) -> int:
    return len(open_ledger(privacy_policy("small", site)).entries())


def drawn(rows: int, seed: int, units: int = 0) -> tuple[NDArray[np.int64], ...]:
    generator = np.random.default_rng(seed)
    found = [generator.integers(0, CLASSES, rows) for _ in range(2)]
    return (*found, generator.integers(0, units, rows)) if units else tuple(found)


class TestCounts:
    def test_every_row_is_counted_where_it_belongs(self) -> None:
        labels, predictions, adapted = map(np.array, ([0, 1, 1, 2], [0, 2, 1, 0], [0, 1, 0, 2]))
        total, rows = confusion_counts(labels, predictions, adapted, classes=3)
        assert rows == 4
        assert total.tolist() == [2, 3, 1, 0, 0, 0, 1, 1, 1, 0, 0]

    def test_without_the_adapted_model_it_is_not_counted(self) -> None:
        labels, predictions = map(np.array, ([0, 1, 1, 2], [0, 2, 1, 0]))
        total, rows = confusion_counts(labels, predictions, classes=3)
        assert (rows, total.tolist()) == (4, [2, 1, 0, 0, 0, 1, 1, 1, 0, 0])

    def test_no_rows_are_zeros(self) -> None:
        none = np.zeros(0, np.int64)
        total, rows = confusion_counts(none, none, none, classes=CLASSES)
        assert (rows, total.tolist()) == (0, [0.0] * (2 + CLASSES**2))
        assert confusion_counts(none, none, none, classes=CLASSES, units=none)[1] == 0

    def test_the_rows_of_a_unit_are_averaged(self) -> None:
        labels, predictions, adapted = map(np.array, ([0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]))
        total, units = confusion_counts(labels, predictions, adapted, classes=2, units=np.array([7, 7, 3, 7]))
        assert units == 2
        third = 1 / 3
        expected = [2 * third + 1, 3 * third, third, third, 0, third + 1]
        np.testing.assert_allclose(total, expected, rtol=1e-15)

    @pytest.mark.parametrize("units", [0, 12])
    def test_under_an_epsilon_one_row_or_unit_changes_everything_together_by_root_3(self, units: int) -> None:
        largest = 0.0
        for seed in range(60):
            rows = drawn(80, seed, units)
            of = rows[2] if units else np.arange(80)
            for each in np.unique(of):
                rest = vector([column[of != each] for column in rows])
                largest = max(largest, float(np.linalg.norm(vector(rows) - rest)))
        assert largest <= math.sqrt(3) * (1 + 1e-12)
        assert largest > (1.4 if units else 1.7)  # the bound is not far

    def test_a_row_that_is_right_reaches_the_bound_which_the_mechanism_covers(self) -> None:
        one = np.zeros(1, np.int64)
        assert np.linalg.norm(vector([one, one])) == pytest.approx(math.sqrt(3), rel=1e-15)
        three = start(privacy=COUNTED)
        mechanism = round_mechanism(three.charter, 1, shapes_of(three.place("alpha").model()), "metrics")
        assert mechanism.clipping_norm == math.sqrt(2)
        assert mechanism.dimensions == 1 + CLASSES**2
        # In steps of C / 2^20, and both roundings beyond it.
        assert math.sqrt(3) / math.sqrt(2) * STEPS < mechanism.sensitivity < math.sqrt(1.5) * STEPS + 9

    def test_under_an_epsilon_nothing_is_counted_that_training_rows_change(self) -> None:
        """The adapted model depends on each of them, so it is not counted: none is needed."""
        counted = with_metrics(start(privacy=COUNTED))
        features = counted.round.features("alpha")
        count(counted.place("alpha"), features=features, adaptation="")
        kept = np.load(counted.round.store_folder("alpha") / update_key(counted.metrics.opened.ticket))
        assert kept.shape == (1 + CLASSES**2 + 1,)


def vector(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Counts and rows of labels, predictions, and units where there are three."""
    labels, predictions = rows[:2]
    units = rows[2] if len(rows) > 2 else None
    return np.append(*confusion_counts(labels, predictions, classes=CLASSES, units=units))


class TestSite:
    def test_what_is_kept_is_whole_counts_without_noise(self) -> None:
        counted = with_metrics(start())
        counted.count("alpha")
        kept = np.load(counted.round.store_folder("alpha") / update_key(counted.metrics.opened.ticket))
        before, after = counted.evaluations("alpha")
        assert kept.dtype.kind == "i"
        assert kept[0] == np.trace(before.confusion)
        assert kept[1] == np.trace(after.confusion)
        assert kept[2:-1].tolist() == before.confusion.ravel().tolist()
        assert kept[-1] == before.num_examples

    def test_a_site_without_test_rows_takes_part_with_zeros(self) -> None:
        counted = with_metrics(start())
        path = counted.round.store_folder("beta") / "features/synthetic.safetensors"
        counted.adaptation("beta")
        stored = dict(tensors.decode_any(path.read_bytes()))
        path.write_bytes(tensors.encode(stored | {"is_test": np.zeros_like(stored["is_test"])}))
        counted.opened()
        before, _ = counted.pooled(["alpha", "delta", "gamma"])
        assert counted.total()[-1] == before.num_examples

    def test_more_test_rows_than_the_sum_has_room_for_are_told_without_their_number(self) -> None:
        charter = start().charter
        most = (2**22 - 1) // len(charter.sites)
        with pytest.raises(BadDataError, match="the most that a site can count") as told:
            to_vector(charter, np.zeros(18), most * 3, round_number=1, shapes={}, purpose="metrics")
        assert str(most * 3) not in told.value.disclosed

    def test_noise_is_drawn_and_paid_for_once(self) -> None:
        counted = with_metrics(start(privacy=COUNTED))
        first = counted.count("alpha")
        place = counted.place("alpha")
        vector = place.store.read(update_key(place.ticket))
        assert counted.count("alpha") == first
        assert place.store.read(update_key(place.ticket)) == vector
        # Killed after the noise was drawn and before anything was published.
        (counted.round.exchange_folder / f"{place.ticket.folder}/commitments/alpha.json").unlink()
        assert counted.count("alpha").reference == first.reference
        assert place.store.read(update_key(place.ticket)) == vector
        assert entries_of("alpha") == 2


class TestRefused:
    def test_unless_the_policy_lets_its_rows_be_counted(self) -> None:
        counted = with_metrics(start())
        for release in ("aggregate", "per_site"):
            allow(counted.round, "alpha", release)
            counted.count("alpha")
        allow(counted.round, "beta", "none")
        with pytest.raises(RefusedError, match="does not allow its figures to be published aggregate"):
            counted.count("beta")
        assert not counted.place("beta").store.keys("tickets/000000001-000001-metrics.json")

    def test_each_step_works_under_its_own_purpose(self) -> None:
        counted = with_metrics(start(privacy=COUNTED))
        features, adaptation = counted.round.features("alpha"), counted.adaptation("alpha")
        with pytest.raises(RefusedError, match="of purpose metrics, this one's is update"):
            count(counted.round.place("alpha"), features=features, adaptation=adaptation)
        counted.metrics.accepted("alpha")
        with pytest.raises(RefusedError, match="of purpose update, this one's is metrics"):
            train(counted.place("alpha"), features=features, device="cpu")

    def test_when_the_budget_does_not_hold_it_and_nothing_is_charged(self) -> None:
        three = start(privacy=COUNTED)
        counted = with_metrics(three)
        cost = open_ledger(privacy_policy("small", "alpha"))
        spent = cost.statement(now=cost.entries()[0].time).epsilon_spent
        _budget(three, "alpha", epsilon=spent * 1.0001)
        with pytest.raises(PrivacyBudgetExceededError):
            counted.count("alpha")
        assert entries_of("alpha") == 1

    def test_with_less_noise_than_the_policy_asks_for(self) -> None:
        three = start(privacy=noised(1, sigma=2.0))
        counted = with_metrics(three)
        _budget(three, "alpha", least_noise_multiplier=2.5)
        with pytest.raises(RefusedError, match=r"at least 2\.5, round 1 has 2"):
            counted.count("alpha")

    def test_rows_of_no_unit_where_units_are_protected(self) -> None:
        three = start(privacy=COUNTED)
        test = read_features(three.place("alpha").store, three.features("alpha")).test
        assert units_of(three.charter, test) is None
        of_patients = replace(three.charter, privacy=replace(COUNTED, unit="patient", rows_per_unit=3))
        with pytest.raises(BadDataError, match="which patient a test row is of"):
            units_of(of_patients, test)

    def test_features_of_other_rows_than_the_rounds_where_units_have_a_cap(self) -> None:
        """A reference is the coordinator's: features of an earlier cap would count more rows of a patient."""
        counted = with_metrics(_of_patients())
        counted.count("alpha")
        store = counted.round.place("beta").store
        earlier = "features/earlier.safetensors"
        store.create(earlier, store.read(key_of(store, counted.round.features("beta"))))
        with pytest.raises(RefusedError, match="not features of the rows that the site has counted"):
            count(counted.place("beta"), features=reference(store, earlier), adaptation="")
        assert not store.exists(update_key(counted.metrics.opened.ticket))

    def test_no_ticket_is_issued_where_nothing_is_set_aside(self) -> None:
        three = start(privacy=NOISE)
        assert metrics_ticket(three, three.committed()) == ""
        open_to_all = start_in_clear()
        assert metrics_ticket(open_to_all, open_to_all.committed()) == ""


def _of_patients() -> ThreeSites:
    """Sites that protect patients with at most three rows each, whose features were made in this round."""
    three = start(privacy=replace(COUNTED, unit="patient", rows_per_unit=3))
    for site in three.sites:
        set_policy(
            three.name,
            site,
            charter=three.charter.digest,
            protections=(three.charter.protection,),
            evaluation="aggregate",
            privacy=privacy_policy(three.name, site, unit="patient", rows_per_unit=3),
        )
        place, features = three.place(site), three.features(site)
        path = three.store_folder(site) / key_of(place.store, features)
        arrays = tensors.decode_any(path.read_bytes())
        path.write_bytes(tensors.encode({**arrays, "units": np.arange(len(arrays["labels"])) // 3}))
        note_use(place.store, place.ticket, key_of(place.store, features))
    return three


def start_in_clear() -> ThreeSites:
    return ThreeSites.start("clear", protection="none")


def _budget(three: ThreeSites, site: str, **changes: float) -> None:
    charter = three.charter
    set_policy(
        three.name,
        site,
        charter=charter.digest,
        protections=(charter.protection,),
        evaluation="aggregate",
        privacy=privacy_policy(three.name, site, **changes),
    )
