"""One attempt of a round in one process, from the commitments to the receipt.

Every party's work is a call of the modules that its step calls, on keys drawn for this attempt alone, and
what a call returns is the number of bytes that the party uploads by it. What is left out is what stands
between them: stores, charters, and sites that are lost.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from components.agreement import commitment, dealt_shares, released, unmasking
from components.agreement.commitment import Commitment, committed_digest
from components.agreement.cutoff import Cutoff
from components.agreement.key_certificate import KeyCertificate
from components.agreement.protections import TRAITS, UNMASK
from components.agreement.receipt import Receipt
from components.agreement.released import ReleasedMasks
from components.agreement.roster import Roster
from components.agreement.sharers import Sharers
from components.agreement.unmasking import Unmasking
from components.artifacts import tensors
from components.artifacts.documents import digest, verify
from components.encryption.framing import context_fingerprint
from components.encryption.masking.attempt_masks import attempt_names
from components.encryption.masking.pair_keys import AttemptNames
from components.encryption.masking.release_lock import Release
from components.encryption.protection import (
    Opener,
    Sealer,
    Summer,
    masking_sealer,
    opener,
    sealer,
    summer,
    unmasking_opener,
)
from components.errors import DigestMismatchError
from components.evaluation.rehearsal.lifted_masks import FixedSets, Lifting, Releases, Unmaskings
from components.evaluation.rehearsal.signed_updates import SignedUpdates
from components.evaluation.rehearsal.site_keys import REHEARSED_TICKET as TICKET
from components.evaluation.rehearsal.site_keys import SiteKeys, drawn_keys, key_text


@dataclass(frozen=True, kw_only=True)
class SumTerms:
    """What a charter says of its sums.

    Attributes:
        protection: by name.
        sites: K, sites of the charter.
        values_per_slot: of meaning for `sealed` alone.
        min_sum_sites: u_min, fewest sites in a sum that is opened.
    """

    protection: str
    sites: int
    values_per_slot: Literal[1, 2]
    min_sum_sites: int


class RehearsedAttempt:
    """The calls are made in the order in which they stand here, those of sites once for every site.

    Args:
        terms: of the sums.
        contexts: the key holder's public and secret context; both empty where there is no key.
        vectors: what each site seals, shape (length,), of the protection's type.
    """

    def __init__(
        self, terms: SumTerms, contexts: tuple[bytes, bytes], vectors: Mapping[str, NDArray[np.generic]]
    ) -> None:
        self._terms, self._contexts, self._vectors = terms, contexts, vectors
        self._keys = drawn_keys(vectors)
        self._holder = Ed25519PrivateKey.generate()
        self._certificate = _certificate(terms.protection, contexts[0], self._holder)
        self._length = next(iter(vectors.values())).size
        self._committed: dict[str, bytes] = {}
        self._dealt: dict[str, bytes] = {}
        self._lifted: dict[str, bytes] = {}
        self._total = b""
        self.sealed: dict[str, bytes] = {}
        self.opened: NDArray[Any] = np.empty(0)

    def commit(self, site: str) -> int:
        """A site's commitment, of sites that share no noise: no head of a ledger stands in it."""
        keys, traits = self._keys[site], TRAITS[self._terms.protection]
        self._committed[site] = Commitment(
            charter=TICKET.charter,
            ticket=TICKET.digest,
            site=site,
            ephemeral=key_text(keys.masking.ephemeral),
            commitment=self._committed_digest(site),
            sharing=key_text(keys.sharing.ephemeral) if traits.lifted_by == UNMASK else "",
        ).signed(keys.signing)
        return len(self._committed[site])

    def share(self, site: str) -> int:
        """A site's shares for everybody, under `smc`."""
        self._require_signed(self._committed, commitment.DOMAIN)
        self._dealt[site] = self._unmaskings.deal(site).signed(self._keys[site].signing)
        return len(self._dealt[site])

    def seal(self, site: str) -> int:
        """A site's sealed update and its signed manifest."""
        self._require_signed(self._committed, commitment.DOMAIN)
        self._require_signed(self._dealt, dealt_shares.DOMAIN)
        body = self._verified(site, self._committed[site], commitment.DOMAIN)
        if self._committed_digest(site) != body["commitment"]:
            raise DigestMismatchError(f"the vector of {site} is not the one it has committed to")
        blob = io.BytesIO()
        manifest = self._signed.write(site, self._sealer(site).seal(self._vectors[site]), blob)
        blob.seek(0)
        self._summer.check(blob, self._length)
        self.sealed[site] = blob.getvalue()
        return blob.tell() + len(manifest)

    def aggregate(self) -> int:
        """The aggregator's sum."""
        total = io.BytesIO()
        self._signed.add(self._summer, self._blobs(), total)
        self._total = total.getvalue()
        return len(self._total)

    def lift(self, site: str) -> int:
        """A site's release or unmasking, where sites mask each other."""
        self._require_signed(self._committed, commitment.DOMAIN)
        made, key = self._lifting.lift(site, self._fixed), self._keys[site].signing
        bound = {
            "charter": TICKET.charter,
            "ticket": TICKET.digest,
            "roster": self._names.roster,
            "cutoff": self._fixed.cutoff,
            "purpose": TICKET.purpose,
            "site": site,
        }
        if isinstance(made, Release):
            document = ReleasedMasks(**bound, shares=made.shares, locked=made.locked).signed(key)
        else:
            document = Unmasking(
                **bound,
                sharers=self._fixed.sharers,
                tokens=made.tokens,
                lock_shares=made.lock_shares,
                own_share=made.own_share,
                locked=made.locked,
            ).signed(key)
        self._lifted[site] = document
        return len(document)

    def open(self) -> int:
        """The key holder's opened values and its receipt."""
        self._require_signed(self._committed, commitment.DOMAIN)
        self._require_signed(self._dealt, dealt_shares.DOMAIN)
        lifted = unmasking.DOMAIN if self._dealt else released.DOMAIN
        self._require_signed(self._lifted, lifted)
        opening, expected = self._opener(), io.BytesIO(self._total)
        added = self._signed.add(self._summer, self._blobs(), None, expected)
        self.opened = opening.open(io.BytesIO(self._total), self._length)
        values = b"".join(tensors.vector_chunks("aggregate", self.opened.astype(np.float64)))
        receipt = Receipt(
            charter=TICKET.charter,
            ticket=TICKET.digest,
            roster=self._names.roster,
            cutoff=self._fixed.cutoff,
            purpose=TICKET.purpose,
            certificate=self._certificate,
            ciphertexts={site: digest(blob) for site, blob in self.sealed.items()},
            sealed_sum=added,
            aggregate=digest(values),
            previous=TICKET.previous,
        ).signed(self._holder)
        return len(values) + len(receipt)

    @cached_property
    def _roster(self) -> Roster:
        commitments = {site: digest(document) for site, document in self._committed.items()}
        return Roster(charter=TICKET.charter, ticket=TICKET.digest, commitments=commitments, left_out={})

    @cached_property
    def _names(self) -> AttemptNames:
        return attempt_names(TICKET, self._roster)

    @cached_property
    def _fixed(self) -> FixedSets:
        roster = self._roster.digest
        shares = {site: digest(document) for site, document in self._dealt.items()}
        sharers = Sharers(roster=roster, shares=shares, left_out={}).digest if shares else ""
        members = tuple(self._keys)
        return FixedSets(sharers=sharers, cutoff=Cutoff(roster=roster, members=members, left_out={}).digest)

    @cached_property
    def _releases(self) -> Releases:
        return Releases(self._keys, self._names, self._terms.protection, self._contexts)

    @cached_property
    def _unmaskings(self) -> Unmaskings:
        return Unmaskings(self._keys, self._names, self._terms.min_sum_sites)

    @property
    def _lifting(self) -> Lifting:
        unmasked = TRAITS[self._terms.protection].lifted_by == UNMASK
        return self._unmaskings if unmasked else self._releases

    @cached_property
    def _signed(self) -> SignedUpdates:
        return SignedUpdates(
            self._keys,
            self._names,
            protection=self._terms.protection,
            certificate=self._certificate,
            length=self._length,
        )

    @cached_property
    def _summer(self) -> Summer:
        terms = self._terms
        return summer(terms.protection, self._contexts[0], values_per_slot=terms.values_per_slot)

    def _sealer(self, site: str) -> Sealer:
        terms, public = self._terms, self._contexts[0]
        if not TRAITS[terms.protection].masked:
            return sealer(terms.protection, public)
        masks = self._lifting.masks(site)
        return masking_sealer(
            terms.protection, public, masks, sites=terms.sites, values_per_slot=terms.values_per_slot
        )

    def _opener(self) -> Opener:
        terms = self._terms
        if not TRAITS[terms.protection].masked:
            return opener(terms.protection, self._contexts[1])
        masks, context = self._lifting.remaining(self._fixed)
        return unmasking_opener(
            terms.protection, context, masks, sites=terms.sites, values_per_slot=terms.values_per_slot
        )

    def _blobs(self) -> list[io.BytesIO]:
        return [io.BytesIO(self.sealed[site]) for site in self._keys]

    def _committed_digest(self, site: str) -> str:
        return committed_digest(TICKET, site, self._keys[site].salt, self._vectors[site])

    def _require_signed(self, documents: Mapping[str, bytes], domain: str) -> None:
        for site, document in documents.items():
            self._verified(site, document, domain)

    def _verified(self, site: str, document: bytes, domain: str) -> dict[str, Any]:
        key: SiteKeys = self._keys[site]
        return verify(document, domain=domain, signer=site, key=key.signing.public_key())


def _certificate(protection: str, public_context: bytes, key: Ed25519PrivateKey) -> str:
    """SHA-256 of the certificate of the key holder's key, empty where there is none."""
    if not TRAITS[protection].keyed:
        return ""
    return digest(
        KeyCertificate(
            federation=TICKET.federation,
            protection=protection,
            number=1,
            context=context_fingerprint(public_context),
            first_round=1,
            previous="",
        ).signed(key)
    )
