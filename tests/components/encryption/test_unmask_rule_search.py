"""Every way to show sites of `smc` different rosters, sharers and cut-offs, and what the others then compute.

The adversary is coordinator, aggregator and `colluding` of K sites together. To every honest site it shows
one roster or none, then one set of sharers, then one set to be summed. Who is called a sharer has dealt its
shares under that very roster. What the adversary holds are linear equations in the honest sites' vectors and
in the streams that it has no key for; keys are those of `recoverable_masks`, and which shares a site gives is
what `revealed_keys` says. A key is known once `threshold` shares of it are.

The equations are solved modulo a prime though words are added modulo 2^32: every stream is in two rows at
most, with opposite signs, and such matrices have the same combinations over any ring.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from components.agreement.cutoff import Cutoff
from components.agreement.sharers import Sharers
from components.encryption.mask_recovery.unmasking import revealed_keys
from components.encryption.masking.pair_keys import AttemptNames, PrivateHalf
from components.encryption.masking.recoverable_pads import recoverable_masks
from components.encryption.masking.share_keys import SELF, share_key
from tests.components.encryption.equations import PRIME, Row, echelon, quorum, subsets

SITES = "abcdefghij"


class Roster(NamedTuple):
    """A roster; a site that colludes signs two commitments, which makes two variants."""

    members: str
    variant: int


class View(NamedTuple):
    """What a site has seen: it deals under the roster, seals among `sharers`, unmasks for `chosen`."""

    roster: Roster
    sharers: str = ""
    chosen: str = ""


@dataclass(frozen=True)
class Federation:
    """K sites, of which the adversary is some, and the quorum, which is the threshold of all shares."""

    sites: str
    colluding: str
    threshold: int

    @property
    def honest(self) -> str:
        return "".join(name for name in self.sites if name not in self.colluding)

    def views(self, site: str, *, all_rosters: bool) -> list[View | None]:
        smallest = max(3, self.threshold) if all_rosters else len(self.sites)
        found: list[View | None] = [None]
        for members in subsets(self.sites, smallest):
            variants = range(2 if all_rosters and set(members) & set(self.colluding) else 1)
            for variant in variants if site in members else ():
                roster = Roster(members, variant)
                found.append(View(roster))
                for sharers in self._sets(site, members):
                    found.append(View(roster, sharers))
                    found += [View(roster, sharers, chosen) for chosen in self._sets(site, sharers)]
        return found

    def _sets(self, site: str, among: str) -> list[str]:
        return [chosen for chosen in subsets(among, self.threshold) if site in chosen]


Shown = Mapping[str, View]


def half(name: str, roster: Roster, colluding: str) -> PrivateHalf:
    variant = roster.variant if name in colluding else 0
    texts = f"{name} static", f"{name} ephemeral {variant}"
    static, ephemeral = (
        X25519PrivateKey.from_private_bytes(hashlib.sha256(text.encode()).digest()) for text in texts
    )
    return PrivateHalf(name=name, static=static, ephemeral=ephemeral)


def names_of(roster: Roster) -> AttemptNames:
    return AttemptNames(charter="cd", ticket="td", purpose="update", roster=repr(roster))


@functools.cache
def masked_row(name: str, roster: Roster, sharers: str, colluding: str) -> Row:
    """What a site uploads, as a linear form; the first stream is its self-mask."""
    public = [half(each, roster, colluding).public() for each in sharers]
    seed = hashlib.sha256(f"{name} seed".encode()).digest()
    masks = recoverable_masks(names_of(roster), half(name, roster, colluding), public, seed)
    return {name: 1, **dict.fromkeys(masks.added, 1), **dict.fromkeys(masks.subtracted, PRIME - 1)}


@functools.cache
def streams(name: str, roster: Roster, colluding: str) -> tuple[bytes, frozenset[bytes]]:
    """A site's self key under a roster and its pads with everybody on it."""
    own, *pads = (
        key for key in masked_row(name, roster, roster.members, colluding) if isinstance(key, bytes)
    )
    return own, frozenset(pads)


