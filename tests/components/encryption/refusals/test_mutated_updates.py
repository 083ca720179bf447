"""Mutated sealed updates, manifests and cut-offs, read by aggregator and key holder, either of them first.

None of them kills a process, none keeps the others from being added, and what is accepted changes the
sum by exactly the site's own words. Counts are exact: what becomes of a mutant follows from its kind.

A further protection needs an entry in OPENED; one whose updates have another form than words of
ciphertexts also kinds of its own in `mutants.py` and what reading them comes to in RESIGNED.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pytest

from components.agreement.cutoff import cutoff_key
from components.errors import IntegrityError
from tests.components.encryption.refusals import test_mutated_contexts
from tests.components.encryption.refusals.attacked import SITES, Attacked
from tests.components.encryption.refusals.mutants import CUTOFFS as CUTOFF_MUTANTS
from tests.components.encryption.refusals.mutants import Mutants, Upload

WORDS_ONLY = ("noise", "value", "zero slot", "second polynomial")
FOREIGN = ("another round's", "another site's", "several times", "another several times")
FORGED = ("high bit", "header bit", "forged size", "truncated", "prolonged", "SEAL's own form")
BLOBS = dict.fromkeys(WORDS_ONLY, 80) | dict.fromkeys(FOREIGN, 50) | dict.fromkeys(FORGED, 80)
DOCUMENTS = {
    "bit": 270,
    "truncated": 130,
    "prolonged": 50,
    "oversized": 20,
    "another site's": 20,
    "another round's": 140,
    "signed by another": 70,
    "nested": 20,
}
FIELDS = {
    "size": 120,
    "no size": 60,
    "length": 120,
    "no length": 60,
    "digest": 100,
    "no digest": 60,
    "another round": 80,
    "another purpose": 40,
    "a field too many": 40,
    "a field too few": 40,
}

ALTERED = dict.fromkeys(BLOBS, "digest")
OF_DOCUMENTS = dict.fromkeys(DOCUMENTS, "signature") | {"another round's": "binding"}
RESIGNED = {
    **dict.fromkeys((*WORDS_ONLY, *FOREIGN), "added"),
    "high bit": "words",
    "SEAL's own form": "words",
    "header bit": "header",
    "forged size": "header",
    "truncated": "size",
    "prolonged": "size",
}
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
"""What the key holder gets out of the sums of re-signed updates that were added, by protection."""
CUTOFFS = dict.fromkeys(CUTOFF_MUTANTS, 50)
OF_CUTOFFS = dict.fromkeys(CUTOFFS, "refused") | {"repeated members": "the same"}


@pytest.fixture(scope="module", params=OPENED)
def there(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CROSSCLOUD_HOME", str(tmp_path_factory.mktemp("attacked") / "home"))
        attacked = Attacked.under(request.param)
        assert attacked.words
        yield attacked


def counted(expected: Mapping[str, str], counts: Mapping[str, int]) -> Counter[tuple[str, str]]:
    return Counter({(kind, expected[kind]): number for kind, number in counts.items()})


def read(there: Attacked, upload: Upload, *others: str, aggregator_first: bool) -> tuple[str, bytes]:
    """What aggregator and key holder make of an upload, the same, and the key holder's sum with others."""
    there.put(upload)
    aggregated = there.aggregated(upload) if aggregator_first else ""
    readded, total = there.readded(upload, *others)
    assert readded == (aggregated or there.aggregated(upload))
    return readded, total


def outcomes(there: Attacked, uploads: Iterable[Upload]) -> Counter[tuple[str, str]]:
    """What becomes of each, which aggregator and key holder take turns to read first."""
    return Counter(
        (upload.kind, read(there, upload, "beta", aggregator_first=number % 2 == 0)[0])
        for number, upload in enumerate(uploads)
    )


def test_there_are_ten_thousand_and_half_of_what_sites_upload_is_signed() -> None:
    contexts = sum(test_mutated_contexts.COUNTS.values())
    altered = sum(BLOBS.values()) + sum(DOCUMENTS.values()) + contexts
    signed = sum(BLOBS.values()) + sum(FIELDS.values()) + contexts
    assert altered == signed
    assert len(OPENED) * (altered + signed + sum(CUTOFFS.values())) >= 10_000


def test_altered_updates(there: Attacked) -> None:
    mutants = Mutants(there.walked, seed=1, resigned=False)
    assert outcomes(there, mutants.of_blobs(BLOBS)) == counted(ALTERED, BLOBS)


@pytest.mark.parametrize("resigned", [False, True], ids=["altered", "re-signed"])
def test_manifests(there: Attacked, resigned: bool) -> None:
    mutants = Mutants(there.walked, seed=2, resigned=resigned)
    counts, expected = (FIELDS, OF_FIELDS) if resigned else (DOCUMENTS, OF_DOCUMENTS)
    assert outcomes(there, mutants.of_manifests(counts)) == counted(expected, counts)


def test_re_signed_updates(there: Attacked) -> None:
    """The key holder decrypts what he has added, and one child survives all of it."""
    mutants = Mutants(there.walked, seed=1, resigned=True)
    there.put(mutants.honest())
    honest, others = there.opened(there.sum_of(*SITES)), there.opened(there.sum_of("beta", "gamma"))
    protection = there.attempt.charter.protection

    def opened(upload: Upload, total: bytes) -> str:
        values = there.opened(total)
        if values is None:
            return "refused"
        assert honest is not None
        if protection == "sealed":
            changed = np.flatnonzero(values != honest)
            assert changed.size <= 1
            return "one value" if changed.size else "the same"
        alone = there.opened(upload.blob)
        assert alone is not None
        assert others is not None
        assert np.abs(values - others - alone).max() < 3e-4
        return "its own"

    found: Counter[tuple[str, str]] = Counter()
    for number, upload in enumerate(mutants.of_blobs(BLOBS)):
        told, total = read(there, upload, *SITES[1:], aggregator_first=number % 2 == 0)
        found[upload.kind, opened(upload, total) if told == "added" else told] += 1
    assert found == counted(RESIGNED | OPENED[protection], BLOBS)


def test_cutoffs(there: Attacked) -> None:
    """Nobody signs one: it must follow from the roster, and says no more than who is in the sum."""
    roster, ticket = there.adding.roster, there.attempt.ticket
    honest = there.attempt.cutoff(roster)
    found: Counter[tuple[str, str]] = Counter()
    mutants = Mutants(there.walked, seed=3, resigned=False)
    for kind, document in mutants.of_cutoffs(honest, CUTOFFS):
        there.exchange.written[cutoff_key(ticket)] = document
        try:
            cutoff = there.attempt.cutoff(roster)
        except IntegrityError:
            found[kind, "refused"] += 1
        else:
            assert (cutoff.members, cutoff.digest) == (honest.members, honest.digest)
            found[kind, "the same"] += 1
    assert found == counted(OF_CUTOFFS, CUTOFFS)
