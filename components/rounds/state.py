"""What a federation has committed, round by round, under `rounds/00001/`.

`checkpoint-<digest>.safetensors` is the global model after the round; `round.json`, created if absent
and written last, is the commit; `report.html` and `report.json` are there once the round is finished.
`proof/` holds the signed documents the commit rests on (`verification.py`). A round that came to
nothing after its sites had released their masks has a `void.json` instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter import COORDINATOR, Charter
from components.agreement.charter_book import charter_of, is_ancestor
from components.agreement.document_form import well_formed
from components.agreement.lineage import goes_back
from components.artifacts.documents import digest, sign, verify
from components.artifacts.stores import Store
from components.errors import DigestMismatchError, IntegrityError, SignatureError

DOMAIN = "round"


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """One committed round.

    Attributes:
        charter: cd.
        federation: its id.
        round_number: from 1.
        attempt: of the ticket it was committed under.
        ticket: td.
        folder: of the attempt in the exchange.
        receipt: SHA-256 of the key holder's receipt.
        parent: SHA-256 of the model the round started from.
        model: SHA-256 of the model it made.
        members: sites in the sum, sorted.
        left_out: reason by site that is not.
        committed_at: UTC, ISO 8601.
    """

    charter: str
    federation: str
    round_number: int
    attempt: int
    ticket: str
    folder: str
    receipt: str
    parent: str
    model: str
    members: tuple[str, ...]
    left_out: Mapping[str, str]
    committed_at: str

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document that is the commit."""
        body = asdict(self) | {"members": list(self.members)}
        return sign(key, domain=DOMAIN, signer=COORDINATOR, body=body)


def read_record(document: bytes, charter: Charter) -> RoundRecord:
    """Verifies a committed round of a charter.

    Raises:
        SignatureError: it is not the coordinator's, or was committed under another charter.
    """
    body = verify(document, domain=DOMAIN, signer=COORDINATOR, key=charter.key(COORDINATOR))
    # A mapping's keys must not be taken for the list of its members.
    members = body.get("members")
    try:
        record = well_formed(
            RoundRecord(**(body | {"members": tuple(members) if isinstance(members, list) else members}))
        )
    except (TypeError, KeyError):
        raise SignatureError("a committed round is not in the form this version knows") from None
    if record.federation != charter.federation:
        raise SignatureError(f"a round of {record.federation} was given to a party of {charter.federation}")
    if record.charter != charter.digest:
        raise SignatureError(f"round {record.round_number} was committed under another charter")
    return record


def record_of(document: bytes, keys_uri: str, newest: Charter) -> RoundRecord:
    """Verifies a committed round under the edition it names, which `newest` must follow from.

    Raises:
        SignatureError: the edition is a foreign one, or the record is not its coordinator's.
    """
    try:
        named = str(json.loads(document)["body"]["charter"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SignatureError("a committed round is not in the form this version knows") from None
    if not is_ancestor(keys_uri, named, newest):
        raise SignatureError(f"a round was committed under a foreign charter, {named[:12]}")
    return read_record(document, charter_of(keys_uri, named))


def round_key(round_number: int, name: str) -> str:
    """Where an object of a round lies in the state."""
    return f"rounds/{round_number:05d}/{name}"


def checkpoint_key(record: RoundRecord) -> str:
    """Where the model of a committed round lies in the state."""
    return round_key(record.round_number, f"checkpoint-{record.model[:16]}.safetensors")


def read_checkpoint(state: Store, record: RoundRecord) -> bytes:
    """The model that a round committed.

    Raises:
        DigestMismatchError: what lies there is another.
    """
    content = state.read(checkpoint_key(record))
    if digest(content) != record.model:
        raise DigestMismatchError(
            f"the checkpoint of round {record.round_number} is not the one it committed"
        )
    return content


def committed_rounds(state: Store) -> list[int]:
    """Numbers of all committed rounds, ascending; rounds that were voided are not among them.

    Raises:
        IntegrityError: a round is missing between others.
    """
    return _ended_rounds(state)[0]


def next_round_number(state: Store) -> int:
    """Number of the round that follows the last one, committed or void."""
    return max(_ended_rounds(state)[1], default=0) + 1


def newest_record(state: Store, keys_uri: str, charter: Charter) -> RoundRecord | None:
    """The last committed round, or None before the first.

    Args:
        state: store of the committed rounds.
        keys_uri: folder of the charters.
        charter: in force; the round may have been committed under an edition before it.
    """
    numbers = committed_rounds(state)
    if not numbers:
        return None
    record = record_of(state.read(round_key(numbers[-1], "round.json"), limit=1 << 20), keys_uri, charter)
    if record.round_number != numbers[-1]:
        raise IntegrityError(
            f"round {numbers[-1]} of {state.uri} holds the record of round {record.round_number}"
        )
    return record


def standing_record(
    state: Store, keys_uri: str, charter: Charter, newest: RoundRecord | None
) -> RoundRecord | None:
    """The round whose model stands: the next one starts from it. None where that is the genesis.

    Args:
        state: store of the committed rounds.
        keys_uri: folder of the charters.
        charter: in force.
        newest: the last committed round, see `newest_record`.

    Raises:
        IntegrityError: the edition goes back to a model that no round has committed.
    """
    if not goes_back(charter, newest.charter if newest else ""):
        return newest
    if charter.restart == charter.genesis:
        return None
    for record in reversed(records(state, keys_uri, charter)):
        if record.model == charter.restart:
            return record
    raise IntegrityError(
        f"edition {charter.edition} of the charter goes back to the model {charter.restart[:12]}, which no "
        f"round of {state.uri} has committed"
    )


def records(state: Store, keys_uri: str, charter: Charter) -> list[RoundRecord]:
    """All committed rounds, ascending, each verified under the edition it names."""
    return [
        record_of(state.read(round_key(number, "round.json"), limit=1 << 20), keys_uri, charter)
        for number in committed_rounds(state)
    ]


def is_finished(state: Store, round_number: int) -> bool:
    """Whether a committed round has its report too."""
    return state.exists(round_key(round_number, "report.json"))


def _ended_rounds(state: Store) -> tuple[list[int], list[int]]:
    """Numbers of the committed rounds, and of all that are committed or void, from one listing."""
    named: dict[str, set[int]] = {"round.json": set(), "void.json": set()}
    for key in state.keys("rounds"):
        _, number, *name = key.split("/")
        if number.isdigit() and len(name) == 1 and name[0] in named:
            named[name[0]].add(int(number))
    ended = sorted(named["round.json"] | named["void.json"])
    if ended != list(range(1, len(ended) + 1)):
        raise IntegrityError(f"rounds of {state.uri} must be 1, 2, 3 …, found {ended}")
    return sorted(named["round.json"]), ended
