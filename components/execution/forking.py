"""Forks whose children let alone what they have inherited.

A child has one thread. Objects that own threads have none of them there, and their destructors may wait for
them: that of TenSEAL's contexts does, in `pthread_cond_destroy`. Where such an object was garbage in the
parent, the child's first collection would not end; it may come before the first line of the child, in what
Python itself runs after a fork.
"""

from __future__ import annotations

import gc
import os


def fork() -> int:
    """As `os.fork`, but the child never collects what was there before it.

    It collects its own garbage as its parent does. To be called by one thread at a time, as the collector
    is the whole process's; an `OSError` is that of `os.fork`.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        child = os.fork()  # noqa: TID251  (this is the place)
        if child == 0:
            gc.freeze()
        return child
    finally:
        if collects:
            gc.enable()
