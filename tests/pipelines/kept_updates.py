"""What the sites of a small federation keep of a round, and what the round must have made of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from components.agreement.ticket import Ticket
from components.artifacts.stores import open_store, reference
from components.training.features import read_features
from components.training.local_training.federated_averaging import local_update, site_seed
from tests.conftest import SmallFederation

Vector = NDArray[np.float64]
LARGEST_SUMS = {"sealed": 2**22 - 1, "masked": 2**31 - 1, "smc": 2**31 - 1}
"""Of two values a slot under `sealed`, of words of 32 bits under the others."""


def record(federation: SmallFederation, number: int) -> dict[str, Any]:
    """What the coordinator signed of a committed round."""
    document = json.loads((federation.home / f"small/state/rounds/{number:05d}/round.json").read_text())
    body: dict[str, Any] = document["body"]
    return body


def model(federation: SmallFederation, digest: str) -> Vector:
    """A published model as one vector, in the order of its layers' names."""
    return _flat(load_file(federation.home / f"small/exchange/models/{digest}.safetensors"))


def committed(federation: SmallFederation, number: int) -> Vector:
    """The model of a round, from its checkpoint."""
    (path,) = (federation.home / f"small/state/rounds/{number:05d}").glob("checkpoint-*.safetensors")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == record(federation, number)["model"]
    return _flat(load_file(path))


def kept(federation: SmallFederation, number: int, site: str) -> tuple[Vector, int]:
    """[nᵢ·Δwᵢ] and nᵢ of a round, from the vector that the site keeps in its own store."""
    ticket = record(federation, number)["ticket"]
    vector = np.load(federation.home / f"small/sites/{site}/store/updates/{ticket}.npy")
    if federation.document["protection"] not in LARGEST_SUMS:
        return vector[:-1], int(vector[-1])
    assert vector.dtype == np.int32
    return vector[:-2] / steps(federation), int(vector[-2]) + (bound(federation) + 1) * int(vector[-1])


def trained(federation: SmallFederation, number: int, site: str) -> tuple[NDArray[np.float32], int]:
    """Δwᵢ and nᵢ before anything was done to them: trained once more, which gives the same bytes."""
    folder = federation.home / f"small/exchange/rounds/{number:05d}-{record(federation, number)['attempt']}"
    ticket = Ticket(**json.loads((folder / "ticket.json").read_text())["body"])
    store = open_store(str(federation.home / f"small/sites/{site}/store"))
    (key,) = store.keys("features")
    examples = read_features(store, reference(store, key)).train
    update = local_update(
        load_file(federation.home / f"small/exchange/models/{ticket.model}.safetensors"),
        examples,
        local_epochs=ticket.local_epochs,
        learning_rate=ticket.learning_rate,
        batch_size=ticket.batch_size,
        seed=site_seed(ticket.seed, ticket.round_number, site),
        device="cpu",
    )
    vector = np.concatenate([update[name].ravel() for name in sorted(update)])
    return vector.astype(np.float32), len(examples.labels)


def steps(federation: SmallFederation) -> float:
    """Integer steps in one unit of n·Δw in fixed point, where no update is larger than 1."""
    return bound(federation) / float(federation.document["limits"]["max_examples"])


def bound(federation: SmallFederation) -> int:
    """Largest integer that a site may add to a sum."""
    return LARGEST_SUMS[federation.document["protection"]] // len(federation.document["sites"])


def mean_of(federation: SmallFederation, number: int, sites: Sequence[str]) -> Vector:
    """Σ nᵢ·Δwᵢ / Σ nᵢ over these sites."""
    found = [kept(federation, number, site) for site in sites]
    total: Vector = np.sum([weighted for weighted, _ in found], axis=0) / sum(n for _, n in found)
    return total


def assert_mean_of_updates(federation: SmallFederation, number: int, sites: Sequence[str]) -> None:
    """Eq. 6: w⁺ = w + Σ nᵢ·Δwᵢ / Σ nᵢ, up to the rounding of the weights to float32 where sums are exact."""
    mean = mean_of(federation, number, sites)
    # The noise of CKKS is at most 1e-4 of a sum, whose weights are tens of examples.
    atol = 1e-5 if federation.document["protection"] == "he" else 1e-7
    base = model(federation, record(federation, number)["parent"])
    np.testing.assert_allclose(committed(federation, number), base + mean, rtol=1e-6, atol=atol)
    assert np.abs(mean).max() > 1e-3, "sites must have learned something, or this could not tell"


def _flat(tensors: dict[str, NDArray[np.float32]]) -> Vector:
    return np.concatenate([tensors[name].astype(np.float64).ravel() for name in sorted(tensors)])
