"""Opens a round: finds where the federation stands and issues what the sites are asked to do."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from components.agreement.adaptive_norm import CLIPPING_NORM
from components.agreement.charter import AVERAGE, COORDINATOR, RIDGE, Charter
from components.agreement.charter_book import ancestry, charter_in_force, charter_of, is_ancestor
from components.agreement.cutoff import shortfall_key
from components.agreement.lineage import goes_back
from components.agreement.model_store import MAX_MODEL_BYTES, model_key
from components.agreement.receipt import MAX_RECEIPT_BYTES, read_receipt, receipt_key
from components.agreement.replaced_keys import charter_signing_key
from components.agreement.server_optimizer import Committed, with_state
from components.agreement.ticket import UPDATE, Ticket, charter_named, read_ticket
from components.agreement.void import is_void, void_document, void_key
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import Store, create_or_read, open_store, reference
from components.errors import (
    DigestMismatchError,
    IntegrityError,
    ObjectExistsError,
    ObjectMissingError,
    UsageError,
)
from components.execution import central_step
from components.execution.outcome import Outcome
from components.rounds.privacy_account import require_month_left, require_round_left
from components.rounds.proof import GENESIS, proof_key
from components.rounds.state import (
    RoundRecord,
    committed_rounds,
    is_finished,
    newest_record,
    next_round_number,
    read_checkpoint,
    round_key,
    standing_record,
)
from components.training import heads

OPEN, COMMITTED = "open", "committed"


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Shape of the head: features in, hidden units (0 for a linear head), classes out; genesis seed.

    `skip` leads the features past the hidden units; the optimiser's state lies beside the weights.
    """

    features: int
    hidden_units: int
    classes: int
    seed: int
    skip: bool = False
    server_optimizer: str = AVERAGE

    def weights(self) -> heads.Head:
        """Its genesis weights; random features where they will be solved and not trained."""
        if self.server_optimizer == RIDGE:
            return heads.to_be_solved(self.features, self.hidden_units, self.classes, self.seed)
        return heads.initial(self.features, self.hidden_units, self.classes, self.seed, self.skip)


