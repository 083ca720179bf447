"""Phone numbers: international, and as they are written in the US and in Europe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from components.data_processing.masking.cues import PHONE_CUES, last_cue
from components.data_processing.masking.recognisers import phone_recogniser

# Where national numbers begin with 0, and where they do not.
TRUNK_REGIONS = ("GB", "DE", "FR", "NL", "BE", "CH", "AT", "IT", "SE", "FI", "IE")
OPEN_REGIONS = ("US", "ES", "PL", "IT", "PT", "DK", "NO", "CZ", "GR", "LU")

_SEPARATORS = " ().\\-/\u00a0\u2009\u202f\u2010\u2011\u2012\u2013"
_RUN = re.compile(rf"(?<!\w)(?:\(?[+＋(] ?)?\d(?:[{_SEPARATORS}]{{0,3}}\d){{6,}}")
_SEVEN_DIGITS = re.compile(rf"\d(?:[{_SEPARATORS}]{{0,3}}\d){{6}}")
_DATE = re.compile(
    r"(?:\d{4}([-./ ])\d{1,2}\1\d{1,2}|\d{1,2}([-./ ])\d{1,2}\2(?:19|20)\d{2})"
    r"(?:[-–/ ]+(?:\d{4}([-./ ])\d{1,2}\3\d{1,2}|\d{1,2}([-./ ])\d{1,2}\4(?:19|20)\d{2}"
    r"|\d{1,2}(?:[.]\d\d)?))?"
)
_SSN_OR_ZIP = re.compile(r"\d{3}-\d{2}-\d{4}|\d{5}-\d{4}")
_INTERNATIONAL = re.compile(r"[( ]{0,2}(?:[+＋]|00[1-9]\d*\D)")
_US = re.compile(r"(?:1[-. ])?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}")
# Numbers padded with zeros are not phones; nor are bare digits unless there are ten or eleven of them.
_TRUNK = re.compile(r"\(?0(?:[1-9]\d{8,9}(?!\d)|(?=[1-9])\d*[^\d])")
# Nine digits in threes, as in Spain and Poland, that are not an amount.
_THREES = re.compile(r"[5-9]\d\d ?\d{3} \d{3}(?![ ,.]?\d)")
_HOLDS_PHONE_FORM = re.compile(
    rf"{_INTERNATIONAL.pattern}|{_US.pattern}|(?<!\d)(?:{_TRUNK.pattern}|{_THREES.pattern})"
)
# With + or an area code set apart, few people group the rest by the book. One or two digits and a hyphen
# begin many other numbers.
_LOOSELY_GROUPED = re.compile(r"[(+＋]|0\d{2,4}[ /-]|\d+\Z")
_NEXT_NUMBER = re.compile(r"(?<=[ /])(?=\(?[+＋0])")
_SHORTEST, _LONGEST = 7, 15
_VALID, _GROUPED = 1, 2
_EXTENSION_REACH = 24
# Digits of a run in which numbers are told apart, a third of a millisecond each. A longer one that holds the
# form of a phone number is masked as a whole: what is not looked at would be disclosed.
_LONGEST_LIST = 1000


def find_phones(text: str) -> Iterator[tuple[int, int]]:
    """Spans of phone numbers that the plan of a region holds.

    A number with + or 00 stands for itself. A national one does if it begins with 0 or is written as in
    the US; otherwise a word must call it a phone. No number is one that a word calls an order, a record or
    the like, unless it begins with + or 00. More than 1000 digits with nothing but spaces and the like
    between them are one match, if any of it is written as a phone number.
    """
    if not _SEVEN_DIGITS.search(text):
        return
    for run in _RUN.finditer(text):
        if _DATE.fullmatch(run.group()):
            continue
        cue = last_cue(text, run.start(), PHONE_CUES)
        if cue != "phone" and not _HOLDS_PHONE_FORM.search(run.group()):
            continue
        if _digits(run.group()) > _LONGEST_LIST:
            if cue != "identifier":
                yield run.span()
            continue
        loose = cue == "phone" or _LOOSELY_GROUPED.match(run.group())
        for start, end in _numbers(text, run.start(), run.end(), _VALID if loose else _GROUPED):
            number = text[start:end]
            if cue == "phone" or _INTERNATIONAL.match(number) or (not cue and _is_national_form(number)):
                yield start, end


def _numbers(text: str, start: int, end: int, leniency: int) -> set[tuple[int, int]]:
    """Spans of phone numbers in a run of digits, extensions included.

    Numbers side by side hide each other: where none is found they are looked for one by one, each from what
    begins like one.
    """
    spans = _spans(text[start:end], text[start : end + _EXTENSION_REACH], leniency)
    if not spans:
        begins = [0, *(begin.start() for begin in _NEXT_NUMBER.finditer(text[start:end])), end - start]
        for first, last in pairwise(begins) if len(begins) > 2 else ():
            piece = text[start + first : start + last]
            spans |= {(first + begin, first + stop) for begin, stop in _spans(piece, piece, leniency)}
    return {(start + first, start + last) for first, last in spans}


def _spans(run: str, text: str, leniency: int) -> set[tuple[int, int]]:
    """Spans that begin in `run`, with which `text` begins.

    The first region whose plan holds the whole run is enough; parts of it are for all regions to find.
    """
    count = _digits(run)
    spans: set[tuple[int, int]] = set()
    for region in _regions(run, count):
        for found in phone_recogniser(region, leniency).analyze(text, []):
            number = text[found.start : found.end].lstrip()
            if found.start < len(run) and _digits(number) >= _SHORTEST:
                spans.add((found.end - len(number), found.end))
        if any(first == 0 and last >= len(run) for first, last in spans):
            break
    return spans


def _regions(run: str, count: int) -> tuple[str, ...]:
    if count > _LONGEST:
        return tuple(dict.fromkeys(TRUNK_REGIONS + OPEN_REGIONS))
    if run.lstrip("( ").startswith(("+", "＋")):
        return TRUNK_REGIONS[:1]
    return TRUNK_REGIONS if run.lstrip("( ").startswith("0") else OPEN_REGIONS


def _is_national_form(number: str) -> bool:
    if _US.match(number) or _THREES.fullmatch(number):
        return True
    is_other = _DATE.match(number.lstrip("(")) or _SSN_OR_ZIP.fullmatch(number)
    return bool(_TRUNK.match(number)) and not is_other


def _digits(text: str) -> int:
    return sum(map(str.isdecimal, text))
