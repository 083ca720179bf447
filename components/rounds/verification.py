"""`crosscloud verify`: checks the whole chain offline, from the state and the keys beside it.

Nobody is asked and nothing is believed but signatures: whoever holds a copy of the state and the
keys can repeat what the sites, the key holder and the coordinator have checked, round by round.
What it cannot see is a state that was cut off at its end: compare the number of rounds with
somebody who took part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from components.agreement.charter import Charter
from components.agreement.lineage import goes_back
from components.agreement.model_store import MAX_MODEL_BYTES
from components.agreement.server_optimizer import Committed
from components.agreement.void import read_void
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import Store, open_store
from components.errors import DigestMismatchError, SignatureError, UsageError
from components.rounds.attempt_check import Past
from components.rounds.charter_chain import CharterChain, read_chain
from components.rounds.findings import Findings
from components.rounds.metrics_check import MetricsCheck, has_metrics, read_metrics_ticket
from components.rounds.proof import GENESIS, proof_key
from components.rounds.round_check import RoundCheck, Standing, read_round_ticket
from components.rounds.state import RoundRecord, checkpoint_key, read_record, round_key

COMMIT, VOID = "round.json", "void.json"
MAX_VOID_BYTES = 1 << 16
MAX_RECORD_BYTES = 1 << 20
_END = re.compile(r"rounds/([0-9]{5,9})/(round|void)\.json")


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found.

    Attributes:
        rounds: committed, whether or not all is well with them.
        voided: rounds that came to nothing.
        newest_model: SHA-256 of the newest committed model, or of the one that the edition in force goes
            back to; empty before the first.
        charter: cd of the newest edition that all its signers have signed, empty where there is none.
        problems: one line each; empty if everything follows from the charter.
    """

    rounds: int
    voided: int
    newest_model: str
    charter: str
    problems: tuple[str, ...]


def verify_state(state_uri: str, *, keys_uri: str, charter: str = "") -> Verification:
    """Checks every edition of the charter and every round, and goes on after a problem.

    Args:
        state_uri: store of the committed rounds, with their proofs.
        keys_uri: folder of charters, signatures and key certificates.
        charter: cd that the reader has pinned. Without it the chain is shown to hold together, and
            not whose it is. Rounds under later editions than this one are problems.

    Raises:
        UsageError: `charter` is not a digest.
        StoreError: the stores cannot be read.
    """
    if not re.fullmatch(r"([0-9a-f]{64})?", charter):
        raise UsageError(
            f"a charter is named by its whole digest, 64 hexadecimal digits, got {charter!r}: "
            "'crosscloud charter show' prints it"
        )
    findings = Findings("charter")
    chain = read_chain(open_store(keys_uri), findings)
    state = open_store(state_uri)
    keys = state.keys("rounds")
    walk = _Walk(
        state=state,
        keys_uri=keys_uri,
        chain=chain,
        pinned=charter,
        models={key.rpartition("/")[2]: key for key in keys if key.endswith(".safetensors")},
        findings=findings,
    )
    walk.check_pinned()
    ended = _ended(keys, findings.about("state"))
    for number in range(1, max(ended, default=0) + 1):
        about = findings.about(f"round {number}")
        names = ended.get(number, set())
        if not names:
            about.add("is missing: every round up to the last is committed or void")
            walk.standing = None
        if len(names) == 2:
            about.add("is both committed and void")
        if VOID in names:
            about.checked("void", partial(walk.check_void, number))
        if COMMIT in names:
            walk.check_round(number, about)
    return Verification(
        rounds=sum(COMMIT in names for names in ended.values()),
        voided=sum(names == {VOID} for names in ended.values()),
        newest_model=walk.standing_model(),
        charter=chain.in_force.digest if chain.in_force else "",
        problems=tuple(findings.problems),
    )


