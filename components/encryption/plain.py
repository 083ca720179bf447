"""Protection `none`: the vector itself, framed. Plain FedAvg, for comparisons and first steps.

It protects nothing. It is framed and checked like the others so that a round is the same program
under every protection.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from components.encryption.framing import Frame, context_fingerprint
from components.encryption.vectors import require_sealable
from components.errors import CiphertextError, UsageError

NAME = "none"
_VALUE_BYTES = 8


def generate_contexts() -> tuple[bytes, bytes]:
    """Return two empty contexts: there is no key."""
    return b"", b""


class PlainSealer:
    """A site under `none`."""

    def __init__(self, public_context: bytes) -> None:
        _require_no_context(public_context)

    def seal(self, values: NDArray[np.float64]) -> bytes:
        """Return the header and the values, little-endian."""
        require_sealable(values, protection=NAME)
        return _frame(values.size).wrap(values.astype("<f8").tobytes())


class PlainSummer:
    """The aggregator under `none`."""

    def __init__(self, public_context: bytes) -> None:
        _require_no_context(public_context)

    def check(self, blob: bytes, length: int) -> None:
        """Compare header and size with the only ones possible."""
        _frame(length).unwrap(blob)

    def add(self, blobs: Sequence[bytes], length: int) -> bytes:
        """Add in the order given; float64 addition is not associative, so the order is part of the result."""
        if not blobs:
            raise ValueError("a sum needs at least one sealed update")
        total = np.zeros(length, np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            for blob in blobs:
                total += _values(blob, length)
        return _frame(length).wrap(total.astype("<f8").tobytes())


class PlainOpener:
    """The key holder under `none`, which needs no key."""

    absolute_error = 0.0

    def __init__(self, secret_context: bytes) -> None:
        _require_no_context(secret_context)

    def open(self, blob: bytes, length: int) -> NDArray[np.float64]:
        """Return the summed values.

        Raises:
            CiphertextError: Not a whole blob of this length, or a value is not finite.
        """
        total = _values(blob, length).astype(np.float64)
        if not np.isfinite(total).all():
            raise CiphertextError(
                "the sum holds values that are not finite: a site sealed something else than an update"
            )
        return total


def _frame(length: int) -> Frame:
    return Frame(
        protection=NAME,
        fingerprint=context_fingerprint(b""),
        length=length,
        parts=1,
        part_bytes=length * _VALUE_BYTES,
    )


def _values(blob: bytes, length: int) -> NDArray[np.float64]:
    return np.frombuffer(_frame(length).unwrap(blob), "<f8")


def _require_no_context(context: bytes) -> None:
    if context:
        raise UsageError(
            f"protection none takes no encryption context, got {len(context)} bytes: "
            "set protection: he to encrypt, or pass none"
        )
