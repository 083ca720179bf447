from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from components.agreement.charter_book import charter_in_force
from tests.components.aggregation.three_sites import ThreeSites

if TYPE_CHECKING:
    from tests.pipelines.command_line import Say


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Digest of the model after one round below the working folder's home."""
    for name in ("CROSSCLOUD_HOME", "CROSSCLOUD_KEYS", "CROSSCLOUD_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    model: str = ThreeSites.start().committed().manifest["model"]
    return model


def test_a_chain_in_order_is_one_line(committed: str, say: Say) -> None:
    cd = charter_in_force("small/keys").digest
    expected = f"in order: 1 round committed, 0 void, newest model {committed}, under charter {cd}"
    assert say("verify", "small/state", "--charter", cd).lines == [expected]
    unpinned = f"{expected}, which was compared with none that is pinned (--charter)"
    for place in ("small/state", "small/state/", ".crosscloud/small/state"):
        assert say("verify", place).lines == [unpinned]
    uri = Path(".crosscloud/small/state").resolve().as_uri()
    assert say("verify", uri).lines == [unpinned]


def test_the_keys_may_lie_elsewhere(committed: str, say: Say) -> None:
    Path(".crosscloud/small/keys").rename("copied-keys")
    assert say("verify", "small/state", "--keys", "copied-keys").code == 0
    said = say("verify", "small/state")
    assert said.code == 2
    assert said.complaints == [
        "there is no folder small/keys, neither below .crosscloud nor here: name a federation's state_uri"
    ]


def test_every_problem_is_a_line_and_the_exit_is_one(committed: str, say: Say) -> None:
    (checkpoint,) = Path(".crosscloud/small/state/rounds/00001").glob("checkpoint-*")
    checkpoint.write_bytes(b"another model")
    Path(".crosscloud/small/keys/charters/00001/signatures/beta.json").unlink()
    said = say("verify", "small/state", "--charter", "ab" * 32)
    assert (said.code, said.out) == (1, "")
    assert said.complaints == [
        "charter: none of its editions is the pinned one, abababababab",
        "charter: edition 1 is not signed by beta",
        "round 1: checkpoint: is not the model that the record names",
    ]


def test_mistakes_are_no_verdict(committed: str, say: Say) -> None:
    said = say("verify", "small/stat")
    assert said.code == 2
    assert said.complaints == [
        "there is no folder small/stat, neither below .crosscloud nor here: name a federation's state_uri"
    ]
    said = say("verify", "small/exchange/models", "--keys", "small/keys")
    assert said.code == 2
    assert said.complaints == [
        "no round has ended in small/exchange/models: name the state_uri of a federation that has run"
    ]
    said = say("verify", "small/state", "--charter", "abc")
    assert said.code == 2
    (line,) = said.complaints
    assert line.startswith("a charter is named by its whole digest, 64 hexadecimal digits, got 'abc'")
