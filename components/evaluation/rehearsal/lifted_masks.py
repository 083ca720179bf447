"""What hides the sites of one attempt, and how it is lifted from the sum of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from components.agreement.dealt_shares import DealtShares
from components.agreement.protections import MASKED
from components.encryption.masking import shamir
from components.encryption.masking.holder_pads import member_pads, site_pad
from components.encryption.masking.masks import Masks
from components.encryption.masking.pair_keys import AttemptNames, self_key, site_masks
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
from components.errors import CiphertextError, QuorumNotReachedError
from components.evaluation.rehearsal.site_keys import SiteKeys


@dataclass(frozen=True, kw_only=True)
class FixedSets:
    """What is fixed before anybody lifts its masks.

    Attributes:
        sharers: sd, who has dealt shares; empty where nobody does.
        cutoff: ud, whose updates are added.
    """

    sharers: str
    cutoff: str


class Lifting(Protocol):
    """Masks of the sites, and what lifts them."""

    def masks(self, site: str) -> Masks:
        """All streams that hide a site's vector."""

    def lift(self, site: str, fixed: FixedSets) -> Release | Locked:
        """What a site publishes once the set is fixed, which is all sites."""

    def remaining(self, fixed: FixedSets) -> tuple[Masks, bytes]:
        """What is left of all masks in the sum, and the context that the opener needs.

        Raises:
            IntegrityError: what the sites published does not open.
        """


class Releases:
    """Protections `sealed` and `masked`: all members release together.

    Args:
        keys: of every site.
        names: what they mask for.
        protection: one of the two.
        contexts: the key holder's public and secret context.
    """

    def __init__(
        self,
        keys: Mapping[str, SiteKeys],
        names: AttemptNames,
        protection: str,
        contexts: tuple[bytes, bytes],
    ) -> None:
        self._keys, self._names, self._protection = keys, names, protection
        self._public, self._secret = contexts
        self._roster = [each.masking.public() for each in keys.values()]
        self._released: dict[str, Release] = {}

    def masks(self, site: str) -> Masks:
        """Self-mask and pairs'; under `masked` the pad that is the key holder's too."""
        own = self._keys[site]
        masks = site_masks(self._names, own.masking, self._roster, own.seed)
        if self._protection != MASKED:
            return masks
        pad = site_pad(own.masking, self._public, self._names)
        return replace(masks, added=(*masks.added, pad))

    def lift(self, site: str, fixed: FixedSets) -> Release:
        """The release, under the lock that needs all members."""
        own = self._keys[site]
        made = release(self._names, fixed.cutoff, list(self._keys), own.masking, self._roster, own.seed)
        self._released[site] = made
        return made

    def remaining(self, fixed: FixedSets) -> tuple[Masks, bytes]:
        """All locks opened, and under `masked` the key holder's pads."""
        members = list(self._keys)
        masks = open_releases(self._names, fixed.cutoff, members, members, self._released)
        if self._protection != MASKED:
            return masks, self._secret
        pads = member_pads(self._secret, self._roster, self._names)
        return replace(masks, added=(*masks.added, *pads)), self._public


class Unmaskings:
    """Protection `smc`: shares before anybody seals, and a quorum that unmasks.

    Args:
        keys: of every site.
        names: what they mask for.
        threshold: sites that unmask a sum.
    """

    def __init__(self, keys: Mapping[str, SiteKeys], names: AttemptNames, threshold: int) -> None:
        self._keys, self._names, self._threshold = keys, names, threshold
        self._points = points_of(list(keys))
        self._roster = {site: each.masking.public() for site, each in keys.items()}
        self._dealt: dict[str, DealtShares] = {}
        self._locked: dict[str, Locked] = {}

    def deal(self, site: str) -> DealtShares:
        """Shares of the site's self key and of its ephemeral private key, one of each for every site."""
        own, names, threshold = self._keys[site], self._names, self._threshold
        secrets, masking = self._secrets(site), self_key(own.seed, names, site)
        scalar = own.masking.ephemeral.private_bytes_raw()
        self._dealt[site] = DealtShares(
            charter=names.charter,
            ticket=names.ticket,
            roster=names.roster,
            purpose=names.purpose,
            site=site,
            self_digest=self_digest(names, site, masking),
            selves=sealed_shares(masking, SELF, names, site, threshold=threshold, secrets=secrets),
            scalars=sealed_shares(scalar, SCALAR, names, site, threshold=threshold, secrets=secrets),
        )
        return self._dealt[site]

    def masks(self, site: str) -> Masks:
        """Self-mask and pairs', which others can finish for a site that is lost."""
        own = self._keys[site]
        return recoverable_masks(self._names, own.masking, list(self._roster.values()), own.seed)

    def lift(self, site: str, fixed: FixedSets) -> Locked:
        """What opens the site's share of every member's self key, under the quorum's lock."""
        secrets = self._secrets(site)
        revealed = {
            dealer: share_key(secrets[dealer], SELF, self._names, dealer=dealer, receiver=site)
            for dealer in self._keys
        }
        self._locked[site] = lock(self._agreed(fixed), site, secrets, revealed)
        return self._locked[site]

    def remaining(self, fixed: FixedSets) -> tuple[Masks, bytes]:
        """All locks opened, and every self key put together from its shares and checked.

        Raises:
            QuorumNotReachedError: a site's lock does not open.
        """
        revealed, left_out = open_locks(self._agreed(fixed), list(self._keys), self._locked)
        if left_out or len(revealed) < len(self._keys):
            missing = sorted(self._keys.keys() - revealed.keys())
            raise QuorumNotReachedError(f"{', '.join(missing)} did not unmask: a rehearsal loses no site")
        selves = {dealer: self._self_key(dealt, revealed) for dealer, dealt in self._dealt.items()}
        return remaining_masks(self._names, self._roster, selves, {}), b""

    def _self_key(self, dealt: DealtShares, revealed: Mapping[str, Mapping[str, bytes]]) -> bytes:
        shares = {
            self._points[site]: opened_share(revealed[site][dealt.site], SELF, self._names, dealt, site)
            for site in list(revealed)[: self._threshold]
        }
        key = shamir.combine(shares)
        if self_digest(self._names, dealt.site, key) != dealt.self_digest:
            raise CiphertextError(f"the shares that {dealt.site} dealt are not of the key it is bound to")
        return key

    def _agreed(self, fixed: FixedSets) -> AgreedSum:
        return AgreedSum(
            names=self._names,
            sharers=fixed.sharers,
            cutoff=fixed.cutoff,
            points=self._points,
            threshold=self._threshold,
        )

    def _secrets(self, site: str) -> dict[str, bytes]:
        roster = [each.sharing.public() for each in self._keys.values()]
        return sharing_secrets(self._keys[site].sharing, roster)
