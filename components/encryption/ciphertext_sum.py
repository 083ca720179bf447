"""The sum of a cut-off's sealed updates: computed by the aggregator, and again by the key holder."""

from __future__ import annotations

from components.agreement.cutoff import Cutoff
from components.agreement.parties import Parties
from components.agreement.roster import Roster
from components.agreement.sealed_manifest import read_sealed
from components.agreement.ticket import Ticket
from components.agreement.workplace import read_model
from components.artifacts.stores import Store
from components.encryption.protection import Summer
from components.errors import CiphertextError


def sealed_length(exchange: Store, ticket: Ticket) -> int:
    """Values in every sealed update of a round: those of the model, and the example count."""
    return sum(values.size for values in read_model(exchange, ticket.model).values()) + 1


def checked_blob(
    exchange: Store, ticket: Ticket, roster: Roster, site: str, parties: Parties, adder: Summer, length: int
) -> bytes:
    """A site's sealed bytes: signature and digest first, then type, context and length.

    Raises:
        IntegrityError: any of them is wrong; nothing was parsed as a ciphertext.
    """
    manifest, blob = read_sealed(exchange, ticket, roster, site, parties)
    if manifest.length != length:
        raise CiphertextError(
            f"the sealed update of {site} has {manifest.length} values, this round's have {length}"
        )
    adder.check(blob, length)
    return blob


def sum_members(
    exchange: Store, ticket: Ticket, roster: Roster, cutoff: Cutoff, parties: Parties, adder: Summer
) -> tuple[bytes, int]:
    """The sum in the order of the members' names, and the bytes that were read for it."""
    length = sealed_length(exchange, ticket)
    blobs = [checked_blob(exchange, ticket, roster, site, parties, adder, length) for site in cutoff.members]
    return adder.add(blobs, length), sum(map(len, blobs))
