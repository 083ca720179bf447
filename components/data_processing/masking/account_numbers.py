"""Card numbers, IBANs and US social security numbers: digits with a checksum or rules of issue."""

from __future__ import annotations

import re
from collections.abc import Iterator

from components.data_processing.masking.cues import SSN_CUES, last_cue
from components.data_processing.masking.recognisers import (
    card_recogniser,
    iban_recogniser,
    ssn_recogniser,
)

_SPACE = " \u00a0\u2009\u202f"
_HYPHEN = "\\-\u2010\u2011\u2012\u2013"

# Searches that need not look behind them are the fast ones, and most texts end with them.
_CARD_START = re.compile(rf"\d{{4}}[{_SPACE}.{_HYPHEN}]?\d{{4}}")
_SSN_START = re.compile(rf"\d{{3}}[{_SPACE}.{_HYPHEN}]?\d{{2}}[{_SPACE}.{_HYPHEN}]?\d{{4}}")
_IBAN_START = re.compile(r"[A-Za-z]{2}[0-9]{2}")
# Bare, or printed as 4-4-4-4 with more or fewer in the last groups (12 to 19 digits), as 4-6-5 (American
# Express) or as 4-6-4 (Diners). Looked for at every position: digits before a card must not hide it. What may
# be a last group of up to three digits may as well be a security code, so both ends are tried.
_CARD = re.compile(
    rf"(?<!\w)(?<!\d[./{_HYPHEN}])"
    rf"(?=(\d{{12,19}}|\d{{4}}([{_SPACE}.{_HYPHEN}])(?:\d{{6}}\2\d{{4,5}}|\d{{4}}\2\d{{4}}(?:\2\d{{1,4}})?))"
    rf"(?!\w|\.\d)(?:\2(\d{{1,3}})(?!\w))?)"
)
# Lengths by first digits: Visa, Mastercard (both series), American Express, Diners, JCB, Discover, UnionPay,
# Maestro (ISO/IEC 7812). One number in ten passes Luhn; with these one in thirty does.
_ISSUED = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11,16}|35\d{14,17}|(?:2131|1800)\d{11}|6(?:011|4[4-9]\d|5\d\d)\d{12,15}"
    r"|62\d{14,17}|(?:50|5[6-8]|6\d)\d{10,17}|0604\d{8,15}"
)
# +43 6587…: a long phone number may be built like a card's.
_COUNTRY_CODE = re.compile(r"[+＋]\d{1,3}\W\Z")
_IBAN = re.compile(
    rf"(?<![0-9A-Za-z])(?=([A-Za-z]{{2}}[0-9]{{2}}(?:[{_SPACE}.{_HYPHEN}]?[0-9A-Za-z]){{11,30}})(?![0-9A-Za-z]))"
)
_WORD_END = re.compile(r"(?<=[0-9A-Za-z])(?![0-9A-Za-z])")
# What is shorter, or words but for a number, is not worth asking about.
_SHORTEST_IBAN, _FEWEST_IBAN_DIGITS = 15, 8
_SSN = re.compile(
    rf"(?<!\w)(?<!\d[./{_HYPHEN}])\d{{3}}([{_SPACE}.{_HYPHEN}]?)\d{{2}}\1\d{{4}}(?!\w|[./{_HYPHEN}]\d)"
)


def find_cards(text: str) -> Iterator[tuple[int, int]]:
    """Spans of payment card numbers of 12 to 19 digits, bare or in groups with one separator."""
    for candidate in _CARD.finditer(text) if _CARD_START.search(text) else ():
        start, end = candidate.span(1)
        if _COUNTRY_CODE.search(text, max(0, start - 5), start):
            continue
        for stop in (candidate.end(3), end) if candidate.group(3) else (end,):
            digits = _digits(text[start:stop])
            if _ISSUED.fullmatch(digits) and card_recogniser().validate_result(digits):
                yield start, stop
                break


def find_ibans(text: str) -> Iterator[tuple[int, int]]:
    """Spans of IBANs, in any grouping and case.

    Words that follow look like more groups of an account number, so every end of a word is tried as
    the end of the number, the longest first.
    """
    for candidate in _IBAN.finditer(text) if _IBAN_START.search(text) else ():
        start, run = candidate.start(1), candidate.group(1)
        for word_end in reversed(list(_WORD_END.finditer(run))):
            number = "".join(filter(str.isalnum, run[: word_end.start()])).upper()
            if len(number) < _SHORTEST_IBAN or sum(map(str.isdecimal, number)) < _FEWEST_IBAN_DIGITS:
                break
            if iban_recogniser().validate_result(number):
                yield start, start + word_end.start()
                break


def find_ssns(text: str) -> Iterator[tuple[int, int]]:
    """Spans of US social security numbers that can have been issued.

    With hyphens a number stands for itself unless a word says that it is of goods; with spaces, dots
    or nothing between its parts it must be called a social security number.
    """
    for candidate in _SSN.finditer(text) if _SSN_START.search(text) else ():
        digits = _digits(candidate.group())
        # 900 to 999 are taxpayers' numbers and others, never social security numbers.
        if digits[0] == "9" or ssn_recogniser().invalidate_result(digits):
            continue
        cue = last_cue(text, candidate.start(), SSN_CUES)
        hyphenated = bool(re.fullmatch(f"[{_HYPHEN}]", candidate.group(1)))
        if cue == "ssn" or (hyphenated and not cue):
            yield candidate.span()


def _digits(text: str) -> str:
    """The decimal digits of `text` in any script, as ASCII."""
    return "".join(str(int(character)) for character in text if character.isdecimal())
