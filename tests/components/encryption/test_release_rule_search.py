"""Every way to show sites different rosters and cut-offs, and what each lets the others compute.

The adversary is the coordinator, the aggregator, the key holder and `colluding` of K sites together. To
every honest site it shows one roster or none, and then one set to be summed or none. What it holds are
linear equations over Z_p in the honest sites' vectors and in the streams it has no key for: a stream is
as good as independent uniform values. The equations are built from the keys that `site_masks` and
`open_releases` really use. A *break* is any combination in which no unknown stream is left but that is
no multiple of the sum over all honest members, two or more, of one set that all of them agreed to.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from components.encryption.masking.pair_keys import AttemptNames, PrivateHalf, site_masks
from components.encryption.masking.release_lock import open_releases, release
from tests.components.encryption.equations import PRIME, Row, echelon, quorum, subsets

SITES = "abcd"


class Roster(NamedTuple):
    """One roster of one attempt; a site that colludes signs two commitments, which makes two variants."""

    attempt: int
    members: str
    variant: int


class View(NamedTuple):
    """One roster that a site sealed under, and the set, if any, that it released for."""

    roster: Roster
    chosen: str | None


Views = tuple[View, ...]


def site(name: str, attempt: int, variant: int = 0) -> PrivateHalf:
    """A site whose keys follow from its name; only the static one is the same in every attempt."""
    texts = f"{name} static", f"{name} ephemeral {attempt} {variant}"
    static, ephemeral = (
        X25519PrivateKey.from_private_bytes(hashlib.sha256(text.encode()).digest()) for text in texts
    )
    return PrivateHalf(name=name, static=static, ephemeral=ephemeral)


@dataclass(frozen=True)
class Federation:
    """K sites, of which the adversary is some, and the smallest set that honest sites release for."""

    sites: str
    colluding: str
    smallest_set: int

    @property
    def honest(self) -> str:
        return "".join(name for name in self.sites if name not in self.colluding)

    def rosters(self, site: str) -> list[Roster]:
        """Rosters that a site accepts: three members at least, and no fewer than a set must have."""
        return [
            Roster(0, members, variant)
            for members in subsets(self.sites, max(3, self.smallest_set))
            if site in members
            for variant in range(2 if set(members) & set(self.colluding) else 1)
        ]

    def sets(self, site: str, roster: Roster) -> list[str]:
        return [chosen for chosen in subsets(roster.members, self.smallest_set) if site in chosen]

    def views(self, site: str) -> list[Views]:
        """What a site may see in one attempt: nothing, one roster, or one roster and one set of it."""
        rosters = self.rosters(site)
        shown = [View(roster, chosen) for roster in rosters for chosen in (None, *self.sets(site, roster))]
        return [(), *((view,) for view in shown)]

    def full_rosters(self) -> list[Roster]:
        return [Roster(attempt, self.sites, 0) for attempt in range(2)]

    def views_of_two_attempts(self, site: str, *, releases: int) -> list[Views]:
        """The site seals in two attempts of a round and releases in at most `releases` of them."""
        shown = [
            [View(roster, chosen) for chosen in (None, *self.sets(site, roster))]
            for roster in self.full_rosters()
        ]
        return [
            pair
            for pair in itertools.product(*shown)
            if sum(view.chosen is not None for view in pair) <= releases
        ]


def halves(roster: Roster, colluding: str) -> dict[str, PrivateHalf]:
    return {
        name: site(name, roster.attempt, roster.variant if name in colluding else 0)
        for name in roster.members
    }


def seed(name: str, attempt: int) -> bytes:
    return hashlib.sha256(f"{name} seed {attempt}".encode()).digest()


def names_of(roster: Roster) -> AttemptNames:
    return AttemptNames(charter="cd", ticket=f"td {roster.attempt}", purpose="update", roster=repr(roster))


@functools.cache
def masked_row(name: str, roster: Roster, colluding: str) -> Row:
    """What a site uploads, as a linear form: its vector and every stream over it, by the stream's key."""
    private = halves(roster, colluding)
    public = [half.public() for half in private.values()]
    masks = site_masks(names_of(roster), private[name], public, seed(name, roster.attempt))
    assert len({*masks.added, *masks.subtracted}) == len(roster.members)
    return {name: 1, **dict.fromkeys(masks.added, 1), **dict.fromkeys(masks.subtracted, PRIME - 1)}


@functools.cache
def released_keys(roster: Roster, chosen: str, colluding: str) -> frozenset[bytes]:
    """Every key that the releases of one set give away once they are open."""
    private, names = halves(roster, colluding), names_of(roster)
    public = [half.public() for half in private.values()]
    releases = {
        name: release(names, f"ud {chosen}", chosen, private[name], public, seed(name, roster.attempt))
        for name in chosen
    }
    opened = open_releases(names, f"ud {chosen}", chosen, roster.members, releases)
    return frozenset(opened.added + opened.subtracted)


