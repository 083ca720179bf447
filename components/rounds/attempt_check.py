"""Checks the documents of one attempt against each other, as each of its parties would have."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from components.agreement.charter import Charter
from components.agreement.commitment import Commitment, commitment_key, read_commitment
from components.agreement.cutoff import Cutoff, read_cutoff
from components.agreement.key_certificate import key_of_round
from components.agreement.model_sums import EarlierSum, is_summed_again, require_grouped
from components.agreement.protections import RELEASE, UNMASK
from components.agreement.receipt import MAX_RECEIPT_BYTES, Receipt, read_receipt, receipt_key
from components.agreement.released import read_release
from components.agreement.released_sum import shapes_of
from components.agreement.roster import Roster, read_roster, roster_key
from components.agreement.sealed_manifest import read_manifest
from components.agreement.server_optimizer import Committed
from components.agreement.server_steps import split
from components.agreement.ticket import Ticket
from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.encryption.masking.attempt_masks import public_halves
from components.encryption.masking.recovered_masks import recovered_masks
from components.encryption.update_vector import vector_length
from components.errors import DigestMismatchError, IntegrityError, QuorumNotReachedError
from components.rounds.findings import Findings
from components.rounds.proof import ProofStore
from components.rounds.state import RoundRecord

MAX_TICKET_BYTES = 1 << 16
MAX_ROSTER_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Past:
    """What all rounds before have committed, taken back or not.

    Attributes:
        models: SHA-256 of each model.
        sums: the sets of sites that were summed, by the model that they started from.
    """

    models: set[str] = field(default_factory=set)
    sums: dict[str, list[EarlierSum]] = field(default_factory=dict)

    def add(self, record: RoundRecord) -> None:
        """One round more."""
        self.models.add(record.model)
        members = frozenset(record.members)
        summed = EarlierSum(round_number=record.round_number, members=members)
        self.sums.setdefault(record.parent, []).append(summed)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What an attempt was opened by, as far as it could be read."""

    roster: Roster | None
    cutoff: Cutoff | None
    receipt: Receipt | None


