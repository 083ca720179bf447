"""Turns a site's rows into features, once for every content of the rows and of the encoder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.agreement.cache_uses import note_use
from components.agreement.private_keys import keyed_digest
from components.agreement.public_corpus import read_corpus
from components.agreement.public_projection import Projection, read_projection
from components.agreement.workplace import Workplace
from components.artifacts import tensors
from components.artifacts.stores import Store, create_or_read, key_of, reference
from components.data_processing.feature_augmentation.centring import centred, public_mean
from components.data_processing.feature_augmentation.encoder import Encoder, EncoderSpec, locate, verify
from components.data_processing.feature_augmentation.projecting import projected
from components.data_processing.template import render
from components.errors import RefusedError
from components.execution import progress
from components.execution.devices import devices_named
from components.execution.outcome import Outcome
from components.execution.usage import peak_memory, usage
from components.privacy.round_noise import is_private

if TYPE_CHECKING:
    from components.data_processing.record_ingestion.row_shards import Shard


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

    The file's name is a keyed digest of rows, template, classes, encoder and what the charter may name of
    public corpus and public projection: where it exists, nothing is computed and no model is loaded. A site
    without rows has features of shape (0, dimensions), the projection's where there is one.

    Args:
        place: the site at work.
        rows: reference of the rows that `ingest` stored.
        template: text template over columns.
        classes: label values in the order of the model's outputs.
        encoder: which language model.
        device: `auto`, `cpu` or `cuda`, which is all GPUs of one kind that there are.

    Raises:
        RefusedError: charter, projection or the site's policy are of another model, or `ingest` has read
            no rows under this ticket for this template and these classes; or these are other rows than
            those that it has counted by the site's unit of privacy; or the charter has an epsilon, and the
            device rounds a text by its place in a batch.
        EncoderError: the model is missing or another one.
        SiteError: CUDA was asked for and there is none.
        MemoryError: a device is too small.
        IntegrityError: the rows are not as they were stored, or public corpus or projection are not the
            charter's.
        BadDataError: the projection is of another width than the encoder.
        ObjectMissingError: nobody has published the public corpus or the projection.
    """
    from components.data_processing.record_ingestion.ingestion import require_counted, require_text
    from components.data_processing.record_ingestion.row_shards import shards_of

    content_key = key_of(place.store, rows)
    weights = encoder.digest or verify(locate(encoder), encoder)
    place.require_encoder(weights)
    require_text(place, template=template, classes=classes)
    require_counted(place, rows)
    corpus, projection = place.charter.public_corpus, _projection(place, weights)
    identity = [content_key, template, "\n".join(classes), weights, str(encoder.max_length)]
    identity += [corpus] if corpus else []
    identity += ["projection", place.charter.projection] if projection else []
    name = keyed_digest(place.key, [part.encode() for part in identity])
    key = f"features/{name}.safetensors"
    metrics: Mapping[str, float] = {}
    note_use(place.store, place.ticket, key)
    if not place.store.exists(key):
        shards = shards_of(place.store, content_key)
        loaded = Encoder(encoder, device=devices_named(device))
        examples, seconds = _encode(place, shards, template=template, classes=classes, encoder=loaded)
        if projection:
            examples["features"] = projected(
                examples["features"].astype(np.float32, copy=False), projection.matrix
            )
        create_or_read(place.store, key, tensors.encode(examples))
        total, private = len(examples["labels"]), is_private(place.charter)
        metrics = usage(peak_memory(device), rows=total, seconds=seconds, is_private=private)
    return Outcome(
        reference=reference(place.store, key),
        manifest={
            "uri": reference(place.store, key),
            "digest": name,
            "dimensions": projection.dimensions if projection else encoder.dimensions,
        },
        metrics=metrics,
    )


