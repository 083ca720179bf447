"""Sums that start from one model: the rule against linear algebra, and where the earlier sums come from."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.agreement.charter import Charter
from components.agreement.model_sums import (
    EarlierSum,
    earlier_sums,
    groups,
    hides_sites,
    largest_grouped,
    require_grouped,
)
from components.agreement.receipt import receipt_key
from components.artifacts.stores import Store, crosscloud_home
from components.errors import IntegrityError, ObjectMissingError, RefusedError
from tests.components.agreement.signed_form import CHARTER, NOISED, put_in_force
from tests.components.agreement.test_lineage import FIRST, after, opened

Sites = frozenset[str]


def tolerating(colluding: int) -> Charter:
    return replace(CHARTER, colluding_sites=colluding)


def summed(*sets: str) -> list[EarlierSum]:
    """Earlier sums of sites of one letter each."""
    return [EarlierSum(round_number=number + 1, members=Sites(each)) for number, each in enumerate(sets)]


def passes(earlier: Sequence[EarlierSum], members: Sites, charter: Charter) -> bool:
    try:
        require_grouped(earlier, members, charter)
    except RefusedError:
        return False
    return True


def subsets(sites: str, least: int) -> list[Sites]:
    sizes = range(least, len(sites) + 1)
    return [Sites(each) for size in sizes for each in itertools.combinations(sites, size)]


def shows_one(sets: Sequence[Sites], sites: str, colluding: int) -> bool:
    """Whether some combination of the sums, less what colluding sites know of themselves, is one update.

    By rank: a unit vector that adds nothing to the span of the sums lies in it.
    """
    for known in subsets(sites, 0):
        if len(known) > colluding:
            continue
        honest = [site for site in sites if site not in known]
        rows = np.array([[float(site in each) for site in honest] for each in sets])
        rank = np.linalg.matrix_rank(rows)
        for unit in np.eye(len(honest)):
            if np.linalg.matrix_rank(np.vstack([rows, unit])) == rank:
                return True
    return False


def agreed_sequences(sites: str, colluding: int, length: int) -> Iterator[list[Sites]]:
    """Every sequence of sets that the rule lets be summed from one model."""
    charter, possible = tolerating(colluding), subsets(sites, colluding + 2)
    sequences: list[list[Sites]] = [[each] for each in possible]
    for _ in range(length - 1):
        sequences = [
            [*before, each]
            for before in sequences
            for each in possible
            if passes(summed(*map("".join, before)), each, charter)
        ]
    yield from sequences


@pytest.mark.parametrize(
    ("sites", "colluding", "length"), [("abcd", 0, 3), ("abcde", 0, 2), ("abcdef", 1, 2)]
)
def test_no_sums_that_the_rule_passes_show_one_site(sites: str, colluding: int, length: int) -> None:
    tried = 0
    for sets in agreed_sequences(sites, colluding, length):
        tried += len(set(sets)) > 1
        assert not shows_one(sets, sites, colluding), sets
    assert tried, "other sets than the first must be allowed, or there was nothing to find"


@pytest.mark.parametrize("colluding", [0, 1])
def test_one_site_that_is_away_or_new_would_be_shown(colluding: int) -> None:
    """So the rule is needed: what it refuses here is one site's update, whoever has both sums."""
    charter = tolerating(colluding)
    for members in ("abcd", "abcdef"):
        assert shows_one([Sites("abcde"), Sites(members)], "abcdef", colluding)
        with pytest.raises(RefusedError, match=r"would show (e|f) apart from all others") as refusal:
            require_grouped(summed("abcde"), Sites(members), charter)
        assert refusal.value.disclosed == str(refusal.value)


def test_colluding_sites_take_themselves_out_of_a_group() -> None:
    """Two sites away hide each other from all others, and not from each other."""
    assert not shows_one([Sites("abcdef"), Sites("abcd")], "abcdef", 0)
    assert shows_one([Sites("abcdef"), Sites("abcd")], "abcdef", 1)
    assert passes(summed("abcdef"), Sites("abcd"), tolerating(0))
    assert not passes(summed("abcdef"), Sites("abcd"), tolerating(1))


def test_the_same_sites_may_be_summed_again_however_few_they_are() -> None:
    require_grouped(summed("ab"), Sites("ab"), tolerating(1))
    require_grouped(summed("abcde", "ab"), Sites("ab"), tolerating(1))
    require_grouped([], Sites("a"), tolerating(1))


def test_groups_are_the_sites_that_were_in_the_same_sums() -> None:
    assert groups(summed("abcd"), "cdef") == [("a", "b"), ("c", "d"), ("e", "f")]
    assert groups(summed("abc", "ab"), "abcd") == [("c",), ("d",), ("a", "b")]


