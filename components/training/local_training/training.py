"""Computes at the site what a round asks of it and commits to it (Eq. 4)."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from components.agreement.adaptive_norm import norm_of
from components.agreement.commitment import commitment_key
from components.agreement.model_store import read_committed
from components.agreement.receipt import receipt_key
from components.agreement.released_sum import shapes_of
from components.agreement.server_steps import split
from components.agreement.site_update import keep_update, update_key
from components.agreement.ticket import UPDATE
from components.agreement.workplace import Workplace
from components.encryption.update_vector import to_vector
from components.execution.devices import telling_the_mend
from components.execution.outcome import Outcome
from components.execution.usage import peak_memory, usage
from components.privacy.charged_commitment import commit, committed
from components.privacy.charging import charged_head
from components.privacy.round_noise import is_private
from components.training.counted_features import require_counted
from components.training.features import read_features
from components.training.local_training.algorithms import algorithm_named
from components.training.local_training.contributions import contribution


def train(place: Workplace, *, features: str, device: str = "auto") -> Outcome:
    """Computes the update of this ticket once, keeps it, and publishes a commitment to it.

    A retry finds the stored update: an update is never computed twice under one ticket.

    Args:
        place: the site at work; epochs, learning rate and batch size are the ticket's.
        features: reference of the site's features.
        device: `auto`, `cpu` or `cuda`, of which the first is used.

    Raises:
        BadDataError: there are no training rows, or training diverged.
        MemoryError: the device is too small.
        RefusedError: the site has not accepted or not charged the ticket, or somebody else's
            commitment lies where this site's belongs.
        SiteError: CUDA was asked for and there is none.
    """
    place.require_purpose(UPDATE)
    place.require_accepted()
    ticket = place.ticket
    key = commitment_key(ticket, place.site)
    if place.exchange.exists(receipt_key(ticket.folder)) and place.exchange.exists(key):
        # The round is over: its secrets are erased, and what was committed to stays as it is.
        return committed(place, place.exchange.read(key, limit=1 << 16))
    head = charged_head(place)
    metrics: dict[str, float] = {}
    if not place.store.exists(update_key(ticket)):
        update, metrics = _train(place, features, device)
        keep_update(place.store, ticket, update)
    return replace(commit(place, head), metrics=metrics)


def _train(place: Workplace, features: str, device: str) -> tuple[NDArray[np.generic], dict[str, float]]:
    """The vector of this ticket, and what computing it took."""
    ticket = place.ticket
    model, state = split(read_committed(place.exchange, ticket.model))
    norm = norm_of(place.charter, state)
    with telling_the_mend("in training", mend="lower training.batch_size or head.hidden_units"):
        require_counted(place, ticket, features)
        examples = read_features(place.store, features).train
        start = time.perf_counter()
        values, count = contribution(
            place.charter, ticket, place.site, model, examples, device=device, clipping_norm=norm
        )
        seconds = time.perf_counter() - start
        shapes = shapes_of(model)
        vector = to_vector(place.charter, values, count, round_number=ticket.round_number, shapes=shapes)
    trains = algorithm_named(place.charter.algorithm).releases == "weighted update"
    rows = len(examples.labels) * (ticket.local_epochs if trains else 1)
    private = is_private(place.charter)
    return vector, usage(peak_memory(device), rows=rows, seconds=seconds, is_private=private)
