"""What the quick start's hospitals code: ICD-10-CM diagnosis texts and their chapters.

The texts are the descriptions and inclusion terms (synonyms) of ICD-10-CM, the classification that the
health service of the United States publishes, as `simple-icd-10-cm` carries it. A classifier learns to
tell the chapter from the text.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from components.errors import UsageError

# Chapter 22 (codes for special purposes) has eleven texts: too few to learn or to measure.
_CLASS_OF_CHAPTER = {
    "1": "infectious",
    "2": "neoplasms",
    "3": "blood",
    "4": "endocrine",
    "5": "mental",
    "6": "nervous",
    "7": "eye",
    "8": "ear",
    "9": "circulatory",
    "10": "respiratory",
    "11": "digestive",
    "12": "skin",
    "13": "musculoskeletal",
    "14": "genitourinary",
    "15": "pregnancy",
    "16": "perinatal",
    "17": "congenital",
    "18": "symptoms",
    "19": "injury",
    "20": "external causes",
    "21": "health status",
}
CLASSES: tuple[str, ...] = tuple(_CLASS_OF_CHAPTER.values())
# Chapters and blocks (A00-A09) have texts too, but no category of three characters to split by.
_CODE = re.compile(r"[A-Z][0-9][0-9A-Z](\.[0-9A-Z]{1,4})?")


class Diagnosis(NamedTuple):
    """One text of the classification."""

    icd_code: str
    icd_category: str
    diagnosis_text: str
    chapter: str


def diagnoses(*, rows_per_class: int, seed: int) -> list[Diagnosis]:
    """Draws `rows_per_class` texts of each of `CLASSES`, in the order of `CLASSES` and of the codes.

    Every text is there once, compared without case and spacing; a text that stands in two chapters has no
    right answer and is left out. What is drawn depends on `seed` and the texts alone: a text is taken if its
    SHA-256 under the seed is among the smallest of its class.

    Raises:
        UsageError: `simple-icd-10-cm` is not installed, or a class has fewer texts.
    """
    by_class: dict[str, list[Diagnosis]] = {name: [] for name in CLASSES}
    for diagnosis in _unambiguous():
        by_class[diagnosis.chapter].append(diagnosis)
    smallest = min(by_class, key=lambda name: len(by_class[name]))
    if not 1 <= rows_per_class <= len(by_class[smallest]):
        raise UsageError(
            f"rows_per_class must be between 1 and {len(by_class[smallest])}, the number of texts of "
            f"{smallest!r}; got {rows_per_class}"
        )
    drawn = []
    for candidates in by_class.values():
        ranked = sorted(candidates, key=lambda diagnosis: _rank(diagnosis, seed))
        taken = set(ranked[:rows_per_class])
        drawn += [diagnosis for diagnosis in candidates if diagnosis in taken]
    return drawn


def _rank(diagnosis: Diagnosis, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{diagnosis.diagnosis_text}".encode()).digest()


@functools.cache
def _unambiguous() -> tuple[Diagnosis, ...]:
    """Each text once, with the first code that has it, unless two chapters have it."""
    first: dict[str, Diagnosis] = {}
    ambiguous = set()
    for diagnosis in _texts():
        key = " ".join(diagnosis.diagnosis_text.split()).casefold()
        if first.setdefault(key, diagnosis).chapter != diagnosis.chapter:
            ambiguous.add(key)
    return tuple(diagnosis for key, diagnosis in first.items() if key not in ambiguous)


def _texts() -> Iterator[Diagnosis]:
    try:
        import simple_icd_10_cm as icd
    except ModuleNotFoundError:
        raise UsageError(
            "simple-icd-10-cm is not installed: the quick start needs pip install 'crosscloud[quickstart]'"
        ) from None
    for code in icd.get_all_codes(with_dots=True):
        if not _CODE.fullmatch(code):
            continue
        chapter = _CLASS_OF_CHAPTER.get(icd.get_ancestors(code)[-1])
        if chapter is None:
            continue
        for text in (icd.get_description(code), *icd.get_inclusion_term(code)):
            yield Diagnosis(code, code[:3], " ".join(text.split()), chapter)
