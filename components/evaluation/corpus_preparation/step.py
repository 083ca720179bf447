"""What the `prepare_corpus` step does: a folder of texts in, a corpus file out."""

from __future__ import annotations

from pathlib import Path

from components.data_processing.feature_augmentation.encoder import EncoderSpec
from components.evaluation.corpus_preparation.preparation import prepare
from components.evaluation.corpus_preparation.texts import read_texts
from components.execution import progress
from components.execution.outcome import Outcome


def write_corpus(data_uri: str, *, encoder: EncoderSpec, quick: bool, device: str, path: str) -> Outcome:
    """Reads the texts, makes their features and writes both to `path`.

    Args:
        data_uri: folder with train.csv and test.csv, see `texts`.
        encoder: which language model.
        quick: whether a part of the rows is enough.
        device: `auto`, `cpu` or `cuda`.
        path: of the corpus file.

    Returns:
        Name, digest and numbers of the corpus, which is public or sample data: nothing of a site.

    Raises:
        CrosscloudError: see `read_texts` and `prepare`.
    """
    texts = read_texts(data_uri)
    if quick:
        texts = texts.quick()
    tenths = -1

    def tell(done: int, total: int) -> None:
        nonlocal tenths
        if 10 * done // total > tenths:
            tenths = 10 * done // total
            progress.tell(f"encoded {10 * tenths}%")

    corpus = prepare(texts, encoder, device=device, on_progress=tell)
    corpus.write(Path(path))
    return Outcome(
        manifest={
            "name": corpus.name,
            "digest": corpus.digest,
            "classes": len(corpus.classes),
            "train_rows": len(corpus.train.labels),
            "test_rows": len(corpus.test.labels),
        }
    )
