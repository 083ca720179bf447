"""The sum of a cut-off's sealed updates: computed by the aggregator, and again by the key holder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, cast

from components.agreement.attempt import Attempt
from components.agreement.cutoff import Cutoff
from components.agreement.model_store import model_shapes
from components.agreement.roster import Roster
from components.agreement.sealed_manifest import SealedManifest, open_blob
from components.encryption.contexts import public_context
from components.encryption.protection import Summer, sealed_size, summer
from components.encryption.update_vector import vector_length
from components.errors import CiphertextError


def attempt_summer(attempt: Attempt) -> Summer:
    """The adder for the attempt's protection and key."""
    charter = attempt.charter
    context = public_context(attempt.keys_uri, attempt.certificate())
    return summer(charter.protection, context, values_per_slot=charter.values_per_slot)


def sealed_length(attempt: Attempt) -> int:
    """Values in every sealed update, or in every sealed vector of counts, of an attempt."""
    return vector_length(
        attempt.charter,
        attempt.ticket.round_number,
        model_shapes(attempt.exchange, attempt.ticket.model),
        attempt.ticket.purpose,
    )


@dataclass(frozen=True, kw_only=True)
class MemberSum:
    """The sum of an attempt: of whom, and how long it is.

    Attributes:
        attempt: it belongs to.
        roster: verified.
        cutoff: follows from the roster.
        length: values in every sealed update.
    """

    attempt: Attempt
    roster: Roster
    cutoff: Cutoff
    length: int

    def manifest(self, site: str) -> SealedManifest:
        """A site's verified manifest; see `checked_manifest`."""
        return checked_manifest(self.attempt, self.roster, site, self.length)

    def add(self, adder: Summer) -> Iterator[bytes]:
        """The sealed sum in the order of the members' names, block by block.

        What it yields may be used only once it has ended without an error: each member's bytes
        are compared with its signed digest when all of them have passed.

        Raises:
            IntegrityError: a manifest or sealed update is not what it should be.
        """
        exchange, ticket = self.attempt.exchange, self.attempt.ticket
        with ExitStack() as opened:
            sources = [
                opened.enter_context(open_blob(exchange, ticket, self.manifest(site)))
                for site in self.cutoff.members
            ]
            try:
                yield from adder.add([cast(BinaryIO, source) for source in sources], self.length)
            except CiphertextError:
                # What no site signed is not what a site sealed wrongly: the digests are told first.
                for source in sources:
                    source.require_whole()
                raise
            for source in sources:
                source.require_whole()


def checked_manifest(attempt: Attempt, roster: Roster, site: str, length: int) -> SealedManifest:
    """A site's verified manifest, which states the length and the size of this round's updates.

    So nothing of a sealed update is read that is longer than it may be.

    Raises:
        IntegrityError: signature, names, length or size are wrong.
    """
    manifest = attempt.manifest(roster, site)
    if manifest.length != length:
        raise CiphertextError(
            f"the sealed update of {site} has {manifest.length} values, this round's have {length}"
        )
    charter = attempt.charter
    size = sealed_size(charter.protection, length, values_per_slot=charter.values_per_slot)
    if manifest.size != size:
        raise CiphertextError(
            f"the sealed update of {site} has {manifest.size} bytes, all of this round have {size}"
        )
    return manifest


def check_blob(attempt: Attempt, manifest: SealedManifest, adder: Summer) -> None:
    """Passes a site's sealed bytes if they are those it signed, whole, and ciphertexts of this round.

    Raises:
        IntegrityError: they are not; no library has parsed them.
    """
    with open_blob(attempt.exchange, attempt.ticket, manifest) as source:
        try:
            adder.check(cast(BinaryIO, source), manifest.length)
        except CiphertextError:
            source.require_whole()
            raise
        source.require_whole()
