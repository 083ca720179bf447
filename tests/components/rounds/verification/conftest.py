"""The chain is built once and put back after each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.components.rounds.verification.chain import Chain, build_chain


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    home = tmp_path_factory.mktemp("verification")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CROSSCLOUD_HOME", str(home))
        patched.delenv("CROSSCLOUD_KEYS", raising=False)
        build_chain()
        chain = Chain(home)
        assert chain.committed
        assert chain.problems == ()
    return chain


@pytest.fixture(autouse=True)
def home(built: Chain, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of the chain that was built once, instead of a fresh one."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(built.home))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    return built.home


@pytest.fixture
def chain(built: Chain) -> Iterator[Chain]:
    with built.restored():
        yield built
