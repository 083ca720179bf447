"""Computes at the site what a round asks of it and commits to it (Eq. 4)."""

from __future__ import annotations

import base64
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from components.agreement.commitment import Commitment, commitment_key, committed_digest
from components.agreement.receipt import receipt_key
from components.agreement.released_sum import shapes_of
from components.agreement.round_secrets import draw_once
from components.agreement.site_update import keep_update, read_update, update_key
from components.agreement.workplace import Workplace
from components.artifacts.stores import create_or_read, reference
from components.encryption.update_vector import to_vector
from components.errors import RefusedError
from components.execution.outcome import Outcome
from components.privacy.charging import charged_head
from components.training.features import read_features
from components.training.local_training.contributions import contribution


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
    model = place.model()
    examples = read_features(place.store, features).train
    values, count = contribution(place, model, examples, device=device)
    return to_vector(
        place.charter, values, count, round_number=place.ticket.round_number, shapes=shapes_of(model)
    )
