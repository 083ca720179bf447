"""Work that is shared: every piece once, and an error ends it for all."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.feature_augmentation.work_sharing import share


def squared(number: int) -> int:
    return number * number


@given(st.lists(st.integers()), st.integers(1, 4))
def test_every_piece_is_made_once_by_whatever_number_of_workers(pieces: list[int], workers: int) -> None:
    found = list(share(pieces, [squared] * workers))
    assert sorted(found) == sorted((piece, piece * piece) for piece in pieces)


def test_a_single_worker_keeps_the_order_and_the_callers_thread() -> None:
    threads = share(range(20), [lambda _: threading.get_ident()])
    assert list(threads) == [(piece, threading.get_ident()) for piece in range(20)]


def test_workers_work_at_once() -> None:
    """Both are inside a piece at the same time: a barrier of two opens for two only."""
    barrier = threading.Barrier(2, timeout=20)

    def meet(piece: int) -> int:
        barrier.wait()
        return piece

    assert sorted(share(range(6), [meet, meet])) == [(piece, piece) for piece in range(6)]


def test_what_one_worker_raises_ends_the_work_of_all() -> None:
    begun: list[int] = []
    failed = threading.Event()

    def fails(piece: int) -> int:
        # The other worker goes on only when there has been time to take its further pieces away.
        threading.Timer(1.5, failed.set).start()
        raise ZeroDivisionError(piece)

    def works(piece: int) -> int:
        begun.append(piece)
        failed.wait(20)
        return piece

    with pytest.raises(ZeroDivisionError):
        list(share(range(1000), [works, fails]))
    assert len(begun) <= 1


@pytest.mark.parametrize("workers", [1, 3])
def test_no_further_piece_is_begun_for_a_caller_that_has_gone(workers: int) -> None:
    begun: list[int] = []
    first, gone = threading.Event(), threading.Event()

    def held(piece: int) -> int:
        begun.append(piece)
        if first.is_set():
            gone.wait(20)
        first.set()
        return piece

    results = share(range(1000), [held] * workers)
    next(results)
    threading.Timer(1.5, gone.set).start()
    results.close()  # type: ignore[attr-defined]
    # One was done; each worker was inside another at most.
    assert len(begun) <= 1 + 2 * workers
