"""What adapting brings on each cloud, and on one that joins late with shifted data (Eq. 7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

from components.evaluation.method_measurement.configurations import Configuration
from components.evaluation.method_measurement.experiment import Deal, converging, deal_of
from components.evaluation.rehearsal.corpus import Corpus
from components.evaluation.rehearsal.dealing import taken
from components.evaluation.rehearsal.plans import Plan
from components.evaluation.rehearsal.rounds import accuracy
from components.training import heads
from components.training.adaptation.adaptation import adapted
from components.training.adaptation.closed_form import fit_adaptation
from components.training.features import Examples
from components.training.local_training.federated_averaging import local_update

LATE: Final = "late cloud"
LOCAL_EPOCHS: Final = (2, 5, 10, 20, 40)
LOCAL_RATE: Final = 0.03
LOCAL_BATCH: Final = 32
HELD_OUT: Final = 0.2


def migration(configuration: Configuration, corpus: Corpus, *, plan: Plan) -> dict[str, Any]:
    """Accuracy on each cloud's own test rows: of the global model, adapted, and trained on its rows alone.

    The founders train without the late cloud's rows; it takes the model over and adapts it.
    """
    seed = configuration["seed"]
    deal = _founders(corpus, configuration)
    model = deal.rehearsal(plan, seed=seed).genesis
    for each in converging(deal.rehearsal(replace(plan, method=configuration["method"]), seed=seed)):
        model = each.after
    sites = [
        _site(site, "founder", model, deal.train[site], deal.test[site], seed=seed) for site in deal.train
    ]
    return {"sites": [*sites, _site(LATE, "late", model, corpus.late_train, corpus.late_test, seed=seed)]}


def _founders(corpus: Corpus, configuration: Configuration) -> Deal:
    stays = np.ones(len(corpus.train.labels), bool)
    stays[corpus.late_rows] = False
    founding = replace(
        corpus,
        train=taken(corpus.train, stays),
        train_words=corpus.train_words[stays],
    )
    return deal_of(
        founding,
        sites=configuration["sites"],
        concentration=configuration["concentration"],
        seed=configuration["seed"],
    )


def _site(
    name: str, joined: str, model: heads.Head, train: Examples, test: Examples, *, seed: int
) -> dict[str, Any]:
    delta = fit_adaptation(
        heads.last_layer(model),
        model["output.bias"],
        heads.penultimate(model, train.features),
        train.labels,
        seed=seed,
    )
    change = heads.last_layer_tensors(model, delta.weight_delta) | {"output.bias": delta.bias_delta}
    return {
        "site": name,
        "joined": joined,
        "rows": len(train.labels),
        "test_rows": len(test.labels),
        "before": accuracy(model, test),
        "adapted": accuracy(adapted(model, change), test),
        "local": accuracy(_alone(model, train, seed), test),
    }


def _alone(model: heads.Head, train: Examples, seed: int) -> heads.Head:
    """A linear head of a site's rows alone; how long it trains is chosen on a fifth of them."""
    classes, features = len(model["output.bias"]), train.features.shape[1]
    genesis = heads.initial(features, 0, classes, seed)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(train.labels))
    cut = max(1, round(HELD_OUT * len(order)))
    held, fitting = taken(train, order[:cut]), taken(train, order[cut:])
    scores = [accuracy(_trained(genesis, fitting, epochs, seed), held) for epochs in LOCAL_EPOCHS]
    return _trained(genesis, train, LOCAL_EPOCHS[int(np.argmax(scores))], seed)


def _trained(genesis: heads.Head, rows: Examples, epochs: int, seed: int) -> heads.Head:
    update = local_update(
        genesis,
        rows,
        local_epochs=epochs,
        learning_rate=LOCAL_RATE,
        batch_size=LOCAL_BATCH,
        seed=seed,
        device="cpu",
    )
    return {name: (values + update[name]).astype(np.float32) for name, values in genesis.items()}
