"""Sites that are lost at any step: the round is committed while the quorum is there, and refused below it.

Five sites. If none may collude three of them are the quorum, if one may it is four.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from components.agreement.cutoff import shortfall_key
from components.agreement.roster import read_commitments
from components.agreement.sharers import read_dealings, sharers_key
from components.agreement.site_update import read_update
from components.agreement.unmasking import unmasking_key
from components.encryption.framing import HEADER_BYTES
from components.encryption.masking.attempt_masks import attempt_names, private_half, public_halves
from components.encryption.masking.masks import Masks
from components.encryption.masking.pair_keys import self_key
from components.encryption.masking.recoverable_pads import recoverable_masks
from components.encryption.masking.share_keys import SCALAR, SELF, opened_share
from components.encryption.ring import RingOpener
from components.errors import IntegrityError, QuorumNotReachedError, RefusedError
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.encryption.mask_recovery.recoveries import (
    FIVE,
    commit,
    drawn,
    fix_cutoff,
    recovered,
    revealed,
    sharers,
    without,
)
from tests.components.encryption.refusals.walk import nothing_is_open
from tests.components.rounds.walks import walk

QUORUM = {0: 3, 1: 4}
LOST = [
    (0, ("alpha",)),
    (0, ("epsilon", "gamma")),
    (0, ("alpha", "delta")),
    (1, ("beta",)),
    (1, ("gamma",)),
]
"""For each quorum every number of sites that may be lost, first and last ones among them."""


def shared(colluding: int = 0) -> tuple[ThreeSites, str]:
    walked = walk("shared", "smc", sites=FIVE, colluding=colluding)
    return walked.three, walked.roster


@pytest.mark.parametrize(("colluding", "quorum"), QUORUM.items())
def test_the_quorum_is_the_charters(colluding: int, quorum: int) -> None:
    three = walk("open", "smc", sites=FIVE, colluding=colluding).three
    assert three.charter.min_sum_sites == quorum
    assert max(len(lost) for each, lost in LOST if each == colluding) == len(FIVE) - quorum


@pytest.mark.parametrize(("colluding", "lost"), LOST)
class TestUpToTheQuorum:
    def test_lost_before_they_share(self, colluding: int, lost: tuple[str, ...]) -> None:
        walked = walk("called", "smc", sites=FIVE, colluding=colluding)
        three, there = walked.three, without(FIVE, lost)
        three.share(walked.roster, there)
        total = three.aggregate(three.seal(walked.roster, there), dict.fromkeys(lost, "oom")).reference
        three.unmask()
        assert sharers(three).left_out == dict.fromkeys(lost, "failed: no shares")
        commit(three, total, there)

    def test_lost_between_sharing_and_sealing(self, colluding: int, lost: tuple[str, ...]) -> None:
        three, roster = shared(colluding)
        there = without(FIVE, lost)
        total = three.aggregate(three.seal(roster, there), dict.fromkeys(lost, "timeout")).reference
        three.unmask()
        assert sharers(three).sites == FIVE
        assert len(recovered(three).masks.added + recovered(three).masks.subtracted) == len(there) * (
            1 + len(lost)
        )
        commit(three, total, there)

    def test_lost_between_sealing_and_unmasking(self, colluding: int, lost: tuple[str, ...]) -> None:
        """What they sealed is in the sum all the same: this is what `sealed` cannot do."""
        three, roster = shared(colluding)
        total = three.aggregate(three.seal(roster)).reference
        three.unmask(without(FIVE, lost))
        commit(three, total, FIVE)

    def test_lost_while_they_unmask(self, colluding: int, lost: tuple[str, ...]) -> None:
        """They have remembered the set; what they publish is not whole."""
        three, roster = shared(colluding)
        total = three.aggregate(three.seal(roster)).reference
        three.unmask()
        for site in lost:
            path = three.exchange_folder / unmasking_key(three.opened.ticket, site)
            path.write_bytes(path.read_bytes()[:100])
        found = recovered(three)
        assert found.unmasked == tuple(without(FIVE, lost))
        assert found.remarks == tuple(
            f"{site} has not unmasked: refused: a document of {site} is not a signed document"
            for site in lost
        )
        commit(three, total, FIVE)

    def test_one_fewer_is_refused_before_sealing(self, colluding: int, lost: tuple[str, ...]) -> None:
        walked = walk("called", "smc", sites=FIVE, colluding=colluding)
        three, quorum = walked.three, QUORUM[colluding]
        there = without(FIVE, lost)[: quorum - 1]
        three.share(walked.roster, there)
        text = f"{quorum - 1} sites have dealt their shares for round 1, the charter asks for {quorum}"
        for site in there:
            with pytest.raises(RefusedError, match=text) as caught:
                three.seal(walked.roster, [site])
            assert caught.value.disclosed == text
        assert not three.exchange.exists(sharers_key(three.opened.ticket))
        with pytest.raises(QuorumNotReachedError, match=f"0 of 5 sites .* the quorum is {quorum}"):
            three.aggregate(dict.fromkeys(FIVE, ""), dict.fromkeys(there, f"refused: {text}"))
        assert nothing_is_open(three)
        again = three.next_attempt()
        assert (again.opened.ticket.round_number, again.opened.ticket.attempt) == (1, 2)

    def test_one_fewer_is_refused_before_adding(self, colluding: int, lost: tuple[str, ...]) -> None:
        three, roster = shared(colluding)
        quorum = QUORUM[colluding]
        there = without(FIVE, lost)[: quorum - 1]
        with pytest.raises(QuorumNotReachedError, match=f"{quorum - 1} of 5 sites .* quorum is {quorum}"):
            three.aggregate(three.seal(roster, there))
        # An aggregator that fixes the set itself is given nothing for it.
        fix_cutoff(three, there)
        for site in there:
            with pytest.raises(RefusedError, match=f"has {quorum - 1} sites, the charter asks for {quorum}"):
                three.unmask([site])
        assert nothing_is_open(three)

    def test_one_fewer_is_refused_at_opening(self, colluding: int, lost: tuple[str, ...]) -> None:
        three, roster = shared(colluding)
        quorum = QUORUM[colluding]
        total = three.aggregate(three.seal(roster)).reference
        three.unmask(without(FIVE, lost)[: quorum - 1])
        with pytest.raises(QuorumNotReachedError) as caught:
            three.open_sum(total)
        told = str(caught.value)
        assert told.startswith(
            f"round 1 is void: {quorum - 1} of 5 sites in the sum have unmasked it, the quorum is {quorum}. "
        )
        assert "\n" not in told
        assert all(f"{site} has not unmasked" in told for site in lost)
        assert nothing_is_open(three)
        assert three.exchange.exists(shortfall_key(three.opened.ticket))
        # The number is used up: who comes late unmasks nothing, the next round starts from the same model.
        with pytest.raises(RefusedError, match="round 1 is void: nothing of it is unmasked any more"):
            three.unmask([lost[0]])
        later = three.next_attempt()
        assert (later.opened.ticket.round_number, later.opened.ticket.attempt) == (2, 1)
        assert later.opened.ticket.model == three.opened.ticket.model


def test_sites_lost_at_three_different_steps() -> None:
    """Epsilon never shares, gamma never seals, delta never unmasks: two are left, and three the quorum."""
    walked = walk("called", "smc", sites=FIVE, colluding=0)
    three = walked.three
    three.share(walked.roster, without(FIVE, ["epsilon"]))
    sealed = three.seal(walked.roster, ("alpha", "beta", "delta"))
    total = three.aggregate(sealed, {"gamma": "timeout", "epsilon": "oom"}).reference
    three.unmask(("alpha", "beta"))
    with pytest.raises(QuorumNotReachedError, match=r"2 of 3 sites .* delta has not unmasked: unreachable"):
        three.open_sum(total)


def test_two_sites_lost_at_two_steps() -> None:
    walked = walk("called", "smc", sites=FIVE, colluding=0)
    three = walked.three
    three.share(walked.roster, without(FIVE, ["epsilon"]))
    sealed = three.seal(walked.roster, without(FIVE, ["epsilon"]))
    total = three.aggregate(sealed).reference
    three.unmask(("alpha", "beta", "gamma"))
    commit(three, total, without(FIVE, ["epsilon"]))


def test_the_next_round_goes_on_with_the_lost_site() -> None:
    three, roster = shared()
    total = three.aggregate(three.seal(roster, FIVE[:3])).reference
    three.unmask()
    commit(three, total, FIVE[:3])
    later = three.next_round()
    later.committed()
    assert later.opened.ticket.round_number == 2


class TestALateUpload:
    def test_changes_nothing(self) -> None:
        three, roster = shared()
        sealed = three.seal(roster, FIVE[:4])
        total = three.aggregate(sealed).reference
        late = three.seal(roster, ["gamma"])
        assert three.aggregate(sealed | late).manifest["sites"] == list(FIVE[:4])
        with pytest.raises(RefusedError, match="the site is not in the sum of round 1: its masks stay"):
            three.unmask(["gamma"])
        three.unmask()
        commit(three, total, FIVE[:4])

    def test_is_not_opened_by_all_that_was_ever_revealed(self) -> None:
        """Its pads are known to all then; its self key is not, and without it there is nothing to read."""
        three, roster_reference = shared()
        three.aggregate(three.seal(roster_reference, FIVE[:4]))
        three.seal(roster_reference, ["gamma"])
        three.unmask()
        attempt = three.attempt()
        ticket, roster = attempt.ticket, attempt.roster()
        names = attempt_names(ticket, roster)
        dealt = read_dealings(three.exchange, ticket, roster, sharers(three), attempt.charter)["gamma"]
        given = revealed(three)
        assert set(given) == set(FIVE[:4])
        for site, keys in given.items():
            assert opened_share(keys["gamma"], SCALAR, names, dealt, site)
            # Every key that anybody gave, tried on every share of gamma's self key.
            for key, receiver in itertools.product(keys.values(), FIVE):
                with pytest.raises(IntegrityError):
                    opened_share(key, SELF, names, dealt, receiver)

        place = three.place("gamma")
        commitments = read_commitments(three.exchange, ticket, roster, attempt.charter)
        secrets = drawn(three, "gamma")
        own = recoverable_masks(
            names,
            private_half(place, secrets),
            public_halves(attempt.charter, commitments),
            secrets.seed,
        )
        found = recovered(three).masks
        # All that masks gamma but its self-mask was put together, with the sign turned round.
        assert set(found.added) & {*own.added, *own.subtracted} == set(own.subtracted)
        assert set(found.subtracted) == set(own.added[1:])
        assert own.added[0] == self_key(secrets.seed, names, "gamma")
        vector = read_update(place.store, ticket)
        blob = three.exchange_folder / f"{ticket.folder}/sealed/gamma.bin"
        pads = Masks(added=own.added[1:], subtracted=own.subtracted)
        with blob.open("rb") as source:
            rest = RingOpener("smc", b"", pads).open(source, vector.size)
        # 31 words in steps of 2^28: uniform ones lie in all of the 32 bits, an update's do not.
        assert np.abs(rest.astype(np.int64)).max() > 2**29 > np.abs(vector.astype(np.int64)).max()
        with blob.open("rb") as source:
            assert np.array_equal(RingOpener("smc", b"", own).open(source, vector.size), vector)
        assert blob.stat().st_size == HEADER_BYTES + 4 * vector.size
