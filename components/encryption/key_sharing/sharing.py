"""Deals shares of a site's self key and ephemeral private key to the roster, once (Bonawitz's round 1)."""

from __future__ import annotations

from collections.abc import Mapping

from components.agreement.commitment import Commitment
from components.agreement.dealt_shares import DealtShares, shares_key
from components.agreement.roster import Roster
from components.agreement.round_secrets import RoundSecrets, read_secrets
from components.agreement.workplace import Workplace
from components.artifacts.stores import create_or_read, reference
from components.encryption.accepted_roster import accept_called_roster, kept_shares_key
from components.encryption.masking.attempt_masks import attempt_names, private_sharing_half, sharing_halves
from components.encryption.masking.pair_keys import self_key
from components.encryption.masking.share_keys import SCALAR, SELF, sealed_shares, self_digest, sharing_secrets
from components.errors import ObjectMissingError, RefusedError
from components.execution.outcome import Outcome


def share_keys(place: Workplace, *, roster: str) -> Outcome:
    """Publishes this site's shares for a roster.

    A retry sends the shares that were dealt first, which the site keeps in its own store: of two dealings
    of one secret, fewer shares than the threshold would tell about it.

    Args:
        place: the site's.
        roster: reference of the roster.

    Raises:
        RefusedError: the roster is refused (`accept_called_roster`), the site has erased the attempt's
            secrets, or other shares lie where its own belong.
        SignatureError: a commitment on the roster is not its site's, or has no usable sharing key.
    """
    place.require_accepted()
    ticket = place.ticket
    called, commitments = accept_called_roster(place, roster)
    kept = kept_shares_key(called)
    if place.store.exists(kept):
        signed = place.store.read(kept)
    else:
        signed = create_or_read(place.store, kept, _deal(place, called, commitments))
    key = shares_key(ticket, place.site)
    if create_or_read(place.exchange, key, signed) != signed:
        _refuse(f"other shares lie where this site's belong for round {ticket.round_number}")
    return Outcome(
        reference=reference(place.exchange, key),
        manifest={"sites": list(called.sites), "bytes": len(signed)},
        bytes_sent=len(signed),
    )


def _deal(place: Workplace, roster: Roster, commitments: Mapping[str, Commitment]) -> bytes:
    ticket, site, threshold = place.ticket, place.site, place.charter.min_sum_sites
    drawn = _secrets(place)
    names = attempt_names(ticket, roster)
    own = private_sharing_half(place, drawn)
    secrets = sharing_secrets(own, sharing_halves(place.charter, commitments))
    # The self key of this roster, not the seed: the seed would lift the site's mask under every other too.
    masking = self_key(drawn.seed, names, site)
    scalar = drawn.ephemeral.private_bytes_raw()
    return DealtShares(
        charter=ticket.charter,
        ticket=ticket.digest,
        roster=roster.digest,
        purpose=ticket.purpose,
        site=site,
        self_digest=self_digest(names, site, masking),
        selves=sealed_shares(masking, SELF, names, site, threshold=threshold, secrets=secrets),
        scalars=sealed_shares(scalar, SCALAR, names, site, threshold=threshold, secrets=secrets),
    ).signed(place.key)


def _secrets(place: Workplace) -> RoundSecrets:
    try:
        return read_secrets(place.store, place.key, place.ticket.digest)
    except ObjectMissingError:
        number, attempt = place.ticket.round_number, place.ticket.attempt
        text = f"the site has erased its secrets of attempt {attempt} of round {number}: it shares nothing"
        raise RefusedError(text, disclosed=text) from None


def _refuse(text: str) -> None:
    raise RefusedError(text, disclosed=text)
