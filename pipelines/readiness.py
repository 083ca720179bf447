"""What must be in order on this machine before a local run starts, told before anything is written."""

from __future__ import annotations

import json
import os
from pathlib import Path

from components.agreement.public_corpus import corpus_key, read_corpus, texts_of
from components.artifacts.documents import digest
from components.artifacts.stores import local_path, open_store
from components.data_processing.feature_augmentation.encoder import EncoderSpec, locate
from components.errors import EncoderError, IntegrityError, UsageError
from pipelines.federation import Federation
from pipelines.federation_sections import PublicCorpus


def encoder_spec(federation: Federation) -> EncoderSpec:
    """The encoder as the site steps know it."""
    section = federation.encoder
    return EncoderSpec(
        name=section.name,
        revision=section.revision,
        digest=section.digest,
        max_length=section.max_length,
        dimensions=section.dimensions,
    )


def check_ready(federation: Federation) -> None:
    """Checks encoder, public texts and stores.

    Raises:
        UsageError: every problem, one a line.
    """
    problems = [*_encoder_problems(federation), *_store_problems(federation)]
    for check in (unpublished_corpus, projection_texts):
        try:
            check(federation)
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("\n".join(problems))


def unpublished_corpus(federation: Federation) -> bytes | None:
    """The texts to centre on that the exchange does not have yet; None where it has them, or none are named.

    Raises:
        UsageError: the file cannot be read, has another digest, or is no corpus.
    """
    return _unpublished(federation, federation.encoder.public_corpus, "encoder.public_corpus")


def unpublished_projection_corpus(federation: Federation) -> bytes | None:
    """The texts that `compression` names itself, where the exchange does not have them yet.

    Raises:
        UsageError: the file cannot be read, has another digest, or is no corpus.
    """
    corpus = federation.compression.corpus if federation.compression else None
    return _unpublished(federation, corpus, "compression.corpus")


def projection_texts(federation: Federation) -> list[str]:
    """The public texts whose features tell the directions of the projection; none without one.

    Raises:
        UsageError: see `unpublished_projection_corpus`; or there are no more texts than dimensions.
    """
    asked, corpus = federation.compression, federation.projection_corpus
    if asked is None or corpus is None:
        return []
    content = unpublished_projection_corpus(federation) if asked.corpus else unpublished_corpus(federation)
    exchange = open_store(federation.exchange_uri)
    texts = texts_of(content) if content is not None else read_corpus(exchange, corpus.digest)
    if len(texts) <= asked.dimensions:
        raise UsageError(
            f"compression.dimensions: must be below the number of public texts, {len(texts)}, "
            f"got {asked.dimensions}"
        )
    return texts


def _unpublished(federation: Federation, corpus: PublicCorpus | None, section: str) -> bytes | None:
    if corpus is None or open_store(federation.exchange_uri).exists(corpus_key(corpus.digest)):
        return None
    try:
        content = Path(corpus.file).read_bytes()
    except OSError as error:
        raise UsageError(
            f"{section}.file: {corpus.file} cannot be read ({type(error).__name__}): "
            "put the public texts there"
        ) from None
    if digest(content) != corpus.digest:
        raise UsageError(
            f"{section}.digest: {corpus.file} has SHA-256 {digest(content)}, the federation file "
            f"says {corpus.digest[:12]}…: write down the one of the texts that are meant"
        )
    try:
        texts_of(content)
    except IntegrityError as error:
        raise UsageError(f"{section}.file: {corpus.file}: {error}") from None
    return content


def _encoder_problems(federation: Federation) -> list[str]:
    try:
        folder = locate(encoder_spec(federation))
    except EncoderError as error:
        return [f"encoder.name: {error}"]
    config = folder / "config.json"
    if not config.is_file():
        return [f"encoder.name: encoder {federation.encoder.name} cannot be used: it has no config.json"]
    width = json.loads(config.read_text()).get("hidden_size")
    if width != federation.encoder.dimensions:
        said = federation.encoder.dimensions
        return [f"encoder.dimensions: {federation.encoder.name} has {width}, the federation file says {said}"]
    return []


def _store_problems(federation: Federation) -> list[str]:
    stores = {"state_uri": federation.state_uri, "exchange_uri": federation.exchange_uri}
    stores |= {f"store_uri of {site.name}": site.store_uri for site in federation.sites}
    return [
        f"{name}: {uri} cannot be written: {why}: choose a folder you own, or set CROSSCLOUD_HOME"
        for name, uri in stores.items()
        if "://" not in uri or uri.startswith("file://")
        if (why := _unwritable(local_path(uri)))
    ]


def _unwritable(folder: Path) -> str:
    """Why objects cannot be created below a folder that may not exist yet; empty when they can."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        return f"{existing} is not a folder"
    if not os.access(existing, os.W_OK | os.X_OK):
        return f"{existing} is not writable by this user"
    return ""
