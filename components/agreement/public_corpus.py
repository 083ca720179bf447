"""Public texts that all sites centre their features on, by the digest that the charter names."""

from __future__ import annotations

import contextlib
from typing import Final

from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.errors import DigestMismatchError, IntegrityError, ObjectExistsError

MAX_CORPUS_BYTES: Final = 4 * 2**20
LEAST_TEXTS: Final = 16
"""The mean of fewer features is more chance than direction."""


def corpus_key(corpus: str) -> str:
    """Where a corpus lies in the exchange, by its SHA-256."""
    return f"corpora/{corpus}.txt"


def texts_of(content: bytes) -> list[str]:
    """The texts of a corpus: UTF-8, one a line, without empty lines.

    Raises:
        IntegrityError: it is not UTF-8, is larger than 4 MiB or has fewer than 16 texts.
    """
    if len(content) > MAX_CORPUS_BYTES:
        raise IntegrityError(f"a public corpus may have {MAX_CORPUS_BYTES} bytes, this has {len(content)}")
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise IntegrityError(f"a public corpus is UTF-8 text, byte {error.start} is none") from None
    texts = [line.strip() for line in lines if line.strip()]
    if len(texts) < LEAST_TEXTS:
        raise IntegrityError(f"a public corpus has {LEAST_TEXTS} texts at least, this has {len(texts)}")
    return texts


def publish_corpus(exchange: Store, content: bytes) -> None:
    """Puts a corpus into the exchange where it is not there yet.

    Raises:
        IntegrityError: see `texts_of`.
    """
    texts_of(content)
    with contextlib.suppress(ObjectExistsError):
        exchange.create(corpus_key(digest(content)), content)


def read_corpus(exchange: Store, corpus: str) -> list[str]:
    """The texts of the corpus with this SHA-256.

    Raises:
        DigestMismatchError: what lies there is another.
        IntegrityError: see `texts_of`.
        ObjectMissingError: nobody has published it.
    """
    content = exchange.read(corpus_key(corpus), limit=MAX_CORPUS_BYTES)
    if digest(content) != corpus:
        raise DigestMismatchError(f"the public corpus in the exchange has another digest than {corpus[:12]}")
    return texts_of(content)
