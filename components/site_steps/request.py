"""What the coordinator asks a site's cluster to run: one step, signed, in the exchange.

A request says everything that a step is told, so that the same step of the same ticket makes the same
request, whoever asks and however often: its digest names the Job, and a second asker finds the first one's.
A site does nothing for a request that its pinned charter's coordinator has not signed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter import COORDINATOR, Charter
from components.artifacts.documents import canonical_json, digest, sign, verify
from components.artifacts.stores import Store
from components.errors import SignatureError
from components.execution.jobs.order import Accelerator, JobOrder

DOMAIN = "step request"
FORMAT = 1
MAX_REQUEST_BYTES = 1 << 20
DIGEST = re.compile(r"[0-9a-f]{64}")
_KINDS = {
    "charter": str,
    "ticket": str,
    "site": str,
    "step": str,
    "arguments": dict,
    "deadline_s": int,
    "accelerator": str,
    "accelerators": int,
    "attempt": int,
    "format": int,
}


@dataclass(frozen=True, kw_only=True)
class StepRequest:
    """One step of one site.

    Attributes:
        charter: cd.
        ticket: reference of the ticket in the exchange.
        site: that is asked.
        step: name of the step.
        arguments: the step's own, JSON values.
        deadline_s: seconds the step may take.
        accelerator: resource the step is given, empty for none.
        accelerators: how many of it.
        attempt: from 1; the next one asks again after the site has answered with a reason.
        format: version of this form.
    """

    charter: str
    ticket: str
    site: str
    step: str
    arguments: Mapping[str, Any]
    deadline_s: int
    accelerator: str
    accelerators: int
    attempt: int
    format: int = FORMAT

    @cached_property
    def digest(self) -> str:
        """Its name."""
        return digest(canonical_json(asdict(self)))

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document the coordinator publishes."""
        return sign(key, domain=DOMAIN, signer=COORDINATOR, body=asdict(self))


def request_key(site: str, named: str) -> str:
    """Where a request lies in the exchange."""
    return f"requests/{site}/{named}.json"


def read_request(exchange: Store, site: str, named: str, charter: Charter) -> StepRequest:
    """Verifies and reads a request.

    Args:
        exchange: where it lies.
        site: that reads it.
        named: its digest.
        charter: that the site has pinned.

    Raises:
        SignatureError: it is not the coordinator's, not this site's, of another charter, not what its name
            says, or not in this form.
        ObjectMissingError: there is none of this name.
    """
    document = exchange.read(request_key(site, named), limit=MAX_REQUEST_BYTES)
    body = verify(document, domain=DOMAIN, signer=COORDINATOR, key=charter.key(COORDINATOR))
    if body.keys() != _KINDS.keys() or any(type(body[name]) is not kind for name, kind in _KINDS.items()):
        raise SignatureError("a step request is not in the form this version knows")
    request = StepRequest(**body)
    if request.format != FORMAT or min(request.attempt, request.deadline_s) < 1 or request.accelerators < 0:
        raise SignatureError("a step request is not in the form this version knows")
    if request.digest != named:
        raise SignatureError(f"the step request {named[:12]} is not the one of this name")
    if request.site != site or request.charter != charter.digest:
        raise SignatureError(f"the step request {named[:12]} is for another site or charter")
    return request


def order_of(request: StepRequest) -> JobOrder:
    """The Job that does a request.

    Raises:
        UsageError: it asks for what no Job may be.
    """
    accelerator = None
    if request.accelerators:
        accelerator = Accelerator(type=request.accelerator, count=request.accelerators)
    return JobOrder(
        step=request.step,
        request=request.digest,
        deadline_s=request.deadline_s,
        accelerator=accelerator,
    )
