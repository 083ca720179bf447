"""The protections by name, each split into the three roles that may hold different keys.

A site seals with public material, the aggregator (and the key holder, who adds again for itself)
sums with public material, and only the key holder opens. What is sealed is one float64 vector
``[n*w, n]``: the update weighted by the site's number of examples, and that number. Opening a sum
therefore gives numerator and denominator of the paper's Eq. 6 and no site's own share of either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from components.encryption import ckks, plain
from components.encryption.ckks_context import generate_contexts as generate_ckks_contexts
from components.encryption.framing import context_fingerprint
from components.errors import UsageError

__all__ = [
    "PROTECTIONS",
    "Opener",
    "Sealer",
    "Summer",
    "context_fingerprint",
    "generate_contexts",
    "opener",
    "sealer",
    "summer",
]


class Sealer(Protocol):
    """A site: turns its vector into bytes that may leave it. Holds public material only."""

    def seal(self, values: NDArray[np.float64]) -> bytes:
        """Seal a vector of shape (length,); the argument is not changed.

        Raises:
            BadDataError: A value is not finite or outside the protection's range.
            CiphertextError: What was made is not provably sealed; nothing is returned.
            ValueError: Not a one-dimensional, non-empty float64 vector.
        """


class Summer(Protocol):
    """The aggregator, or the key holder adding again: adds what it cannot read."""

    def check(self, blob: bytes, length: int) -> None:
        """Return only if the bytes are of this protection, public context and length.

        Raises:
            CiphertextError: They are not; no parser of a library has touched them.
        """

    def add(self, blobs: Sequence[bytes], length: int) -> bytes:
        """Check every blob and return the sealed sum, which depends on nothing but the blobs and their order.

        Raises:
            CiphertextError: A blob does not pass `check`.
            UsageError: More blobs than the protection can add without wrapping.
            ValueError: No blobs.
        """


class Opener(Protocol):
    """The key holder: reads a sum that it has added itself."""

    @property
    def absolute_error(self) -> float:
        """Largest distance of an opened value from the exact sum, rounding of float64 aside."""

    def open(self, blob: bytes, length: int) -> NDArray[np.float64]:
        """Open a sealed sum into a vector of shape (length,).

        Raises:
            CiphertextError: It fails `Summer.check`, or what it opens to cannot be a sum.
        """


@dataclass(frozen=True, kw_only=True)
class _Roles:
    sealer: Callable[[bytes], Sealer]
    summer: Callable[[bytes], Summer]
    opener: Callable[[bytes], Opener]
    generate_contexts: Callable[[], tuple[bytes, bytes]]


_PROTECTIONS: Mapping[str, _Roles] = {
    "he": _Roles(
        sealer=ckks.HeSealer,
        summer=ckks.HeSummer,
        opener=ckks.HeOpener,
        generate_contexts=generate_ckks_contexts,
    ),
    "none": _Roles(
        sealer=plain.PlainSealer,
        summer=plain.PlainSummer,
        opener=plain.PlainOpener,
        generate_contexts=plain.generate_contexts,
    ),
}

PROTECTIONS: Final = tuple(sorted(_PROTECTIONS))
"""Their names, as a federation file has them."""


def _roles(name: str) -> _Roles:
    if name not in _PROTECTIONS:
        raise UsageError(f"unknown protection {name!r}: choose one of {', '.join(PROTECTIONS)}")
    return _PROTECTIONS[name]


def sealer(name: str, public_context: bytes) -> Sealer:
    """Make the role of a site.

    Raises:
        UsageError: An unknown protection, or a context that this role may not or cannot use.
    """
    return _roles(name).sealer(public_context)


def summer(name: str, public_context: bytes) -> Summer:
    """Make the role of the aggregator; the key holder uses it too, to add again what it opens.

    Raises:
        UsageError: An unknown protection, or a context that this role may not or cannot use.
    """
    return _roles(name).summer(public_context)


def opener(name: str, secret_context: bytes) -> Opener:
    """Make the role of the key holder.

    Raises:
        UsageError: An unknown protection, or a context without its secret key.
    """
    return _roles(name).opener(secret_context)


def generate_contexts(name: str) -> tuple[bytes, bytes]:
    """Draw a key and return its public and its secret context; `none` has neither: both are empty.

    Raises:
        UsageError: An unknown protection.
    """
    return _roles(name).generate_contexts()
