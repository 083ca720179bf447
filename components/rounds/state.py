"""What a federation has committed, round by round, under `rounds/00001/`.

`checkpoint-<digest>.safetensors` is the global model after the round; `round.json`, created if absent
and written last, is the commit; `report.html` and `report.json` are there once the round is finished.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.parties import COORDINATOR, Parties
from components.artifacts.documents import digest, sign, verify
from components.artifacts.stores import Store
from components.errors import DigestMismatchError, IntegrityError, SignatureError

DOMAIN = "round"


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """One committed round.

    Attributes:
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


def read_record(document: bytes, parties: Parties) -> RoundRecord:
    """Verifies a committed round.

    Raises:
        SignatureError: it is not the coordinator's.
    """
    body = verify(document, domain=DOMAIN, signer=COORDINATOR, key=parties.key(COORDINATOR))
    try:
        record = RoundRecord(**(body | {"members": tuple(body["members"])}))
    except (TypeError, KeyError):
        raise SignatureError("a committed round is not in the form this version knows") from None
    if record.federation != parties.federation:
        raise SignatureError(f"a round of {record.federation} was given to a party of {parties.federation}")
    return record


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
    """Numbers of all committed rounds.

    Raises:
        IntegrityError: a round is missing between others.
    """
    numbers = sorted(int(key.split("/")[1]) for key in state.keys("rounds") if key.endswith("/round.json"))
    if numbers != list(range(1, len(numbers) + 1)):
        raise IntegrityError(f"committed rounds of {state.uri} must be 1, 2, 3 …, found {numbers}")
    return numbers


def newest_record(state: Store, parties: Parties) -> RoundRecord | None:
    """The last committed round, or None before the first."""
    numbers = committed_rounds(state)
    if not numbers:
        return None
    record = read_record(state.read(round_key(numbers[-1], "round.json"), limit=1 << 20), parties)
    if record.round_number != numbers[-1]:
        raise IntegrityError(
            f"round {numbers[-1]} of {state.uri} holds the record of round {record.round_number}"
        )
    return record


def is_finished(state: Store, round_number: int) -> bool:
    """Whether a committed round has its report too."""
    return state.exists(round_key(round_number, "report.json"))
