"""The masks of one site in one attempt, from its keys and what the others have committed to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal, TypeAlias

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from components.agreement.charter import Charter, raw_key
from components.agreement.commitment import Commitment
from components.agreement.replaced_keys import charter_agreement_key
from components.agreement.roster import Roster
from components.agreement.round_secrets import RoundSecrets
from components.agreement.ticket import Ticket
from components.agreement.workplace import Workplace
from components.encryption.masking.pair_keys import AttemptNames, PrivateHalf, PublicHalf
from components.errors import SignatureError

Kind: TypeAlias = Literal["ephemeral", "sharing"]
EPHEMERAL: Final[Kind] = "ephemeral"
"""Key of an attempt that pads are made of."""
SHARING: Final[Kind] = "sharing"
"""Key of an attempt that shares are encrypted to, under `smc`."""


def attempt_names(ticket: Ticket, roster: Roster) -> AttemptNames:
    """cd, td, purpose and rd: every key is derived for exactly these."""
    return AttemptNames(
        charter=ticket.charter, ticket=ticket.digest, purpose=ticket.purpose, roster=roster.digest
    )


def public_halves(charter: Charter, commitments: Mapping[str, Commitment]) -> list[PublicHalf]:
    """The public keys of everybody on a roster, sorted by name.

    Raises:
        SignatureError: a site committed without an ephemeral key, or two committed with the same.
    """
    return _halves(charter, commitments, EPHEMERAL)


def sharing_halves(charter: Charter, commitments: Mapping[str, Commitment]) -> list[PublicHalf]:
    """As `public_halves`, with everybody's sharing key in the place of the ephemeral one.

    Raises:
        SignatureError: a site committed without a sharing key, or two committed with the same.
    """
    return _halves(charter, commitments, SHARING)


def unusable_keys(commitments: Mapping[str, Commitment], kind: Kind = EPHEMERAL) -> dict[str, str]:
    """Why nobody can seal beside a site, by site: its key of this kind is none, of low order, or a double."""
    probe, reasons, owners = X25519PrivateKey.generate(), dict[str, str](), dict[bytes, list[str]]()
    for site, commitment in commitments.items():
        try:
            key = raw_key(_key_text(commitment, kind))
            probe.exchange(X25519PublicKey.from_public_bytes(key))
        except (ValueError, SignatureError):
            reasons[site] = f"refused: its {kind} key is unusable"
        else:
            # By its bytes: base64 has several spellings of the same 32.
            owners.setdefault(key, []).append(site)
    for sites in owners.values():
        if len(sites) > 1:
            reasons |= dict.fromkeys(sites, f"refused: two sites have committed with the same {kind} key")
    return reasons


def private_sharing_half(place: Workplace, secrets: RoundSecrets) -> PrivateHalf:
    """As `private_half`, with the sharing key in the place of the ephemeral one."""
    return replace(private_half(place, secrets), ephemeral=secrets.sharing)


def private_half(place: Workplace, secrets: RoundSecrets) -> PrivateHalf:
    """The site's own keys in this attempt."""
    return PrivateHalf(
        name=place.site,
        static=charter_agreement_key(place.keys_uri, place.site, place.charter),
        ephemeral=secrets.ephemeral,
    )


def _halves(charter: Charter, commitments: Mapping[str, Commitment], kind: Kind) -> list[PublicHalf]:
    halves = [
        PublicHalf(
            name=site,
            static=charter.agreement_key(site),
            ephemeral=raw_key(_key_text(commitments[site], kind)),
        )
        for site in sorted(commitments)
    ]
    if len({half.ephemeral for half in halves}) != len(halves):
        raise SignatureError(f"two sites on the roster have committed with the same {kind} key")
    return halves


def _key_text(commitment: Commitment, kind: Kind) -> str:
    return commitment.ephemeral if kind == EPHEMERAL else commitment.sharing
