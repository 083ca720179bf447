"""A federation file of three sites that share this machine, and the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipelines.command_line import Say, say_here

SITES = ("alpha", "beta", "gamma")
OWNERS = (*SITES, "coordinator", "key-holder")


class FederationFile:
    """The file and the keys beside the state it names; the working folder is the file's."""

    def __init__(self, folder: Path) -> None:
        """Writes the file; nothing else is there."""
        self.folder = folder
        self.keys = folder / ".crosscloud/small/keys"
        self.document: dict[str, Any] = {
            "federation": "small",
            "title": "A small federation",
            "task": {
                "template": "{note}",
                "label_column": "organ",
                "split": {"column": "category", "test_fraction": 0.3},
                "classes": ["heart", "lung", "skin"],
            },
            "encoder": {"name": "package:none", "dimensions": 4},
            "training": {"learning_rate": 0.05},
            "quorum": {"min_sites": 3},
            "limits": {"max_examples": 1000, "key_rotation_rounds": 20},
            "state_uri": "small/state",
            "exchange_uri": "small/exchange",
            "sites": [self._site(name) for name in SITES],
        }
        self.save()

    def save(self) -> None:
        """Writes the document as a test has changed it."""
        (self.folder / "small.yaml").write_text(yaml.safe_dump(self.document, sort_keys=False))

    def add(self, name: str) -> None:
        """One more site."""
        self.document["sites"].append(self._site(name))
        self.save()

    def _site(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "cloud": name,
            "data": {
                "source": "duckdb",
                "uri": f"small/sites/{name}/warehouse.duckdb",
                "sql": "SELECT note, organ, category FROM visits",
            },
            "store_uri": f"small/sites/{name}/store",
        }


def in_force(say: Say) -> None:
    """Keys, and a charter that everybody has signed."""
    for words in (("keys", "init"), ("charter", "new"), ("charter", "sign", "--all")):
        assert say(*words[:2], "small.yaml", *words[2:]).code == 0


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_here(monkeypatch, capsys)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FederationFile:
    for name in ("CROSSCLOUD_HOME", "CROSSCLOUD_KEYS", "CROSSCLOUD_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return FederationFile(tmp_path)
