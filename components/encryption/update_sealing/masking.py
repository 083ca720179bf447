"""The sealer of a site that masks its update, with all the streams that hide it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from components.agreement.commitment import Commitment
from components.agreement.protections import MASKED, SMC
from components.agreement.roster import Roster
from components.agreement.round_secrets import RoundSecrets
from components.agreement.workplace import Workplace
from components.encryption.masking.attempt_masks import attempt_names, private_half, public_halves
from components.encryption.masking.holder_pads import site_pad
from components.encryption.masking.masks import Masks
from components.encryption.masking.pair_keys import site_masks
from components.encryption.masking.recoverable_pads import recoverable_masks
from components.encryption.protection import Sealer, masking_sealer


def attempt_sealer(
    place: Workplace,
    roster: Roster,
    commitments: Mapping[str, Commitment],
    secrets: RoundSecrets,
    context: bytes,
) -> Sealer:
    """The sealer of one attempt, for the one vector that was committed to.

    Args:
        place: The site's.
        roster: Accepted.
        commitments: Of everybody who may seal, verified: the roster, or its sharers under `smc`.
        secrets: The site's of this attempt.
        context: The public context of the round; empty where there is none to have.

    Raises:
        RefusedError: A key of another party is none, or hides nothing.
        SignatureError: Two sites have committed with the same ephemeral key.
    """
    charter = place.charter
    return masking_sealer(
        charter.protection,
        context,
        _masks(place, roster, commitments, secrets, context),
        sites=len(charter.sites),
        values_per_slot=charter.values_per_slot,
    )


def _masks(
    place: Workplace,
    roster: Roster,
    commitments: Mapping[str, Commitment],
    secrets: RoundSecrets,
    context: bytes,
) -> Masks:
    names, own = attempt_names(place.ticket, roster), private_half(place, secrets)
    peers = public_halves(place.charter, commitments)
    if place.charter.protection == SMC:
        return recoverable_masks(names, own, peers, secrets.seed)
    masks = site_masks(names, own, peers, secrets.seed)
    if place.charter.protection == MASKED:
        return replace(masks, added=(*masks.added, site_pad(own, context, names)))
    return masks
