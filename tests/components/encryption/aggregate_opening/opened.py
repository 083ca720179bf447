"""What the key holder has opened, and what others put in its place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.charter import Charter
from components.agreement.cutoff import Cutoff, cutoff_key
from components.agreement.receipt import aggregate_key, receipt_key
from components.artifacts import tensors
from tests.components.aggregation.three_sites import ThreeSites

SITES = ("alpha", "beta", "gamma")


protections = pytest.mark.parametrize("protection", ["none", "he", "sealed"])


def aggregate_of(three: ThreeSites) -> NDArray[np.float64]:
    found = tensors.decode_any(three.exchange.read(aggregate_key(three.opened.ticket.folder)))
    assert found.keys() == {"aggregate"}
    return found["aggregate"].astype(np.float64)


def next_edition(three: ThreeSites) -> Charter:
    charter = three.charter
    return replace(charter, edition=charter.edition + 1, previous=charter.digest, max_rounds=50)


def nothing_is_opened(three: ThreeSites) -> bool:
    folder = three.opened.ticket.folder
    return not any(three.exchange.exists(key(folder)) for key in (aggregate_key, receipt_key))


def receipt(three: ThreeSites) -> Path:
    return three.exchange_folder / receipt_key(three.opened.ticket.folder)


def body(three: ThreeSites) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(receipt(three).read_bytes())["body"]
    return found


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fix(three: ThreeSites, members: Sequence[str]) -> None:
    """Another set of sites in the place of the one that was fixed."""
    cutoff = Cutoff(roster=three.attempt().roster().digest, members=tuple(members), left_out={})
    path = three.exchange_folder / cutoff_key(three.opened.ticket)
    path.unlink(missing_ok=True)
    three.exchange.create(cutoff_key(three.opened.ticket), cutoff.to_json())
