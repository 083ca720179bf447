"""Data sets as people give them: what is read, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import BadDataError, CrosscloudError, UsageError
from components.evaluation.corpus_preparation.texts import Texts, read_texts

TRAIN = 'id,text,category\n1,"my card, please",card\n2,no cash came,cash\n3,top up,cash\n'
TEST = "category,text\ncash,nothing came out\n"


def folder(path: Path, **files: str | bytes) -> Path:
    content = {"train": TRAIN, "test": TEST} | files
    for name, text in content.items():
        suffix = "txt" if name == "public" else "csv"
        target = path / f"{name}.{suffix}"
        target.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_reads_texts_and_labels_and_passes_other_columns_over(tmp_path: Path) -> None:
    place = tmp_path / "bank"
    place.mkdir()
    found = read_texts(str(folder(place)))
    assert found == Texts(
        name="bank",
        classes=("card", "cash"),
        train=("my card, please", "no cash came", "top up"),
        train_labels=(0, 1, 1),
        test=("nothing came out",),
        test_labels=(1,),
    )


def test_a_column_label_and_public_texts_do_too(tmp_path: Path) -> None:
    public = "\n".join(f"public text {number}" for number in range(16))
    train, test = TRAIN.replace("category", "label"), TEST.replace("category", "label")
    found = read_texts(
        str(folder(tmp_path, train=b"\xef\xbb\xbf" + train.encode(), test=test, public=public))
    )
    assert found.classes == ("card", "cash")
    assert len(found.public) == 16


@pytest.mark.parametrize(
    ("files", "kind", "words"),
    [
        ({"train": "text\na\n"}, UsageError, "train.csv has no column category or label (it has text)"),
        ({"test": "label\na\n"}, UsageError, "test.csv has no column text (it has label)"),
        ({"train": ""}, UsageError, "train.csv has no column text (it has none)"),
        ({"test": b"text,label\ncaf\xe9,cash\n"}, UsageError, "test.csv is not UTF-8 (byte 14)"),
        ({"test": "text,label\na,cheque\n"}, BadDataError, "'cheque', which no row of train.csv has"),
        ({"test": "text,label\n"}, BadDataError, "has no rows to test on"),
        ({"train": "text,label\na,cash\nb,cash\n"}, BadDataError, "has 1 class to train on"),
        ({"train": "text,label\n"}, BadDataError, "has the label 'cash', which no row"),
        ({"train": "text,label\na,cash\n ,card\n"}, BadDataError, "train.csv, line 3: text is empty"),
        ({"train": "text,label\na,cash\nb\n"}, BadDataError, "train.csv, line 3: label is empty"),
        ({"public": "too few\n"}, UsageError, "public.txt: a public corpus has 16 texts at least"),
    ],
)
def test_what_is_wrong_is_one_line(
    files: dict[str, str | bytes], kind: type[CrosscloudError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(kind) as told:
        read_texts(str(folder(tmp_path, **files)))
    assert words in str(told.value)
    assert len(str(told.value).splitlines()) == 1


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"/train\.csv is not there: a data set is a folder with"):
        read_texts(str(tmp_path / "nowhere"))


def test_a_part_of_it_keeps_every_class_and_does_not_depend_on_the_order() -> None:
    labels = [0] * 9000 + [1] * 900 + [2]
    train = [f"text {row}" for row in range(len(labels))]
    texts = Texts(
        name="many",
        classes=("a", "b", "c"),
        train=tuple(train),
        train_labels=tuple(labels),
        test=("one",),
        test_labels=(0,),
    )
    part = texts.quick()
    counts = [part.train_labels.count(label) for label in range(3)]
    assert counts == [round(1600 / 9901 * 9000), round(1600 / 9901 * 900), 1]
    assert part.test == texts.test
    mirrored = Texts(
        name="many",
        classes=("a", "b", "c"),
        train=tuple(reversed(train)),
        train_labels=tuple(reversed(labels)),
        test=("one",),
        test_labels=(0,),
    )
    assert sorted(mirrored.quick().train) == sorted(part.train)
    assert mirrored.digest != texts.digest
