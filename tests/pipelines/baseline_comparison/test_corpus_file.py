"""The corpus is made once, and again only where what it follows from has changed."""

from __future__ import annotations

import dataclasses
import io
import resource
from pathlib import Path

import pytest
from rich.console import Console

from components.evaluation.corpus_preparation.texts import Texts
from components.evaluation.rehearsal.corpus import Corpus
from pipelines.baseline_comparison.corpus_file import corpus_bytes, corpus_path, found_or_made
from tests.components.evaluation.corpus_preparation.small_texts import small_texts, spec_of


def made(path: Path, texts: Texts, encoder: Path) -> Corpus:
    return found_or_made(path, texts, spec_of(encoder), device="cpu", console=Console(file=io.StringIO()))


def test_it_is_found_by_what_it_follows_from(tiny_encoder: Path, tmp_path: Path) -> None:
    texts, encoder = small_texts(), spec_of(tiny_encoder)
    path = corpus_path(tmp_path, texts, encoder)
    assert corpus_path(tmp_path, small_texts(), dataclasses.replace(encoder, digest="")) == path
    assert corpus_path(tmp_path, small_texts(public=("a",) * 16), encoder) != path
    assert corpus_path(tmp_path, texts, dataclasses.replace(encoder, max_length=8)) != path
    corpus = made(path, texts, tiny_encoder)
    before = path.stat().st_mtime_ns
    assert made(path, texts, tiny_encoder).digest == corpus.digest
    assert path.stat().st_mtime_ns == before
    # The estimate is from above, as what is late may be more than its share.
    assert path.stat().st_size < corpus_bytes(texts, encoder) + 10_000 < 2 * path.stat().st_size


def test_one_that_was_damaged_is_made_again(tiny_encoder: Path, tmp_path: Path) -> None:
    path = tmp_path / "corpus.safetensors"
    corpus = made(path, small_texts(), tiny_encoder)
    path.write_bytes(path.read_bytes()[:1000])
    assert made(path, small_texts(), tiny_encoder).digest == corpus.digest
    assert Corpus.read(path).digest == corpus.digest


def test_one_that_does_not_fit_leaves_nothing(tiny_encoder: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OSError, match="File too large"):
            made(tmp_path / "corpus.safetensors", small_texts(), tiny_encoder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
