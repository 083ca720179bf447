"""The protections by name, each split into the three roles that may hold different keys.

A site seals with public material, the aggregator (and the key holder, who adds again for itself)
sums with public material, and only the key holder opens. What is sealed is one vector ``[n*w, n]``,
the update weighted by the site's number of examples, and that number: in float64 under `none` and
`he`, in fixed point under the others. Opening a sum therefore gives numerator and denominator of the
paper's Eq. 6 and no site's own share of either. All roles read and write from front to back, a part
at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Literal, Protocol

from numpy.typing import NDArray

from components.agreement.protections import HE, MASKED, NONE, SEALED, SMC, TRAITS
from components.encryption import plain, ring
from components.encryption.bfv import context as bfv_context
from components.encryption.bfv import sealed
from components.encryption.bfv.packing import Packing
from components.encryption.ckks import context as ckks_context
from components.encryption.ckks import roles as ckks
from components.encryption.ckks.context import generate_contexts as generate_ckks_contexts
from components.encryption.framing import context_fingerprint
from components.encryption.masking import holder_pads
from components.encryption.masking.masks import Masks
from components.encryption.ring import RingOpener, RingSealer, RingSummer
from components.errors import CiphertextError, UsageError

__all__ = [
    "PROTECTIONS",
    "Opener",
    "Sealer",
    "Summer",
    "context_fingerprint",
    "generate_contexts",
    "masking_sealer",
    "opener",
    "require_form",
    "sealed_size",
    "sealer",
    "summer",
    "unmasking_opener",
]


class Sealer(Protocol):
    """A site: turns its vector into bytes that may leave it. Holds public material only."""

    def seal(self, values: NDArray[Any]) -> Iterator[bytes]:
        """Seal a vector of shape (length,), which is not changed and must not change until it is sealed.

        Returns:
            The header, then the parts, each made when it is asked for: the whole is never in memory.
            What is refused below is refused at the call, except for `CiphertextError`: what was yielded
            before it is sealed all the same, and is no whole vector.

        Raises:
            BadDataError: A value is not finite or outside the protection's range.
            CiphertextError: What was made is not provably sealed; it is not yielded.
            ValueError: Not a one-dimensional, non-empty vector of the protection's type.
        """


class Summer(Protocol):
    """The aggregator, or the key holder adding again: adds what it cannot read."""

    def check(self, source: BinaryIO, length: int) -> None:
        """Read the source to its end; return only if it is of this protection, public context and length.

        Raises:
            CiphertextError: It is not; no parser of a library has touched it.
        """

    def add(self, sources: Sequence[BinaryIO], length: int) -> Iterator[bytes]:
        """Add sealed vectors, each checked as `check` does on its way; a source serves one sum.

        Returns:
            The sealed sum, which depends on nothing but the vectors and their order: the header, then the
            parts, each when it is asked for. It is one only once the iterator has ended: what is wrong
            with the end of a source shows at the end.

        Raises:
            CiphertextError: A source does not pass `check`; if its header does not, at the call.
            UsageError: More sources than the protection can add without wrapping; at the call.
            ValueError: No sources; at the call.
        """


class Opener(Protocol):
    """The key holder: reads a sum that it has added itself."""

    def open(self, source: BinaryIO, length: int) -> NDArray[Any]:
        """Open a sealed sum into a vector of shape (length,).

        Raises:
            CiphertextError: It fails `Summer.check`, or what it opens to cannot be a sum.
        """


@dataclass(frozen=True, kw_only=True)
class _Roles:
    sealer: Callable[[bytes], Sealer]
    opener: Callable[[bytes], Opener]


_ROLES: Mapping[str, _Roles] = {
    HE: _Roles(sealer=ckks.HeSealer, opener=ckks.HeOpener),
    NONE: _Roles(sealer=plain.PlainSealer, opener=plain.PlainOpener),
}

_GENERATE_CONTEXTS: Mapping[str, Callable[[], tuple[bytes, bytes]]] = {
    HE: generate_ckks_contexts,
    MASKED: holder_pads.generate_contexts,
    NONE: plain.generate_contexts,
    SEALED: sealed.generate_contexts,
    SMC: plain.generate_contexts,
}

PROTECTIONS: Final = tuple(sorted(TRAITS))
"""Their names, as a federation file has them."""


def sealer(name: str, public_context: bytes) -> Sealer:
    """Make the role of a site where nothing is masked; elsewhere it is `masking_sealer`'s.

    Raises:
        UsageError: An unknown protection, or a context that this role may not or cannot use.
        ValueError: A protection under which sites mask their updates.
    """
    return _roles(name).sealer(public_context)


def masking_sealer(
    name: str, public_context: bytes, masks: Masks, *, sites: int, values_per_slot: Literal[1, 2]
) -> Sealer:
    """Make the role of a site that masks its update, for one vector.

    Args:
        name: The protection.
        public_context: The key holder's public key; empty under `smc`.
        masks: All streams that hide the vector, of this round and purpose alone.
        sites: Sites of the charter.
        values_per_slot: One or two; of meaning for `sealed` alone.

    Raises:
        UsageError: A context that this role may not or cannot use.
    """
    if name == SEALED:
        return sealed.SealedSealer(
            public_context, Packing(values_per_slot=values_per_slot, sites=sites), masks
        )
    _require_ring(name, public_context)
    return RingSealer(name, public_context, masks, sites=sites)


def summer(name: str, public_context: bytes, *, values_per_slot: int = 2) -> Summer:
    """Make the role of the aggregator; the key holder uses it too, to add again what it opens.

    Args:
        name: The protection.
        public_context: The key holder's public key.
        values_per_slot: One or two, as the federation packs; of meaning for `sealed` alone.

    Raises:
        UsageError: An unknown protection, or a context that this role may not or cannot use.
    """
    _require_known(name)
    if name == SEALED:
        return sealed.SealedSummer(public_context, values_per_slot)
    if TRAITS[name].masked:
        _require_ring(name, public_context)
        return RingSummer(name, public_context)
    return ckks.HeSummer(public_context) if name == HE else plain.PlainSummer(public_context)


def require_form(name: str, public_context: bytes) -> None:
    """Pass a public context that has the one form of its protection; TenSEAL need not be there.

    Raises:
        CiphertextError: It has another.
        UsageError: An unknown protection.
    """
    _require_known(name)
    form = {SEALED: bfv_context.FORM, HE: ckks_context.FORM}.get(name)
    try:
        if form:
            form.require(public_context)
    except CiphertextError as error:
        raise CiphertextError(
            f"the public context for protection {name} is none to seal under, {error}: "
            "the key holder makes another with `crosscloud keys rotate`"
        ) from None


def sealed_size(name: str, length: int, *, values_per_slot: int = 2) -> int:
    """Bytes of every sealed vector of so many values, and of every sum of them.

    Raises:
        UsageError: An unknown protection.
    """
    _require_known(name)
    if name == SEALED:
        return sealed.sealed_size(length, values_per_slot)
    if TRAITS[name].masked:
        return ring.sealed_size(name, length)
    return ckks.sealed_size(length) if name == HE else plain.sealed_size(length)


def opener(name: str, secret_context: bytes) -> Opener:
    """Make the role of the key holder where nothing is masked; elsewhere it is `unmasking_opener`'s.

    Raises:
        UsageError: An unknown protection, or a context without its secret key.
        ValueError: A protection under which sites mask their updates.
    """
    return _roles(name).opener(secret_context)


def unmasking_opener(
    name: str, context: bytes, masks: Masks, *, sites: int, values_per_slot: Literal[1, 2]
) -> Opener:
    """Make the role of the key holder for one sum of masked updates.

    Args:
        name: The protection.
        context: The secret context under `sealed`; the public one elsewhere, as masks hold the secret.
        masks: What remains of all members' masks in the sum.
        sites: Sites of the charter.
        values_per_slot: One or two; of meaning for `sealed` alone.

    Raises:
        UsageError: A context that this role cannot use.
    """
    if name == SEALED:
        return sealed.SealedOpener(context, Packing(values_per_slot=values_per_slot, sites=sites), masks)
    _require_ring(name, context)
    return RingOpener(name, context, masks)


def generate_contexts(name: str) -> tuple[bytes, bytes]:
    """Draw a key and return its public and its secret context; `none` has neither: both are empty.

    Raises:
        UsageError: An unknown protection, or TenSEAL is not installed.
    """
    _require_known(name)
    return _GENERATE_CONTEXTS[name]()


def _roles(name: str) -> _Roles:
    _require_known(name)
    if name not in _ROLES:
        raise ValueError(f"site and key holder need masks under {name}: make a masking_sealer")
    return _ROLES[name]


def _require_ring(name: str, public_context: bytes) -> None:
    _require_known(name)
    if name == MASKED:
        holder_pads.require_public(public_context)
    elif public_context:
        raise UsageError(f"protection {name} takes no encryption context, got {len(public_context)} bytes")


def _require_known(name: str) -> None:
    if name not in PROTECTIONS:
        raise UsageError(f"unknown protection {name!r}: choose one of {', '.join(PROTECTIONS)}")