@pytest.mark.parametrize("colluding", [0, 1])
@pytest.mark.parametrize(
    "earlier", [("abcde",), ("abcdef",), ("abcdef", "abc"), ("abc",), ("abcd", "abcdef")]
)
def test_the_largest_set_is_found(earlier: tuple[str, ...], colluding: int) -> None:
    """Against every subset of who is there."""
    charter, before = tolerating(colluding), summed(*earlier)
    for present in subsets("abcdef", 1):
        found = largest_grouped(before, present, charter)
        possible = [each for each in subsets("".join(sorted(present)), 1) if passes(before, each, charter)]
        assert not found or passes(before, Sites(found), charter)
        assert set(found) <= present
        assert len(found) == max(map(len, possible), default=0), (present, found)


def test_without_an_earlier_sum_everybody_takes_part() -> None:
    assert largest_grouped([], {"b", "a"}, CHARTER) == ("a", "b")


@pytest.mark.parametrize(
    ("charter", "hides"),
    [
        (CHARTER, True),
        (replace(CHARTER, protection="he"), True),
        (replace(CHARTER, protection="none"), False),
        (NOISED, False),
    ],
)
def test_only_sums_that_hide_without_noise_are_looked_at(charter: Charter, hides: bool) -> None:
    assert hides_sites(charter) is hides


class TestEarlierSums:
    @pytest.fixture(autouse=True)
    def in_force(self, home: Path) -> None:
        put_in_force(FIRST)

    def test_they_are_read_off_the_chain_of_receipts(self, exchange: Store) -> None:
        first = opened(exchange)
        second = opened(exchange, first, number=2)
        third = opened(exchange, second, number=5)
        back = replace(FIRST, edition=2, previous=FIRST.digest, restart=first.made)
        put_in_force(back)
        ticket = replace(after(third, charter=back), model=first.made)
        members = frozenset({"alpha", "beta", "gamma"})
        assert earlier_sums(exchange, "keys", ticket, back) == (EarlierSum(round_number=2, members=members),)
        genesis = replace(back, restart=FIRST.genesis)
        ticket = replace(after(third, charter=genesis), model=FIRST.genesis)
        put_in_force_anew(genesis)
        assert [each.round_number for each in earlier_sums(exchange, "keys", ticket, genesis)] == [1]

    def test_a_sum_that_was_opened_and_not_committed_counts(self, exchange: Store, home: Path) -> None:
        """Round 3 goes back, its sum is opened and no model comes of it: round 4 is a third sum."""
        first = opened(exchange)
        second = opened(exchange, first, number=2)
        back = replace(FIRST, edition=2, previous=FIRST.digest, restart=first.made)
        put_in_force(back)
        void = opened(exchange, first, number=3, under=back, seed=7)
        ticket = replace(after(second, charter=back, number=4), model=first.made)
        assert [each.round_number for each in earlier_sums(exchange, "keys", ticket, back)] == [2, 3]
        (home / "exchange" / receipt_key(void.ticket.folder)).write_bytes(b"{}")
        assert [each.round_number for each in earlier_sums(exchange, "keys", ticket, back)] == [2]

    def test_a_round_that_goes_on_has_none(self, exchange: Store) -> None:
        first = opened(exchange)
        assert earlier_sums(exchange, "keys", after(first), FIRST) == ()

    @pytest.mark.parametrize("name", ["receipt.json", "ticket.json"])
    def test_a_chain_with_a_gap_is_not_believed(self, exchange: Store, home: Path, name: str) -> None:
        first = opened(exchange)
        second = opened(exchange, first, number=2)
        third = opened(exchange, second, number=3)
        back = replace(FIRST, edition=2, previous=FIRST.digest, restart=first.made)
        put_in_force(back)
        ticket = replace(after(third, charter=back), model=first.made)
        (home / "exchange" / second.ticket.folder / name).unlink()
        with pytest.raises(ObjectMissingError):
            earlier_sums(exchange, "keys", ticket, back)

    def test_a_receipt_that_was_exchanged_is_found(self, exchange: Store, home: Path) -> None:
        first = opened(exchange)
        second = opened(exchange, first, number=2)
        back = replace(FIRST, edition=2, previous=FIRST.digest, restart=first.made)
        put_in_force(back)
        ticket = replace(after(second, charter=back), model=first.made)
        other = replace_members(second.receipt)
        (home / "exchange" / receipt_key(second.ticket.folder)).write_bytes(other)
        with pytest.raises(IntegrityError, match="is not the one the ticket follows from"):
            earlier_sums(exchange, "keys", ticket, back)


def put_in_force_anew(charter: Charter) -> None:
    """The same number once more, in a test that has done with the one before."""
    shutil.rmtree(crosscloud_home() / "keys/charters/00002")
    put_in_force(charter)


def replace_members(receipt: bytes) -> bytes:
    """The receipt without one of its sites; the key holder's signature would not hold either."""
    return receipt.replace(b'"gamma"', b'"omega"')
