from __future__ import annotations

import dataclasses
import hashlib
import struct

import pytest

from components.encryption.framing import HEADER_BYTES, Frame, context_fingerprint
from components.errors import CiphertextError

FRAME = Frame(protection="he", fingerprint=context_fingerprint(b"key"), length=7, parts=2, part_bytes=3)


def test_the_header_is_as_documented() -> None:
    documented = (
        b"XCSEALED\x01\x00he" + bytes(12) + hashlib.sha256(b"key").digest() + struct.pack("<QQQ", 7, 2, 3)
    )
    assert FRAME.wrap(b"abcdef") == documented + b"abcdef"
    assert len(documented) == HEADER_BYTES


def test_unwraps_what_it_wrapped() -> None:
    assert bytes(FRAME.unwrap(FRAME.wrap(b"abcdef"))) == b"abcdef"


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
    with pytest.raises(CiphertextError, match=message):
        FRAME.unwrap(changed.wrap(b"abcdef"))


def test_says_that_it_is_something_else_or_incomplete() -> None:
    with pytest.raises(CiphertextError, match="not a sealed update of format 1"):
        FRAME.unwrap(bytes(HEADER_BYTES + 6))
    with pytest.raises(CiphertextError, match="5 bytes are less than a header"):
        FRAME.unwrap(b"short")
    with pytest.raises(CiphertextError, match="has 86 bytes under he, got 85"):
        FRAME.unwrap(FRAME.wrap(b"abcdef")[:-1])


def test_wraps_no_body_of_another_size() -> None:
    with pytest.raises(CiphertextError, match="5 bytes was sealed where 6 are due"):
        FRAME.wrap(b"abcde")


def test_has_a_length() -> None:
    with pytest.raises(ValueError, match="at least one value, got length 0"):
        dataclasses.replace(FRAME, length=0)
