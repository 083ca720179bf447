"""Rounds of the private algorithms beside `fedsgd`: class sums first, Gram sums, and noise of one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.agreement.class_sum_head import head_from_class_sums
from components.agreement.model_store import read_committed
from components.agreement.noise_terms import LocalTraining
from components.agreement.receipt import aggregate_key
from components.agreement.released_sum import shapes_of
from components.agreement.ridge_head import gram_length, ridge_head
from components.agreement.server_steps import split, step
from components.agreement.site_update import read_update
from components.artifacts import tensors
from components.artifacts.stores import reference
from components.errors import BadDataError
from components.privacy.accounting import pld_epsilon
from components.privacy.charging import open_ledger
from components.privacy.events import DiscreteGaussianSum, LocalSgd
from components.privacy.round_noise import round_mechanism
from components.rounds.verification import verify_state
from components.training.features import Examples, read_features
from components.training.local_training.class_sums import class_sums
from components.training.local_training.gram_sums import gram_sums
from components.training.local_training.training import train
from tests.components.aggregation.three_sites import (
    CLASSES,
    FEATURES,
    NOISE,
    ThreeSites,
    privacy_policy,
)

LOCAL = LocalTraining(steps=3, sample_rate=0.25, learning_rate=0.5, max_grad_norm=1.0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)


def opened(three: ThreeSites) -> Any:
    content = three.exchange.read(aggregate_key(three.opened.ticket.folder))
    return tensors.decode_any(content)["aggregate"]


def rows_of(three: ThreeSites, site: str) -> Examples:
    return read_features(three.place(site).store, three.features(site)).train


def committed_weights(three: ThreeSites) -> tensors.Tensors:
    """The weights of the model that this attempt committed."""
    return split(read_committed(three.exchange, three.committed().manifest["model"]))[0]


def alike(one: tensors.Tensors, other: tensors.Tensors) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


class TestClassSumStart:
    def start(self) -> ThreeSites:
        return ThreeSites.start(protection="sealed", privacy=replace(NOISE, class_sum_start=True))

    def test_the_first_round_sums_features_by_class_and_the_next_goes_on_from_there(self) -> None:
        three = self.start()
        weights = committed_weights(three)
        total = opened(three)
        assert total.shape == (FEATURES * CLASSES + 1,)
        norm = FEATURES**0.5
        exact = sum(
            class_sums(rows_of(three, site), classes=CLASSES, clipping_norm=norm) for site in three.sites
        )
        shapes = shapes_of(three.place("alpha").model())
        mechanism = round_mechanism(three.charter, 1, shapes)
        assert (mechanism.clipping_norm, mechanism.dimensions) == (norm, FEATURES * CLASSES)
        deviation = mechanism.sum_deviation(3)
        assert deviation / 20 < np.abs(total[:-1] - exact).max() < 8 * deviation
        genesis = three.shape.weights()
        start = head_from_class_sums(total[:-1], head=genesis, logit_scale=32.0, feature_norm=norm)
        assert alike(weights, start)

        following = three.next_round()
        after = committed_weights(following)
        total = opened(following)
        assert total.shape == (FEATURES * CLASSES + CLASSES + 1,)
        state = split(read_committed(following.exchange, following.opened.ticket.model))[1]
        gradient = total[:-1] / max(1.0, total[-1])
        assert alike(after, step("adam", 1.0, start, gradient, state)[0])
        assert verify_state("small/state", keys_uri=three.keys_uri).problems == ()

    def test_each_round_is_charged_for_what_it_releases(self) -> None:
        three = self.start()
        three.committed()
        three.next_round().committed()
        first, second = (entry.event for entry in open_ledger(privacy_policy("small", "alpha")).entries())
        assert isinstance(first, DiscreteGaussianSum)
        assert isinstance(second, DiscreteGaussianSum)
        assert first.dimensions == FEATURES * CLASSES + 1
        assert second.dimensions == FEATURES * CLASSES + CLASSES + 1
        assert (first.noise_multiplier, second.noise_multiplier) == (3.0, 2.5)


class TestAnalytic:
    def start(self, hidden_units: int) -> ThreeSites:
        return ThreeSites.start(
            protection="sealed",
            hidden_units=hidden_units,
            privacy=replace(NOISE, noise_multipliers=(2.0,)),
            algorithm="analytic",
            server_optimizer="ridge",
            cross_weight=2.0,
            ridge=1.5,
        )

    @pytest.mark.parametrize("hidden_units", [0, 5])
    def test_the_round_is_solved_for_the_model(self, hidden_units: int) -> None:
        three = self.start(hidden_units)
        weights = committed_weights(three)
        total = opened(three)
        assert total.shape == (gram_length(FEATURES, hidden_units, CLASSES) + 1,)
        genesis = three.shape.weights()
        public = genesis.get("hidden.weight", np.zeros((0, FEATURES), np.float32))
        exact = sum(
            gram_sums(rows_of(three, site), classes=CLASSES, hidden_weight=public, cross_weight=2.0)
            for site in three.sites
        )
        mechanism = round_mechanism(three.charter, 1, shapes_of(genesis))
        assert mechanism.clipping_norm == 5**0.5
        deviation = mechanism.sum_deviation(3)
        assert deviation / 20 < np.abs(total[:-1] - exact).max() < 8 * deviation
        expected = ridge_head(
            total[:-1],
            classes=CLASSES,
            hidden_weight=public,
            cross_weight=2.0,
            ridge=1.5,
            noise_deviation=deviation,
            feature_norm=FEATURES**0.5,
        )
        # The model's noise deviation is told from the charter alone: equal but for rounding Delta up.
        assert weights.keys() == expected.keys() == genesis.keys()
        for name, values in weights.items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-6)
        assert verify_state("small/state", keys_uri=three.keys_uri).problems == ()


class TestLocalNoise:
    def start(self, **terms: Any) -> ThreeSites:
        return ThreeSites.start(
            protection="none",
            privacy=replace(NOISE, noise_multipliers=(1.5, 1.5), local=LOCAL),
            algorithm="dp-sgd",
            server_optimizer="average",
            clipping_norm=100.0,
            largest_value=10.0,
            **terms,
        )

    def test_sites_count_alike_and_the_model_moves_by_the_mean_update(self) -> None:
        three = self.start()
        weights = committed_weights(three)
        places = map(three.place, three.sites)
        vectors = [read_update(place.store, place.ticket).astype(np.float64) for place in places]
        assert [vector[-1] for vector in vectors] == [1, 1, 1]
        assert np.array_equal(opened(three), np.sum(vectors, axis=0))
        mean = tensors.unflatten(np.mean([vector[:-1] for vector in vectors], axis=0), weights)
        for name, values in three.place("alpha").model().items():
            np.testing.assert_allclose(weights[name], values + mean[name], rtol=1e-6, atol=1e-7)
        assert verify_state("small/state", keys_uri=three.keys_uri).problems == ()

    def test_a_site_pays_for_its_own_steps_by_the_numerical_price(self) -> None:
        three = self.start()
        three.committed()
        three.next_round().committed()
        ledger = open_ledger(privacy_policy("small", "alpha"))
        event = LocalSgd(noise_multiplier=1.5, sample_rate=0.25, steps=3)
        assert [entry.event for entry in ledger.entries()] == [event, event]
        spent = ledger.statement(now=ledger.entries()[-1].time).epsilon_spent
        assert spent == pld_epsilon([replace(event, steps=6)], 1e-5)

    def test_two_draws_of_one_site_differ_and_a_retry_draws_none(self) -> None:
        three = self.start()
        place, features = three.accepted("alpha"), three.features("alpha")
        train(place, features=features, device="cpu")
        first = read_update(place.store, place.ticket)
        train(place, features=features, device="cpu")
        assert np.array_equal(first, read_update(place.store, place.ticket))
        following = three.accepted("beta"), three.features("beta")
        train(following[0], features=following[1], device="cpu")
        assert not np.array_equal(first, read_update(following[0].store, following[0].ticket))


class TestNoTrainingRows:
    """One row would change whether a site takes part: where the count is private it does without any."""

    def empty(self, three: ThreeSites, site: str) -> str:
        arrays: dict[str, Any] = {
            "features": np.zeros((2, FEATURES), np.float32),
            "labels": np.zeros(2, np.int64),
            "is_test": np.ones(2, np.uint8),
        }
        place = three.place(site)
        place.store.create("features/empty.safetensors", tensors.encode(arrays))
        return reference(place.store, "features/empty.safetensors")

    @pytest.mark.parametrize(
        "terms",
        [
            {"privacy": NOISE},
            {"privacy": replace(NOISE, class_sum_start=True)},
            {
                "privacy": NOISE,
                "algorithm": "analytic",
                "server_optimizer": "ridge",
                "cross_weight": 2.0,
                "ridge": 1.0,
            },
        ],
        ids=["fedsgd", "class sums", "analytic"],
    )
    def test_the_site_adds_its_noise_and_nothing_else(self, terms: dict[str, Any]) -> None:
        three = ThreeSites.start(protection="sealed", **terms)
        place = three.accepted("alpha")
        train(place, features=self.empty(three, "alpha"), device="cpu")
        share = round_mechanism(three.charter, 1, shapes_of(place.model())).share_sigma
        values = read_update(place.store, place.ticket).astype(np.float64)
        # Of n draws the deviation is within 5 / sqrt(2 n) of the truth; the count's is one of them.
        assert values.std() == pytest.approx(share, rel=5 / (2 * values.size) ** 0.5)

    def test_under_noise_of_its_own_it_shows_noise_alone(self) -> None:
        three = TestLocalNoise().start()
        place = three.accepted("alpha")
        train(place, features=self.empty(three, "alpha"), device="cpu")
        values = read_update(place.store, place.ticket)
        # Three steps of rate 0.5 and noise 1.5 by a batch that all know, a quarter of 1000 rows.
        deviation = 3**0.5 * 0.5 * 1.5 / 250
        assert values[:-1].std() == pytest.approx(deviation, rel=5 / (2 * values.size) ** 0.5)
        assert values[-1] == 1

    def test_elsewhere_it_is_bad_data(self) -> None:
        three = ThreeSites.start()
        place = three.accepted("alpha")
        with pytest.raises(BadDataError, match="no training rows"):
            train(place, features=self.empty(three, "alpha"), device="cpu")
