"""Sums under every protection: exact, opened by nobody on the way, and refused as a round refuses them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.protections import TRAITS
from components.encryption.bfv.packing import Packing
from components.encryption.ckks.roles import ABSOLUTE_ERROR
from components.encryption.protection import generate_contexts, sealed_size
from components.encryption.ring import LARGEST_SUM
from components.errors import BadDataError, DigestMismatchError, QuorumNotReachedError, UsageError
from components.evaluation.rehearsal.protected_sums import ProtectedSum, Sums, protected_sum
from components.evaluation.rehearsal.rehearsed_attempt import RehearsedAttempt, SumTerms

SITES = ("alpha", "beta", "delta", "gamma")
LENGTH = 17_000
"""Two ciphertexts and a part of a third with one value a slot, one and a part with two, five under CKKS."""
Vectors = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A protection with the vectors it takes."""

    protection: str
    values_per_slot: Literal[1, 2] = 2
    dtype: type[np.generic] = np.float64

    @property
    def bound(self) -> int:
        """Most that one of four sites may seal."""
        if self.protection == "sealed":
            return Packing(values_per_slot=self.values_per_slot, sites=len(SITES)).bound
        return LARGEST_SUM // len(SITES)

    def vectors(self, seed: int = 1) -> Vectors:
        generator = np.random.default_rng(seed)
        if self.dtype is np.float64:
            return {site: generator.normal(0, 3, LENGTH) for site in SITES}
        found: Vectors = {
            site: generator.integers(-self.bound, self.bound + 1, LENGTH).astype(self.dtype) for site in SITES
        }
        for vector in found.values():
            vector[:2] = self.bound, -self.bound
        return found

    @property
    def sums(self) -> Sums:
        return Sums(
            self.protection,
            sites=len(SITES),
            values_per_slot=self.values_per_slot,
            min_sum_sites=3,
            colluding_sites=1,
        )

    def run(self, vectors: Vectors) -> ProtectedSum:
        return protected_sum(
            self.protection,
            vectors,
            values_per_slot=self.values_per_slot,
            min_sum_sites=3,
            colluding_sites=1,
        )


NONE, HE = Case(protection="none"), Case(protection="he")
SMC, MASKED = (Case(protection=name, dtype=np.int32) for name in ("smc", "masked"))
SEALED = Case(protection="sealed", dtype=np.int32)
PRECISE = Case(protection="sealed", values_per_slot=1, dtype=np.int64)
EXACT = [NONE, SMC, MASKED, SEALED, PRECISE]
HIDDEN = [HE, SMC, MASKED, SEALED, PRECISE]
ALL = [NONE, *HIDDEN]


def names(case: Case) -> str:
    return f"{case.protection}/{case.values_per_slot}"


@cache
def summed(case: Case) -> ProtectedSum:
    """Once for all tests that only look at it."""
    return case.run(case.vectors())


def exact(vectors: Vectors) -> NDArray[Any]:
    """In Python's integers, which have no end, or in float64 in the order of the names."""
    columns = np.array([vectors[site] for site in sorted(vectors)], object)
    return np.array(columns.sum(axis=0))


def test_every_protection_is_rehearsed() -> None:
    assert {case.protection for case in ALL} == set(TRAITS)


@pytest.mark.parametrize("case", EXACT, ids=names)
def test_the_opened_sum_is_the_sum(case: Case) -> None:
    vectors = case.vectors()

    opened, added = summed(case).opened, case.sums.add(vectors)

    assert opened.tolist() == exact(vectors).tolist()
    # All sites at the edge of their range: nothing wraps.
    if case is not NONE:
        assert opened[:2].tolist() == [4 * case.bound, -4 * case.bound]
    # Masks cancel to the last bit: the cheap sum is the protected one.
    assert (added.dtype, added.tobytes()) == (opened.dtype, opened.tobytes())


def test_ckks_is_within_its_error() -> None:
    sums = HE.sums
    for seed in (1, 2):
        vectors = HE.vectors(seed)
        added = sums.add(vectors)
        assert added.dtype == np.float64
        assert np.abs(added - exact(vectors).astype(float)).max() <= ABSOLUTE_ERROR
        # Values that were drawn do not lie on the steps that opened values are rounded to.
        assert np.abs(added - exact(vectors).astype(float)).max() > 0
    opened = summed(HE).opened
    assert np.abs(opened - exact(HE.vectors()).astype(float)).max() <= ABSOLUTE_ERROR


