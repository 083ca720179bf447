"""Every shipped federation under every method, compiled once and when it is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines.golden.renew import Compiled
from tests.pipelines.spec_check.specs import Documents, Shipped, only, read


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    return Compiled(tmp_path_factory.mktemp("shipped"))


@pytest.fixture(scope="session")
def a_round(shipped: Shipped) -> Documents:
    """The round of three sites up to its sum; to be read only."""
    steps = {f"{step}{nth}" for step in ("ingest", "augment", "train", "seal") for nth in ("", "-2", "-3")}
    whole = read(shipped["complaints-bigquery", "ours"])
    return only(whole, {"open-round", "roster", "aggregate", *steps})


@pytest.fixture(scope="session")
def a_start(a_round: Documents) -> Documents:
    """One site's way from the ticket to its commitment; to be read only."""
    return only(a_round, {"open-round", "ingest", "augment", "train"})


@pytest.fixture
def spec_file(shipped: Shipped) -> Path:
    return shipped["complaints-bigquery", "ours"]
