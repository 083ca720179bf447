"""Mutated sealed updates and manifests, read by the aggregator first and by the key holder first.

None of them kills a process, none keeps the others from being added, and what is accepted changes the
sum by exactly the site's own words. Counts are exact: what becomes of a mutant follows from its kind.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from numpy.typing import NDArray

from components.aggregation.secure_aggregation.summing import Adding, cut_off
from components.agreement.cutoff import Cutoff
from components.encryption.aggregate_opening.unmasking import released_masks
from components.encryption.bfv_words import MODULUS
from components.encryption.ciphertext_sum import MemberSum, attempt_summer, sealed_length
from components.encryption.contexts import secret_context
from components.encryption.packing import Packing
from components.encryption.protection import Opener, opener
from components.encryption.sealed import SealedOpener
from components.errors import CiphertextError, IntegrityError
from components.execution.outcome import disclosed_reason
from tests.components.encryption.refusals.mutants import SITE, Mutants, Upload
from tests.components.encryption.refusals.walk import words_of
from tests.components.rounds.walks import Walked, walk

pytestmark = pytest.mark.slow
protections = pytest.mark.parametrize("protection", ["sealed", "he"])
SIGNERS = pytest.mark.parametrize("resigned", [False, True], ids=["altered", "re-signed"])
SITES = ("alpha", "beta", "gamma")

WORDS_ONLY = ("noise", "value", "zero slot", "second polynomial")
FOREIGN = ("another round's", "another site's", "several times", "another several times")
FORGED = ("high bit", "header bit", "forged size", "truncated", "prolonged", "SEAL's own form")
BLOBS = dict.fromkeys(WORDS_ONLY, 130) | dict.fromkeys(FOREIGN, 60) | dict.fromkeys(FORGED, 125)
DOCUMENTS = {
    "bit": 400,
    "truncated": 200,
    "prolonged": 60,
    "oversized": 20,
    "another site's": 20,
    "another round's": 200,
    "signed by another": 100,
    "nested": 40,
}
FIELDS = {
    "size": 160,
    "no size": 100,
    "length": 160,
    "no length": 100,
    "digest": 160,
    "no digest": 60,
    "another round": 120,
    "another purpose": 60,
    "a field too many": 60,
    "a field too few": 60,
}
# Blobs and manifests, altered and re-signed, under two protections.
ALL = 2 * (2 * sum(BLOBS.values()) + sum(DOCUMENTS.values()) + sum(FIELDS.values()))

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

ALTERED = dict.fromkeys(BLOBS, "digest")
RESIGNED = {
    **dict.fromkeys((*WORDS_ONLY, *FOREIGN), "added"),
    "high bit": "words",
    "SEAL's own form": "words",
    "header bit": "header",
    "forged size": "header",
    "truncated": "size",
    "prolonged": "size",
}
OF_DOCUMENTS = dict.fromkeys(DOCUMENTS, "signature") | {"another round's": "binding"}
OF_FIELDS = {
    "size": "size",
    "length": "length",
    "digest": "digest",
    "another round": "binding",
    "another purpose": "binding",
    **dict.fromkeys(("no size", "no length", "no digest", "a field too many", "a field too few"), "form"),
}
OPENED = {
    "sealed": {
        **dict.fromkeys((*WORDS_ONLY, *FOREIGN), "refused"),
        "noise": "the same",
        "value": "one value",
    },
    "he": {
        **dict.fromkeys((*WORDS_ONLY, "another round's"), "refused"),
        **dict.fromkeys(("another site's", "several times", "another several times"), "its own"),
    },
}
"""What the key holder gets out of the sums of re-signed updates that were added."""


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """An attempt whose exchange holds a mutant in the place of one site's upload."""

    walked: Walked

    @cached_property
    def adding(self) -> Adding:
        attempt = self.walked.three.attempt()
        return Adding(
            attempt=attempt,
            roster=attempt.roster(),
            adder=attempt_summer(attempt),
            length=sealed_length(attempt),
        )

    @cached_property
    def words(self) -> dict[str, NDArray[np.uint64]]:
        """Of the honest updates."""
        return {site: words_of(self.walked.blob(site).read_bytes()) for site in SITES}

    def put(self, upload: Upload) -> None:
        self.walked.blob(SITE).write_bytes(upload.blob)
        self.walked.manifest(SITE).write_bytes(upload.document)

    def sums(self, *sites: str) -> MemberSum:
        adding = self.adding
        cutoff = Cutoff(roster=adding.roster.digest, members=sites, left_out={})
        return MemberSum(attempt=adding.attempt, roster=adding.roster, cutoff=cutoff, length=adding.length)

    def aggregated(self, upload: Upload) -> str:
        """What the aggregator makes of it: the sum is of the others, and of its words if it is added."""
        self.put(upload)
        total = io.BytesIO()
        cutoff = cut_off(self.adding, {SITE: "there", "beta": "there"}, {"gamma": "timeout"}, total)
        assert "beta" in cutoff.members
        rest = self.words["beta"]
        if SITE in cutoff.members:
            rest = (rest + words_of(upload.blob)) % np.uint64(MODULUS)
            assert SITE not in cutoff.left_out
        assert np.array_equal(words_of(total.getvalue()), rest)
        return rule(cutoff.left_out[SITE]) if SITE in cutoff.left_out else "added"

    def readded(self, upload: Upload) -> tuple[str, bytes]:
        """What the key holder makes of it, for whom the members are fixed: refusal or sum."""
        self.put(upload)
        try:
            total = b"".join(self.sums(*SITES).add(self.adding.adder))
        except IntegrityError as error:
            return rule(disclosed_reason(error)), b""
        rest = (self.words["beta"] + self.words["gamma"]) % np.uint64(MODULUS)
        assert np.array_equal(words_of(total), (rest + words_of(upload.blob)) % np.uint64(MODULUS))
        return "added", total