@pytest.mark.parametrize("case", [SMC, PRECISE], ids=names)
def test_a_quorum_of_the_charters_sites_is_summed(case: Case) -> None:
    vectors, sums = case.vectors(), case.sums
    del vectors["beta"]

    opened = sums.protected(vectors).opened

    assert opened.tolist() == exact(vectors).tolist()
    assert sums.add(vectors).tobytes() == opened.tobytes()


@pytest.mark.parametrize("case", [NONE, MASKED, SEALED], ids=names)
def test_vectors_stay_as_they_were(case: Case) -> None:
    vectors = case.vectors()
    before = {site: vector.copy() for site, vector in vectors.items()}

    case.run(vectors)
    case.sums.add(vectors)

    assert all(vectors[site].tobytes() == before[site].tobytes() for site in SITES)


def shows(blob: bytes, vector: NDArray[Any]) -> bool:
    """Whether two neighbouring values stand anywhere in the bytes, in any type that numbers are sent in."""
    # Rounded to integers, small numbers would be found anywhere.
    kinds = ("<f4", "<f8") if vector.dtype == np.float64 else ("<f4", "<f8", "<i4", "<i8")
    forms = [vector.astype(kind) for kind in kinds]
    return any(
        form[start : start + 2].tobytes() in blob for form in forms for start in range(2, LENGTH - 1, 997)
    )


@pytest.mark.parametrize("case", ALL, ids=names)
def test_what_sites_upload_shows_nothing_of_their_vectors(case: Case) -> None:
    vectors, sealed = case.vectors(), summed(case).sealed

    assert [shows(sealed[site], vectors[site]) for site in SITES] == [case is NONE] * len(SITES)
    # Searching finds: in the clear all of it is there.
    assert shows(vectors["beta"].tobytes(), vectors["beta"])


@pytest.mark.parametrize("case", HIDDEN, ids=names)
def test_the_same_vectors_are_never_sealed_to_the_same_bytes(case: Case) -> None:
    first, again = summed(case).sealed, case.run(case.vectors()).sealed

    for site in SITES:
        one, other = (np.frombuffer(blob[80:], np.uint8) for blob in (first[site], again[site]))
        # Independent bytes agree once in 256; under BFV and CKKS the highest bits of a 60-bit word are zero.
        assert (one == other).mean() < 0.25


@pytest.mark.parametrize("case", [SMC, MASKED], ids=names)
def test_nothing_opens_before_masks_are_lifted(case: Case) -> None:
    words = [np.frombuffer(blob[80:], "<u4") for blob in summed(case).sealed.values()]

    total = np.sum(words, axis=0, dtype=np.uint32).view(np.int32)

    # Pairs' masks cancel in it, the sites' own do not: it agrees with the sum once in 2^32 places.
    assert (total == summed(case).opened).sum() <= 1


def test_unprotected_updates_are_the_vectors() -> None:
    vectors, sealed = NONE.vectors(), summed(NONE).sealed

    assert all(blob[80:] == vectors[site].tobytes() for site, blob in sealed.items())


@pytest.mark.parametrize("case", ALL, ids=names)
def test_steps_are_those_of_the_protection(case: Case) -> None:
    steps = {each.step: each for each in summed(case).steps}
    size = sealed_size(case.protection, LENGTH, values_per_slot=case.values_per_slot)
    lifted_by = TRAITS[case.protection].lifted_by
    share = ["share"] if lifted_by == "unmask" else []

    expected = ["commit", *share, "seal", "aggregate", *([lifted_by] if lifted_by else []), "open"]
    assert list(steps) == expected
    assert {each.who for each in steps.values()} == {"site", "aggregator", "key holder"}
    assert all(each.seconds > 0 for each in steps.values())
    assert [len(blob) for blob in summed(case).sealed.values()] == [size] * len(SITES)
    assert steps["aggregate"].num_bytes == size
    # With the manifest; how long that is, a round's own tells in the other file.
    assert steps["seal"].num_bytes > size


