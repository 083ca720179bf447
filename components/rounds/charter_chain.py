"""The editions of a charter as an auditor reads them: whole, chained, and signed by whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from components.agreement.charter import Charter
from components.agreement.charter_book import editions, read_edition, require_signature, signature_key
from components.artifacts.stores import Store
from components.errors import ObjectMissingError
from components.rounds.findings import Findings

MAX_SIGNATURE_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class CharterChain:
    """All editions that can be read.

    Attributes:
        editions: by cd.
        unsigned: who has not signed, or not rightly, by cd; not every edition is in it.
    """

    editions: Mapping[str, Charter]
    unsigned: Mapping[str, tuple[str, ...]]

    @property
    def in_force(self) -> Charter | None:
        """The newest edition that everybody signed."""
        signed = [charter for cd, charter in self.editions.items() if cd not in self.unsigned]
        return max(signed, key=lambda charter: charter.edition, default=None)

    def require_signed(self, cd: str, findings: Findings) -> None:
        """Notes whose signatures an edition lacks that something rests on."""
        if cd in self.unsigned:
            findings.add(f"edition {self.editions[cd].edition} is not signed by {_listed(self.unsigned[cd])}")


def read_chain(keys: Store, findings: Findings) -> CharterChain:
    """Reads every edition, and notes which does not follow from the one before.

    A signature that is there must be right. One that is missing is no fault yet: the edition may
    be a proposal that nothing rests on; see `CharterChain.require_signed`.
    """
    found: dict[str, Charter] = {}
    unsigned: dict[str, tuple[str, ...]] = {}
    before: Charter | None = None
    numbers = editions(keys)
    findings.require(
        "editions", f"there is none at {keys.uri}: name the folder of the keys", kept=bool(numbers)
    )
    for number in range(1, max(numbers, default=0) + 1):
        charter = findings.checked(f"edition {number}", partial(read_edition, keys, number))
        if charter is None:
            before = None
            continue
        if before or number == 1:
            follows = charter.previous == (before.digest if before else "")
            findings.require(f"edition {number}", "does not name the edition before it", kept=follows)
        if before:
            same = charter.federation == before.federation
            findings.require(f"edition {number}", "is of another federation than the one before", kept=same)
        found[charter.digest], before = charter, charter
        lacking = _unsigned(keys, charter, findings)
        if lacking:
            unsigned[charter.digest] = lacking
    return CharterChain(editions=found, unsigned=unsigned)


def _unsigned(keys: Store, charter: Charter, findings: Findings) -> tuple[str, ...]:
    lacking: list[str] = []
    for signer in charter.signers:
        try:
            document = keys.read(signature_key(charter.edition, signer), limit=MAX_SIGNATURE_BYTES)
        except ObjectMissingError:
            lacking.append(signer)
            continue
        rule = f"edition {charter.edition}"
        if not findings.checked(rule, partial(_is_signed, document, charter, signer)):
            lacking.append(signer)
    return tuple(lacking)


def _is_signed(document: bytes, charter: Charter, signer: str) -> bool:
    require_signature(document, charter, signer)
    return True


def _listed(signers: tuple[str, ...]) -> str:
    return ", ".join(signers)
