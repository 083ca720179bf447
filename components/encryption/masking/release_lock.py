"""The release of protection `sealed`: self-masks are lifted for one agreed set of sites, or not at all.

After the cut-off every member i of the set U publishes its self key and the pads it has with the sites
that were lost, encrypted under a lock, and one share for every other member:

    lock_i = HKDF of share(j -> i) for every other j in U

Only j can make share(j -> i), besides i itself, and j makes shares for one set. So nothing of anybody
opens unless all of U agree on U, whatever the coordinator showed to whom; the quorum of the charter
then leaves no second set that could agree. A site that was lost has released nothing: its self key
still masks it, whatever pads the others gave away.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from components.artifacts.documents import canonical_json, framed
from components.encryption.masking.masks import Masks
from components.encryption.masking.pair_keys import (
    KEY_BYTES,
    AttemptNames,
    PrivateHalf,
    PublicHalf,
    derive_key,
    is_added,
    others_of,
    pad_key,
    self_key,
    share,
    shared_secret,
)
from components.errors import CiphertextError, RefusedError

# A constant nonce is safe because no key is used for two plaintexts: a lock is unique to charter, ticket,
# purpose, roster, cut-off and site, and what it closes, the self key and the pads of the lost sites, follows
# from the same names, from keys that the roster fixes and from the seed that was drawn with them.
_NONCE: Final = bytes(12)


@dataclass(frozen=True, kw_only=True)
class Release:
    """What one member of the set publishes; it goes into a signed document as it stands.

    Attributes:
        site: its name.
        shares: share(site -> j), base64, by the name of every other member j.
        locked: base64 of what AES-256-GCM under lock_site makes of the canonical JSON
            ``{"pads": {lost site: base64 pad key}, "self": base64 self key}``.
    """

    site: str
    shares: Mapping[str, str]
    locked: str


def release(  # noqa: PLR0917 - in the order of `open_releases`, what only the site knows behind it
    names: AttemptNames,
    cutoff: str,
    members: Sequence[str],
    own: PrivateHalf,
    roster: Sequence[PublicHalf],
    seed: bytes,
) -> Release:
    """Make this site's release for one set: the same bytes each time it is made for the same set.

    It checks no quorum and remembers nothing. That the set is large enough, and that it is the only
    one this site ever releases for, is the caller's to ensure before it publishes what is returned.

    Args:
        names: What the keys are for.
        cutoff: ud, the digest of roster and set, as this site computed it from the two itself.
        members: Names of the set U.
        own: This site's private keys.
        roster: Public keys of everybody who was to seal; those not in `members` are lost.
        seed: This site's self-mask seed b of this attempt, 32 bytes.

    Raises:
        RefusedError: The set is not two or more sites of the roster with this one among them, or the
            roster or a key in it is refused.
    """
    others = others_of(own, roster)
    mirrored = own.public()
    _require_set(own.name, members, roster)
    sent, received, pads = {}, {}, {}
    for other in others:
        z = shared_secret(own, other)
        if other.name in members:
            sent[other.name] = _text(share(z, names, cutoff, sender=own.name, receiver=other.name))
            received[other.name] = share(z, names, cutoff, sender=other.name, receiver=own.name)
        else:
            pads[other.name] = _text(pad_key(z, names, mirrored, other))
    plain = canonical_json({"pads": pads, "self": _text(self_key(seed, names, own.name))})
    lock = AESGCM(_lock_key(received, names, cutoff, own.name))
    bound = _associated(names, cutoff, own.name)
    return Release(site=own.name, shares=sent, locked=_text(lock.encrypt(_NONCE, plain, bound)))


def open_releases(
    names: AttemptNames,
    cutoff: str,
    members: Sequence[str],
    roster_names: Sequence[str],
    releases: Mapping[str, Release],
) -> Masks:
    """Open every lock of one set and return the streams to subtract from the sum over it.

    Args:
        names: What the keys are for.
        cutoff: ud, the digest of roster and set.
        members: Names of the set U.
        roster_names: Names of everybody who was to seal.
        releases: The release of every member, by its name.

    Raises:
        CiphertextError: A release is missing, too many, malformed, or made for another set. The message
            is one and the same: a key holder that explains its refusals can be asked questions.
    """
    try:
        return _opened(names, cutoff, members, roster_names, releases)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InvalidTag):
        # Without its cause: a trace would tell which release it was.
        raise CiphertextError(
            "the releases do not open this set: refused, void the attempt and run again"
        ) from None


def _opened(
    names: AttemptNames,
    cutoff: str,
    members: Sequence[str],
    roster_names: Sequence[str],
    releases: Mapping[str, Release],
) -> Masks:
    chosen, called = set(members), set(roster_names)
    if len(chosen) < 2 or not chosen <= called or set(releases) != chosen:
        raise ValueError(chosen)
    if len(chosen) != len(members) or len(called) != len(roster_names):
        raise ValueError(members)
    lost = called - chosen
    shares = {site: _sent_shares(site, chosen, releases[site]) for site in chosen}
    added: list[bytes] = []
    subtracted: list[bytes] = []
    for site in sorted(chosen):
        received = {sender: shares[sender][site] for sender in chosen - {site}}
        lock = AESGCM(_lock_key(received, names, cutoff, site))
        plain = lock.decrypt(_NONCE, _raw(releases[site].locked), _associated(names, cutoff, site))
        own, pads = _parsed(plain, lost)
        added.append(own)
        for other in sorted(lost):
            (added if is_added(site, other) else subtracted).append(pads[other])
    return Masks(added=tuple(added), subtracted=tuple(subtracted))


def _require_set(site: str, members: Sequence[str], roster: Sequence[PublicHalf]) -> None:
    chosen = set(members)
    fits = len(chosen) == len(members) and chosen <= {half.name for half in roster}
    # A set of one would be locked by no share at all, under a key that anybody can derive.
    if not fits or site not in chosen or len(chosen) < 2:
        raise RefusedError(
            f"{', '.join(members) or 'nobody'} cannot be summed: a set is two or more different sites of the "
            f"roster with {site} among them, nothing was released",
            disclosed="the set to be summed is not one of this roster with this site in it",
        )


def _lock_key(shares: Mapping[str, bytes], names: AttemptNames, cutoff: str, site: str) -> bytes:
    parts = (part for sender in sorted(shares) for part in (sender.encode(), shares[sender]))
    return derive_key(framed(parts), "lock", names, cutoff.encode(), site.encode())


def _associated(names: AttemptNames, cutoff: str, site: str) -> bytes:
    return framed([*names.fields(), cutoff.encode(), site.encode()])


def _sent_shares(site: str, chosen: set[str], sent: Release) -> dict[str, bytes]:
    if sent.site != site or set(sent.shares) != chosen - {site}:
        raise ValueError(site)
    return {receiver: _key(text) for receiver, text in sent.shares.items()}


def _parsed(plain: bytes, lost: Iterable[str]) -> tuple[bytes, dict[str, bytes]]:
    document: Any = json.loads(plain)
    if canonical_json(document) != plain or set(document) != {"pads", "self"}:
        raise ValueError("not a release")
    if set(document["pads"]) != set(lost):
        raise ValueError("not the lost sites")
    return _key(document["self"]), {site: _key(text) for site, text in document["pads"].items()}


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _raw(text: str) -> bytes:
    raw = base64.b64decode(text, validate=True)
    if _text(raw) != text:
        raise ValueError("not the one base64 form")
    return raw


def _key(text: str) -> bytes:
    raw = _raw(text)
    if len(raw) != KEY_BYTES:
        raise ValueError(len(raw))
    return raw
