"""The lock of an unmasking: what a member reveals opens only if a quorum unmasks for the same set.

In Bonawitz et al. 2017 every site signs the set U3 and reveals nothing before it has seen the quorum's
signatures of the same U3. Here one step does both. A member i closes what it reveals under a fresh key and
deals shares of that key to the members of U3, each encrypted under

    token(j -> i) = HKDF(Z_ij; "token", charter, ticket, purpose, roster, sharers, U3, j, i)

and a member publishes its own tokens for all others when it unmasks. So a lock opens once `threshold`
members, i among them, have unmasked for exactly these sharers and this U3. Who shows different sets to
different sites gets neither open: the charter's quorum leaves room for one.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from components.artifacts.documents import canonical_json, framed
from components.encryption.masking import shamir
from components.encryption.masking.pair_keys import KEY_BYTES, AttemptNames, derive_key

_NONCE_BYTES: Final = 12


@dataclass(frozen=True, kw_only=True)
class AgreedSum:
    """What an unmasking is for.

    Attributes:
        names: of the attempt.
        sharers: sd.
        cutoff: ud.
        points: of the members of U3, by name; see `share_keys.points_of`.
        threshold: members that open a lock.
    """

    names: AttemptNames
    sharers: str
    cutoff: str
    points: Mapping[str, int]
    threshold: int

    def fields(self, *sites: str) -> tuple[bytes, ...]:
        """What keys are derived from besides the attempt's names."""
        return tuple(text.encode() for text in (self.sharers, self.cutoff, *sites))


@dataclass(frozen=True, kw_only=True)
class Locked:
    """What a member publishes; every text is base64.

    Attributes:
        tokens: token(site -> j) by other member j.
        lock_shares: a share of the lock's key by other member j, under token(j -> site).
        own_share: the site's own share of it, as it stands: to publish it is to unmask.
        locked: what is revealed, closed.
    """

    tokens: Mapping[str, str]
    lock_shares: Mapping[str, str]
    own_share: str
    locked: str


def lock(agreed: AgreedSum, site: str, secrets: Mapping[str, bytes], revealed: Mapping[str, bytes]) -> Locked:
    """Close what a member reveals; drawn anew at each call, so what is made first must be kept.

    It checks no quorum and remembers nothing: see `release_lock.release`.

    Args:
        agreed: what it is for; the site is one of the members.
        site: the member.
        secrets: its Z with every other member.
        revealed: one key for every sharer.
    """
    key = os.urandom(KEY_BYTES)
    points = agreed.points
    shares = shamir.deal(key, threshold=agreed.threshold, points=list(points.values()))
    others = [other for other in points if other != site]
    closing = {other: _token(agreed, secrets[other], giver=other, owner=site) for other in others}
    plain = canonical_json({sharer: _text(each) for sharer, each in revealed.items()})
    return Locked(
        tokens={other: _text(_token(agreed, secrets[other], giver=site, owner=other)) for other in others},
        lock_shares={
            other: _closed(closing[other], shares[points[other]], agreed, other, site) for other in others
        },
        own_share=_text(shares[points[site]]),
        locked=_closed(_opening_key(agreed, site, key), plain, agreed, site),
    )


def open_locks(
    agreed: AgreedSum, sharers: Sequence[str], documents: Mapping[str, Locked]
) -> tuple[dict[str, dict[str, bytes]], dict[str, str]]:
    """Open every lock that these documents open together.

    Args:
        agreed: what all of them are for.
        sharers: for each of whom a member reveals one key.
        documents: by member that has unmasked.

    Returns:
        What each member has revealed, and why that of others is not known.
    """
    revealed: dict[str, dict[str, bytes]] = {}
    left_out: dict[str, str] = {}
    for site in sorted(documents):
        try:
            revealed[site] = _opened(agreed, site, sharers, documents)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InvalidTag):
            left_out[site] = "refused: its lock does not open"
    return revealed, left_out


def _opened(
    agreed: AgreedSum, site: str, sharers: Sequence[str], documents: Mapping[str, Locked]
) -> dict[str, bytes]:
    own = documents[site]
    shares = {agreed.points[site]: _raw(own.own_share)}
    for other in sorted(documents.keys() - {site}):
        # A member that gives a wrong token holds up nobody, as long as enough others give right ones.
        try:
            token = _raw(documents[other].tokens[site])
            share = _open(token, own.lock_shares[other], agreed, other, site)
        except (ValueError, KeyError, InvalidTag):
            continue
        shares[agreed.points[other]] = share
    if len(shares) < agreed.threshold:
        raise ValueError(len(shares))
    chosen = dict(list(shares.items())[: agreed.threshold])
    key = _opening_key(agreed, site, shamir.combine(chosen))
    plain = _open(key, own.locked, agreed, site)
    document: Any = json.loads(plain)
    if canonical_json(document) != plain or set(document) != set(sharers):
        raise ValueError("not one key for every sharer")
    keys = {sharer: _raw(text) for sharer, text in document.items()}
    if any(len(each) != KEY_BYTES for each in keys.values()):
        raise ValueError("not keys")
    return keys


def _token(agreed: AgreedSum, z: bytes, *, giver: str, owner: str) -> bytes:
    return derive_key(z, "token", agreed.names, *agreed.fields(giver, owner))


def _opening_key(agreed: AgreedSum, site: str, key: bytes) -> bytes:
    return derive_key(key, "unmask lock", agreed.names, *agreed.fields(site))


def _closed(key: bytes, plain: bytes, agreed: AgreedSum, *sites: str) -> str:
    nonce = os.urandom(_NONCE_BYTES)
    return _text(nonce + AESGCM(key).encrypt(nonce, plain, _associated(agreed, *sites)))


def _open(key: bytes, text: str, agreed: AgreedSum, *sites: str) -> bytes:
    closed = _raw(text)
    return AESGCM(key).decrypt(closed[:_NONCE_BYTES], closed[_NONCE_BYTES:], _associated(agreed, *sites))


def _associated(agreed: AgreedSum, *sites: str) -> bytes:
    return framed([*agreed.names.fields(), *agreed.fields(*sites)])


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _raw(text: str) -> bytes:
    raw = base64.b64decode(text, validate=True)
    if _text(raw) != text:
        raise ValueError("not the one base64 form")
    return raw
