"""How a site answers a request: the step's outcome, signed by the site, in the exchange.

A site's agent also leaves notices of Jobs that ended without an answer. They are not signed: whoever can
write to the exchange can hold a site's answers back anyway, and a notice can do no more than leave the
site out of an attempt. They are words of a closed list, with a plain detail at most.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter import Charter
from components.artifacts.documents import sign, verify
from components.artifacts.stores import Store
from components.errors import ObjectMissingError, SignatureError
from components.execution.outcome import Outcome, plain

DOMAIN = "step outcome"
MAX_ANSWER_BYTES = 1 << 20
NOTICES = ("denied", "evicted", "failed", "image", "oom", "timeout", "unreachable")
"""Words by which a Job ends without an answer."""
_KINDS = {
    "request": str,
    "reference": str,
    "reason": str,
    "manifest": dict,
    "metrics": dict,
    "bytes_sent": int,
    "bytes_read": int,
    "findings": list,
}
_DETAIL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/-]{0,119}")


def answer_key(site: str, named: str) -> str:
    """Where the answer to a request lies in the exchange."""
    return f"outcomes/{site}/{named}.json"


def notice_key(site: str, named: str) -> str:
    """Where an agent's notice of a Job that ended without an answer lies."""
    return f"notices/{site}/{named}.json"


def answer_document(outcome: Outcome, *, site: str, named: str, key: Ed25519PrivateKey) -> bytes:
    """The document the site publishes for the request of digest `named`."""
    return sign(key, domain=DOMAIN, signer=site, body={"request": named, **_fields(outcome)})


def read_answer(exchange: Store, site: str, named: str, charter: Charter) -> Outcome | None:
    """The site's answer, or an agent's notice in its place; None while there is neither.

    Raises:
        SignatureError: the answer is not the site's, or of another request.
    """
    try:
        document = exchange.read(answer_key(site, named), limit=MAX_ANSWER_BYTES)
    except ObjectMissingError:
        return _notice(exchange, site, named)
    body = verify(document, domain=DOMAIN, signer=site, key=charter.key(site))
    outcome = _outcome(body, site)
    if body["request"] != named:
        raise SignatureError(f"the outcome of {site} answers another request")
    return outcome


def notice(word: str) -> bytes:
    """The document an agent leaves: a word of `NOTICES`, and a detail after a colon at most."""
    if _plain_notice(word) != word:
        raise ValueError(f"{word!r} is no notice: it is one of {', '.join(NOTICES)} and a plain detail")
    return json.dumps({"reason": word}).encode()


def _notice(exchange: Store, site: str, named: str) -> Outcome | None:
    try:
        told = json.loads(exchange.read(notice_key(site, named), limit=4096))
    except ObjectMissingError:
        return None
    except (ValueError, RecursionError):
        told = {}
    reason = told.get("reason") if isinstance(told, dict) else None
    return Outcome(reason=_plain_notice(reason if isinstance(reason, str) else ""))


def _plain_notice(reason: str) -> str:
    word, _, detail = reason.partition(": ")
    if word not in NOTICES:
        return "failed"
    return f"{word}: {detail}" if _DETAIL.fullmatch(detail) else word


def _fields(outcome: Outcome) -> dict[str, Any]:
    told = asdict(outcome)
    return {**told, "findings": list(outcome.findings)}


def _outcome(body: Mapping[str, Any], site: str) -> Outcome:
    if body.keys() != _KINDS.keys() or any(type(body[name]) is not kind for name, kind in _KINDS.items()):
        raise SignatureError(f"the outcome of {site} is not in the form this version knows")
    if not all(isinstance(word, str) for word in body["findings"]) or not all(
        type(number) in {int, float} for number in body["metrics"].values()
    ):
        raise SignatureError(f"the outcome of {site} is not in the form this version knows")
    if body["reference"] and body["reason"]:
        raise SignatureError(f"the outcome of {site} is a reference and a reason at once")
    told = {name: value for name, value in body.items() if name != "request"}
    return Outcome(
        **{
            **told,
            "reason": plain(body["reason"]),
            "metrics": {str(name): float(number) for name, number in body["metrics"].items()},
            "findings": tuple(map(plain, body["findings"])),
        }
    )
