"""An attempt with one site's upload replaced, as the aggregator and as the key holder read it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from components.aggregation.secure_aggregation.summing import Adding, cut_off
from components.agreement.attempt import Attempt
from components.agreement.cutoff import Cutoff
from components.agreement.sealed_manifest import blob_key, manifest_key
from components.artifacts.stores import Store
from components.encryption.aggregate_opening.unmasking import released_masks
from components.encryption.bfv.packing import Packing
from components.encryption.bfv.sealed import SealedOpener
from components.encryption.bfv.words import MODULUS
from components.encryption.ciphertext_sum import MemberSum, attempt_summer, sealed_length
from components.encryption.contexts import secret_context
from components.encryption.protection import Opener, opener
from components.errors import CiphertextError, IntegrityError, ObjectTooLargeError
from components.execution.outcome import disclosed_reason
from tests.components.encryption.refusals.mutants import SITE, Upload
from tests.components.encryption.refusals.walk import words_of
from tests.components.rounds.walks import Walked, walk

SITES = ("alpha", "beta", "gamma")

RULES = {
    "is not the one its manifest signs": "digest",
    "words that no ciphertext has": "words",
    "bytes, all of this round have": "size",
    "states a size that no sealed update has": "size",
    "values, this round": "length",
    "sealed update of format 1": "header",
    "sealed under ": "header",
    "sealed for context": "header",
    "values are sealed": "header",
    "are announced": "header",
    "is not a signed document": "signature",
    "names another signer": "signature",
    "not in canonical form": "signature",
    "document does not verify": "signature",
    "larger than any manifest": "signature",
    "was made for another": "binding",
    "not in the form this version knows": "form",
}
"""What a refusal says, and the rule that it names."""


@dataclass(frozen=True)
class MemoryExchange:
    """The exchange as it was, each object read once, and what somebody wrote over it: no disk is busy."""

    store: Store
    written: dict[str, bytes] = field(default_factory=dict)

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        if key not in self.written:
            self.written[key] = self.store.read(key)
        content = self.written[key]
        if limit is not None and len(content) > limit:
            raise ObjectTooLargeError(f"{key} has {len(content)} bytes, at most {limit} are read")
        return content

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        return io.BytesIO(self.read(key))


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """An attempt that was walked until all sites have released, and whose exchange takes mutants."""

    walked: Walked

    @classmethod
    def under(cls, protection: str) -> Attacked:
        return cls(walked=walk("released", protection))

    @cached_property
    def exchange(self) -> MemoryExchange:
        return MemoryExchange(self.walked.three.exchange)

    @cached_property
    def attempt(self) -> Attempt:
        return replace(self.walked.three.attempt(), exchange=cast(Store, self.exchange))

    @cached_property
    def adding(self) -> Adding:
        return Adding(
            attempt=self.attempt,
            roster=self.attempt.roster(),
            adder=attempt_summer(self.attempt),
            length=sealed_length(self.attempt),
            earlier=(),
        )

    @cached_property
    def words(self) -> Mapping[str, NDArray[np.uint64]]:
        """Of the honest updates."""
        return {site: words_of(self.walked.blob(site).read_bytes()) for site in SITES}

    def put(self, upload: Upload) -> None:
        ticket = self.attempt.ticket
        self.exchange.written[blob_key(ticket, SITE)] = upload.blob
        self.exchange.written[manifest_key(ticket, SITE)] = upload.document

    def sums(self, *sites: str) -> MemberSum:
        cutoff = Cutoff(roster=self.adding.roster.digest, members=sites, left_out={})
        return MemberSum(
            attempt=self.attempt, roster=self.adding.roster, cutoff=cutoff, length=self.adding.length
        )

    def sum_of(self, *sites: str) -> bytes:
        return b"".join(self.sums(*sites).add(self.adding.adder))

    def aggregated(self, upload: Upload) -> str:
        """What the aggregator makes of it: the sum is of the others, and of its words if it is added."""
        total = io.BytesIO()
        cutoff = cut_off(self.adding, {SITE: "there", "beta": "there"}, {"gamma": "timeout"}, total)
        assert "beta" in cutoff.members
        assert (SITE in cutoff.members) != (SITE in cutoff.left_out)
        self._assert_sum(total.getvalue(), upload if SITE in cutoff.members else None, self.words["beta"])
        return rule(cutoff.left_out[SITE]) if SITE in cutoff.left_out else "added"

    def readded(self, upload: Upload, *others: str) -> tuple[str, bytes]:
        """What the key holder makes of it, for whom the members are fixed: refusal or sum."""
        try:
            total = self.sum_of(SITE, *others)
        except IntegrityError as error:
            return rule(disclosed_reason(error)), b""
        self._assert_sum(total, upload, *(self.words[site] for site in others))
        return "added", total

    def _assert_sum(self, total: bytes, upload: Upload | None, *words: NDArray[np.uint64]) -> None:
        """The others' contribution stands, whatever the site has uploaded; only its own words are added."""
        expected = words_of(upload.blob) if upload else np.zeros_like(words[0])
        for each in words:
            expected = (expected + each) % np.uint64(MODULUS)
        assert np.array_equal(words_of(total), expected)

    @cached_property
    def key_holder(self) -> Opener:
        """With the masks of the honest sum of all three under `sealed`; one child for all of it."""
        charter, context = self.attempt.charter, secret_context(self.attempt)
        if charter.protection == "he":
            return opener("he", context)
        packing = Packing(values_per_slot=charter.values_per_slot, sites=len(charter.sites))
        return SealedOpener(context, packing, released_masks(self.sums(*SITES)))

    def opened(self, total: bytes) -> NDArray[Any] | None:
        """The sum in the clear, or nothing where the key holder says that it does not open."""
        source: BinaryIO = io.BytesIO(total)
        try:
            opened: NDArray[Any] = self.key_holder.open(source, self.adding.length)
        except CiphertextError as error:
            if str(error) != "this sum does not open to a sum of updates: refused":
                raise
            return None
        return opened


def rule(reason: str) -> str:
    """The one rule that a reason names."""
    assert reason.startswith("refused: "), reason
    named = {name for text, name in RULES.items() if text in reason}
    assert len(named) == 1, reason
    return named.pop()
