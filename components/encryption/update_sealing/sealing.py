"""Seals the update a site has committed to, and nothing else (Eq. 5)."""

from __future__ import annotations

import contextlib

import numpy as np

from components.agreement.commitment import commit
from components.agreement.roster import Roster, read_roster
from components.agreement.sealed_manifest import SealedManifest, blob_key, manifest_key, read_sealed
from components.agreement.site_update import read_update
from components.agreement.workplace import Workplace
from components.artifacts.documents import digest
from components.artifacts.stores import Store, create_or_read, key_of, reference
from components.encryption import protection
from components.encryption.contexts import public_context
from components.errors import ObjectExistsError, ObjectTooLargeError, RefusedError
from components.execution.outcome import Outcome


def seal_update(place: Workplace, *, roster: str, keys_uri: str) -> Outcome:
    """Seals [n·Δw, n] and uploads it beside a signed manifest.

    A retry sends the bytes that were sealed first: the site keeps them in its own store.

    Raises:
        RefusedError: the roster does not hold this site's own commitment, differs from the one the
            site has seen for this ticket, or other bytes lie where the sealed update belongs.
        BadDataError: the update is outside the range of the protection.
    """
    ticket, site = place.ticket, place.site
    called = read_roster(
        place.exchange.read(key_of(place.exchange, roster), limit=1 << 20), ticket, place.parties
    )
    _accept(place, called)
    update = read_update(place.store, ticket)
    if called.commitments.get(site) != commit(ticket, site, update.salt, update.content).commitment:
        text = f"the roster of round {ticket.round_number} does not hold this site's commitment"
        raise RefusedError(text, disclosed=text)
    vector = np.append(update.num_examples * update.values, float(update.num_examples))
    context = public_context(keys_uri, ticket.protection, place.parties)
    sealed = _sealed_once(place, vector, context)
    _upload(place, blob_key(ticket, site), sealed)
    manifest = SealedManifest(
        ticket=ticket.digest,
        roster=called.digest,
        purpose=ticket.purpose,
        site=site,
        protection=ticket.protection,
        context=protection.context_fingerprint(context) if context else "",
        blob=digest(sealed),
        size=len(sealed),
        length=len(vector),
    )
    document = manifest.signed(place.key)
    _upload(place, manifest_key(ticket, site), document)
    read_sealed(place.exchange, ticket, called, site, place.parties)
    return Outcome(
        reference=reference(place.exchange, manifest_key(ticket, site)),
        manifest={"digest": manifest.blob, "bytes": manifest.size, "protection": ticket.protection},
        metrics={"bytes": float(manifest.size)},
        bytes_sent=len(sealed) + len(document),
    )


def _accept(place: Workplace, called: Roster) -> None:
    """Remembers the roster of a ticket; a second, different one is refused."""
    key = f"rosters/{place.ticket.digest}.txt"
    if create_or_read(place.store, key, called.digest.encode()) != called.digest.encode():
        text = f"a second roster was called for round {place.ticket.round_number}"
        raise RefusedError(text, disclosed=text)


def _sealed_once(
    place: Workplace, vector: np.ndarray[tuple[int], np.dtype[np.float64]], context: bytes
) -> bytes:
    key = f"sealed/{place.ticket.digest}.bin"
    if place.store.exists(key):
        return place.store.read(key)
    sealed = protection.sealer(place.ticket.protection, context).seal(vector)
    protection.summer(place.ticket.protection, context).check(sealed, len(vector))
    return create_or_read(place.store, key, sealed)


def _upload(place: Workplace, key: str, content: bytes) -> None:
    with contextlib.suppress(ObjectExistsError):
        place.exchange.create(key, content)
        return
    if not _same(place.exchange, key, content):
        text = f"other bytes lie at {key} in the exchange, where this site's belong"
        raise RefusedError(text, disclosed=text)


def _same(store: Store, key: str, content: bytes) -> bool:
    try:
        return store.read(key, limit=max(len(content), 1)) == content
    except ObjectTooLargeError:
        return False
