"""Key agreement of protection `sealed`: which streams mask a site's vector, and who else knows them.

Every two sites of a roster share one secret Z, made from their static keys (in the charter) and their
ephemeral keys (in the commitments of one attempt). From Z come a *pad*, which one of the two adds and
the other subtracts, and two *shares*, which release_lock.py asks for. A site's own *self key* masks it
until the site releases it. Keys are HKDF-SHA256 (RFC 5869) of X25519 results (RFC 7748); charter,
ticket, purpose and roster are in every one of them, so no stream is ever used for a second vector.

    masked_i = x_i + PRG(self_i) + sum over j > i of PRG(pad_ij) - sum over j < i of PRG(pad_ij)   mod p
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from components.artifacts.documents import framed
from components.encryption.masking.masks import Masks
from components.errors import RefusedError

KEY_BYTES: Final = 32
SECRET_BYTES: Final = 64
_SALT: Final = b"crosscloud sealed 1"


@dataclass(frozen=True, kw_only=True)
class AttemptNames:
    """What one set of keys is for; two attempts that differ in any of these share no key.

    Attributes:
        charter: cd, the charter's digest.
        ticket: td, the ticket's digest: one attempt of one round.
        purpose: what is summed, such as `update`.
        roster: rd, the digest of the roster, and with it of every member's commitment.

    Raises:
        ValueError: One of them is empty.
    """

    charter: str
    ticket: str
    purpose: str
    roster: str

    def __post_init__(self) -> None:
        if not all(self.fields()):
            raise ValueError("charter, ticket, purpose and roster must not be empty: keys are bound to each")

    def fields(self) -> tuple[bytes, ...]:
        """The names in the order in which keys are derived from them."""
        return tuple(name.encode() for name in (self.charter, self.ticket, self.purpose, self.roster))


@dataclass(frozen=True, kw_only=True)
class PublicHalf:
    """What the others know of a site: two X25519 public keys, 32 raw bytes each.

    Attributes:
        name: the site's.
        static: the key that stands in the charter.
        ephemeral: the key of one commitment.
    """

    name: str
    static: bytes
    ephemeral: bytes


@dataclass(frozen=True, kw_only=True)
class PrivateHalf:
    """What a site holds; the ephemeral key is erased once the receipt is there (forward secrecy)."""

    name: str
    static: X25519PrivateKey
    ephemeral: X25519PrivateKey

    def public(self) -> PublicHalf:
        """The public keys that belong to it."""
        return PublicHalf(
            name=self.name,
            static=self.static.public_key().public_bytes_raw(),
            ephemeral=self.ephemeral.public_key().public_bytes_raw(),
        )


def shared_secret(own: PrivateHalf, other: PublicHalf) -> bytes:
    """Return Z = X25519(static, static) || X25519(ephemeral, ephemeral), 64 bytes, alike at both ends.

    Raises:
        RefusedError: Either result is all zero (the other's key is a point of low order, so everybody
            knows the result), a key has not 32 bytes, or the other shows this site's own name or key.
    """
    mirrored = own.public()
    if other.name == own.name or {other.static, other.ephemeral} & {mirrored.static, mirrored.ephemeral}:
        raise RefusedError(
            f"{other.name} shows this site's own name or key: a pair has two sites, correct the charter",
            disclosed=f"the keys of {other.name} are this site's own",
        )
    return exchanged(own.static, other.static, other.name) + exchanged(
        own.ephemeral, other.ephemeral, other.name
    )


def pad_key(z: bytes, names: AttemptNames, one: PublicHalf, other: PublicHalf) -> bytes:
    """The 32 bytes that two sites mask each other with; the order of the two does not matter."""
    ends = sorted((end.name.encode(), end.static, end.ephemeral) for end in (one, other))
    return derive_key(z, "pad", names, *ends[0], *ends[1])


def self_key(seed: bytes, names: AttemptNames, site: str) -> bytes:
    """The 32 bytes that a site masks itself with under one roster.

    This key is what is released. The seed never is: it would lift the site's mask under every other
    roster as well.

    Raises:
        ValueError: The seed has not 32 bytes.
    """
    if len(seed) != KEY_BYTES:
        raise ValueError(f"the seed of a self-mask must have {KEY_BYTES} bytes, got {len(seed)}")
    return derive_key(seed, "self", names, site.encode())


def share(z: bytes, names: AttemptNames, cutoff: str, *, sender: str, receiver: str) -> bytes:
    """The 32 bytes by which `sender` agrees that `receiver` is summed in exactly this cut-off's set."""
    return derive_key(z, "share", names, cutoff.encode(), sender.encode(), receiver.encode())


def derive_key(secret: bytes, label: str, names: AttemptNames, *fields: bytes) -> bytes:
    """HKDF-SHA256 of `secret` to 32 bytes; every field of info carries its length, so none can be shifted."""
    context = framed([label.encode(), *names.fields(), *fields])
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=_SALT, info=context).derive(secret)


def others_of(own: PrivateHalf, roster: Sequence[PublicHalf]) -> list[PublicHalf]:
    """The roster without this site.

    Raises:
        RefusedError: The roster names a site twice, or does not hold this site with exactly its keys.
    """
    if len({half.name for half in roster}) != len(roster):
        raise RefusedError(
            "the roster names a site twice: every site seals once",
            disclosed="the roster names a site twice",
        )
    if own.public() not in roster:
        raise RefusedError(
            f"the roster does not hold {own.name} with its own keys: what it seals could not be summed",
            disclosed=f"the roster does not hold {own.name} with its keys",
        )
    return [half for half in roster if half.name != own.name]


def is_added(site: str, other: str) -> bool:
    """Whether `site` adds the pad it has with `other`, which then subtracts it (names in byte order)."""
    return site.encode() < other.encode()


def site_masks(names: AttemptNames, own: PrivateHalf, roster: Sequence[PublicHalf], seed: bytes) -> Masks:
    """The streams that mask this site's vector under one roster.

    Args:
        names: What the keys are for.
        own: This site's private keys.
        roster: Public keys of all members, this site's among them.
        seed: This site's self-mask seed b of this attempt, 32 bytes.

    Raises:
        RefusedError: The roster is not one that this site can seal under, or `shared_secret` refuses a key.
    """
    mirrored = own.public()
    added = [self_key(seed, names, own.name)]
    subtracted: list[bytes] = []
    for other in others_of(own, roster):
        key = pad_key(shared_secret(own, other), names, mirrored, other)
        (added if is_added(own.name, other.name) else subtracted).append(key)
    return Masks(added=tuple(added), subtracted=tuple(subtracted))


def exchanged(private: X25519PrivateKey, public: bytes, name: str) -> bytes:
    """X25519 of a private key and the public one of the party `name`, 32 bytes.

    Raises:
        RefusedError: the public key has not 32 bytes, or the result is all zero.
    """
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        # Raised for a wrong length and, by OpenSSL, for an all-zero result (RFC 7748, section 6.1).
        raise RefusedError(
            f"a public key of {name} is no key or gives an all-zero secret: it masks nothing, replace it",
            disclosed=f"a public key of {name} is unusable",
        ) from error
