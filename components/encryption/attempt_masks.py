"""The masks of one site in one attempt, from its keys and what the others have committed to."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from components.agreement.charter import Charter, raw_key
from components.agreement.commitment import Commitment
from components.agreement.replaced_keys import charter_agreement_key
from components.agreement.roster import Roster
from components.agreement.round_secrets import RoundSecrets
from components.agreement.ticket import Ticket
from components.agreement.workplace import Workplace
from components.encryption.pair_keys import AttemptNames, PrivateHalf, PublicHalf
from components.errors import SignatureError


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
    halves = [
        PublicHalf(
            name=site,
            static=charter.agreement_key(site),
            ephemeral=raw_key(commitments[site].ephemeral),
        )
        for site in sorted(commitments)
    ]
    if len({half.ephemeral for half in halves}) != len(halves):
        raise SignatureError("two sites on the roster have committed with the same ephemeral key")
    return halves


def unusable_keys(commitments: Mapping[str, Commitment]) -> dict[str, str]:
    """Why nobody can seal beside a site, by site: its ephemeral key is none, of low order, or a double."""
    probe, reasons, owners = X25519PrivateKey.generate(), dict[str, str](), dict[bytes, list[str]]()
    for site, commitment in commitments.items():
        try:
            key = raw_key(commitment.ephemeral)
            probe.exchange(X25519PublicKey.from_public_bytes(key))
        except (ValueError, SignatureError):
            reasons[site] = "refused: its ephemeral key is unusable"
        else:
            # By its bytes: base64 has several spellings of the same 32.
            owners.setdefault(key, []).append(site)
    for sites in owners.values():
        if len(sites) > 1:
            reasons |= dict.fromkeys(sites, "refused: two sites have committed with the same ephemeral key")
    return reasons


def private_half(place: Workplace, secrets: RoundSecrets) -> PrivateHalf:
    """The site's own keys in this attempt."""
    return PrivateHalf(
        name=place.site,
        static=charter_agreement_key(place.keys_uri, place.site, place.charter),
        ephemeral=secrets.ephemeral,
    )
