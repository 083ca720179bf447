"""What secrets look like, so that they are found in a spec and never told again."""

from __future__ import annotations

import re

SECRET_FORMS = {
    "a private key": re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY"),
    "a key of AWS": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a key of Google": re.compile(r"\bAIza[0-9A-Za-z_-]{35}|\bya29\.[0-9A-Za-z_-]{20,}"),
    "a key of Azure": re.compile(r"(?i:\bAccountKey)=[0-9A-Za-z+/]{40,}|[?&]sig=[0-9A-Za-z%+/]{20,}"),
    "a token of GitHub": re.compile(r"\bgh[pousr]_[0-9A-Za-z]{36,}\b"),
    "a token of Hugging Face": re.compile(r"\bhf_[0-9A-Za-z]{30,}\b"),
    "a signed token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    "a password in an address": re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/@{}]+@"),
}
_ANY = re.compile("|".join(f"(?:{pattern.pattern})" for pattern in SECRET_FORMS.values()))
_SHORTEST = len("s3://a:b@c")


def secret_form(text: str) -> str:
    """What kind of secret a text seems to hold; empty for none."""
    if len(text) < _SHORTEST or not _ANY.search(text):
        return ""
    return next((form for form, pattern in SECRET_FORMS.items() if pattern.search(text)), "")
