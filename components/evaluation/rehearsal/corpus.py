"""What a comparison learns from: rows that may lie in one place, as features of two kinds.

A federation's own rows never come together. A corpus is for experiments: a published data set, or the
sample data of a federation file. It is made once (`corpus_preparation`) and read by every measurement.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.artifacts import tensors
from components.artifacts.documents import digest
from components.errors import BadDataError, IntegrityError
from components.training.features import Examples

LANGUAGE_MODEL: Final = "language model"
WORDS: Final = "words"
FEATURES: Final = (LANGUAGE_MODEL, WORDS)
LEAST_CLASSES: Final = 2
_PARTS: Final = ("train", "test", "late_train", "late_test")
_LABELS: Final = "labels"


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A data set, split into rows to train and to test on, in two forms of features with norm √d.

    Attributes:
        name: of the data set.
        classes: labels in the order of a head's outputs.
        train: features of the frozen language model (Eq. 3), as `augment` makes them.
        test: the same of the test rows.
        train_words: the same rows without it: hashed words.
        test_words: the same of the test rows.
        late_rows: (m,), places in `train` of the rows of a cloud that joins late.
        late_train: features of those rows from texts that were changed on the way: that cloud's data are
            shifted against all others'.
        late_test: features of test rows that were changed alike, in the late cloud's own proportions.
    """

    name: str
    classes: tuple[str, ...]
    train: Examples
    test: Examples
    train_words: NDArray[np.float32]
    test_words: NDArray[np.float32]
    late_rows: NDArray[np.int64]
    late_train: Examples
    late_test: Examples

    def __post_init__(self) -> None:
        """Checks its parts against each other.

        Raises:
            BadDataError: there are fewer than two classes with rows to train on.
            IntegrityError: the parts do not fit each other.
        """
        found = len(np.unique(self.train.labels))
        if len(self.classes) < LEAST_CLASSES or found < LEAST_CLASSES:
            raise BadDataError(
                f"{self.name} has {found} class{'' if found == 1 else 'es'} to train on: "
                f"a classifier needs at least {LEAST_CLASSES}"
            )
        labels = [getattr(self, part).labels for part in _PARTS]
        if any(len(each) and not 0 <= each.min() <= each.max() < len(self.classes) for each in labels):
            raise IntegrityError(f"a label of {self.name} is none of its {len(self.classes)} classes")
        pairs = [(getattr(self, part).features, getattr(self, part).labels) for part in _PARTS]
        pairs += [(self.train_words, self.train.labels), (self.test_words, self.test.labels)]
        if any(len(features) != len(numbers) for features, numbers in pairs) or len(self.late_rows) != len(
            self.late_train.labels
        ):
            raise IntegrityError(f"features and labels of {self.name} must be equally many")

    def examples(self, features: str) -> tuple[Examples, Examples]:
        """Rows to train and to test on, in one of the two forms in `FEATURES`."""
        if features == LANGUAGE_MODEL:
            return self.train, self.test
        return (
            Examples(features=self.train_words, labels=self.train.labels),
            Examples(features=self.test_words, labels=self.test.labels),
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all of it: measurements on another corpus are others."""
        return digest(self._encoded())

    def write(self, path: Path) -> None:
        """Writes it as one safetensors file, which is there whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(self._encoded())
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> Corpus:
        """Reads what `write` wrote.

        Raises:
            IntegrityError: it is no such file.
        """
        found = tensors.decode_any(path.read_bytes())
        try:
            about = json.loads(bytes(found["about"].astype(np.uint8)))
            parts = {
                part: Examples(
                    features=found[f"{part}.features"].astype(np.float32, copy=False),
                    labels=found[f"{part}.{_LABELS}"].astype(np.int64, copy=False),
                )
                for part in _PARTS
            }
            return cls(
                name=str(about["name"]),
                classes=tuple(map(str, about["classes"])),
                train_words=found["train_words"].astype(np.float32, copy=False),
                test_words=found["test_words"].astype(np.float32, copy=False),
                late_rows=found["late_rows"].astype(np.int64, copy=False),
                **parts,
            )
        except (KeyError, ValueError) as error:
            raise IntegrityError(f"{path.name} is not a corpus that this version has written") from error

    def _encoded(self) -> bytes:
        about = json.dumps({"name": self.name, "classes": list(self.classes)}).encode()
        arrays: dict[str, NDArray[np.generic]] = {
            "about": np.frombuffer(about, np.uint8),
            "train_words": self.train_words,
            "test_words": self.test_words,
            "late_rows": self.late_rows,
        }
        for part in _PARTS:
            examples: Examples = getattr(self, part)
            arrays |= {f"{part}.features": examples.features, f"{part}.{_LABELS}": examples.labels}
        return tensors.encode(arrays)