@pytest.mark.parametrize("case", [SMC, MASKED, SEALED, PRECISE], ids=names)
def test_values_outside_the_range_are_refused(case: Case) -> None:
    vectors = case.vectors()
    vectors["delta"][7] = case.bound + 1

    for way in (case.sums.add, case.sums.protected):
        with pytest.raises(BadDataError, match="value 7 of the update is beyond"):
            way(vectors)


@pytest.mark.parametrize("case", [NONE, HE], ids=names)
def test_values_that_are_not_finite_are_refused(case: Case) -> None:
    vectors = case.vectors()
    vectors["delta"][7] = np.nan

    for way in (case.sums.add, case.sums.protected):
        with pytest.raises(BadDataError, match="value 7 of the weighted update is not finite"):
            way(vectors)


@pytest.mark.parametrize("case", ALL, ids=names)
def test_vectors_of_another_type_are_refused(case: Case) -> None:
    other = np.float32 if case.dtype is np.float64 else np.int16
    vectors = {site: np.ones(5, other) for site in SITES}

    for way in (case.sums.add, case.sums.protected):
        with pytest.raises(ValueError, match="what is sealed is one non-empty"):
            way(vectors)


def test_vectors_of_different_lengths_are_refused() -> None:
    vectors = {site: np.ones(5 if site == "beta" else 1) for site in SITES}

    for way in (NONE.sums.add, NONE.sums.protected):
        with pytest.raises(ValueError, match="one shape"):
            way(vectors)


def test_too_few_and_too_many_sites_are_refused() -> None:
    vectors = {f"site-{number}": np.ones(3, np.int32) for number in range(5)}

    for way in (SMC.sums.add, SMC.sums.protected):
        with pytest.raises(
            QuorumNotReachedError, match="a sum of 2 sites is not opened, the charter asks for 3"
        ):
            way({site: vectors[site] for site in ("site-0", "site-1")})
        with pytest.raises(UsageError, match="a charter of 4 sites sums no 5"):
            way(vectors)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"protection": "rot13"}, "unknown protection 'rot13': choose one of he, masked, none, sealed, smc"),
        ({"min_sum_sites": 2}, "min_sum_sites must be from 3 to 4 for 4 sites of which 1 may collude, got 2"),
        ({"min_sum_sites": 5}, "min_sum_sites must be from 3 to 4"),
        ({"protection": "none", "min_sum_sites": 0}, "min_sum_sites must be from 1 to 4"),
        ({"colluding_sites": 2}, "min_sum_sites must be from 4 to 4"),
    ],
)
def test_terms_that_no_charter_has_are_refused(changes: dict[str, Any], problem: str) -> None:
    terms: dict[str, Any] = {
        "protection": "smc",
        "sites": 4,
        "min_sum_sites": 3,
        "colluding_sites": 1,
    } | changes

    with pytest.raises(UsageError, match=problem):
        Sums(**terms)


def attempt(case: Case, vectors: Vectors) -> RehearsedAttempt:
    terms = SumTerms(
        protection=case.protection, sites=4, values_per_slot=case.values_per_slot, min_sum_sites=3
    )
    begun = RehearsedAttempt(terms, generate_contexts(case.protection), vectors)
    for site in SITES:
        begun.commit(site)
    return begun


def test_a_vector_that_was_not_committed_to_is_not_sealed() -> None:
    vectors = MASKED.vectors()
    begun = attempt(MASKED, vectors)
    begun.seal("alpha")

    vectors["beta"][5] += 1

    with pytest.raises(DigestMismatchError, match="the vector of beta is not the one it has committed to"):
        begun.seal("beta")


@pytest.mark.parametrize("case", [NONE, MASKED], ids=names)
def test_an_altered_upload_is_not_added(case: Case) -> None:
    begun = attempt(case, case.vectors())
    for site in SITES:
        begun.seal(site)
    altered = bytearray(begun.sealed["gamma"])
    altered[-1] ^= 1
    begun.sealed["gamma"] = bytes(altered)

    with pytest.raises(DigestMismatchError, match="gamma is not the one its manifest signs"):
        begun.aggregate()
