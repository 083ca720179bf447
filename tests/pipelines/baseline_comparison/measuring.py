"""What pools of these tests measure with: small computations on the corpus, and ways to go wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.errors import BadDataError
from components.evaluation.rehearsal.corpus import Corpus


def measure(
    configuration: dict[str, Any], corpus: Corpus, earlier: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The mean feature of one class, after whatever else the configuration asks for."""
    os.write(1, b"a native library prints to descriptor 1\n")
    if "trace" in configuration:
        with Path(configuration["trace"]).open("a") as file:
            file.write(f"{configuration['label']} {os.getpid()} {os.getpgrp()}\n")
    time.sleep(configuration.get("seconds", 0))
    if configuration.get("goes_wrong"):
        raise BadDataError("class 1\nhas gone wrong")
    if configuration.get("is_killed"):
        os.kill(os.getpid(), 9)
    if configuration.get("is_infinite"):
        return {"mean": float("inf")}
    rows = corpus.train.features[corpus.train.labels == configuration["label"]]
    return {"mean": float(np.mean(rows, dtype=np.float64)), "earlier": len(earlier)}


def threads(
    configuration: dict[str, Any], corpus: Corpus, earlier: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """How many threads libraries are told to use."""
    return {"threads": os.environ["OMP_NUM_THREADS"]}
