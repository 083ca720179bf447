from __future__ import annotations

import collections
import re

import pytest

from components.errors import UsageError
from pipelines.quickstart.corpus import CLASSES, Diagnosis, diagnoses


@pytest.fixture(scope="module")
def drawn() -> list[Diagnosis]:
    return diagnoses(rows_per_class=600, seed=7)


def test_twenty_one_classes_of_600(drawn: list[Diagnosis]) -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 21
    assert collections.Counter(diagnosis.chapter for diagnosis in drawn) == dict.fromkeys(CLASSES, 600)
    assert all(re.fullmatch(r"[a-z]+( [a-z]+)?", name) and len(name) <= 15 for name in CLASSES)


def test_texts_stand_in_the_classification_under_their_code(drawn: list[Diagnosis]) -> None:
    import simple_icd_10_cm as icd

    for diagnosis in drawn:
        texts = [icd.get_description(diagnosis.icd_code), *icd.get_inclusion_term(diagnosis.icd_code)]
        assert diagnosis.diagnosis_text in [" ".join(text.split()) for text in texts]
        assert icd.is_category(diagnosis.icd_category)
        assert diagnosis.icd_category in [diagnosis.icd_code, *icd.get_ancestors(diagnosis.icd_code)]


@pytest.mark.parametrize(
    ("code", "name"),
    [("A00.0", "infectious"), ("I21.0", "circulatory"), ("O9A.11", "pregnancy"), ("Z66", "health status")],
)
def test_classes_are_the_chapters_of_the_classification(code: str, name: str) -> None:
    import simple_icd_10_cm as icd

    assert CLASSES.index(name) == int(icd.get_ancestors(code)[-1]) - 1


def test_every_chapter_keeps_its_class(drawn: list[Diagnosis]) -> None:
    import simple_icd_10_cm as icd

    for diagnosis in drawn:
        assert CLASSES[int(icd.get_ancestors(diagnosis.icd_code)[-1]) - 1] == diagnosis.chapter


def test_no_text_stands_there_twice(drawn: list[Diagnosis]) -> None:
    texts = [diagnosis.diagnosis_text.casefold() for diagnosis in drawn]
    assert len(set(texts)) == len(texts)


def test_texts_of_two_chapters_have_no_right_answer_and_are_left_out() -> None:
    import simple_icd_10_cm as icd

    chapters: dict[str, set[str]] = collections.defaultdict(set)
    for code in icd.get_all_codes(with_dots=True):
        if icd.is_chapter(code) or "-" in code:
            continue
        for text in [icd.get_description(code), *icd.get_inclusion_term(code)]:
            chapters[" ".join(text.split()).casefold()].add(icd.get_ancestors(code)[-1])
    ambiguous = {text for text, found in chapters.items() if len(found) > 1}
    assert "viral pericarditis" in ambiguous  # B33.23, infectious, and I30.1, circulatory
    drawn = {
        d.diagnosis_text.casefold() for seed in range(5) for d in diagnoses(rows_per_class=700, seed=seed)
    }
    assert not ambiguous & drawn


def test_synonyms_are_among_the_texts(drawn: list[Diagnosis]) -> None:
    import simple_icd_10_cm as icd

    synonyms = sum(d.diagnosis_text != icd.get_description(d.icd_code) for d in drawn)
    assert 2000 < synonyms < len(drawn) // 2


def test_the_seed_decides_and_a_smaller_draw_is_part_of_a_larger_one(drawn: list[Diagnosis]) -> None:
    assert diagnoses(rows_per_class=600, seed=7) == drawn
    assert diagnoses(rows_per_class=600, seed=8) != drawn
    assert set(diagnoses(rows_per_class=20, seed=7)) < set(drawn)


@pytest.mark.parametrize("rows_per_class", [0, -1, 1000])
def test_more_texts_than_there_are_is_refused(rows_per_class: int) -> None:
    with pytest.raises(UsageError, match=r"between 1 and \d{3}, the number of texts of"):
        diagnoses(rows_per_class=rows_per_class, seed=7)
