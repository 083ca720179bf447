"""E-mail and IP addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from components.data_processing.masking.cues import IP_CUES, last_cue
from components.data_processing.masking.recognisers import email_recogniser, ip_recogniser

_AROUND_AT = re.compile(r"\S{1,256}@\S{1,256}")
_TOP_LEVEL = re.compile(r"\.(?:[^\W\d_]{2,}|xn--[a-z0-9-]+)\Z", re.IGNORECASE)
_IPV4 = re.compile(
    r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2}(?!\d))?(?!\w|\.\d)(?!-(?:alpha|beta|rc|snapshot))"
)
_IPV6 = re.compile(
    r"(?<![\w:.])(?=[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{3,}(?:(?:\.\d{1,3}){3})?(?:%\w+)?(?:/\d{1,3})?"
)
# A ninth part is a port, and a colon at the end is the sentence's.
_WITHOUT_PORT = re.compile(r"(?:\w{1,4}:){7}\w{1,4}(?=:)|.*[^:](?=:\Z)")
# Slices (`[1::2]`) and `std::add` are spelt like addresses too; an address in use has a longer group.
_LONGER_GROUP = re.compile(r"[0-9A-Fa-f]{3}")
_DIGIT = re.compile("[0-9]")
_LONGEST_IPV6 = 80


def find_emails(text: str) -> Iterator[tuple[int, int]]:
    """Spans of e-mail addresses; their domain need not be a public one, but its last part is letters."""
    if "@" not in text:
        return
    for candidate in _AROUND_AT.finditer(text):
        for found in email_recogniser().analyze(candidate.group(), []):
            if _TOP_LEVEL.search(candidate.group()[: found.end]):
                yield candidate.start() + found.start, candidate.start() + found.end


def find_ips(text: str) -> Iterator[tuple[int, int]]:
    """Spans of IPv4 and IPv6 addresses.

    Four numbers with dots are an address unless the sentence calls them a version, a section or the like:
    a version that is masked costs a feature, an address that is not is disclosed.
    """
    for candidate in _IPV4.finditer(text) if text.count(".") >= 3 else ():
        if last_cue(text, candidate.start(), IP_CUES) != "version":
            yield from _recognised(candidate.group(), candidate.start())
    for candidate in _IPV6.finditer(text) if text.count(":") >= 2 else ():
        if len(candidate.group()) > _LONGEST_IPV6:
            continue
        address = (_WITHOUT_PORT.match(candidate.group()) or candidate).group()
        if _LONGER_GROUP.search(address) and _DIGIT.search(address):
            yield from _recognised(address, candidate.start())


def _recognised(address: str, offset: int) -> Iterator[tuple[int, int]]:
    for found in ip_recogniser().analyze(address, []):
        yield offset + found.start, offset + found.end
