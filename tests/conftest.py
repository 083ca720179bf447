"""A small federation that is real in every part: warehouses, encoder, keys, stores."""

from __future__ import annotations

import gc
import hashlib
import os
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings

DIMENSIONS = 16
CLASSES = ("heart", "lung", "skin")
WORDS = {
    "heart": ["cardiac", "valve", "aortic", "beat", "murmur"],
    "lung": ["breath", "cough", "bronchial", "wheeze", "pleural"],
    "skin": ["rash", "itch", "dermal", "lesion", "blister"],
}
FILLER = ["acute", "chronic", "mild", "severe", "left", "right", "unspecified", "other"]
PATIENTS = ("Ottilie Quastenberg", "Balduin Zwirnhagen", "Roswitha Uhlenkrieg")
SITES = ("alpha", "beta", "gamma")
PIPELINES = Path(__file__).parent / "pipelines"
"""Tests of whole rounds and commands, which take longest."""
MEMORY = Path("/dev/shm")
"""A file system in memory, where Linux has one."""
ROOM = 4 << 30
"""Bytes that must be free there; a whole run of three processes leaves less."""

# An example of a property may take as long as a busy machine needs for it.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure() -> None:
    """Tests write to memory where they can, and torch's threads sleep while they have nothing to do.

    A store waits for the disk after every object and folder. PYTEST_DEBUG_TEMPROOT is pytest's own; who sets
    it, or names --basetemp, has his files there. Threads that wait awake take the processor from the tests
    of other processes.
    """
    # A shell starts background jobs with these ignored, and children would inherit that.
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, _outlived)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    # Nothing that is collected goes before the end: looking through it again and again is for nothing.
    gc.disable()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if os.access(MEMORY, os.W_OK | os.X_OK):
        found = os.statvfs(MEMORY)
        if found.f_bavail * found.f_frsize >= ROOM and not found.f_flag & os.ST_NOEXEC:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def _outlived(_number: int, _frame: FrameType | None) -> None:
    """What the tests are started with `nohup` for."""


def pytest_collection_finish() -> None:
    """What was collected is not looked through for garbage any more, nor copied by children for that."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests begin first, so that no process is left alone with one at the end.

    Processes keep to this order with `--no-loadscope-reorder` only.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, PIPELINES not in item.path.parents))


@dataclass(frozen=True, kw_only=True)
class SmallFederation:
    """A federation file and the home that its relative addresses lie in."""

    home: Path
    path: Path
    document: dict[str, Any]

    def save(self) -> Path:
        """Writes the document, as a test may have changed it."""
        self.path.write_text(yaml.safe_dump(self.document, sort_keys=False))
        return self.path

    def site(self, name: str) -> dict[str, Any]:
        """The section of a site."""
        sections: list[dict[str, Any]] = self.document["sites"]
        return next(section for section in sections if section["name"] == name)

    def warehouse(self, name: str) -> Path:
        """The DuckDB file of a site."""
        uri: str = self.site(name)["data"]["uri"]
        return self.home / uri


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer with random weights and a vocabulary of the test's words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("encoder")
    words = [word for group in WORDS.values() for word in group] + FILLER
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    BertTokenizer(vocab={word: number for number, word in enumerate(vocabulary)}).save_pretrained(folder)
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=DIMENSIONS,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def small_federation(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., SmallFederation]:
    """Makes a federation below a fresh CROSSCLOUD_HOME: three sites under `sealed`, all in every sum.

    `names` are its sites, `rows` a number for all of them or one each (0 makes no warehouse); other
    keywords change its file.
    """

    def make(
        rows: int | Sequence[int] = 60, *, names: Sequence[str] = SITES, **changes: Any
    ) -> SmallFederation:
        home = tmp_path / "home"
        home.mkdir()
        monkeypatch.setenv("CROSSCLOUD_HOME", str(home))
        counts = [rows] * len(names) if isinstance(rows, int) else rows
        for number, (name, count) in enumerate(zip(names, counts, strict=True)):
            if count:
                write_warehouse(home / f"small/sites/{name}/warehouse.duckdb", count, seed=number)
        document: dict[str, Any] = {
            "federation": "small",
            "title": "A small federation",
            "task": {
                "template": "{note}",
                "label_column": "organ",
                "split": {"column": "category", "test_fraction": 0.3},
                "classes": list(CLASSES),
            },
            "encoder": {
                "name": str(tiny_encoder),
                "digest": hashlib.sha256((tiny_encoder / "model.safetensors").read_bytes()).hexdigest(),
                "dimensions": DIMENSIONS,
                "max_length": 16,
            },
            "training": {"learning_rate": 0.05, "local_epochs": 2, "batch_size": 16, "seed": 3},
            "protection": "sealed",
            "quorum": {"min_sites": 3},
            "limits": {"max_examples": 1000},
            "state_uri": "small/state",
            "exchange_uri": "small/exchange",
            "sites": [
                {
                    "name": name,
                    "cloud": name,
                    "data": {
                        "source": "duckdb",
                        "uri": f"small/sites/{name}/warehouse.duckdb",
                        "sql": "SELECT note, organ, category FROM visits",
                    },
                    "store_uri": f"small/sites/{name}/store",
                    "evaluation": {"release": "per_site"},
                }
                for name in names
            ],
        }
        document.update(changes)
        federation = SmallFederation(home=home, path=tmp_path / "small.yaml", document=document)
        federation.save()
        return federation

    return make


def write_warehouse(path: Path, rows: int, *, seed: int) -> None:
    """Seeded visits: a note of words that give the organ away, a category, and a patient's name."""
    import duckdb

    chance = random.Random(seed)
    records = []
    for number in range(rows):
        organ = chance.choices(CLASSES, weights=[1 + (seed + k) % 3 for k in range(3)])[0]
        words = [*chance.sample(WORDS[organ], 2), *chance.sample(FILLER, chance.randint(1, 4))]
        records.append((number, PATIENTS[number % 3], f"C{chance.randint(0, 40)}", " ".join(words), organ))
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE visits (id BIGINT, patient VARCHAR, category VARCHAR, note VARCHAR, organ VARCHAR)"
        )
        # One statement: DuckDB takes three times as long for one a row.
        places = ", ".join(["(?, ?, ?, ?, ?)"] * len(records))
        values = [value for record in records for value in record]
        connection.execute(f"INSERT INTO visits VALUES {places}", values)
