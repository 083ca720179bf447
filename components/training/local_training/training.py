"""Trains at the site and commits to the update (Eq. 4)."""

from __future__ import annotations

import contextlib
import os

import numpy as np

from components.agreement.commitment import SALT_BYTES, commit, commitment_key
from components.agreement.site_update import encode_update, read_update, update_key
from components.agreement.workplace import Workplace
from components.artifacts.stores import create_or_read, reference
from components.errors import BadDataError, ObjectExistsError, RefusedError
from components.execution.outcome import Outcome
from components.training.features import read_features
from components.training.local_training.federated_averaging import local_update, site_seed


def train(place: Workplace, *, features: str, device: str = "auto") -> Outcome:
    """Computes the update of this ticket once, keeps it, and publishes a commitment to it.

    A retry finds the stored update: an update is never computed twice under one ticket.

    Args:
        place: the site at work; epochs, learning rate and batch size are the ticket's.
        features: reference of the site's features.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        BadDataError: there are no training rows, or training diverged.
        RefusedError: somebody else's commitment lies where this site's belongs.
    """
    if not place.store.exists(update_key(place.ticket)):
        with contextlib.suppress(ObjectExistsError):
            place.store.create(update_key(place.ticket), _train(place, features, device))
    update = read_update(place.store, place.ticket)
    document = commit(place.ticket, place.site, update.salt, update.content).signed(place.key)
    key = commitment_key(place.ticket, place.site)
    if create_or_read(place.exchange, key, document) != document:
        text = f"another commitment lies where this site's belongs for round {place.ticket.round_number}"
        raise RefusedError(text, disclosed=text)
    return Outcome(
        reference=reference(place.exchange, key),
        manifest={"commitment": reference(place.exchange, key)},
        bytes_sent=len(document),
    )


def _train(place: Workplace, features: str, device: str) -> bytes:
    ticket, model = place.ticket, place.model()
    examples = read_features(place.store, features).train
    if not len(examples.labels):
        raise BadDataError("the query returned no training rows", disclosed="there are no training rows")
    update = local_update(
        model,
        examples,
        local_epochs=ticket.local_epochs,
        learning_rate=ticket.learning_rate,
        batch_size=ticket.batch_size,
        seed=site_seed(ticket.seed, ticket.round_number, place.site),
        device=_device(device),
    )
    values = np.concatenate([update[name].ravel() for name in sorted(update)])
    if not np.all(np.isfinite(values)):
        text = f"training diverged at learning rate {ticket.learning_rate:g}: lower it"
        raise BadDataError(text, disclosed=text)
    return encode_update(values, len(examples.labels), os.urandom(SALT_BYTES))


def _device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
