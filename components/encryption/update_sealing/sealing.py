"""Seals the update a site has committed to, and nothing else (Eq. 5)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from numpy.typing import NDArray

from components.agreement.commitment import Commitment, committed_digest
from components.agreement.key_certificate import key_of_round
from components.agreement.protections import UNMASK
from components.agreement.roster import Roster
from components.agreement.round_secrets import read_secrets
from components.agreement.sealed_manifest import (
    SealedManifest,
    VouchedReader,
    blob_key,
    manifest_key,
    open_blob,
)
from components.agreement.site_update import read_update
from components.agreement.workplace import Workplace
from components.artifacts.hashed_reader import HashedReader
from components.artifacts.stores import Store, create_or_read, reference
from components.encryption.accepted_roster import accept_called_roster, accept_fixed_sharers
from components.encryption.contexts import public_context
from components.encryption.protection import require_form, sealer, summer
from components.encryption.update_sealing.masking import attempt_sealer
from components.errors import DigestMismatchError, ObjectExistsError, RefusedError
from components.execution.outcome import Outcome

_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Sealing:
    """What a site seals under: an accepted roster, the commitments of all who may seal, the round's key."""

    roster: Roster
    commitments: Mapping[str, Commitment]
    certificate: str
    context: bytes


def seal_update(place: Workplace, *, roster: str) -> Outcome:
    """Seals the committed vector and uploads it beside a signed manifest.

    A retry sends the bytes that were sealed first: the site keeps them in its own store.

    Raises:
        RefusedError: the roster is too small, lacks a peer the site insists on, does not hold
            this site's own commitment or differs from the one it has seen for this ticket; the
            sharers under `smc` are such a set; or other bytes lie where the sealed update belongs.
        SignatureError: a commitment on the roster is not its site's, or a sharer's shares are not.
        CiphertextError: the certified context has another form than that of the protection.
        BadDataError: the update is outside the range of the protection.
    """
    place.require_accepted()
    ticket, site, charter = place.ticket, place.site, place.charter
    under = _accept(place, roster)
    key = f"sealed/{ticket.digest}.bin"
    vector = read_update(place.store, ticket)
    if not place.store.exists(key):
        _seal_once(place, under, key, vector)
    manifest = _checked_manifest(place, under, key, vector.size)
    _upload(place, blob_key(ticket, site), key, manifest)
    signed = manifest.signed(place.key)
    if create_or_read(place.exchange, manifest_key(ticket, site), signed) != signed:
        _refuse(f"another manifest lies where this site's belongs for round {ticket.round_number}")
    return Outcome(
        reference=reference(place.exchange, manifest_key(ticket, site)),
        manifest={"digest": manifest.blob, "bytes": manifest.size, "protection": charter.protection},
        metrics={"bytes": float(manifest.size)},
        bytes_sent=manifest.size + len(signed),
    )


def _accept(place: Workplace, roster: str) -> Sealing:
    """Checks a roster, and under `smc` its sharers, as their site must, and remembers them."""
    called, commitments = accept_called_roster(place, roster)
    if place.charter.traits.lifted_by == UNMASK:
        sharers = accept_fixed_sharers(place, called)
        commitments = {site: commitments[site] for site in sharers.sites}
    certified = key_of_round(place.keys_uri, place.charter, place.ticket.round_number)
    context = public_context(place.keys_uri, certified)
    require_form(place.charter.protection, context)
    return Sealing(
        roster=called,
        commitments=commitments,
        certificate=certified.digest if certified else "",
        context=context,
    )


def _seal_once(place: Workplace, under: Sealing, key: str, vector: NDArray[Any]) -> None:
    """Recomputes the commitment, which must match, and keeps the sealed vector."""
    ticket, charter = place.ticket, place.charter
    secrets = read_secrets(place.store, place.key, ticket.digest)
    committed = committed_digest(ticket, place.site, secrets.salt, vector)
    if committed != under.commitments[place.site].commitment:
        _refuse(f"the roster of round {ticket.round_number} does not hold this site's commitment")
    if charter.traits.masked:
        site = attempt_sealer(place, under.roster, under.commitments, secrets, under.context)
    else:
        site = sealer(charter.protection, under.context)
    chunks = site.seal(vector)
    with contextlib.suppress(ObjectExistsError):
        place.store.create_from(key, chunks)


def _checked_manifest(place: Workplace, under: Sealing, key: str, length: int) -> SealedManifest:
    """The manifest of what lies in the site's store, once it is proved to be ciphertext."""
    ticket, charter = place.ticket, place.charter
    adder = summer(charter.protection, under.context, values_per_slot=charter.values_per_slot)
    with place.store.open(key) as source:
        blob = HashedReader(source)
        adder.check(cast(BinaryIO, blob), length)
    return SealedManifest(
        charter=ticket.charter,
        ticket=ticket.digest,
        roster=under.roster.digest,
        purpose=ticket.purpose,
        site=place.site,
        protection=charter.protection,
        certificate=under.certificate,
        blob=blob.digest,
        size=blob.count,
        length=length,
    )


def _upload(place: Workplace, key: str, own: str, manifest: SealedManifest) -> None:
    try:
        place.exchange.create_from(key, _blocks(place.store, own))
    except ObjectExistsError:
        with open_blob(place.exchange, place.ticket, manifest) as there:
            same = _is_whole(there)
        if not same:
            _refuse(f"other bytes lie at {key} in the exchange, where this site's belong")


def _is_whole(blob: VouchedReader) -> bool:
    try:
        blob.require_whole()
    except DigestMismatchError:
        return False
    return True


def _blocks(store: Store, key: str) -> Iterator[bytes]:
    with store.open(key) as source:
        while block := source.read(_BLOCK):
            yield block


def _refuse(text: str) -> None:
    raise RefusedError(text, disclosed=text)
