"""The sum of a cut-off's sealed updates: computed by the aggregator, and again by the key holder."""

from __future__ import annotations

from components.agreement.attempt import Attempt
from components.agreement.cutoff import Cutoff
from components.agreement.roster import Roster
from components.agreement.workplace import read_model
from components.encryption.protection import Summer
from components.errors import CiphertextError


def sealed_length(attempt: Attempt) -> int:
    """Values in every sealed update of a round: those of the model, and the example count."""
    model = read_model(attempt.exchange, attempt.ticket.model)
    return sum(values.size for values in model.values()) + 1


def checked_blob(attempt: Attempt, roster: Roster, site: str, adder: Summer, length: int) -> bytes:
    """A site's sealed bytes: signature and digest first, then type, context and length.

    Raises:
        IntegrityError: any of them is wrong; nothing was parsed as a ciphertext.
    """
    manifest, blob = attempt.sealed(roster, site)
    if manifest.length != length:
        raise CiphertextError(
            f"the sealed update of {site} has {manifest.length} values, this round's have {length}"
        )
    adder.check(blob, length)
    return blob


def sum_members(attempt: Attempt, roster: Roster, cutoff: Cutoff, adder: Summer) -> tuple[bytes, int]:
    """The sum in the order of the members' names, and the bytes that were read for it."""
    length = sealed_length(attempt)
    blobs = [checked_blob(attempt, roster, site, adder, length) for site in cutoff.members]
    return adder.add(blobs, length), sum(map(len, blobs))
