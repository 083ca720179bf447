"""A site's commitment to what it has kept under a ticket, which shows that its ledger was charged."""

from __future__ import annotations

import base64
from dataclasses import asdict

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from components.agreement.commitment import Commitment, commitment_key, committed_digest
from components.agreement.ledger_head import LedgerHead
from components.agreement.protections import UNMASK
from components.agreement.round_secrets import draw_once
from components.agreement.site_update import read_update
from components.agreement.workplace import Workplace
from components.artifacts.stores import create_or_read, reference
from components.errors import RefusedError
from components.execution.outcome import Outcome


def commit(place: Workplace, head: LedgerHead | None) -> Outcome:
    """Publishes the commitment to the vector that lies in the site's store under this ticket.

    Args:
        place: the site at work.
        head: of its privacy ledger, which holds this ticket's charge; None where nothing is charged.

    Raises:
        RefusedError: somebody else's commitment lies where this site's belongs.
    """
    ticket = place.ticket
    secrets = draw_once(place.store, place.key, ticket.digest)
    document = Commitment(
        charter=ticket.charter,
        ticket=ticket.digest,
        site=place.site,
        ephemeral=_public(secrets.ephemeral),
        commitment=committed_digest(ticket, place.site, secrets.salt, read_update(place.store, ticket)),
        ledger=asdict(head) if head else None,
        sharing=_public(secrets.sharing) if place.charter.traits.lifted_by == UNMASK else "",
    ).signed(place.key)
    if create_or_read(place.exchange, commitment_key(ticket, place.site), document) != document:
        text = f"another commitment lies where this site's belongs for round {ticket.round_number}"
        raise RefusedError(text, disclosed=text)
    return committed(place, document)


def committed(place: Workplace, document: bytes) -> Outcome:
    """The outcome of a step whose commitment is published."""
    there = reference(place.exchange, commitment_key(place.ticket, place.site))
    return Outcome(reference=there, manifest={"commitment": there}, bytes_sent=len(document))


def _public(key: X25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()
