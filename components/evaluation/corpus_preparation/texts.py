"""A labelled data set that may lie in one place, as a folder of two CSV files.

`train.csv` and `test.csv` have a header with `text` and one of `category` and `label`; other columns do not
matter. A file `public.txt` beside them, UTF-8 with one text a line, holds public texts of the records' own
kind; features are then centred on their mean, as a federation's are under `encoder.public_corpus`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from components.agreement.public_corpus import texts_of
from components.artifacts.stores import Store, open_store
from components.errors import BadDataError, IntegrityError, ObjectMissingError, UsageError

LEAST_CLASSES: Final = 2
_TEXT = "text"
_LABELS = ("category", "label")
_PUBLIC = "public.txt"
_QUICK_ROWS: Final = (1600, 600)
"""Training and test rows of a reduced comparison, about."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """A data set before the encoder.

    Attributes:
        name: of the data set.
        classes: labels in the order of a head's outputs.
        train: texts to train on.
        train_labels: places in `classes`, one a text.
        test: texts to test on.
        test_labels: places in `classes`, one a text.
        public: public texts of the same kind that features are centred on; none to leave them.
    """

    name: str
    classes: tuple[str, ...]
    train: tuple[str, ...]
    train_labels: tuple[int, ...]
    test: tuple[str, ...]
    test_labels: tuple[int, ...]
    public: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks that there is something to learn.

        Raises:
            BadDataError: fewer than two classes have rows to train on, or there is no row to test on.
        """
        found = len(set(self.train_labels))
        if len(self.classes) < LEAST_CLASSES or found < LEAST_CLASSES:
            raise BadDataError(
                f"{self.name} has {found} class{'' if found == 1 else 'es'} to train on: "
                f"a classifier needs at least {LEAST_CLASSES}"
            )
        if not self.test:
            raise BadDataError(f"{self.name} has no rows to test on: give its test part at least one")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        parts = [self.name, self.classes, self.train, self.train_labels, self.test, self.test_labels]
        return hashlib.sha256(json.dumps([*parts, self.public]).encode()).hexdigest()

    def quick(self) -> Texts:
        """A part of it, enough for a reduced comparison: each class in its proportion, and never none of it.

        What is kept depends on the texts alone: those whose SHA-256 are smallest in their class.
        """
        train_rows, test_rows = _QUICK_ROWS
        train = _thinned(self.train, self.train_labels, train_rows)
        test = _thinned(self.test, self.test_labels, test_rows)
        return Texts(
            name=self.name,
            classes=self.classes,
            train=tuple(self.train[row] for row in train),
            train_labels=tuple(self.train_labels[row] for row in train),
            test=tuple(self.test[row] for row in test),
            test_labels=tuple(self.test_labels[row] for row in test),
            public=self.public,
        )


def _thinned(texts: Sequence[str], labels: Sequence[int], wanted: int) -> list[int]:
    share = min(1.0, wanted / max(1, len(texts)))
    of_class: dict[int, list[int]] = {}
    for row in sorted(range(len(texts)), key=lambda row: hashlib.sha256(texts[row].encode()).digest()):
        of_class.setdefault(labels[row], []).append(row)
    return sorted(row for rows in of_class.values() for row in rows[: max(1, round(share * len(rows)))])


def read_texts(uri: str) -> Texts:
    """Reads a data set from a folder.

    Args:
        uri: a path (a relative one is below CROSSCLOUD_HOME), file://, s3://, gs:// or abfs://.

    Raises:
        UsageError: a file or a column is missing, or a file is not UTF-8.
        BadDataError: a row has no text, a test label is none of the training rows', or there are fewer than
            two classes.
        StoreError: the folder cannot be read.
    """
    store = open_store(uri)
    train, names = _read(store, "train.csv")
    test, test_names = _read(store, "test.csv")
    classes = tuple(sorted(set(names)))
    number = {name: place for place, name in enumerate(classes)}
    strange = next((name for name in test_names if name not in number), None)
    if strange is not None:
        raise BadDataError(
            f"test.csv has the label {strange!r}, which no row of train.csv has: "
            "a classifier can only name what it was trained on"
        )
    return Texts(
        name=store.uri.rstrip("/").rpartition("/")[2] or "data",
        classes=classes,
        train=tuple(train),
        train_labels=tuple(number[name] for name in names),
        test=tuple(test),
        test_labels=tuple(number[name] for name in test_names),
        public=_public(store),
    )


def _read(store: Store, key: str) -> tuple[list[str], list[str]]:
    """Texts and labels of one file."""
    place = f"{store.uri}/{key}"
    try:
        content = store.read(key).decode("utf-8-sig")
    except ObjectMissingError:
        raise UsageError(
            f"{place} is not there: a data set is a folder with train.csv and test.csv"
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{place} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    try:
        return _rows(csv.DictReader(io.StringIO(content, newline="")), place)
    except csv.Error as error:
        raise UsageError(f"{place} is not CSV: {error}") from None


def _rows(reader: csv.DictReader[str], place: str) -> tuple[list[str], list[str]]:
    columns = reader.fieldnames or ()
    label = next((name for name in _LABELS if name in columns), None)
    if _TEXT not in columns or label is None:
        missing = _TEXT if _TEXT not in columns else " or ".join(_LABELS)
        told = ", ".join(columns) or "none"
        raise UsageError(f"{place} has no column {missing} (it has {told}): name it so in its first line")
    texts, labels = [], []
    for row in reader:
        text, name = (row[_TEXT] or "").strip(), (row[label] or "").strip()
        if not text or not name:
            empty = _TEXT if not text else label
            raise BadDataError(
                f"{place}, line {reader.line_num}: {empty} is empty: fill it in or take it out"
            )
        texts.append(text)
        labels.append(name)
    return texts, labels


def _public(store: Store) -> tuple[str, ...]:
    try:
        return tuple(texts_of(store.read(_PUBLIC)))
    except ObjectMissingError:
        return ()
    except IntegrityError as error:
        raise UsageError(f"{store.uri}/{_PUBLIC}: {error}") from None
