"""What the aggregator has added, and what sites and others upload."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.agreement.cutoff import cutoff_key, sum_key
from components.agreement.sealed_manifest import SealedManifest, blob_key, manifest_key
from components.artifacts.documents import digest
from components.encryption.ciphertext_sum import attempt_summer
from components.execution.outcome import Outcome
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.rounds.walks import Walked

LENGTH = 29  # 4 classes of 6 weights and a bias, and the count; one digit more under `sealed`


protections = pytest.mark.parametrize("protection", ["none", "he", "sealed"])


def cutoff(three: ThreeSites) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(three.exchange.read(cutoff_key(three.opened.ticket)))
    return found


def members(outcome: Outcome) -> list[str]:
    found: list[str] = outcome.manifest["sites"]
    return found


def publish(three: ThreeSites, site: str, blob: bytes, /, *, signer: str = "", **changes: Any) -> None:
    """Replaces what lies in the exchange for a site by a blob and a manifest that says `changes` of it."""
    attempt = three.attempt()
    certified = attempt.certificate()
    fields: dict[str, Any] = {
        "charter": three.charter.digest,
        "ticket": three.opened.ticket.digest,
        "roster": attempt.roster().digest,
        "purpose": "update",
        "site": site,
        "protection": three.request.protection,
        "certificate": certified.digest if certified else "",
        "blob": digest(blob),
        "size": len(blob),
        "length": LENGTH + (three.request.protection == "sealed"),
    }
    manifest = SealedManifest(**(fields | changes))
    folder = three.exchange_folder
    (folder / blob_key(three.opened.ticket, site)).write_bytes(blob)
    signed = manifest.signed(three.place(signer or site).key)
    (folder / manifest_key(three.opened.ticket, site)).write_bytes(signed)


def flip(path: Path, position: int) -> None:
    found = bytearray(path.read_bytes())
    found[position] ^= 1
    path.write_bytes(found)


def sum_of(three: ThreeSites) -> bytes:
    return three.exchange.read(sum_key(three.opened.ticket))


def values_of(three: ThreeSites) -> Any:
    """Under `none`: what is in the sum, behind the header."""
    return np.frombuffer(sum_of(three)[80:], "<f8")


def only(walked: Walked, *sites: str) -> bytes:
    """The sum of these sites' updates, from their bytes alone."""
    adder = attempt_summer(walked.three.attempt())
    blobs = [io.BytesIO(walked.blob(site).read_bytes()) for site in sites]
    return b"".join(adder.add(blobs, LENGTH + (walked.three.request.protection == "sealed")))


FORGERIES: list[Callable[[dict[str, Any]], object]] = [
    lambda document: document | {"signature": ""},
    lambda document: document | {"signature": base64.b64encode(bytes(64)).decode()},
    lambda document: {name: document[name] for name in ("body", "signer")},
    lambda document: document["body"],
    lambda document: document | {"signer": "alpha"},
    lambda document: document | {"body": document["body"] | {"length": LENGTH + 1}},
    lambda document: [document],
]


NONSENSE: list[dict[str, Any]] = [
    *({"size": size} for size in (0, -1, 2**50, "all", None, 1.5)),
    *({"length": length} for length in ("29", None)),
    {"blob": None},
    {"certificate": None},
]
