"""Texts with known sensitive values, of which half hold none but what is easily taken for one."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass

import phonenumbers
from faker import Faker

from tests.components.data_processing.masking.sentences import Family

PHONE_LOCALES = (
    "en_US",
    "en_GB",
    "de_DE",
    "fr_FR",
    "es_ES",
    "it_IT",
    "nl_NL",
    "pl_PL",
    "sv_SE",
    "de_AT",
    "de_CH",
)
IBAN_LOCALES = (
    "de_DE",
    "de_AT",
    "nl_BE",
    "de_CH",
    "es_ES",
    "fr_FR",
    "it_IT",
    "nl_NL",
    "pl_PL",
    "da_DK",
    "no_NO",
)
CARD_BRANDS = (
    *("visa13", "visa16", "visa19", "mastercard", "amex", "diners", "discover", "jcb15", "jcb16", "maestro"),
)


@dataclass(frozen=True)
class LabelledText:
    """A text and the values in it, as (start, end, kind)."""

    text: str
    values: tuple[tuple[int, int, str], ...]


def labelled_texts(family: Family, *, seed: int, number: int = 500) -> list[LabelledText]:
    """`number` texts, every other one without sensitive values."""
    values = _Values(seed)
    return [
        values.fill(values.random.choice(family.harmless if index % 2 else family.sensitive))
        for index in range(number)
    ]


class _Values:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._fakers = {name: Faker(name) for name in {*PHONE_LOCALES, *IBAN_LOCALES}}
        for offset, name in enumerate(sorted(self._fakers)):
            self._fakers[name].seed_instance(seed * 100 + offset)
        self._sensitive: dict[str, Callable[[], str]] = {
            "card": self.card,
            "iban": self.iban,
            "email": self.email,
            "phone": self.phone,
            "ssn": self._fakers["en_US"].ssn,
            "ip": self.ip,
        }

    def fill(self, template: str) -> LabelledText:
        text, found = "", []
        for literal, name, _, _ in string.Formatter().parse(template):
            text += literal
            if name:
                value = self._sensitive.get(name, lambda: self.harmless(name))()  # noqa: B023
                if name in self._sensitive:
                    found.append((len(text), len(text) + len(value), name))
                text += value
        return LabelledText(text, tuple(found))

    def digits(self, count: int) -> str:
        return "".join(self.random.choices(string.digits, k=count))

    def card(self) -> str:
        number: str = self._fakers["en_US"].credit_card_number(self.random.choice(CARD_BRANDS))
        separator = self.random.choice(["", "", " ", " ", "-"])
        if len(number) in {14, 15}:
            parts = [number[:4], number[4:10], number[10:]]
        else:
            parts = [number[start : start + 4] for start in range(0, len(number), 4)]
        return separator.join(parts)

    def iban(self) -> str:
        number: str = self._fakers[self.random.choice(IBAN_LOCALES)].iban()
        parts = [number[start : start + 4] for start in range(0, len(number), 4)]
        return self.random.choice(["", " "]).join(parts)

    def email(self) -> str:
        faker = self._fakers[self.random.choice(PHONE_LOCALES)]
        address: str = self.random.choice([faker.email, faker.company_email, faker.free_email])()
        name, _, domain = address.partition("@")
        return self.random.choice([address, f"{name}+{self.digits(2)}@{domain}", f"{name}@mail.{domain}"])

    def phone(self) -> str:
        """A number as Faker writes it for a country, if that country's plan holds it."""
        while True:
            locale = self.random.choice(PHONE_LOCALES)
            number: str = self._fakers[locale].phone_number()
            try:
                if phonenumbers.is_valid_number(phonenumbers.parse(number, locale[-2:])):
                    return number
            except phonenumbers.NumberParseException:
                continue

    def ip(self) -> str:
        faker = self._fakers["en_US"]
        full: str = faker.ipv6()
        groups = full.split(":")
        compressed = ":".join(groups[: self.random.randint(2, 4)]) + "::" + self.random.choice(groups)
        choices = [faker.ipv4(), faker.ipv4_private(), full, compressed]
        return str(self.random.choices(choices, weights=[3, 2, 1, 1])[0])

    def harmless(self, name: str) -> str:
        draw = self.random
        digits = self.digits
        day, month, year = draw.randint(1, 28), draw.randint(1, 12), draw.randint(1930, 2026)
        made: dict[str, Callable[[], str]] = {
            "date": lambda: draw.choice(
                [f"{year}-{month:02}-{day:02}", f"{day:02}.{month:02}.{year}", f"{month}/{day}/{year}"]
            ),
            "time": lambda: f"{draw.randint(0, 23):02}:{draw.randint(0, 59):02}",
            "icd": lambda: draw.choice(["E11.9", "S72.001A", "I10", "C50.911", "Z79.4", "M54.5", "T36.0X5A"]),
            "lab": lambda: draw.choice([f"{draw.random() * 200:.1f}", f"1.{digits(3)},{digits(2)}", "<0,5"]),
            "pressure": lambda: f"{draw.randint(90, 190)}/{draw.randint(50, 110)}",
            "version": lambda: ".".join(str(draw.randint(0, 40)) for _ in range(4)),
            "order": lambda: draw.choice(
                [digits(10), f"{digits(3)}-{digits(7)}-{digits(7)}", f"SO-{digits(8)}"]
            ),
            "long_number": lambda: digits(draw.choice([8, 10, 11, 12, 14, 20])),
            "accession": lambda: draw.choice(
                [f"S{digits(2)}-{digits(5)}", f"{digits(2)}-{digits(7)}", digits(9)]
            ),
            "amount": lambda: draw.choice(
                [f"${draw.randint(1, 9999):,}.{digits(2)}", f"1.{digits(3)},50 EUR"]
            ),
            "zip4": lambda: f"{digits(5)}-{digits(4)}",
            "city": self._fakers["en_US"].city,
            "code": lambda: str(draw.randint(2, 999)),
            "oid": lambda: "1.2.840.10008." + ".".join(str(draw.randint(1, 200)) for _ in range(5)),
            "npi": lambda: "1" + digits(9),
            "isbn": self._fakers["en_US"].isbn13,
            "mac": self._fakers["en_US"].mac_address,
            "part": lambda: _part(draw),
            "hexadecimal": lambda: f"{draw.getrandbits(128):032x}",
            "bad_ssn": self._fakers["en_US"].invalid_ssn,
            "bad_card": lambda: _broken(self.card(), draw),
            "bad_iban": lambda: _broken(self.iban(), draw),
        }
        return str(made[name]())


def _broken(number: str, draw: random.Random) -> str:
    """`number` with its last digit changed, which both checksums notice."""
    last = next(index for index in reversed(range(len(number))) if number[index].isdecimal())
    return number[:last] + str((int(number[last]) + draw.randint(1, 9)) % 10) + number[last + 1 :]


def _part(draw: random.Random) -> str:
    """A part's number; two in six are built like a social security or an American phone number."""
    shape = draw.choice(["###-##-####", "###-###-####", "####-####", "?-####-##", "##.###.###", "???######"])
    return "".join(
        draw.choice(string.digits) if sign == "#" else draw.choice("ABCXYZ") if sign == "?" else sign
        for sign in shape
    )
