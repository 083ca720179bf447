"""Protection `none`: the vector itself, framed. Plain FedAvg, for comparisons and first steps.

It protects nothing. It is framed and checked like the others so that a round is the same program
under every protection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from components.encryption.framing import Frame, context_fingerprint
from components.encryption.sources import read_part, require_end
from components.encryption.vectors import BLOCK_VALUES, require_sealable
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

    def seal(self, values: NDArray[np.float64]) -> Iterator[bytes]:
        """Return the header, then the values, little-endian, in blocks of 1 MB."""
        require_sealable(values, protection=NAME)
        return _sealed(values)


class PlainSummer:
    """The aggregator under `none`."""

    def __init__(self, public_context: bytes) -> None:
        _require_no_context(public_context)

    def check(self, source: BinaryIO, length: int) -> None:
        """Compare header and size with the only ones possible."""
        _frame(length).read_header(source)
        for count in _blocks(length):
            read_part(source, count * _VALUE_BYTES)
        require_end(source)

    def add(self, sources: Sequence[BinaryIO], length: int) -> Iterator[bytes]:
        """Add in the order given; float64 addition is not associative, so the order is part of the result."""
        if not sources:
            raise ValueError("a sum needs at least one sealed update")
        frame = _frame(length)
        for source in sources:
            frame.read_header(source)
        return _added(sources, frame)


class PlainOpener:
    """The key holder under `none`, which needs no key."""

    absolute_error = 0.0
    """Largest distance of an opened value from the exact sum, rounding of float64 aside."""

    def __init__(self, secret_context: bytes) -> None:
        _require_no_context(secret_context)

    def open(self, source: BinaryIO, length: int) -> NDArray[np.float64]:
        """Return the summed values.

        Raises:
            CiphertextError: Not a whole vector of this length, or a value is not finite.
        """
        _frame(length).read_header(source)
        total = np.empty(length, np.float64)
        start = 0
        for count in _blocks(length):
            block = _read_values(source, count)
            if not np.isfinite(block).all():
                raise CiphertextError(
                    "the sum holds values that are not finite: a site sealed something else than an update"
                )
            total[start : start + count] = block
            start += count
        require_end(source)
        return total


def sealed_size(length: int) -> int:
    """Bytes of every sealed vector of so many values."""
    return _frame(length).size


def _frame(length: int) -> Frame:
    return Frame(
        protection=NAME,
        fingerprint=context_fingerprint(b""),
        length=length,
        parts=1,
        part_bytes=length * _VALUE_BYTES,
    )


def _blocks(length: int) -> Iterator[int]:
    """How many values each block has."""
    return (min(BLOCK_VALUES, length - start) for start in range(0, length, BLOCK_VALUES))


def _read_values(source: BinaryIO, count: int) -> NDArray[np.float64]:
    return np.frombuffer(read_part(source, count * _VALUE_BYTES), "<f8")


def _sealed(values: NDArray[np.float64]) -> Iterator[bytes]:
    yield _frame(values.size).header()
    for start in range(0, values.size, BLOCK_VALUES):
        yield values[start : start + BLOCK_VALUES].astype("<f8", copy=False).tobytes()


def _added(sources: Sequence[BinaryIO], frame: Frame) -> Iterator[bytes]:
    yield frame.header()
    for count in _blocks(frame.length):
        total = np.zeros(count, np.float64)
        # Not around the loop: what a generator sets would hold for its caller too.
        with np.errstate(over="ignore", invalid="ignore"):
            for source in sources:
                total += _read_values(source, count)
        yield total.astype("<f8", copy=False).tobytes()
    for source in sources:
        require_end(source)


def _require_no_context(context: bytes) -> None:
    if context:
        raise UsageError(
            f"protection none takes no encryption context, got {len(context)} bytes: "
            "set protection: he to encrypt, or pass none"
        )
