"""Adapts the committed model to one site's records (Eq. 7: w′ = w + Δw); Δw stays at the site."""

from __future__ import annotations

import numpy as np

from components.agreement.cache_uses import note_use
from components.agreement.model_store import read_model
from components.agreement.receipt import MAX_RECEIPT_BYTES, read_receipt, receipt_key
from components.agreement.round_secrets import erase
from components.agreement.workplace import Workplace
from components.artifacts import tensors
from components.artifacts.stores import create_or_read, reference
from components.execution.outcome import Outcome
from components.training import heads
from components.training.adaptation.closed_form import fit_adaptation
from components.training.features import read_features


def adapt(place: Workplace, *, model: str, features: str) -> Outcome:
    """Fits Δw on the last linear layer and stores it in the site's own store.

    Args:
        place: the site at work.
        model: SHA-256 of the committed model.
        features: reference of the site's features.
    """
    _forget(place)
    key = adaptation_key(model)
    note_use(place.store, place.ticket, key)
    if not place.store.exists(key):
        head = read_model(place.exchange, model)
        examples = read_features(place.store, features).train
        delta = fit_adaptation(
            heads.last_layer(head),
            head["output.bias"],
            heads.penultimate(head, examples.features),
            examples.labels,
            seed=place.ticket.seed,
        )
        changed = heads.last_layer_tensors(head, delta.weight_delta) | {"output.bias": delta.bias_delta}
        content = tensors.encode(changed)
        create_or_read(place.store, key, content)
    return Outcome(reference=reference(place.store, key), manifest={"uri": reference(place.store, key)})


def _forget(place: Workplace) -> None:
    """Erases the secrets of the attempt once its receipt is there and verifies."""
    ticket = place.ticket
    document = place.exchange.read(receipt_key(ticket.folder), limit=MAX_RECEIPT_BYTES)
    read_receipt(document, ticket, place.charter)
    erase(place.store, ticket.digest)


def adaptation_key(model: str) -> str:
    """Where Δw for a model lies in the site's own store."""
    return f"adaptations/{model}.safetensors"


def adapted(head: tensors.Tensors, delta: tensors.Tensors) -> tensors.Tensors:
    """The model with a site's Δw added; the arguments are left as they are."""
    return head | {name: (head[name] + delta[name]).astype(np.float32) for name in delta}
