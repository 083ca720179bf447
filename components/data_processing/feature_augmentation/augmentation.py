"""Turns a site's rows into features, once for every content of the rows and of the encoder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from components.agreement.private_keys import keyed_digest
from components.agreement.workplace import Workplace
from components.artifacts import tensors
from components.artifacts.stores import create_or_read, key_of, reference
from components.data_processing.feature_augmentation.encoder import Encoder, EncoderSpec, locate, verify
from components.data_processing.template import render
from components.execution import progress
from components.execution.outcome import Outcome


def augment(
    place: Workplace,
    *,
    rows: str,
    template: str,
    classes: Sequence[str],
    encoder: EncoderSpec,
    device: str = "auto",
) -> Outcome:
    """Encodes the text of every row and stores features, labels and split in the site's store.

    The file's name is a keyed digest of rows, template, classes and encoder: where it exists,
    nothing is computed and no model is loaded.

    Args:
        place: the site at work.
        rows: reference of the rows that `ingest` stored.
        template: text template over columns.
        classes: label values in the order of the model's outputs.
        encoder: which language model.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        RefusedError: the charter or the site's policy names another model.
        EncoderError: the model is missing or another one.
    """
    content_key = key_of(place.store, rows)
    weights = encoder.digest or verify(locate(encoder), encoder)
    place.require_encoder(weights)
    identity = [content_key, template, "\n".join(classes), weights, str(encoder.max_length)]
    name = keyed_digest(place.key, [part.encode() for part in identity])
    key = f"features/{name}.safetensors"
    rate = 0.0
    if not place.store.exists(key):
        texts, labels = _read(place, content_key, template, classes)
        loaded = Encoder(encoder, device=device)
        start = time.perf_counter()
        features = loaded.encode(texts, on_progress=_reporter(place.site, len(texts), start))
        rate = len(texts) / (time.perf_counter() - start)
        create_or_read(place.store, key, tensors.encode({"features": features, **labels}))
    return Outcome(
        reference=reference(place.store, key),
        manifest={"uri": reference(place.store, key), "digest": name, "dimensions": encoder.dimensions},
        metrics={"rows_per_second": round(rate, 1)} if rate else {},
    )


def _read(
    place: Workplace, key: str, template: str, classes: Sequence[str]
) -> tuple[list[str], dict[str, NDArray[np.generic]]]:
    """The texts to encode, and the labels and the split that are stored beside their features."""
    from components.data_processing.record_ingestion.extraction import from_parquet

    table = from_parquet(place.store.read(key))
    numbers = {label: number for number, label in enumerate(classes)}
    labels = np.array([numbers[label] for label in table.column("label").to_pylist()], np.int64)
    is_test = np.array(table.column("is_test").to_pylist(), np.uint8)
    return render(template, table), {"labels": labels, "is_test": is_test}


def _reporter(site: str, total: int, start: float) -> Callable[[int], None]:
    """Tells share and speed; the number of a site's rows is not for the logs of a shared cluster."""
    last = start

    def report(done: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= 0.5 or done == total:
            last = now
            progress.tell(f"{site} {done / total:.0%}, {done / (now - start):,.0f} rows/s")

    return report
