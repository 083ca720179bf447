"""What gives a secret away: its bytes, or pieces of them, as they are, in hexadecimal and in base64."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Iterable
from pathlib import Path

PIECE = 24
"""Bytes of a piece: 192 bits are never equal by chance."""


def traces(secret: bytes, *, public: bytes = b"", stride: int = 512) -> list[bytes]:
    """Pieces all over a secret that do not stand in what is public, in every encoding and alignment."""
    pieces = [secret[start : start + PIECE] for start in range(0, max(len(secret) - PIECE, 0) + 1, stride)]
    pieces = [piece for piece in pieces if len(piece) == PIECE and piece not in public]
    assert pieces, "nothing to search for"
    found: list[bytes] = []
    for piece in pieces:
        shifted = [piece[shift : shift + PIECE - 3] for shift in range(3)]
        encoded = [base64.b64encode(each) for each in shifted]
        urlsafe = [base64.urlsafe_b64encode(each) for each in shifted]
        # As Python shows bytes in messages.
        shown = repr(piece)[2:-1].encode()
        found += [piece, piece.hex().encode(), piece.hex().upper().encode(), shown, *encoded, *urlsafe]
    return found


def found_in(content: bytes, needles: Iterable[bytes]) -> bool:
    return any(needle in content for needle in needles)


def files_with(folders: Iterable[Path], needles: list[bytes]) -> set[str]:
    """Names of files, hidden ones too, that hold one of the needles."""
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert paths, "nothing to search in"
    return {path.name for path in paths if found_in(path.read_bytes(), needles)}


def everything_about(error: BaseException) -> bytes:
    """An error's message, form and whole trace, with all that it came from."""
    told: list[str] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None:
            told += [str(each), repr(each), *map(repr, each.args), *traceback.format_exception(each)]
            waiting += [each.__cause__, each.__context__]
    return "\n".join(told).encode()
