"""The signed documents a committed round rests on, copied beside it, so that the state stands alone.

rounds/00001/proof/ticket.json, roster.json, cutoff.json, receipt.json
rounds/00001/proof/aggregate.safetensors       the opened sum
rounds/00001/proof/genesis.safetensors         the first model, where no round was committed before
rounds/00001/proof/void.json                   of the attempt before, where there was one
rounds/00001/proof/commitments/gcp.json        by site on the roster
rounds/00001/proof/sealed/gcp.json             manifest by site in the sum
rounds/00001/proof/released/gcp.json           by site in the sum, under `sealed` and `masked`
rounds/00001/proof/sharers.json, shares/gcp.json    who may seal and what each has dealt, under `smc`
rounds/00001/proof/unmasked/gcp.json           by site in the sum that has unmasked it, under `smc`
rounds/00001/metrics/…                         the same of the round's second exchange, where it has come off
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import BinaryIO, NoReturn

from components.agreement.attempt import Attempt
from components.agreement.commitment import commitment_key
from components.agreement.dealt_shares import shares_key
from components.agreement.model_store import MAX_MODEL_BYTES, model_key
from components.agreement.protections import RELEASE, UNMASK
from components.agreement.receipt import aggregate_key
from components.agreement.released import release_key
from components.agreement.roster import Roster
from components.agreement.sealed_manifest import manifest_key
from components.agreement.sharers import read_sharers, sharers_key
from components.agreement.ticket import UPDATE, Ticket
from components.agreement.unmasking import read_unmasking, unmasking_key
from components.agreement.void import void_key
from components.artifacts.documents import MAX_DOCUMENT_BYTES
from components.artifacts.stores import Store
from components.errors import IntegrityError, ObjectExistsError, ObjectMissingError, StoreError
from components.rounds.state import round_key

GENESIS, VOID = "genesis.safetensors", "void.json"
SINGLE = ("ticket.json", "roster.json", "cutoff.json", "receipt.json")
MAX_AGGREGATE_BYTES = 2 * MAX_MODEL_BYTES
"""The opened sum is float64, the model float32."""


def proof_key(round_number: int, name: str, purpose: str = UPDATE) -> str:
    """Where a document of the proof lies in the state, of the update or of the metrics of a round."""
    return round_key(round_number, f"{'proof' if purpose == UPDATE else purpose}/{name}")


def keep_proof(attempt: Attempt, state: Store) -> None:
    """Copies what an opened sum rests on from the exchange, and nothing else that lies there.

    What is in the proof already stays.

    Raises:
        ObjectMissingError: a document of a site that the roster or the cut-off names is gone.
        ObjectTooLargeError: an object is larger than any of its kind.
    """
    exchange, ticket = attempt.exchange, attempt.ticket
    proof = ProofStore(state, ticket)
    for key in _documents(attempt):
        with contextlib.suppress(ObjectExistsError):
            state.create(proof.state_key(key), exchange.read(key, limit=MAX_DOCUMENT_BYTES))
    tensors = {aggregate_key(ticket.folder): MAX_AGGREGATE_BYTES}
    if not ticket.previous:
        tensors[model_key(ticket.model)] = MAX_MODEL_BYTES
    for key, limit in tensors.items():
        with contextlib.suppress(ObjectExistsError):
            state.create(proof.state_key(key), exchange.read(key, limit=limit))


def _documents(attempt: Attempt) -> list[str]:
    ticket, roster = attempt.ticket, attempt.roster()
    members = attempt.cutoff(roster).members
    keys = [f"{ticket.folder}/{name}" for name in SINGLE]
    keys += [commitment_key(ticket, site) for site in roster.sites]
    keys += [manifest_key(ticket, site) for site in members]
    if attempt.charter.traits.lifted_by == RELEASE:
        keys += [release_key(ticket, site) for site in members]
    if attempt.charter.traits.lifted_by == UNMASK:
        keys += _unmasking_documents(attempt, roster)
    if ticket.void:
        keys.append(_void_before(ticket))
    return keys


def _unmasking_documents(attempt: Attempt, roster: Roster) -> list[str]:
    """A member need not have unmasked: what does not verify is not what the sum was opened with."""
    exchange, ticket, charter = attempt.exchange, attempt.ticket, attempt.charter
    sharers, cutoff = read_sharers(exchange, ticket, roster), attempt.cutoff(roster)
    keys = [sharers_key(ticket), *(shares_key(ticket, site) for site in sharers.sites)]
    for site in cutoff.members:
        with contextlib.suppress(IntegrityError, ObjectMissingError):
            read_unmasking(exchange, ticket, sharers, cutoff, site, charter=charter)
            keys.append(unmasking_key(ticket, site))
    return keys


def _void_before(ticket: Ticket) -> str:
    return void_key(f"rounds/{ticket.round_number:05d}-{ticket.attempt - 1}")


class ProofStore:
    """A round's proof under the keys that its objects had in the exchange, to be read only.

    Whatever reads the documents of an attempt from the exchange reads them from here.
    """

    def __init__(self, state: Store, ticket: Ticket) -> None:
        """Takes the store of the committed rounds and the round's ticket."""
        self.uri = state.uri
        self._state, self._ticket = state, ticket

    def state_key(self, key: str) -> str:
        """Where the copy of an object of the exchange lies in the state.

        Raises:
            ObjectMissingError: no proof of this ticket's round has a copy of it.
        """
        number, folder = self._ticket.round_number, f"{self._ticket.folder}/"
        purpose = self._ticket.purpose
        others = {_void_before(self._ticket): VOID, model_key(self._ticket.model): GENESIS}
        if key in others:
            return proof_key(number, others[key], purpose)
        if not key.startswith(folder):
            raise ObjectMissingError(f"{self.uri} keeps no copy of {key} as proof of round {number}")
        return proof_key(number, key.removeprefix(folder), purpose)

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        """Content of the copy; by default at most MAX_AGGREGATE_BYTES are read."""
        return self._state.read(self.state_key(key), limit=MAX_AGGREGATE_BYTES if limit is None else limit)

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """The copy, to be read from front to back."""
        return self._state.open(self.state_key(key))

    def exists(self, key: str) -> bool:
        """Whether there is a copy."""
        with contextlib.suppress(ObjectMissingError):
            return self._state.exists(self.state_key(key))
        return False

    def size(self, key: str) -> int:
        """Bytes of the copy."""
        return self._state.size(self.state_key(key))

    def keys(self, prefix: str = "") -> list[str]:
        """Sorted keys of the attempt's objects below `prefix`, which must lie in its folder."""
        whole = self.state_key(f"{prefix.rstrip('/')}/")
        start = proof_key(self._ticket.round_number, "", self._ticket.purpose)
        return [
            f"{self._ticket.folder}/{key.removeprefix(start)}" for key in self._state.keys(whole.rstrip("/"))
        ]

    def create(self, key: str, content: bytes) -> None:
        """Always refused."""
        self._refuse(key)

    def create_from(self, key: str, chunks: Iterable[bytes]) -> None:
        """Always refused."""
        self._refuse(key)

    def remove(self, key: str) -> None:
        """Always refused."""
        self._refuse(key)

    def _refuse(self, key: str) -> NoReturn:
        raise StoreError(f"{key} cannot be changed: the proof of a committed round is read only")
