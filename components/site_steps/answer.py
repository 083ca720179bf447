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
from components.errors import ObjectMissingError, ObjectTooLargeError, SignatureError
from components.execution.outcome import Outcome, plain

DOMAIN = "step outcome"
MAX_ANSWER_BYTES = 4 << 20
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
MAX_MANIFEST_BYTES = 2 << 20
"""A table of counts of 400 classes, twice."""
DEEPEST_MANIFEST = 8
MOST_METRICS = 64
EVALUATIONS = {"global", "adapted"}
_DETAIL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/\[\]()-]{0,119}")
_METRIC = re.compile(r"[a-z][a-z0-9_]{0,63}")
_REFERENCE = re.compile(r"[^\"\\\x00-\x1f\x7f]{0,1024}")


def answer_key(site: str, named: str) -> str:
    """Where the answer to a request lies in the exchange."""
    return f"outcomes/{site}/{named}.json"


def notice_key(site: str, named: str) -> str:
    """Where an agent's notice of a Job that ended without an answer lies."""
    return f"notices/{site}/{named}.json"


def answer_document(outcome: Outcome, *, site: str, named: str, key: Ed25519PrivateKey) -> bytes:
    """The document the site publishes for the request of digest `named`.

    An outcome that is no JSON (a figure that is not finite) is told to have failed.
    """
    try:
        return sign(key, domain=DOMAIN, signer=site, body={"request": named, **_fields(outcome)})
    except ValueError:
        failed = Outcome(reason="failed: the outcome cannot be written down")
        return sign(key, domain=DOMAIN, signer=site, body={"request": named, **_fields(failed)})


def read_answer(exchange: Store, site: str, named: str, charter: Charter) -> Outcome | None:
    """The site's answer; None while there is none.

    Raises:
        SignatureError: it is not the site's, of another request, or holds what would harm its readers.
    """
    try:
        document = exchange.read(answer_key(site, named), limit=MAX_ANSWER_BYTES)
    except ObjectMissingError:
        return None
    except ObjectTooLargeError:
        raise SignatureError(f"the outcome of {site} is larger than any outcome") from None
    body = verify(document, domain=DOMAIN, signer=site, key=charter.key(site))
    outcome = _outcome(body, site)
    if body["request"] != named:
        raise SignatureError(f"the outcome of {site} answers another request")
    return outcome


def notice(reason: str) -> bytes:
    """The document an agent leaves: a word of `NOTICES`, with a plain detail after a colon at most."""
    return json.dumps({"reason": _plain_notice(reason)}).encode()


def read_notice(exchange: Store, site: str, named: str) -> Outcome | None:
    """An agent's notice of a Job that ended without an answer; None while there is none."""
    try:
        told = json.loads(exchange.read(notice_key(site, named), limit=4096))
    except ObjectMissingError:
        return None
    except (ValueError, RecursionError, ObjectTooLargeError):
        told = {}
    reason = told.get("reason") if isinstance(told, dict) else None
    return Outcome(reason=_plain_notice(reason if isinstance(reason, str) else ""))


def _plain_notice(reason: str) -> str:
    word, _, detail = reason.partition(": ")
    if word not in NOTICES:
        return "failed"
    return f"{word}: {detail}" if _DETAIL.fullmatch(detail) else word


def harmless(manifest: Mapping[str, Any], metrics: Mapping[str, Any]) -> bool:
    """Whether what a step tells beside its reference is in a form that Kubeflow's pages can show.

    A site's own image writes nothing else; a site that signs something else must not fail the run for all.
    """
    if len(metrics) > MOST_METRICS or not all(_METRIC.fullmatch(name) for name in metrics):
        return False
    if _depth(manifest) > DEEPEST_MANIFEST or len(json.dumps(manifest)) > MAX_MANIFEST_BYTES:
        return False
    flat = all(
        isinstance(part, dict) and all(type(value) in {str, int} for value in part.values())
        for part in (manifest.get(name, {}) for name in ("account", "masked"))
    )
    drift = manifest.get("drift", [])
    told = isinstance(drift, list) and all(isinstance(each, str) for each in drift)
    return flat and told and all(_is_evaluation(manifest[name]) for name in EVALUATIONS & manifest.keys())


def _depth(value: object) -> int:
    """How deep lists and mappings are nested, counted no further than a manifest may be."""
    level: list[object] = [value]
    for depth in range(DEEPEST_MANIFEST + 1):
        inner = [each for each in level if isinstance(each, dict | list)]
        if not inner:
            return depth
        level = [child for each in inner for child in (each.values() if isinstance(each, dict) else each)]
    return DEEPEST_MANIFEST + 1


def _is_evaluation(figures: object) -> bool:
    """Whether there is a square table of counts."""
    table = figures.get("confusion") if isinstance(figures, dict) else None
    return (
        isinstance(table, list)
        and all(isinstance(row, list) and len(row) == len(table) for row in table)
        and all(type(count) is int and count >= 0 for row in table for count in row)
    )


def _fields(outcome: Outcome) -> dict[str, Any]:
    told = asdict(outcome) | {"findings": list(outcome.findings)}
    return {name: told[name] for name in _KINDS if name in told}


def _outcome(body: Mapping[str, Any], site: str) -> Outcome:
    if body.keys() != _KINDS.keys() or any(type(body[name]) is not kind for name, kind in _KINDS.items()):
        raise SignatureError(f"the outcome of {site} is not in the form this version knows")
    if not all(isinstance(word, str) for word in body["findings"]) or not all(
        type(number) in {int, float} for number in body["metrics"].values()
    ):
        raise SignatureError(f"the outcome of {site} is not in the form this version knows")
    if body["reference"] and body["reason"]:
        raise SignatureError(f"the outcome of {site} is a reference and a reason at once")
    if not _REFERENCE.fullmatch(body["reference"]) or "{{" in body["reference"]:
        # It is substituted into the JSON that the next steps are given.
        raise SignatureError(f"the outcome of {site} refers to what is no address")
    if not harmless(body["manifest"], body["metrics"]):
        raise SignatureError(f"the outcome of {site} holds a manifest in no form of ours")
    told = {name: value for name, value in body.items() if name != "request"}
    return Outcome(
        **{
            **told,
            "reason": plain(body["reason"]),
            "metrics": {str(name): float(number) for name, number in body["metrics"].items()},
            "findings": tuple(map(plain, body["findings"])),
        }
    )