@functools.cache
def keys_of(name: str, roster: Roster, colluding: str) -> frozenset[bytes]:
    return frozenset(key for key in masked_row(name, roster, colluding) if isinstance(key, bytes))


Opening = tuple[str, Roster, str]
"""An honest site, and the roster and set for which its release lies open."""


@functools.cache
def learned(
    sealed: frozenset[tuple[str, Roster]], openings: frozenset[Opening], colluding: str
) -> tuple[dict[str, int], ...]:
    """A basis of the combinations of honest vectors that the adversary can compute."""
    known = {
        key
        for name, roster, chosen in openings
        for key in released_keys(roster, chosen, colluding) & keys_of(name, roster, colluding)
    }
    rosters = {roster for _, roster in sealed}
    known.update(
        key
        for roster in rosters
        for other in set(colluding) & set(roster.members)
        for key in keys_of(other, roster, colluding)
    )
    rows = [
        {
            column: value
            for column, value in masked_row(name, roster, colluding).items()
            if column not in known
        }
        for name, roster in sorted(sealed)
    ]
    streams = sorted({column for row in rows for column in row if isinstance(column, bytes)})
    solved = echelon(rows, [*streams, *sorted({name for name, _ in sealed})])
    return tuple(
        {str(column): value for column, value in row.items()}
        for row in solved
        if all(isinstance(column, str) for column in row)
    )


def agreed_openings(federation: Federation, shown: Mapping[str, Views]) -> frozenset[Opening]:
    """What the lock leaves open: releases whose set was released for by all its honest members."""
    return frozenset(
        (name, view.roster, view.chosen)
        for name, views in shown.items()
        for view in views
        if view.chosen is not None
        and all(view in shown[member] for member in view.chosen if member not in federation.colluding)
    )


def all_openings(_: Federation, shown: Mapping[str, Views]) -> frozenset[Opening]:
    """What would be open without the lock: every release."""
    return frozenset(
        (name, view.roster, view.chosen)
        for name, views in shown.items()
        for view in views
        if view.chosen is not None
    )


def is_break(federation: Federation, shown: Mapping[str, Views], openings: frozenset[Opening]) -> bool:
    sealed = frozenset((name, view.roster) for name, views in shown.items() for view in views)
    basis = learned(sealed, openings, federation.colluding)
    if not basis:
        return False
    agreed = {
        frozenset(chosen) - set(federation.colluding) for _, _, chosen in agreed_openings(federation, shown)
    }
    sums = set(basis[0].values()) == {1} and len(basis[0]) >= 2 and frozenset(basis[0]) in agreed
    return len(basis) > 1 or not sums


class Found(NamedTuple):
    assignments: int
    opened: int
    breaks: int


def search(
    federation: Federation,
    options: Mapping[str, Sequence[Views]],
    openings_of: Callable[[Federation, Mapping[str, Views]], frozenset[Opening]] = agreed_openings,
) -> Found:
    """Go through every assignment of one option to every honest site."""
    assignments = opened = breaks = 0
    for assignment in itertools.product(*(options[name] for name in federation.honest)):
        shown = dict(zip(federation.honest, assignment, strict=True))
        openings = openings_of(federation, shown)
        assignments += 1
        opened += bool(openings)
        breaks += is_break(federation, shown, openings)
    return Found(assignments, opened, breaks)


def one_attempt(federation: Federation) -> dict[str, list[Views]]:
    return {name: federation.views(name) for name in federation.honest}


def two_attempts(federation: Federation, *, releases: int) -> dict[str, list[Views]]:
    return {name: federation.views_of_two_attempts(name, releases=releases) for name in federation.honest}


def coalitions(sites: int, colluding: int) -> Iterator[str]:
    return ("".join(chosen) for chosen in itertools.combinations(SITES[:sites], colluding))


WITHIN_THE_RULE = [
    (sites, colluding) for sites in (3, 4) for colluding in range(sites) if quorum(sites, colluding) <= sites
]


def federations(sites: int, colluding: int, *, below: int = 0) -> Iterator[Federation]:
    """One for every coalition, with the smallest quorum of the rule, or one that is `below` it."""
    for coalition in itertools.combinations(SITES[:sites], colluding):
        yield Federation(SITES[:sites], "".join(coalition), quorum(sites, colluding) - below)


def test_these_are_all_cases_of_three_and_four_sites() -> None:
    assert WITHIN_THE_RULE == [(3, 0), (3, 1), (4, 0), (4, 1), (4, 2)]


@pytest.mark.parametrize(("sites", "colluding"), WITHIN_THE_RULE)
def test_one_attempt_has_no_break(sites: int, colluding: int) -> None:
    expected = {(3, 0): 125, (3, 1): 25, (4, 0): 20736, (4, 1): 9261, (4, 2): 25}
    for federation in federations(sites, colluding):
        found = search(federation, one_attempt(federation))
        assert found.assignments == expected[sites, colluding]
        assert found.opened > 0
        assert found.breaks == 0