def rule(reason: str) -> str:
    """The one rule that a reason names."""
    assert reason.startswith("refused: "), reason
    named = {name for text, name in RULES.items() if text in reason}
    assert len(named) == 1, reason
    return named.pop()


def attacked(step: str, protection: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Attacked:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(home))
    return Attacked(walked=walk(step, protection))


def counted(expected: Mapping[str, str], counts: Mapping[str, int]) -> Counter[tuple[str, str]]:
    return Counter({(kind, expected[kind]): count for kind, count in counts.items()})


def outcomes(uploads: Iterable[Upload], tried: Callable[[Upload], str]) -> Counter[tuple[str, str]]:
    return Counter((upload.kind, tried(upload)) for upload in uploads)


def test_there_are_ten_thousand() -> None:
    assert ALL >= 10_000


@protections
@SIGNERS
def test_updates_at_the_aggregator(
    protection: str, resigned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = attacked("sealed", protection, tmp_path, monkeypatch)
    mutants = Mutants(there.walked, seed=1, resigned=resigned)
    assert there.words
    found = outcomes(mutants.of_blobs(BLOBS), there.aggregated)
    assert found == counted(RESIGNED if resigned else ALTERED, BLOBS)


@protections
@SIGNERS
def test_manifests_at_the_aggregator(
    protection: str, resigned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = attacked("sealed", protection, tmp_path, monkeypatch)
    mutants = Mutants(there.walked, seed=2, resigned=resigned)
    assert there.words
    counts, expected = (FIELDS, OF_FIELDS) if resigned else (DOCUMENTS, OF_DOCUMENTS)
    assert outcomes(mutants.of_manifests(counts), there.aggregated) == counted(expected, counts)


@protections
@SIGNERS
def test_manifests_at_the_key_holder(
    protection: str, resigned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = attacked("sealed", protection, tmp_path, monkeypatch)
    mutants = Mutants(there.walked, seed=2, resigned=resigned)
    assert there.words
    counts, expected = (FIELDS, OF_FIELDS) if resigned else (DOCUMENTS, OF_DOCUMENTS)
    found = outcomes(mutants.of_manifests(counts), lambda upload: there.readded(upload)[0])
    assert found == counted(expected, counts)


@protections
def test_altered_updates_at_the_key_holder(
    protection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = attacked("sealed", protection, tmp_path, monkeypatch)
    mutants = Mutants(there.walked, seed=1, resigned=False)
    assert there.words
    found = outcomes(mutants.of_blobs(BLOBS), lambda upload: there.readded(upload)[0])
    assert found == counted(ALTERED, BLOBS)


@protections
def test_re_signed_updates_at_the_key_holder(
    protection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He decrypts what he has added, and one child survives all of it."""
    there = attacked("released" if protection == "sealed" else "summed", protection, tmp_path, monkeypatch)
    mutants = Mutants(there.walked, seed=1, resigned=True)
    key_holder = opener_of(there)
    honest = opened_by(key_holder, b"".join(there.sums(*SITES).add(there.adding.adder)), there)
    others = opened_by(key_holder, b"".join(there.sums("beta", "gamma").add(there.adding.adder)), there)
    assert there.words
    assert honest is not None

    def tried(upload: Upload) -> str:
        added, total = there.readded(upload)
        if added != "added":
            return added
        opened = opened_by(key_holder, total, there)
        if opened is None:
            return "refused"
        if protection == "sealed":
            changed = np.flatnonzero(opened != honest)
            assert changed.size <= 1
            return "one value" if changed.size else "the same"
        alone = opened_by(key_holder, upload.blob, there)
        assert alone is not None
        assert others is not None
        assert np.abs(opened - others - alone).max() < 3e-4
        return "its own"

    expected = {kind: RESIGNED[kind] for kind in FORGED} | OPENED[protection]
    assert outcomes(mutants.of_blobs(BLOBS), tried) == counted(expected, BLOBS)


def opener_of(there: Attacked) -> Opener:
    """The key holder, with the masks of the honest sum of all three under `sealed`."""
    attempt = there.adding.attempt
    charter, context = attempt.charter, secret_context(attempt)
    if charter.protection == "he":
        return opener("he", context)
    packing = Packing(values_per_slot=charter.values_per_slot, sites=len(charter.sites))
    return SealedOpener(context, packing, released_masks(there.sums(*SITES)))


def opened_by(key_holder: Opener, total: bytes, there: Attacked) -> NDArray[Any] | None:
    """The sum in the clear, or nothing where the key holder says that it does not open."""
    source: BinaryIO = io.BytesIO(total)
    try:
        opened: NDArray[Any] = key_holder.open(source, there.adding.length)
    except CiphertextError as error:
        if str(error) != "this sum does not open to a sum of updates: refused":
            raise
        return None
    return opened
