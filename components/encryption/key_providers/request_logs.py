"""Keeps the requests of cloud clients out of logs: at level DEBUG they hold data keys in the clear."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def without_request_logs(*roots: str) -> Iterator[None]:
    """Drops records below WARNING of these loggers and all below them, while it lasts.

    Args:
        roots: names of loggers, such as a client's package.
    """
    below = tuple(f"{root}." for root in roots)
    known = [name for name in logging.Logger.manager.loggerDict if name.startswith(below)]
    loggers = [logging.getLogger(name) for name in [*roots, *known]]
    kept = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(max(logging.WARNING, logger.level))
    try:
        yield
    finally:
        for logger, level in kept:
            logger.setLevel(level)
