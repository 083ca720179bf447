"""A rehearsal's models are those of the pipeline's own steps, and noise is as much as the plan says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from components.agreement.methods import COMPARED
from components.agreement.model_store import read_model
from components.agreement.released_sum import CLASS_SUMS, GRADIENTS
from components.artifacts.stores import open_store
from components.errors import CrosscloudError
from components.evaluation.rehearsal.plans import Plan
from components.evaluation.rehearsal.rounds import Rehearsal, accuracy
from components.training.features import Examples, read_features
from tests.components.evaluation.rehearsal.made import CLASSES, FEATURES, made_corpus
from tests.components.evaluation.rehearsal.test_plans import plan_of
from tests.conftest import SmallFederation
from tests.pipelines.round_in_process import RoundInProcess


def sites_of(count: int = 4) -> dict[str, Examples]:
    train = made_corpus().train
    return {
        f"cloud-{number + 1}": Examples(
            features=train.features[number::count], labels=train.labels[number::count]
        )
        for number in range(count)
    }


@pytest.mark.parametrize(("protection", "method"), [("none", "fedavg"), ("smc", "smc-fl"), ("he", "he-fl")])
def test_a_rehearsed_round_commits_the_model_of_the_pipelines_own_steps(
    small_federation: Callable[..., SmallFederation], protection: str, method: str
) -> None:
    made = small_federation(
        protection=protection,
        training={"learning_rate": 0.05, "local_epochs": 1, "batch_size": 64, "seed": 3},
        quorum={"min_sites": 3},
        limits={"max_examples": 64, "largest_value": 4.0},
    )
    real = RoundInProcess(made)
    real.finish()
    exchange = open_store(real.federation.exchange_uri)
    sites = {
        site: read_features(open_store(real.federation.site(site).store_uri), real.features[site]).train
        for site in real.sites
    }
    plan = Plan(method=method, rounds=1, learning_rate=0.05)
    (rehearsed,) = Rehearsal(plan, sites, classes=3, seed=3).rounds()
    committed = read_model(exchange, real.model)
    for name, values in committed.items():
        if protection == "none":
            np.testing.assert_array_equal(rehearsed.after[name], values)
        else:
            # CKKS rounds as it draws; fixed point has its step by the bounds of the charter.
            np.testing.assert_allclose(rehearsed.after[name], values, atol=2e-6)


def test_averaging_makes_the_same_model_under_every_protection() -> None:
    finals = {}
    for method in ("fedavg", "smc-fl", "he-fl"):
        *_, last = Rehearsal(
            replace(plan_of(method), method=method), sites_of(), classes=CLASSES, seed=1
        ).rounds()
        finals[method] = last.after
    for method in ("smc-fl", "he-fl"):
        for name, values in finals["fedavg"].items():
            np.testing.assert_allclose(finals[method][name], values, atol=2e-5)


@pytest.mark.parametrize("method", [name for name in COMPARED if name != "he-fl"])
def test_the_same_seed_makes_the_same_models_and_another_seed_others(method: str) -> None:
    models = []
    for seed in (1, 1, 2):
        *_, last = Rehearsal(plan_of(method), sites_of(), classes=CLASSES, seed=seed).rounds()
        models.append(last.after["output.weight"])
    np.testing.assert_array_equal(models[0], models[1])
    assert not np.array_equal(models[0], models[2])


def test_every_method_learns_what_there_is_to_learn() -> None:
    corpus = made_corpus(apart=2.0)
    for method in COMPARED:
        plan = replace(plan_of(method), rounds=10)
        if method == "ours":
            plan = replace(plan, learning_rate=1.0)
        *_, last = Rehearsal(plan, sites_of(), classes=CLASSES, seed=1).rounds()
        guess = 1 / CLASSES
        assert accuracy(last.after, corpus.test) > 2 * guess, method


def test_ours_begins_with_class_sums_and_goes_on_with_gradients() -> None:
    kinds = [found.of for found in Rehearsal(plan_of("ours"), sites_of(), classes=CLASSES, seed=1).rounds()]
    assert kinds == [CLASS_SUMS, *[GRADIENTS] * 5]


def test_the_noise_of_an_opened_sum_is_that_of_all_sites_shares() -> None:
    plan = replace(plan_of("ours"), start_fraction=0.0)
    sites = sites_of()
    rehearsal = Rehearsal(plan, sites, classes=CLASSES, seed=1)
    found = rehearsal.round(1)
    exact = sum(
        rehearsal.contribution(rehearsal.ticket(1), found.before, site, rows)[0]
        for site, rows in sites.items()
    )
    deviation = rehearsal.noise_deviation(1, len(sites))
    noise = (found.opened[:-1] - exact) / deviation
    # 396 draws: the variance of their mean square is 2/396, ten deviations are 0.7.
    assert 0.3 < float(np.mean(noise**2)) < 1.7
    assert rehearsal.noise_deviation(1, 1) == pytest.approx(deviation / 2)
    assert Rehearsal(plan_of("fedavg"), sites, classes=CLASSES, seed=1).noise_deviation(1, 4) == 0


def test_repetitions_of_a_round_draw_noise_of_their_own() -> None:
    rehearsal = Rehearsal(plan_of("ours"), sites_of(), classes=CLASSES, seed=1)
    rows = sites_of()["cloud-1"]
    drawn = [
        rehearsal.vector(rehearsal.ticket(1), rehearsal.genesis, "cloud-1", rows, repetition=number)
        for number in (0, 0, 1)
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_training_that_diverges_is_an_error_and_not_a_model() -> None:
    plan = Plan(method="fedavg", rounds=3, learning_rate=3e38)
    with pytest.raises(CrosscloudError):
        list(Rehearsal(plan, sites_of(), classes=CLASSES, seed=1).rounds())


def test_no_rows_are_sorted_right_where_there_are_none() -> None:
    nothing = Examples(features=np.zeros((0, FEATURES), np.float32), labels=np.zeros(0, np.int64))
    assert accuracy(Rehearsal(plan_of("fedavg"), sites_of(), classes=CLASSES, seed=1).genesis, nothing) == 0
