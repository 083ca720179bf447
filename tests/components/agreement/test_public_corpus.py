from __future__ import annotations

from pathlib import Path

import pytest

from components.agreement.public_corpus import (
    LEAST_TEXTS,
    MAX_CORPUS_BYTES,
    corpus_key,
    publish_corpus,
    read_corpus,
    texts_of,
)
from components.artifacts.documents import digest
from components.artifacts.stores import Store, open_store
from components.errors import DigestMismatchError, IntegrityError, ObjectMissingError

TEXTS = [f"text {number}" for number in range(LEAST_TEXTS)]
CONTENT = "\n".join(TEXTS).encode()


@pytest.fixture
def exchange(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "exchange"))


def test_what_is_published_is_read_under_its_digest(exchange: Store) -> None:
    publish_corpus(exchange, CONTENT)
    publish_corpus(exchange, CONTENT)
    assert read_corpus(exchange, digest(CONTENT)) == TEXTS
    assert list(exchange.keys("corpora")) == [corpus_key(digest(CONTENT))]


def test_blank_lines_and_blanks_around_a_text_do_not_count() -> None:
    assert texts_of(("\n\n  " + "  \r\n\n\t".join(TEXTS) + "\n \n").encode()) == TEXTS


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\n".join(CONTENT.split(b"\n")[1:]), "has 16 texts at least, this has 15"),
        (b"", "has 16 texts at least, this has 0"),
        (CONTENT + b"\xff", "is UTF-8 text, byte 117 is none"),
        (CONTENT.ljust(MAX_CORPUS_BYTES + 1), "may have 4194304 bytes, this has 4194305"),
    ],
    ids=["few", "none", "bytes", "large"],
)
def test_what_is_no_corpus_is_told_and_not_published(exchange: Store, content: bytes, told: str) -> None:
    with pytest.raises(IntegrityError, match=told):
        publish_corpus(exchange, content)
    assert list(exchange.keys("corpora")) == []


def test_other_texts_under_its_digest_are_refused(exchange: Store) -> None:
    exchange.create(corpus_key(digest(CONTENT)), CONTENT + b"!")
    with pytest.raises(DigestMismatchError, match=f"another digest than {digest(CONTENT)[:12]}"):
        read_corpus(exchange, digest(CONTENT))
    with pytest.raises(ObjectMissingError):
        read_corpus(exchange, "ab" * 32)
