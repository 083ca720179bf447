"""Opens a round: finds where the federation stands and issues what the sites are asked to do."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from components.agreement.cutoff import shortfall_key
from components.agreement.parties import COORDINATOR, Parties, load_parties, load_signing_key
from components.agreement.ticket import Ticket, read_ticket
from components.agreement.workplace import model_key
from components.artifacts import tensors
from components.artifacts.documents import digest, sign
from components.artifacts.stores import Store, create_or_read, open_store, reference
from components.errors import IntegrityError, ObjectExistsError, UsageError
from components.execution import central_step
from components.execution.outcome import Outcome
from components.rounds.state import is_finished, newest_record, read_checkpoint
from components.training import heads

OPEN, COMMITTED = "open", "committed"


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Shape of the head: features in, hidden units (0 for a linear head), classes out; genesis seed."""

    features: int
    hidden_units: int
    classes: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class RoundRequest:
    """What a run asks for; the fields are those of the ticket."""

    federation: str
    sites: tuple[str, ...]
    protection: str
    local_epochs: int
    learning_rate: float
    batch_size: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class OpenedRound:
    """The ticket to work under; `stage` is `committed` when only the round's tail is missing."""

    ticket: Ticket
    reference: str
    stage: str


def run(
    request: RoundRequest, shape: ModelShape, *, state_uri: str, exchange_uri: str, keys_uri: str
) -> OpenedRound:
    """`open_round` as a step: an error is told in one line, the time is journalled."""
    opened: list[OpenedRound] = []

    def work() -> Outcome:
        opened.append(
            open_round(request, shape, state_uri=state_uri, exchange_uri=exchange_uri, keys_uri=keys_uri)
        )
        return Outcome(reference=opened[0].reference)

    central_step.run(work, name="open_round", exchange_uri=exchange_uri)
    return opened[0]


def open_round(
    request: RoundRequest, shape: ModelShape, *, state_uri: str, exchange_uri: str, keys_uri: str
) -> OpenedRound:
    """Resumes the newest unfinished round, or opens the next one.

    Args:
        request: what the run asks for. A resumed round keeps the values it was opened with.
        shape: of the head, for the genesis model and against the committed one.
        state_uri: store of the committed rounds.
        exchange_uri: store that all parties read.
        keys_uri: folder of the public keys.

    Raises:
        UsageError: the committed model has another shape, or the open round another protection,
            than the federation file says.
    """
    state, exchange = open_store(state_uri), open_store(exchange_uri)
    parties = load_parties(keys_uri)
    if parties.federation != request.federation:
        raise UsageError(f"{keys_uri} holds keys of {parties.federation}, not of {request.federation}")
    newest = newest_record(state, parties)
    if newest and not is_finished(state, newest.round_number):
        key = f"{newest.folder}/ticket.json"
        ticket = read_ticket(exchange.read(key, limit=1 << 16), parties)
        return OpenedRound(ticket=ticket, reference=reference(exchange, key), stage=COMMITTED)
    if newest:
        content = read_checkpoint(state, newest)
        _check_shape(tensors.decode(content), shape)
    else:
        content = tensors.encode(heads.initial(shape.features, shape.hidden_units, shape.classes, shape.seed))
    with contextlib.suppress(ObjectExistsError):
        exchange.create(model_key(digest(content)), content)
    asked = Ticket(
        **asdict(request),
        attempt=1,
        purpose="update",
        round_number=newest.round_number + 1 if newest else 1,
        model=digest(content),
        previous=newest.receipt if newest else "",
        snapshot=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    ticket = _issue(exchange, parties, asked, keys_uri)
    return OpenedRound(
        ticket=ticket, reference=reference(exchange, f"{ticket.folder}/ticket.json"), stage=OPEN
    )


def _issue(exchange: Store, parties: Parties, asked: Ticket, keys_uri: str) -> Ticket:
    """The newest attempt that is not void; a first one, or one after a void, is created."""
    signing_key = load_signing_key(keys_uri, COORDINATOR)
    attempt = 1
    while True:
        candidate = replace(asked, attempt=attempt)
        document = create_or_read(exchange, f"{candidate.folder}/ticket.json", candidate.signed(signing_key))
        ticket = read_ticket(document, parties)
        if (ticket.folder, ticket.previous) != (candidate.folder, candidate.previous):
            raise IntegrityError(f"the ticket in {candidate.folder} is another round's or attempt's")
        if not exchange.exists(shortfall_key(ticket)):
            break
        void = {"ticket": ticket.digest, "reason": "too few sealed updates"}
        with contextlib.suppress(ObjectExistsError):
            exchange.create(
                f"{ticket.folder}/void.json",
                sign(signing_key, domain="void", signer=COORDINATOR, body=void),
            )
        attempt += 1
    for name in ("protection", "sites", "model"):
        if getattr(ticket, name) != getattr(asked, name):
            raise UsageError(
                f"round {ticket.round_number} was opened with another {name}: finish it with the federation "
                "file it was opened with, or give the changed federation an exchange_uri of its own"
            )
    return ticket


def _check_shape(model: tensors.Tensors, shape: ModelShape) -> None:
    expected = heads.initial(shape.features, shape.hidden_units, shape.classes, shape.seed)
    found = {name: values.shape for name, values in model.items()}
    wanted = {name: values.shape for name, values in expected.items()}
    if found != wanted:
        raise UsageError(
            f"the committed model has {_layers(found)}, the federation file asks for {_layers(wanted)}: "
            "a changed head or class list needs a state_uri of its own"
        )


def _layers(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in sorted(shapes.items()))
