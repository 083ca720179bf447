"""The corpus as a file that is made once, and found again as long as nothing it follows from has changed."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console

from components.artifacts.documents import canonical_json, digest
from components.data_processing.feature_augmentation.encoder import EncoderSpec, locate, verify
from components.errors import IntegrityError
from components.evaluation.corpus_preparation.preparation import prepare
from components.evaluation.corpus_preparation.texts import Texts
from components.evaluation.corpus_preparation.words import DIMENSIONS
from components.evaluation.measurement_records.kept_outcomes import source_digest, versions
from components.evaluation.rehearsal.corpus import Corpus

_MAKING: Final = ("data_processing/feature_augmentation", "evaluation/corpus_preparation")
_LIBRARIES: Final = ("numpy", "torch", "transformers", "tokenizers")
_FLOAT_BYTES: Final = 4
_LATE_SHARE: Final = 0.4
"""Of the rows that may be the late cloud's, generously."""


def corpus_path(folder: Path, texts: Texts, encoder: EncoderSpec) -> Path:
    """Where the corpus of these texts lies, or will lie."""
    identity = {
        "texts": texts.digest,
        "encoder": asdict(encoder) | {"digest": encoder.digest or verify(locate(encoder), encoder)},
        "sources": source_digest(_MAKING),
        "versions": versions(_LIBRARIES),
    }
    return folder / f"corpus-{digest(canonical_json(identity))[:16]}.safetensors"


def corpus_bytes(texts: Texts, encoder: EncoderSpec) -> int:
    """About how large its file is."""
    rows = len(texts.train) + len(texts.test)
    return int(rows * _FLOAT_BYTES * (DIMENSIONS + (1 + _LATE_SHARE) * encoder.dimensions))


def found_or_made(path: Path, texts: Texts, encoder: EncoderSpec, *, device: str, console: Console) -> Corpus:
    """The corpus at `path`, made and written there where it is not.

    Raises:
        EncoderError: the language model is missing or another one.
        BadDataError: the texts are too few.
        OSError: the file cannot be written.
    """
    # A file that was damaged since is made again.
    with contextlib.suppress(FileNotFoundError, IntegrityError):
        return Corpus.read(path)
    total = sum(map(len, (texts.train, texts.test)))
    with console.status(f"features of {total:,} texts") as status:
        corpus = prepare(
            texts,
            encoder,
            device=device,
            on_progress=lambda done, every: status.update(f"features of texts: {done:,} of {every:,}"),
        )
    try:
        corpus.write(path)
    except OSError:
        for partial in path.parent.glob(f".{path.name}*"):
            partial.unlink(missing_ok=True)
        raise
    return corpus