@pytest.mark.parametrize(("sites", "colluding"), WITHIN_THE_RULE)
def test_two_attempts_have_no_break_where_a_site_releases_in_one(sites: int, colluding: int) -> None:
    expected = {(3, 0): 343, (3, 1): 9, (4, 0): 6561, (4, 1): 729, (4, 2): 9}
    for federation in federations(sites, colluding):
        found = search(federation, two_attempts(federation, releases=1))
        assert found.assignments == expected[sites, colluding]
        assert found.opened > 0
        assert found.breaks == 0


@pytest.mark.parametrize(
    ("sites", "colluding", "breaks"), [(3, 0, 38), (3, 1, 0), (4, 0, 351), (4, 1, 328), (4, 2, 0)]
)
def test_without_the_lock_there_are_breaks(sites: int, colluding: int, breaks: int) -> None:
    """There is none where all sites must be in the set: then no two sets can be shown."""
    for federation in federations(sites, colluding):
        assert search(federation, one_attempt(federation), all_openings).breaks == breaks
        assert (breaks == 0) == (federation.smallest_set == sites)


@pytest.mark.parametrize(
    ("sites", "colluding", "breaks"), [(3, 1, 32), (4, 0, 27), (4, 1, 20862), (4, 2, 168)]
)
def test_with_a_smaller_quorum_there_are_breaks(sites: int, colluding: int, breaks: int) -> None:
    # Sites are alike but for the order of names, which only turns signs: one coalition stands for all.
    federation = next(federations(sites, colluding, below=1))
    assert search(federation, one_attempt(federation)).breaks == breaks


@pytest.mark.parametrize(("sites", "colluding", "breaks"), [(3, 0, 120), (4, 1, 210)])
def test_where_a_site_releases_in_two_attempts_of_a_round_there_are_breaks(
    sites: int, colluding: int, breaks: int
) -> None:
    for federation in federations(sites, colluding):
        assert search(federation, two_attempts(federation, releases=2)).breaks == breaks


def basis_of(
    federation: Federation, shown: Mapping[str, Views], openings: frozenset[Opening]
) -> list[dict[str, int]]:
    sealed = frozenset((name, view.roster) for name, views in shown.items() for view in views)
    return list(learned(sealed, openings, federation.colluding))


FULL, THREE = Roster(0, "abcd", 0), Roster(0, "abc", 0)


def test_a_second_set_for_one_roster_would_open_one_site() -> None:
    federation = Federation("abcd", "", 3)
    both = (View(FULL, "abcd"), View(FULL, "abc"))
    shown = {"a": both, "b": both, "c": both, "d": (View(FULL, "abcd"),)}
    openings = agreed_openings(federation, shown)
    assert basis_of(federation, shown, openings) == [{"a": 1, "b": 1, "c": 1}, {"d": 1}]
    assert is_break(federation, shown, openings)


def test_a_second_roster_for_one_ticket_would_open_one_site() -> None:
    federation = Federation("abcd", "", 3)
    both = (View(FULL, "abcd"), View(THREE, "abc"))
    shown = {"a": both, "b": both, "c": both, "d": (View(FULL, "abcd"),)}
    openings = agreed_openings(federation, shown)
    assert {"d": 1} in basis_of(federation, shown, openings)
    assert is_break(federation, shown, openings)


def test_a_late_upload_of_a_lost_site_stays_shut() -> None:
    """Everything that was ever released together with everything that was uploaded, the lost site's too."""
    federation = Federation("abcd", "", 3)
    shown = {name: (View(FULL, "abc"),) for name in "abc"} | {"d": (View(FULL, None),)}
    openings = agreed_openings(federation, shown)
    assert len(openings) == 3
    assert basis_of(federation, shown, openings) == [{"a": 1, "b": 1, "c": 1}]
    own = keys_of("d", FULL, "") - keys_of("a", FULL, "") - keys_of("b", FULL, "") - keys_of("c", FULL, "")
    given = released_keys(FULL, "abc", "")
    assert len(own) == 1
    assert not own & given
    assert keys_of("d", FULL, "") - given == own


def test_a_site_of_the_coalition_subtracts_itself_and_no_more() -> None:
    federation = Federation("abcd", "d", 3)
    shown = {name: (View(FULL, "abcd"),) for name in "abc"}
    assert basis_of(federation, shown, agreed_openings(federation, shown)) == [{"a": 1, "b": 1, "c": 1}]


def test_the_elimination_solves_what_is_solved_by_hand() -> None:
    x, y = b"x", b"y"
    rows: list[Row] = [{"a": 1, x: 1}, {"b": 1, x: PRIME - 1, y: 2}, {"c": 3, y: 4}, {"d": 1, b"z": 1}]
    solved = [
        row for row in echelon(rows, [x, y, b"z", *"abcd"]) if all(isinstance(name, str) for name in row)
    ]
    # a + x, b - x + 2y, 3c + 4y: twice the first two less the third leave 2a + 2b - 3c.
    assert solved == [{"a": 1, "b": 1, "c": -3 * pow(2, -1, PRIME) % PRIME}]