@functools.cache
def revealed(name: str, view: View) -> tuple[str, str]:
    """Sites of whose self key, and of whose ephemeral private key, a site gives its share."""
    secrets = {dealer: hashlib.sha256(f"{name}{dealer}".encode()).digest() for dealer in view.sharers}
    sharers = Sharers(roster="rd", shares=dict.fromkeys(view.sharers, ""), left_out={})
    cutoff = Cutoff(roster="rd", members=tuple(view.chosen), left_out={})
    names = names_of(view.roster)
    given = revealed_keys(names, cutoff, name, secrets, sharers)
    selves = [
        dealer
        for dealer, key in given.items()
        if key == share_key(secrets[dealer], SELF, names, dealer=dealer, receiver=name)
    ]
    return "".join(selves), "".join(dealer for dealer in given if dealer not in selves)


def under_the_lock(federation: Federation, shown: Shown) -> list[str]:
    """Honest sites whose lock opens: a quorum, the colluding members with them, has the same view."""
    alike = Counter(view for view in shown.values() if view.chosen)
    return [
        name
        for name, view in shown.items()
        if view.chosen
        and alike[view] + len(set(view.chosen) & set(federation.colluding)) >= federation.threshold
    ]


def without_the_lock(_: Federation, shown: Shown) -> list[str]:
    """As if every site published what it reveals as it stands."""
    return [name for name, view in shown.items() if view.chosen]


def known_streams(federation: Federation, shown: Shown, open_to_all: Sequence[str]) -> set[bytes]:
    rosters = {view.roster for view in shown.values()}
    colluding = federation.colluding
    known = {
        pad
        for roster in rosters
        for each in set(colluding) & set(roster.members)
        for pad in streams(each, roster, colluding)[1]
    }
    for roster in rosters:
        held = len(set(colluding) & set(roster.members))
        selves, scalars = Counter[str](), Counter[str]()
        for name in open_to_all:
            if shown[name].roster == roster:
                given = revealed(name, shown[name])
                selves.update(given[0])
                scalars.update(given[1])
        for dealer in set(roster.members) - set(colluding):
            if selves[dealer] + held >= federation.threshold:
                known.add(streams(dealer, roster, colluding)[0])
            if scalars[dealer] + held >= federation.threshold:
                # The private key is the attempt's: it gives the site's pads under every roster.
                for other in rosters:
                    if dealer in other.members:
                        known |= streams(dealer, other, colluding)[1]
    return known


def learned(federation: Federation, shown: Shown, known: set[bytes]) -> list[dict[str, int]]:
    """A basis of the combinations of honest vectors that the adversary can compute."""
    rows: list[Row] = [
        {
            column: value
            for column, value in masked_row(name, view.roster, view.sharers, federation.colluding).items()
            if column not in known
        }
        for name, view in shown.items()
        if view.sharers
    ]
    unknown = sorted({column for row in rows for column in row if isinstance(column, bytes)})
    solved = echelon(rows, [*unknown, *sorted(shown)])
    return [
        {str(column): value for column, value in row.items()}
        for row in solved
        if all(isinstance(column, str) for column in row)
    ]


def is_break(federation: Federation, shown: Shown, open_to_all: Sequence[str]) -> bool:
    """Something else can be computed than the sum over the honest members of one set a quorum agreed to."""
    if not open_to_all:
        return False  # Every row has its own self key, which nothing cancels.
    basis = learned(federation, shown, known_streams(federation, shown, open_to_all))
    if not basis:
        return False
    agreed = {
        frozenset(shown[name].chosen) - set(federation.colluding)
        for name in under_the_lock(federation, shown)
    }
    is_sum = set(basis[0].values()) == {1} and len(basis[0]) >= 2 and frozenset(basis[0]) in agreed
    return len(basis) > 1 or not is_sum


def possible(federation: Federation, shown: Shown) -> bool:
    """Whoever is called a sharer has dealt under that roster."""
    return all(
        each in federation.colluding or (each in shown and shown[each].roster == view.roster)
        for view in shown.values()
        for each in view.sharers
    )


class Found(NamedTuple):
    assignments: int
    opened: int
    breaks: int
    breaks_without_lock: int


