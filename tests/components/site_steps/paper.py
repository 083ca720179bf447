"""The federation on paper with a ticket issued, and a step that needs nothing but a ticket."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import numpy as np

from components.agreement.ticket import Ticket
from components.agreement.workplace import Workplace
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.execution.outcome import Outcome
from components.execution.suspicion import suspected
from components.site_steps.request import StepRequest
from tests.components.agreement.signed_form import CHARTER, KEYS, SITES, TICKET, furnish, put_in_force

MODEL = tensors.encode({"output.bias": np.array([1, 2], np.float32)})
PAPER = replace(CHARTER, genesis=digest(MODEL))
FIRST = replace(
    TICKET,
    charter=PAPER.digest,
    attempt=1,
    void="",
    model=digest(MODEL),
    previous="",
    previous_folder="",
    learning_rate=0.1,
)
TICKET_URI = f"exchange/{FIRST.folder}/ticket.json"
REQUEST = StepRequest(
    charter=PAPER.digest,
    ticket=TICKET_URI,
    site="alpha",
    step="train",
    arguments={"features": "store/features"},
    deadline_s=20,
    accelerator="",
    accelerators=0,
    attempt=1,
)
NOTING = f"{__name__}:note_who_worked"
"""The step that stands in for `train` in tests of how steps are run."""
CRASHING = f"{__name__}:crash_on_what_another_wrote"
"""One that does not survive."""


def found() -> None:
    """Puts the charter in force and gives the sites their keys and policies."""
    put_in_force(PAPER)
    for site in SITES:
        furnish(site, charter=PAPER)


def issue(exchange: Store, ticket: Ticket = FIRST, *, by: str = "coordinator") -> str:
    key = f"{ticket.folder}/ticket.json"
    exchange.create(key, ticket.signed(KEYS[by]))
    return f"exchange/{key}"


def crash_on_what_another_wrote(place: Workplace, *, features: str) -> Outcome:
    with suspected(b"the public context"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return Outcome(reference=place.site)


def note_who_worked(place: Workplace, *, features: str) -> Outcome:
    place.store.create("worked", f"{os.getpid()} {features}".encode())
    return Outcome(reference=place.site, manifest={"uri": features}, metrics={"loss": 0.5}, bytes_sent=12)