@dataclass(frozen=True, kw_only=True)
class RoundRequest:
    """What a run asks for: what it was compiled for, and the parameters of the ticket."""

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
        keys_uri: folder of the charters.

    Raises:
        PrivacyBudgetExceededError: the charter's schedule of noise is over, or the running month's
            allowance is used up.
        UsageError: no charter is in force, it differs from what the run was compiled for, or the
            committed model has another shape than the federation file says.
    """
    state, exchange = open_store(state_uri), open_store(exchange_uri)
    charter = charter_in_force(keys_uri)
    _check_charter(request, charter)
    newest = newest_record(state, keys_uri, charter)
    if newest and not is_finished(state, newest.round_number):
        key = f"{newest.folder}/ticket.json"
        document = exchange.read(key, limit=1 << 16)
        ticket = read_ticket(document, charter_of(keys_uri, newest.charter))
        return OpenedRound(ticket=ticket, reference=reference(exchange, key), stage=COMMITTED)
    content = _starting_model(state, keys_uri, charter, newest, shape)
    with contextlib.suppress(ObjectExistsError):
        exchange.create(model_key(digest(content)), content)
    require_round_left(charter, next_round_number(state))
    asked = Ticket(
        charter=charter.digest,
        federation=charter.federation,
        round_number=next_round_number(state),
        attempt=1,
        void="",
        purpose=UPDATE,
        model=digest(content),
        previous=newest.receipt if newest else "",
        previous_folder=newest.folder if newest else "",
        snapshot=datetime.now(UTC).isoformat(timespec="seconds"),
        local_epochs=request.local_epochs,
        learning_rate=request.learning_rate,
        batch_size=request.batch_size,
        seed=request.seed,
    )
    ticket = _issue(state, exchange, charter, asked, keys_uri)
    if ticket.model != _expected(charter_of(keys_uri, ticket.charter), newest, asked):
        raise UsageError(
            f"round {ticket.round_number} was opened with another model: finish it with the federation "
            "file it was opened with, or give the changed federation an exchange_uri of its own"
        )
    return OpenedRound(
        ticket=ticket, reference=reference(exchange, f"{ticket.folder}/ticket.json"), stage=OPEN
    )


def _starting_model(
    state: Store, keys_uri: str, charter: Charter, newest: RoundRecord | None, shape: ModelShape
) -> bytes:
    """The last committed model, the one that the edition goes back to in its first round, or the genesis."""
    standing = standing_record(state, keys_uri, charter, newest)
    if standing is None and newest is None:
        return genesis(shape)
    content = read_checkpoint(state, standing) if standing else _first_model(state, charter)
    _check_shape(tensors.decode_any(content), shape)
    return content


def _first_model(state: Store, charter: Charter) -> bytes:
    """The genesis as rounds have started from it, whatever seed the federation file has by now."""
    content = state.read(proof_key(committed_rounds(state)[0], GENESIS), limit=MAX_MODEL_BYTES)
    if digest(content) != charter.genesis:
        raise DigestMismatchError(f"the first model in {state.uri} is not the charter's genesis")
    return content


def _expected(opened_under: Charter, newest: RoundRecord | None, asked: Ticket) -> str:
    """The model that the newest ticket must have: what is asked for now, unless an earlier edition has it."""
    if opened_under.digest == asked.charter:
        return asked.model
    if goes_back(opened_under, newest.charter if newest else ""):
        return opened_under.restart
    return newest.model if newest else opened_under.genesis


def genesis(shape: ModelShape) -> bytes:
    """The model a federation starts from; its digest stands in the charter."""
    return tensors.encode(with_state(shape.server_optimizer, shape.weights()))


def _check_charter(request: RoundRequest, charter: Charter) -> None:
    """The compiled pipeline and the charter must be of one mind."""
    compiled = {
        "federation": (request.federation, charter.federation),
        "sites": (tuple(sorted(request.sites)), charter.site_names),
        "protection": (request.protection, charter.protection),
    }
    for name, (asked, agreed) in compiled.items():
        if asked != agreed:
            shown = [", ".join(each) if isinstance(each, tuple) else each for each in (asked, agreed)]
            raise UsageError(
                f"the run asks for {name} {shown[0]}, the charter in force has {shown[1]}: compile the "
                "federation the charter is of, or have a new charter signed ('crosscloud charter new')"
            )


def _issue(state: Store, exchange: Store, charter: Charter, asked: Ticket, keys_uri: str) -> Ticket:
    """The newest attempt that is neither committed nor void; one after a void is created."""
    key, candidate = charter_signing_key(keys_uri, COORDINATOR, charter), asked
    while True:
        if not exchange.exists(f"{candidate.folder}/ticket.json"):
            snapshot = datetime.fromisoformat(candidate.snapshot)
            require_month_left(exchange, charter, candidate.round_number, now=snapshot)
        document = create_or_read(exchange, f"{candidate.folder}/ticket.json", candidate.signed(key))
        ticket = _read_ticket(document, charter, keys_uri)
        ended = _end_of(exchange, ticket, charter, keys_uri)
        if not ended:
            break
        made = void_document(ticket.digest, ticket.round_number, ended, key)
        void = _void(exchange, ticket, made, charter, keys_uri)
        if exchange.exists(f"{candidate.folder}/cutoff.json"):
            # Some site may have released its masks: this round is over, the next number follows.
            create_or_read(state, round_key(candidate.round_number, "void.json"), void)
            candidate = replace(candidate, round_number=candidate.round_number + 1, attempt=1, void="")
        else:
            candidate = replace(candidate, attempt=candidate.attempt + 1, void=digest(void))
    if (ticket.folder, ticket.previous) != (candidate.folder, candidate.previous):
        raise IntegrityError(f"the ticket in {candidate.folder} is another round's or attempt's")
    return ticket


def _read_ticket(document: bytes, charter: Charter, keys_uri: str) -> Ticket:
    """A ticket of the charter in force, or of an edition that it follows from."""
    named = charter_named(document)
    if not is_ancestor(keys_uri, named, charter):
        raise IntegrityError(f"a ticket in the exchange names a foreign charter, {named[:12]}")
    return read_ticket(document, charter_of(keys_uri, named))


def _void(exchange: Store, ticket: Ticket, made: bytes, charter: Charter, keys_uri: str) -> bytes:
    """The void of an attempt that is over: the one made now, or the coordinator's of an earlier run."""
    found = create_or_read(exchange, void_key(ticket.folder), made)
    if found != made:
        is_void(exchange, ticket, charter, *ancestry(keys_uri, charter))
    return found


def _end_of(exchange: Store, ticket: Ticket, charter: Charter, keys_uri: str) -> str:
    """Why an attempt is over; empty while it can go on."""
    if exchange.exists(shortfall_key(ticket)):
        return "too few sites sealed or released, or what they sealed does not open"
    if ticket.charter == charter.digest:
        return ""
    # Once there is a receipt the sum is known: the attempt is committed under the edition it was opened with.
    try:
        document = exchange.read(receipt_key(ticket.folder), limit=MAX_RECEIPT_BYTES)
        read_receipt(document, ticket, charter_of(keys_uri, ticket.charter))
    except (ObjectMissingError, IntegrityError):
        return "the charter was changed"
    return ""


def _check_shape(model: Committed, shape: ModelShape) -> None:
    expected = with_state(shape.server_optimizer, shape.weights())
    # Whether the clipping norm adapts may change from edition to edition.
    found = {name: values.shape for name, values in model.items() if name != CLIPPING_NORM}
    wanted = {name: values.shape for name, values in expected.items()}
    if found != wanted:
        raise UsageError(
            f"the committed model has {_layers(found)}, the federation file asks for {_layers(wanted)}: "
            "a changed head or class list needs a state_uri of its own"
        )


def _layers(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in sorted(shapes.items()))