def search(federation: Federation, *, all_rosters: bool) -> Found:
    """Go through every assignment of one view to every honest site."""
    assignments = opened = breaks = bare = 0
    options = [federation.views(name, all_rosters=all_rosters) for name in federation.honest]
    for assignment in itertools.product(*options):
        shown = {
            name: view for name, view in zip(federation.honest, assignment, strict=True) if view is not None
        }
        if not possible(federation, shown):
            continue
        assignments += 1
        locks = under_the_lock(federation, shown)
        opened += bool(locks)
        breaks += is_break(federation, shown, locks)
        bare += is_break(federation, shown, without_the_lock(federation, shown))
    return Found(assignments, opened, breaks, bare)


def federations(sites: int, colluding: int, *, below: int = 0) -> Iterator[Federation]:
    for coalition in itertools.combinations(SITES[:sites], colluding):
        yield Federation(SITES[:sites], "".join(coalition), quorum(sites, colluding) - below)


WITHIN_THE_RULE = {
    (3, 0): Found(760, 82, 0, 20),
    (3, 1): Found(25, 2, 0, 0),
    (4, 1): Found(4712, 307, 0, 340),
    (4, 2): Found(25, 2, 0, 0),
}


@pytest.mark.parametrize(("sites", "colluding"), list(WITHIN_THE_RULE))
def test_with_the_lock_there_is_no_break(sites: int, colluding: int) -> None:
    """Without it there are, but where the quorum is all sites: then no second set can be shown."""
    for federation in federations(sites, colluding):
        found = search(federation, all_rosters=True)
        assert found == WITHIN_THE_RULE[sites, colluding]
        assert (found.breaks_without_lock == 0) == (federation.threshold == sites)


def test_with_the_lock_there_is_no_break_among_four_honest_sites_of_one_roster() -> None:
    (federation,) = federations(4, 0)
    assert search(federation, all_rosters=False) == Found(20855, 145, 0, 134)


@pytest.mark.parametrize(("sites", "colluding", "breaks"), [(3, 1, 82), (4, 1, 9306), (4, 2, 202)])
def test_with_a_smaller_quorum_there_are_breaks(sites: int, colluding: int, breaks: int) -> None:
    federation = next(federations(sites, colluding, below=1))
    assert search(federation, all_rosters=sites == 3 or colluding == 2).breaks == breaks


TEN = Federation(SITES, "j", 6)


def isolating() -> dict[str, str]:
    """A set for each of nine honest sites that leaves out four of c to i, each of which five sites miss."""
    seven = "cdefghi"
    left_out = {"a": seven[:4], "b": seven[3:]}
    left_out |= {name: (seven * 2)[place + 1 : place + 5] for place, name in enumerate(seven)}
    return {name: "".join(each for each in SITES if each not in missed) for name, missed in left_out.items()}


def test_ten_sites_would_be_opened_down_to_two_without_the_lock() -> None:
    """Every set has the quorum of six; each site sees another, and all shares of a and b come together."""
    assert quorum(10, 1) == TEN.threshold
    roster = Roster(SITES, 0)
    shown = {name: View(roster, SITES, chosen) for name, chosen in isolating().items()}
    assert all(len(view.chosen) >= TEN.threshold and name in view.chosen for name, view in shown.items())
    assert all({"a", "b"} <= set(view.chosen) for view in shown.values())
    bare = without_the_lock(TEN, shown)
    assert learned(TEN, shown, known_streams(TEN, shown, bare)) == [{"a": 1, "b": 1}]
    assert under_the_lock(TEN, shown) == []


def test_a_late_upload_of_a_lost_site_stays_shut() -> None:
    """Its pads are known to all then, its self key to nobody."""
    federation = Federation("abcd", "", 3)
    roster = Roster("abcd", 0)
    shown = {name: View(roster, "abcd", "abc") for name in "abc"} | {"d": View(roster, "abcd")}
    locks = under_the_lock(federation, shown)
    known = known_streams(federation, shown, locks)
    assert locks == ["a", "b", "c"]
    assert learned(federation, shown, known) == [{"a": 1, "b": 1, "c": 1}]
    own, pads = streams("d", roster, "")
    assert own not in known
    assert pads <= known


def test_both_keys_of_one_site_need_two_quorums_of_which_a_charter_allows_one() -> None:
    """2t honest shares less those the colluding hold twice: more than there are, by the charter's rule."""
    for sites, colluding in itertools.product(range(3, 60), range(0, 58)):
        threshold = quorum(sites, colluding)
        if threshold <= sites:
            assert 2 * (threshold - colluding) > sites - colluding
