"""What must be in order on this machine before a local run starts, told before anything is written."""

from __future__ import annotations

import json
import os
from pathlib import Path

from components.artifacts.stores import local_path
from components.data_processing.feature_augmentation.encoder import EncoderSpec, locate
from components.errors import EncoderError, UsageError
from pipelines.federation import Federation


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
    """Checks encoder and stores.

    Raises:
        UsageError: every problem, one a line.
    """
    problems = [*_encoder_problems(federation), *_store_problems(federation)]
    if problems:
        raise UsageError("\n".join(problems))


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
