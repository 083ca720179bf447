from __future__ import annotations

import dataclasses
import hashlib
import io
import struct
from typing import BinaryIO, cast

import pytest

from components.encryption.framing import HEADER_BYTES, Frame, context_fingerprint, read_exactly
from components.errors import CiphertextError

FRAME = Frame(protection="he", fingerprint=context_fingerprint(b"key"), length=7, parts=2, part_bytes=3)


def test_the_header_is_as_documented() -> None:
    documented = (
        b"XCSEALED\x01\x00he" + bytes(12) + hashlib.sha256(b"key").digest() + struct.pack("<QQQ", 7, 2, 3)
    )
    assert FRAME.header() == documented
    assert len(documented) == HEADER_BYTES


def refusal(content: bytes) -> str:
    with pytest.raises(CiphertextError) as caught:
        FRAME.read_header(io.BytesIO(content))
    return str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dataclasses.replace(FRAME, protection="none"), "sealed under b'none', this round uses 'he'"),
        (
            dataclasses.replace(FRAME, fingerprint="00" * 32),
            "sealed for context 000000000000, this federation's",
        ),
        (dataclasses.replace(FRAME, length=8), "8 values are sealed, 7 are due"),
        (
            dataclasses.replace(FRAME, parts=3, part_bytes=2),
            "3 parts of 2 bytes are announced, 2 of 3 are due",
        ),
    ],
)
def test_says_what_differs(changed: Frame, message: str) -> None:
    assert message in refusal(changed.header() + b"abcdef")


def test_says_that_it_is_something_else_or_incomplete() -> None:
    assert "not a sealed update of format 1" in refusal(bytes(HEADER_BYTES + 6))
    assert "5 bytes are less than a header" in refusal(b"short")


def test_has_a_length() -> None:
    with pytest.raises(ValueError, match="at least one value, got length 0"):
        dataclasses.replace(FRAME, length=0)


class _Dripping(io.RawIOBase):
    """A source that returns at most three bytes at a time, as a remote file may."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._content.read(min(size, 3))


def test_reads_all_of_it_from_a_source_that_returns_less() -> None:
    source = cast(BinaryIO, _Dripping(bytes(range(100))))
    assert read_exactly(source, 0) == b""
    assert read_exactly(source, 91) == bytes(range(91))
    assert read_exactly(source, 91) == bytes(range(91, 100))
    assert read_exactly(source, 91) == b""


def test_reads_the_header_and_leaves_the_source_at_the_body() -> None:
    source = cast(BinaryIO, _Dripping(FRAME.header() + b"abcdef"))
    FRAME.read_header(source)
    assert source.read(2) == b"ab"


def test_no_other_header_passes() -> None:
    header = FRAME.header()
    for cut in range(HEADER_BYTES):
        assert "are less than a header" in refusal(header[:cut])
    for bit in range(8 * HEADER_BYTES):
        flipped = bytearray(header)
        flipped[bit // 8] ^= 1 << bit % 8
        assert refusal(bytes(flipped) + b"abcdef")