def _projection(place: Workplace, weights: str) -> Projection | None:
    """What the charter has features multiplied by; None where it names nothing.

    Raises:
        RefusedError: it was made with another language model.
    """
    if not place.charter.projection:
        return None
    found = read_projection(place.exchange, place.charter.projection)
    if found.encoder != weights:
        text = f"the charter's projection is of encoder {found.encoder[:12]}, this site has {weights[:12]}"
        raise RefusedError(text, disclosed=text)
    return found


def _encode(
    place: Workplace,
    shards: Sequence[Shard],
    *,
    template: str,
    classes: Sequence[str],
    encoder: Encoder,
) -> tuple[dict[str, NDArray[np.generic]], float]:
    """Features, centred where the charter says so, and what else is kept of rows; the seconds of encoding.

    Raises:
        RefusedError: the charter has an epsilon, and the device rounds a text by its place in a batch.
    """
    private = is_private(place.charter)
    start = time.perf_counter()
    report = _reporter(place.site, sum(shard.rows for shard in shards), start, tells_rate=not private)
    examples = _read_and_encode(
        place.store, shards, template=template, classes=classes, encoder=encoder, report=report
    )
    seconds = time.perf_counter() - start
    if place.charter.public_corpus:
        mean = public_mean(read_corpus(place.exchange, place.charter.public_corpus), encoder)
        examples["features"] = centred(examples["features"].astype(np.float32, copy=False), mean)
    if private and encoder.rounds_by_place:
        raise _uneven(encoder.devices[0])
    return examples, seconds


def _uneven(device: str) -> RefusedError:
    """Noise covers what one record adds to a sum, not what its presence does to the features of others."""
    kind = device.partition(":")[0]
    text = f"device {kind} rounds a text by its place in a batch, which epsilon does not cover: use another"
    return RefusedError(text, disclosed=text)


def _read_and_encode(
    store: Store,
    shards: Sequence[Shard],
    *,
    template: str,
    classes: Sequence[str],
    encoder: Encoder,
    report: Callable[[int], None],
) -> dict[str, NDArray[np.generic]]:
    """Features, labels, split and units, if rows have any; the rows of one shard are held at a time."""
    from components.data_processing.query import UNIT
    from components.data_processing.record_ingestion.row_shards import read_shard
    from components.data_processing.record_ingestion.unit_rows import unit_numbers

    numbers = {label: number for number, label in enumerate(classes)}
    total = sum(shard.rows for shard in shards)
    features = np.empty((total, encoder.spec.dimensions), np.float32)
    labels, is_test = np.empty(total, np.int64), np.empty(total, np.uint8)
    units: dict[str, NDArray[np.generic]] = {}
    start = 0
    for shard in shards:
        table = read_shard(store, shard)
        stop = start + table.num_rows
        labels[start:stop] = [numbers[label] for label in table.column("label").to_pylist()]
        is_test[start:stop] = table.column("is_test").to_pylist()
        if UNIT in table.schema.names:
            found = units.setdefault("units", np.empty(total, np.int64))
            found[start:stop] = unit_numbers(table.column(UNIT).to_pylist())
        if table.num_rows:
            texts = render(template, table)
            features[start:stop] = encoder.encode(texts, on_progress=_after(start, report))
        start = stop
    return {"features": features, "labels": labels, "is_test": is_test, **units}


def _after(rows: int, report: Callable[[int], None]) -> Callable[[int], None]:
    """Reports progress within a shard as progress of all, `rows` of which came before it."""
    return lambda done: report(rows + done)


def _reporter(site: str, total: int, start: float, *, tells_rate: bool) -> Callable[[int], None]:
    """Tells share and speed; the number of a site's rows is not for the logs of a shared cluster.

    Under a charter with an epsilon the speed is not told either: with the time it took it is that number.
    """
    last = start

    def report(done: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= 0.5 or done == total:
            last = now
            rate = f", {done / (now - start):,.0f} rows/s" if tells_rate else ""
            progress.tell(f"{site} {done / total:.0%}{rate}")

    return report
