"""`crosscloud verify`: checks the whole chain offline, from the state and the keys beside it.

Nobody is asked and nothing is believed but signatures: whoever holds a copy of the state and the
keys can repeat what the sites, the key holder and the coordinator have checked, round by round.
What it cannot see is a state that was cut off at its end: compare the number of rounds with
somebody who took part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from components.agreement.charter import Charter
from components.agreement.model_store import MAX_MODEL_BYTES
from components.agreement.void import read_void
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import Store, open_store
from components.errors import DigestMismatchError, SignatureError, UsageError
from components.rounds.charter_chain import CharterChain, read_chain
from components.rounds.findings import Findings
from components.rounds.proof import GENESIS
from components.rounds.round_check import RoundCheck, Standing, read_round_ticket, well_formed
from components.rounds.state import RoundRecord, checkpoint_key, read_record, round_key

COMMIT, VOID = "round.json", "void.json"
_END = re.compile(r"rounds/([^/]+)/(?:round|void)\.json")
_MODEL = re.compile(r"rounds/[0-9]{5,9}/(?:checkpoint-[0-9a-f]{16}|proof/genesis)\.safetensors")


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found.

    Attributes:
        rounds: committed, whether or not all is well with them.
        voided: rounds that came to nothing.
        newest_model: SHA-256 of the newest committed model, empty before the first.
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
    check = _StateCheck(
        state=open_store(state_uri), keys_uri=keys_uri, chain=chain, pinned=charter, findings=findings
    )
    return check.verify()


@dataclass(frozen=True, kw_only=True)
class _StateCheck:
    state: Store
    keys_uri: str
    chain: CharterChain
    pinned: str
    findings: Findings

    def verify(self) -> Verification:
        keys = self.state.keys("rounds")
        ended = self._ended(keys)
        models = [key for key in keys if _MODEL.fullmatch(key)]
        standing: Standing | None = Standing()
        newest, under, made = "", set[str](), dict[str, tensors.Tensors]()
        for number in range(1, max(ended, default=0) + 1):
            about = self.findings.about(f"round {number}")
            names = ended.get(number, set())
            if not names:
                about.add("is missing: every round up to the last is committed or void")
            if VOID in names:
                about.checked("void", partial(self._check_void, number))
            if COMMIT not in names:
                standing = standing if names else None
                continue
            record = about.checked("record", partial(self._record, number))
            if record is None:
                standing = None
                continue
            ...
        raise NotImplementedError
