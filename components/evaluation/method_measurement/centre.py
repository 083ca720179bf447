"""The same head without a federation and without privacy: all rows in one place."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from components.evaluation.method_measurement.configurations import Configuration
from components.evaluation.method_measurement.experiment import VALIDATION
from components.evaluation.rehearsal.corpus import Corpus
from components.evaluation.rehearsal.dealing import is_validation, taken
from components.evaluation.rehearsal.rounds import accuracy
from components.training import heads
from components.training.features import Examples
from components.training.local_training.federated_averaging import local_update

LEARNING_RATES: Final = (0.03, 0.01)
BATCH: Final = 32


def centralised(configuration: Configuration, corpus: Corpus) -> dict[str, Any]:
    """Test accuracy of minibatch SGD on all rows, with what does best on validation rows: rate and epochs."""
    seed, epochs = configuration["seed"], configuration["epochs"]
    train, test = corpus.examples(configuration["features"])
    held = is_validation(len(train.labels), share=VALIDATION, seed=seed)
    fitting, validation = taken(train, ~held), taken(train, held)
    classes = len(corpus.classes)
    found = []
    for rate in LEARNING_RATES:
        curve = _curve(fitting, validation, classes, rate=rate, epochs=epochs, seed=seed)
        place = int(np.argmax(curve))
        found.append((curve[place], rate, place + 1))
    _, rate, best = max(found)
    curve = _curve(train, test, classes, rate=rate, epochs=best, seed=seed)
    return {"accuracy": curve[-1], "epochs": best, "learning_rate": rate}


def _curve(
    train: Examples, measured: Examples, classes: int, *, rate: float, epochs: int, seed: int
) -> list[float]:
    """Accuracy after every epoch of a linear head."""
    model = heads.initial(train.features.shape[1], 0, classes, seed)
    curve = []
    for epoch in range(epochs):
        update = local_update(
            model,
            train,
            local_epochs=1,
            learning_rate=rate,
            batch_size=BATCH,
            seed=1000 * seed + epoch,
            device="cpu",
        )
        model = {name: (values + update[name]).astype(np.float32) for name, values in model.items()}
        curve.append(accuracy(model, measured))
    return curve
