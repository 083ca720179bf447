"""SHA-256 beside the reader: what hashlib gives, whatever the pieces, in every process and thread."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.artifacts import background_hash
from components.artifacts.background_hash import BackgroundHash
from components.execution.forking import fork


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from([0, 1, 100, (1 << 14) - 1, 1 << 14, 70_000, 300_000]), max_size=30), st.data()
)
def test_any_pieces_give_what_hashlib_gives(sizes: list[int], data: st.DataObject) -> None:
    pieces = [os.urandom(size) for size in sizes]
    asked = data.draw(st.integers(0, len(pieces)))
    found, expected = BackgroundHash(), hashlib.sha256()
    for number, piece in enumerate(pieces):
        if number == asked:
            assert found.hexdigest() == expected.hexdigest()
        found.update(piece)
        expected.update(piece)
    assert found.hexdigest() == expected.hexdigest()


def test_many_at_once_keep_their_pieces_apart() -> None:
    found, expected = [BackgroundHash() for _ in range(7)], [hashlib.sha256() for _ in range(7)]
    for _ in range(20):
        for one, other in zip(found, expected, strict=True):
            piece = os.urandom(70_000)
            one.update(piece)
            other.update(piece)
    assert [each.hexdigest() for each in found] == [each.hexdigest() for each in expected]


def test_pieces_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_hash, "_MOST_WAITING", 100_000)
    hashes, most = [BackgroundHash() for _ in range(3)], 0
    for _ in range(50):
        for each in hashes:
            each.update(bytes(40_000))
            most = max(most, background_hash._threads().waiting)
    # The piece that comes when just as many wait as may is taken.
    assert most <= 140_000
    expected = hashlib.sha256(bytes(50 * 40_000)).hexdigest()
    assert [each.hexdigest() for each in hashes] == 3 * [expected]
    assert background_hash._threads().waiting == 0


def test_a_forked_child_hashes_with_threads_of_its_own() -> None:
    before = BackgroundHash()
    before.update(bytes(100_000))
    before.hexdigest()
    reader, writer = os.pipe()
    child = fork()
    if child == 0:
        hashed = BackgroundHash()
        hashed.update(bytes(200_000))
        os.write(writer, hashed.hexdigest().encode())
        os._exit(0)
    os.close(writer)
    timer = threading.Timer(20, os.kill, (child, 9))
    timer.start()
    os.waitpid(child, 0)
    timer.cancel()
    with os.fdopen(reader) as pipe:
        assert pipe.read() == hashlib.sha256(bytes(200_000)).hexdigest()


def test_what_is_short_needs_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_threads() -> None:
        raise AssertionError

    monkeypatch.setattr(background_hash, "_threads", no_threads)
    hashed = BackgroundHash()
    for _ in range(4):
        hashed.update(bytes(131_072))
    assert hashed.hexdigest() == hashlib.sha256(bytes(4 * 131_072)).hexdigest()
    (digest,) = background_hash.piece_digests([bytes(1 << 20)])
    assert digest == hashlib.sha256(bytes(1 << 20)).digest()
