"""Presidio's recognisers, made once a process and only when there is something for them to judge.

Importing presidio_analyzer imports spaCy, and torch and transformers where they are installed; nothing of
them is used here, and no model is loaded. So nothing is imported before a text holds a candidate.

What presidio's own patterns leave out is found by the modules beside this one, which then ask the recogniser
for its checksum or its list of values never issued. EmailRecognizer is not used: it fetches the public suffix
list over the network when it judges its first address. Its pattern is.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from presidio_analyzer import PatternRecognizer
    from presidio_analyzer.predefined_recognizers import PhoneRecognizer


@cache
def card_recogniser() -> PatternRecognizer:
    """Knows the Luhn checksum."""
    from presidio_analyzer.predefined_recognizers import CreditCardRecognizer

    return CreditCardRecognizer()


@cache
def iban_recogniser() -> PatternRecognizer:
    """Knows the checksum modulo 97 and how the account numbers of each country are built."""
    from presidio_analyzer.predefined_recognizers import IbanRecognizer

    return IbanRecognizer(exact_match=True)


@cache
def ssn_recogniser() -> PatternRecognizer:
    """Knows which social security numbers were never issued."""
    from presidio_analyzer.predefined_recognizers import UsSsnRecognizer

    return UsSsnRecognizer()


@cache
def email_recogniser() -> PatternRecognizer:
    """Finds what is built like an address, in any domain."""
    from presidio_analyzer import PatternRecognizer
    from presidio_analyzer.predefined_recognizers import EmailRecognizer

    return PatternRecognizer(supported_entity="EMAIL_ADDRESS", patterns=EmailRecognizer.PATTERNS)


@cache
def ip_recogniser() -> PatternRecognizer:
    """Finds IPv4 and IPv6 addresses, with a zone or the length of a prefix."""
    from presidio_analyzer.predefined_recognizers import IpRecognizer

    return IpRecognizer()


@cache
def phone_recogniser(region: str, leniency: int) -> PhoneRecognizer:
    """Finds phone numbers as they are written in one region, and international ones.

    Args:
        region: Two-letter code of a country.
        leniency: 1: any number the region's plan holds; 2: its digits are grouped as they are there, too.
    """
    from presidio_analyzer.predefined_recognizers import PhoneRecognizer

    return PhoneRecognizer(supported_regions=(region,), leniency=leniency)
