"""Pieces of work that several devices share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

Piece = TypeVar("Piece")
Made = TypeVar("Made")


def share(
    pieces: Iterable[Piece], workers: Sequence[Callable[[Piece], Made]]
) -> Iterator[tuple[Piece, Made]]:
    """Each piece with what was made of it, in the order in which they are done.

    A worker takes the next piece when it is free. Workers are threads: torch lets go of the interpreter while
    a device computes, and unlike processes they end with the step, whichever way that ends. A single worker
    works in the caller's thread, in the order of the pieces.

    Args:
        pieces: in the order in which they are to be begun.
        workers: one a device, one or more.

    Raises:
        Exception: what a worker raised; the others end their piece, and no further one is begun.
    """
    if len(workers) == 1:
        for piece in pieces:
            yield piece, workers[0](piece)
        return
    waiting = deque(pieces)
    # None says that a worker has ended.
    done: SimpleQueue[tuple[Piece, Made] | None] = SimpleQueue()

    def work(worker: Callable[[Piece], Made]) -> None:
        try:
            for piece in _taken(waiting):
                done.put((piece, worker(piece)))
        except BaseException:
            waiting.clear()
            raise
        finally:
            done.put(None)

    with ThreadPoolExecutor(len(workers)) as pool:
        running = [pool.submit(work, worker) for worker in workers]
        try:
            for _ in running:
                while (found := done.get()) is not None:
                    yield found
        finally:
            waiting.clear()
    for ended in running:
        ended.result()


def _taken(waiting: deque[Piece]) -> Iterator[Piece]:
    """Takes pieces until there are none; another worker may take the last one first."""
    while True:
        try:
            piece = waiting.popleft()
        except IndexError:
            return
        yield piece
