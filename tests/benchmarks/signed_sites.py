"""The sites of a benchmark, and the signed manifests of what they seal."""

from __future__ import annotations

from components.encryption.masking.pair_keys import AttemptNames
from components.evaluation.rehearsal.signed_updates import SignedUpdates
from components.evaluation.rehearsal.site_keys import SiteKeys, drawn_keys

NAMES = AttemptNames(charter="1" * 64, ticket="2" * 64, purpose="update", roster="3" * 64)


def keys_of(sites: int) -> dict[str, SiteKeys]:
    """Keys of so many sites, by name."""
    return drawn_keys(f"site-{site:02d}" for site in range(sites))


def signed_updates(keys: dict[str, SiteKeys], protection: str, length: int) -> SignedUpdates:
    """Manifests of one attempt of nobody."""
    return SignedUpdates(keys, NAMES, protection=protection, certificate="5" * 64, length=length)