@dataclass(kw_only=True)
class _Walk:
    """Goes through the rounds in their order: what one leaves behind is what the next must follow from."""

    state: Store
    keys_uri: str
    chain: CharterChain
    pinned: str
    models: Mapping[str, str]
    findings: Findings
    standing: Standing | None = field(default_factory=Standing)
    made: Committed | None = None
    newest_model: str = ""
    newest_charter: str = ""
    used: set[str] = field(default_factory=set)
    past: Past = field(default_factory=Past)

    def check_pinned(self) -> None:
        """Notes where the pinned edition, or where there is none the newest, is not in force."""
        if not self.pinned:
            newest = max(self.chain.editions.values(), key=lambda each: each.edition, default=None)
            if newest and self.chain.in_force is None:
                self._use(newest)
        elif self.pinned in self.chain.editions:
            self._use(self.chain.editions[self.pinned])
        else:
            self.findings.add(f"none of its editions is the pinned one, {self.pinned[:12]}")

    def standing_model(self) -> str:
        """The model that the next round starts from, as far as the records say; empty before the first."""
        in_force = self.chain.in_force
        if in_force and self.newest_model and goes_back(in_force, self.newest_charter):
            return in_force.restart
        return self.newest_model

    def check_void(self, number: int) -> None:
        """`SignatureError` unless a coordinator of the federation has ended this round."""
        document = self.state.read(round_key(number, VOID), limit=MAX_VOID_BYTES)
        refused: SignatureError | None = None
        for charter in self.chain.editions.values():
            try:
                _, named, _ = read_void(document, charter)
            except SignatureError as error:
                refused = error
            else:
                if named != number:
                    raise SignatureError(f"ends round {named}")
                return
        raise refused or SignatureError("there is no charter whose coordinator could have signed it")

    def check_round(self, number: int, findings: Findings) -> None:
        """Notes what is wrong with a committed round, and where the chain stands after it."""
        before, made = self.standing, self.made
        self.standing, self.made = None, None
        charter = findings.checked("record", partial(self._charter, number, findings))
        record = findings.checked("record", partial(self._record, number, charter)) if charter else None
        if charter is None or record is None:
            return
        findings.checked("checkpoint", partial(self._require_checkpoint, record))
        ticket = findings.checked("ticket", partial(read_round_ticket, self.state, number, charter))
        self.newest_model, self.newest_charter = record.model, charter.digest
        self.standing = Standing(
            receipt=record.receipt,
            folder=record.folder,
            model=record.model,
            snapshot=ticket.snapshot if ticket else "",
            edition=charter.edition,
            charter=charter.digest,
        )
        if ticket is None:
            self.past.add(record)
            return
        same = made if before and before.model == ticket.model else None
        parent = same or findings.checked("model", partial(self._model, ticket.model, number))
        check = RoundCheck(
            state=self.state,
            keys_uri=self.keys_uri,
            charter=charter,
            record=record,
            ticket=ticket,
            past=self.past,
            findings=findings,
        )
        self.made = check.check(before, parent)
        self.past.add(record)
        if has_metrics(self.state, number):
            self._check_metrics(check, self.findings.about(f"metrics of round {number}"))

    def _check_metrics(self, update: RoundCheck, findings: Findings) -> None:
        """Notes what is wrong with the second exchange of a round; nothing else rests on it."""
        charter, number = update.charter, update.ticket.round_number
        ticket = findings.checked("ticket", partial(read_metrics_ticket, self.state, number, charter))
        if ticket is None:
            return
        MetricsCheck(
            state=self.state,
            keys_uri=self.keys_uri,
            charter=charter,
            record=update.record,
            ticket=ticket,
            past=self.past,
            findings=findings,
        ).check(update.ticket, self.made)

    def _charter(self, number: int, findings: Findings) -> Charter:
        """The edition that a record names, which everybody must have signed."""
        document = self.state.read(round_key(number, COMMIT), limit=MAX_RECORD_BYTES)
        try:
            named = json.loads(document)["body"]["charter"]
            charter = self.chain.editions.get(named)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise SignatureError("is not in the form this version knows") from None
        if charter is None:
            raise SignatureError(f"was committed under a foreign charter, {str(named)[:12]}")
        self._use(charter)
        pinned = self.chain.editions.get(self.pinned)
        if pinned and charter.edition > pinned.edition:
            findings.add(f"record: was committed under edition {charter.edition}, later than the pinned one")
        return charter

    def _use(self, charter: Charter) -> None:
        if charter.digest not in self.used:
            self.used.add(charter.digest)
            self.chain.require_signed(charter.digest, self.findings)

    def _record(self, number: int, charter: Charter) -> RoundRecord:
        document = self.state.read(round_key(number, COMMIT), limit=MAX_RECORD_BYTES)
        record = read_record(document, charter)
        if record.round_number != number:
            raise SignatureError(f"is the one of round {record.round_number}")
        return record

    def _require_checkpoint(self, record: RoundRecord) -> None:
        content = self.state.read(checkpoint_key(record), limit=MAX_MODEL_BYTES)
        if digest(content) != record.model:
            raise DigestMismatchError("is not the model that the record names")

    def _model(self, model: str, number: int) -> Committed | None:
        """The model with this digest, wherever it lies in the state; None if nowhere."""
        names = (f"checkpoint-{model[:16]}.safetensors", GENESIS)
        for key in (proof_key(number, GENESIS), *map(self.models.get, names)):
            if key and self.state.exists(key):
                content = self.state.read(key, limit=MAX_MODEL_BYTES)
                if digest(content) == model:
                    return tensors.decode_any(content)
        return None


def _ended(keys: Sequence[str], findings: Findings) -> dict[int, set[str]]:
    """Which of `round.json` and `void.json` there are, by round."""
    ended: dict[int, set[str]] = {}
    for key in keys:
        found = _END.fullmatch(key)
        if found and key == round_key(int(found[1]), f"{found[2]}.json"):
            ended.setdefault(int(found[1]), set()).add(f"{found[2]}.json")
        elif key.endswith((f"/{COMMIT}", f"/{VOID}")) and "/proof/" not in key:
            findings.add(f"{key} is not where a round lies")
    return ended