@dataclass(frozen=True, kw_only=True)
class AttemptCheck:
    """One attempt under examination.

    Attributes:
        state: store of the committed rounds.
        keys_uri: folder of charters and certificates.
        charter: the edition that the record names.
        record: of the round, verified.
        ticket: verified.
        past: the rounds before.
        findings: about this attempt.
    """

    state: Store
    keys_uri: str
    charter: Charter
    record: RoundRecord
    ticket: Ticket
    past: Past
    findings: Findings

    @property
    def proof(self) -> ProofStore:
        """The documents of the attempt."""
        return ProofStore(self.state, self.ticket)

    def check_documents(self, model: Committed | None) -> Opened:
        """Checks roster, commitments, cut-off, manifests, releases and receipt.

        Args:
            model: by whose shapes the vectors have their length; None if it is not to be had.
        """
        roster = self.findings.checked("roster", self._roster)
        cutoff = self.findings.checked("cut-off", partial(self._cutoff, roster)) if roster else None
        receipt = self.findings.checked("receipt", self._receipt)
        if roster:
            self._check_commitments(roster)
        if roster and cutoff:
            self._check_members(roster, cutoff, receipt, model)
        if roster and cutoff and self.charter.traits.lifted_by == UNMASK:
            self.findings.checked("unmasking", partial(self._check_unmasking, roster, cutoff))
        if roster and cutoff and receipt:
            self._check_receipt(roster, cutoff, receipt)
        return Opened(roster=roster, cutoff=cutoff, receipt=receipt)

    def _roster(self) -> Roster:
        document = self.proof.read(roster_key(self.ticket), limit=MAX_ROSTER_BYTES)
        return read_roster(document, self.ticket, self.charter)

    def _cutoff(self, roster: Roster) -> Cutoff:
        return read_cutoff(self.proof, self.ticket, roster)

    def _receipt(self) -> Receipt:
        document = self.proof.read(receipt_key(self.ticket.folder), limit=MAX_RECEIPT_BYTES)
        return read_receipt(document, self.ticket, self.charter)

    def _check_commitments(self, roster: Roster) -> None:
        least = self.charter.min_sites
        few = f"has {len(roster.sites)} sites, the charter asks for {least}"
        self.findings.require("roster", few, kept=len(roster.sites) >= least)
        found: dict[str, Commitment] = {}
        for site in roster.sites:
            commitment = self.findings.checked(
                f"commitment of {site}", partial(self._commitment, roster, site)
            )
            if commitment:
                found[site] = commitment
        if self.charter.traits.masked:
            self.findings.checked("roster", partial(public_halves, self.charter, found))

    def _commitment(self, roster: Roster, site: str) -> Commitment:
        document = self.proof.read(commitment_key(self.ticket, site), limit=MAX_TICKET_BYTES)
        if digest(document) != roster.commitments[site]:
            raise DigestMismatchError("is not the one on the roster")
        return read_commitment(document, self.ticket, site, self.charter)

    def _check_members(
        self, roster: Roster, cutoff: Cutoff, receipt: Receipt | None, parent: Committed | None
    ) -> None:
        least = self.charter.min_sum_sites
        few = f"has {len(cutoff.members)} sites, the charter asks for {least}"
        self.findings.require("cut-off", few, kept=len(cutoff.members) >= least)
        matters = is_summed_again(self.ticket, self.charter)
        earlier = self.past.sums.get(self.ticket.model, ()) if matters else ()
        self.findings.checked("cut-off", partial(require_grouped, earlier, cutoff.members, self.charter))
        certificate = self.findings.checked("key", self._certificate)
        if receipt and certificate is not None:
            kept = receipt.certificate == certificate
            self.findings.require("receipt", "was given for another key than the round's", kept=kept)
        length = None if parent is None else self.findings.checked("charter", partial(self._length, parent))
        for site in cutoff.members:
            if certificate is not None:
                check = partial(self._check_manifest, roster, site, certificate, receipt, length)
                self.findings.checked(f"manifest of {site}", check)
            if self.charter.traits.lifted_by == RELEASE:
                self.findings.checked(f"release of {site}", partial(self._check_release, cutoff, site))

    def _certificate(self) -> str:
        certified = key_of_round(self.keys_uri, self.charter, self.ticket.round_number)
        return certified.digest if certified else ""

    def _length(self, parent: Committed) -> int:
        weights, _ = split(parent)
        return vector_length(
            self.charter, self.ticket.round_number, shapes_of(weights), purpose=self.ticket.purpose
        )

    def _check_manifest(
        self, roster: Roster, site: str, certificate: str, receipt: Receipt | None, length: int | None
    ) -> None:
        manifest = read_manifest(
            self.proof, self.ticket, roster, site, charter=self.charter, certificate=certificate
        )
        if receipt and receipt.ciphertexts.get(site) != manifest.blob:
            raise DigestMismatchError("signs other bytes than those the receipt says were opened")
        if length not in {None, manifest.length}:
            raise IntegrityError(f"states {manifest.length} values, the round's updates have {length}")

    def _check_release(self, cutoff: Cutoff, site: str) -> None:
        released = read_release(self.proof, self.ticket, cutoff, site, self.charter)
        if {site, *released.shares} != set(cutoff.members) or site in released.shares:
            raise IntegrityError("its shares are not those of the other members' locks")

    def _check_unmasking(self, roster: Roster, cutoff: Cutoff) -> None:
        """Puts the masks of the sum together again: a quorum of its members has unmasked this very set."""
        try:
            recovered_masks(self.proof, self.ticket, self.charter, roster, cutoff)
        except QuorumNotReachedError:
            least = self.charter.min_sum_sites
            raise IntegrityError(f"is not that of {least} sites of the sum, the charter's quorum") from None

    def _check_receipt(self, roster: Roster, cutoff: Cutoff, receipt: Receipt) -> None:
        require = self.findings.require
        require("receipt", "was given for another roster", kept=receipt.roster == roster.digest)
        require("receipt", "was given for another set of sites", kept=receipt.cutoff == cutoff.digest)
        kept = receipt.members == cutoff.members
        require("receipt", "its ciphertexts are not those of the cut-off's members", kept=kept)
