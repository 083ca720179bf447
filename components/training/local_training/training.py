"""Trains at the site and commits to the update (Eq. 4)."""

from __future__ import annotations

import base64
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from components.agreement.commitment import Commitment, commitment_key, committed_digest
from components.agreement.receipt import receipt_key
from components.agreement.round_secrets import draw_once
from components.agreement.site_update import keep_update, read_update, update_key
from components.agreement.workplace import Workplace
from components.artifacts.stores import create_or_read, reference
from components.encryption.update_vector import to_vector
from components.errors import BadDataError, RefusedError
from components.execution.outcome import Outcome
from components.privacy.charging import charged_head
from components.privacy.round_noise import gradient_sums
from components.training.features import read_features
from components.training.local_training.clipped_gradients import clipped_gradient_sum
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
        RefusedError: the site has not accepted or not charged the ticket, or somebody else's
            commitment lies where this site's belongs.
    """
    place.require_accepted()
    ticket = place.ticket
    key = commitment_key(ticket, place.site)
    if place.exchange.exists(receipt_key(ticket.folder)) and place.exchange.exists(key):
        # The round is over: its secrets are erased, and what was committed to stays as it is.
        return _committed(place, place.exchange.read(key, limit=1 << 16))
    head = charged_head(place)
    if not place.store.exists(update_key(ticket)):
        keep_update(place.store, ticket, _train(place, features, device))
    secrets = draw_once(place.store, place.key, ticket.digest)
    document = Commitment(
        charter=ticket.charter,
        ticket=ticket.digest,
        site=place.site,
        ephemeral=base64.b64encode(secrets.ephemeral.public_key().public_bytes_raw()).decode(),
        commitment=committed_digest(ticket, place.site, secrets.salt, read_update(place.store, ticket)),
        ledger=asdict(head) if head else None,
    ).signed(place.key)
    if create_or_read(place.exchange, key, document) != document:
        text = f"another commitment lies where this site's belongs for round {place.ticket.round_number}"
        raise RefusedError(text, disclosed=text)
    return _committed(place, document)


def _committed(place: Workplace, document: bytes) -> Outcome:
    there = reference(place.exchange, commitment_key(place.ticket, place.site))
    return Outcome(reference=there, manifest={"commitment": there}, bytes_sent=len(document))


def _train(place: Workplace, features: str, device: str) -> NDArray[np.generic]:
    ticket, model = place.ticket, place.model()
    examples = read_features(place.store, features).train
    if not len(examples.labels):
        raise BadDataError("the query returned no training rows", disclosed="there are no training rows")
    if gradient_sums(place.charter):
        total = clipped_gradient_sum(
            model, examples, max_grad_norm=place.charter.clipping_norm, device=_device(device)
        )
        return to_vector(place.charter, total, len(examples.labels), round_number=ticket.round_number)
    update = local_update(
        model,
        examples,
        local_epochs=ticket.local_epochs,
        learning_rate=ticket.learning_rate,
        batch_size=ticket.batch_size,
        seed=site_seed(ticket.seed, ticket.round_number, place.site),
        device=_device(device),
        proximal=place.charter.proximal,
    )
    values = np.concatenate([update[name].ravel() for name in sorted(update)])
    if not np.all(np.isfinite(values)):
        text = f"training diverged at learning rate {ticket.learning_rate:g}: lower it"
        raise BadDataError(text, disclosed=text)
    return to_vector(
        place.charter, values.astype(np.float64), len(examples.labels), round_number=ticket.round_number
    )


def _device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
