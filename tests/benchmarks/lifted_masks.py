"""What hides the sites of one attempt, and how it is lifted from their sum."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from components.agreement.charter import least_sum_sites
from components.agreement.dealt_shares import DealtShares
from components.agreement.protections import MASKED
from components.encryption.masking import shamir
from components.encryption.masking.holder_pads import member_pads, site_pad
from components.encryption.masking.masks import Masks
from components.encryption.masking.pair_keys import (
    AttemptNames,
    PrivateHalf,
    PublicHalf,
    self_key,
    site_masks,
)
from components.encryption.masking.recoverable_pads import recoverable_masks, remaining_masks
from components.encryption.masking.release_lock import Release, open_releases, release
from components.encryption.masking.share_keys import (
    SCALAR,
    SELF,
    opened_share,
    points_of,
    sealed_shares,
    self_digest,
    share_key,
    sharing_secrets,
)
from components.encryption.masking.unmask_lock import AgreedSum, Locked, lock, open_locks

NAMES = AttemptNames(charter="1" * 64, ticket="2" * 64, purpose="update", roster="3" * 64)
CUTOFF, SHARERS = "4" * 64, "7" * 64


class Lifting(Protocol):
    """Masks of the sites, and what lifts them."""

    def masks(self, site: int) -> Masks:
        """Of a site, with all that it computes and publishes for them before it seals."""

    def lift(self, site: int) -> None:
        """What a site publishes once the set is fixed: all sites."""

    def remaining(self) -> tuple[Masks, bytes]:
        """What is left of all masks in the sum, and the context that the opener needs."""


class Releases:
    """Protections `sealed` and `masked`: all members release together."""

    def __init__(self, sites: int, protection: str, public: bytes, secret: bytes) -> None:
        self._protection, self._public, self._secret = protection, public, secret
        self._halves = _halves(sites)
        self._roster = [half.public() for half in self._halves]
        self._seeds = [os.urandom(32) for _ in range(sites)]
        self._released: dict[str, Release] = {}

    def masks(self, site: int) -> Masks:
        """Self-mask and pairs'; under `masked` the pad too."""
        own = self._halves[site]
        masks = site_masks(NAMES, own, self._roster, self._seeds[site])
        if self._protection != MASKED:
            return masks
        return replace(masks, added=(*masks.added, site_pad(own, self._public, NAMES)))

    def lift(self, site: int) -> None:
        """The release."""
        own, members = self._halves[site], [half.name for half in self._halves]
        self._released[own.name] = release(NAMES, CUTOFF, members, own, self._roster, self._seeds[site])

    def remaining(self) -> tuple[Masks, bytes]:
        """All locks opened, and the key holder's pads."""
        names = [half.name for half in self._halves]
        masks = open_releases(NAMES, CUTOFF, names, names, self._released)
        if self._protection != MASKED:
            return masks, self._secret
        pads = member_pads(self._secret, self._roster, NAMES)
        return replace(masks, added=(*masks.added, *pads)), self._public


class Unmaskings:
    """Protection `smc`: shares before sealing, unmasking by a quorum, one member colluding."""

    def __init__(self, sites: int) -> None:
        self._halves, self._sharing = _halves(sites), _halves(sites)
        self._sharing = [
            replace(half, ephemeral=other.ephemeral)
            for half, other in zip(self._halves, self._sharing, strict=True)
        ]
        self._roster = {half.name: half.public() for half in self._halves}
        self._seeds = [os.urandom(32) for _ in range(sites)]
        self._dealt: dict[str, DealtShares] = {}
        self._locked: dict[str, Locked] = {}
        self._agreed = AgreedSum(
            names=NAMES,
            sharers=SHARERS,
            cutoff=CUTOFF,
            points=points_of(list(self._roster)),
            threshold=least_sum_sites(sites, 1),
        )

    def masks(self, site: int) -> Masks:
        """Shares dealt of both secrets, then self-mask and pairs'."""
        own, threshold = self._halves[site], self._agreed.threshold
        secrets, masking = self._secrets(site), self_key(self._seeds[site], NAMES, own.name)
        scalar = own.ephemeral.private_bytes_raw()
        self._dealt[own.name] = DealtShares(
            charter=NAMES.charter,
            ticket=NAMES.ticket,
            roster=NAMES.roster,
            purpose=NAMES.purpose,
            site=own.name,
            self_digest=self_digest(NAMES, own.name, masking),
            selves=sealed_shares(masking, SELF, NAMES, own.name, threshold=threshold, secrets=secrets),
            scalars=sealed_shares(scalar, SCALAR, NAMES, own.name, threshold=threshold, secrets=secrets),
        )
        return recoverable_masks(NAMES, own, list(self._roster.values()), self._seeds[site])

    def lift(self, site: int) -> None:
        """What opens its share of every member's self key, under the quorum's lock."""
        name, secrets = self._halves[site].name, self._secrets(site)
        revealed = {
            dealer: share_key(secrets[dealer], SELF, NAMES, dealer=dealer, receiver=name)
            for dealer in self._roster
        }
        self._locked[name] = lock(self._agreed, name, secrets, revealed)

    def remaining(self) -> tuple[Masks, bytes]:
        """All locks opened, every self key put together from its shares and checked."""
        revealed, left_out = open_locks(self._agreed, list(self._roster), self._locked)
        if left_out:
            raise AssertionError(left_out)
        selves = {}
        for dealer, dealt in self._dealt.items():
            receivers = list(revealed)[: self._agreed.threshold]
            shares = {
                self._agreed.points[site]: opened_share(revealed[site][dealer], SELF, NAMES, dealt, site)
                for site in receivers
            }
            selves[dealer] = shamir.combine(shares)
            if self_digest(NAMES, dealer, selves[dealer]) != dealt.self_digest:
                raise AssertionError(dealer)
        return remaining_masks(NAMES, self._roster, selves, {}), b""

    def _secrets(self, site: int) -> dict[str, bytes]:
        roster: list[PublicHalf] = [half.public() for half in self._sharing]
        return sharing_secrets(self._sharing[site], roster)


def _halves(sites: int) -> list[PrivateHalf]:
    return [
        PrivateHalf(
            name=f"site-{site:02d}",
            static=X25519PrivateKey.generate(),
            ephemeral=X25519PrivateKey.generate(),
        )
        for site in range(sites)
    ]
