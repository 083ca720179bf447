"""Words before a number that say what it is.

A number alone is often ambiguous: 10.2.15.1 is an address or a version, ten digits are a phone or an order.
The last telling word of the same sentence decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_REACH = 96
_BARRIER = re.compile(r"[<>\n\r]|[.!?;]\s+(?=[A-ZÀ-Þ])(?!\S{0,3}\d)")
_WORD = re.compile(r"[^\W_]+#?|§")
_DIGIT = re.compile(r"\d")

_PHONE = """
tel telephone telefon telephon téléphone tél tèl telefono teléfono telefoon phone ph fon fax telefax mobile
mobil mobiel mob móvil movil cell cellphone cellulare handy natel gsm portable landline call calls called
calling callback dial dialled ring rang reach reached reachable text texted sms whatsapp hotline switchboard
rückruf erreichbar anruf anrufen appeler joindre joignable llamar pager voicemail helpline contact emergency
kin relative wife husband spouse mother father son daughter guardian carer
"""
_GOODS = """
order invoice inv part serial sku tracking parcel shipment item model article catalogue catalog lot batch
ticket isbn barcode device rma accession specimen module block component unit spare kit product
"""
_IDENTIFIER = f"""
{_GOODS} reference ref acc mrn issn sn claim policy cat sample ean upc gtin udi npi ndc cpt icd po contract
transaction receipt imei encounter visit case record study trial protocol asset bestellung bestellnummer
auftrag rechnung rechnungsnummer charge commande facture pedido account konto id zip plz postcode card iban
ssn chart film file document lieferschein
"""
_VERSION = """
version versions ver release released build firmware fw patch patched rev revision software driver kernel
browser hotfix package bundle plugin library app application edition snapshot installer upgrade upgraded
update updated downgraded section sections sect sec chapter clause paragraph para oid appendix table figure
fig item article rule step heading abschnitt kapitel ziffer §
"""
_ADDRESS = """
ip ips ipv4 ipv6 address addresses adresse host server gateway router client subnet dns vpn ping pinged ssh
login logins logged session proxy firewall workstation endpoint node connection connected
"""


def _cues(**words: str) -> dict[str, str]:
    return {word: name for name, listed in words.items() for word in listed.split()}


PHONE_CUES = _cues(identifier=_IDENTIFIER, phone=_PHONE)
SSN_CUES = _cues(goods=_GOODS, ssn="ssn ssns ss#") | {"social security": "ssn", "soc sec": "ssn"}
IP_CUES = _cues(version=_VERSION, address=_ADDRESS) | {"user agent": "version"}
# A word for a thing names the next number only; one for phones or versions holds for a list of them.
_NEXT_ONLY = {"identifier", "goods"}


def last_cue(text: str, position: int, cues: Mapping[str, str]) -> str:
    """What the last cue at most 96 characters before `position` stands for in `cues`, or "".

    Looks back to the start of the sentence and no further than a token, so that what a masked text says
    about the rest of it is no more than it said before. A cue is one word or two, in lower case.
    """
    window = text[max(0, position - _REACH) : position]
    start = max((barrier.end() for barrier in _BARRIER.finditer(window)), default=0)
    name = previous = ""
    for word in _WORD.finditer(window, start):
        spelt = word.group().lower()
        found = cues.get(f"{previous} {spelt}") or cues.get(spelt, "")
        if found and not (found in _NEXT_ONLY and _DIGIT.search(window, word.end())):
            name = found
        previous = spelt
    return name
