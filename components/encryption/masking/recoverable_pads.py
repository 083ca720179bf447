"""The masks of protection `smc`: those of Bonawitz et al. 2017, which others can finish for a lost site.

    y_i = x_i + PRG(self_i) + sum over j > i of PRG(pad_ij) - sum over j < i of PRG(pad_ij)   mod 2^32

A pad follows from the two ephemeral keys alone, so that whoever has put together the private one of a lost
site from its shares can compute its pads with everybody. All names, and both static keys, are in it as in
the pads of `pair_keys.py`; the static keys' own secret is not, as it outlives the attempt and must never
be shared out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from components.encryption.masking.masks import Masks
from components.encryption.masking.pair_keys import (
    AttemptNames,
    PrivateHalf,
    PublicHalf,
    exchanged,
    is_added,
    others_of,
    pad_key,
    self_key,
)


def recoverable_pad(
    scalar: X25519PrivateKey, names: AttemptNames, owner: PublicHalf, other: PublicHalf
) -> bytes:
    """The 32 bytes that two sites mask each other with.

    Args:
        scalar: the owner's ephemeral private key.
        names: what the pad is for.
        owner: whose scalar it is.
        other: the other end.

    Raises:
        RefusedError: the other's ephemeral key is none, or of low order.
    """
    return pad_key(exchanged(scalar, other.ephemeral, other.name), names, owner, other)


def recoverable_masks(
    names: AttemptNames, own: PrivateHalf, sharers: Sequence[PublicHalf], seed: bytes
) -> Masks:
    """The streams that mask this site's vector among one set of sharers.

    Args:
        names: what the keys are for.
        own: this site's private keys.
        sharers: public keys of all who may seal, this site's among them.
        seed: this site's self-mask seed b of this attempt, 32 bytes.

    Raises:
        RefusedError: the sharers do not hold this site with its keys, or a key of theirs is unusable.
    """
    mirrored = own.public()
    added, subtracted = [self_key(seed, names, own.name)], list[bytes]()
    for other in others_of(own, sharers):
        pad = recoverable_pad(own.ephemeral, names, mirrored, other)
        (added if is_added(own.name, other.name) else subtracted).append(pad)
    return Masks(added=tuple(added), subtracted=tuple(subtracted))


def remaining_masks(
    names: AttemptNames,
    sharers: Mapping[str, PublicHalf],
    selves: Mapping[str, bytes],
    scalars: Mapping[str, X25519PrivateKey],
) -> Masks:
    """What is left of all masks in the sum over one set, whose members' pads with each other cancel.

    Args:
        names: what the keys are for.
        sharers: public keys of all who may have sealed.
        selves: the self key of every member of the set.
        scalars: the ephemeral private key of every other sharer.
    """
    added, subtracted = list(selves.values()), list[bytes]()
    for lost, scalar in scalars.items():
        for member in selves:
            pad = recoverable_pad(scalar, names, sharers[lost], sharers[member])
            (added if is_added(member, lost) else subtracted).append(pad)
    return Masks(added=tuple(added), subtracted=tuple(subtracted))
