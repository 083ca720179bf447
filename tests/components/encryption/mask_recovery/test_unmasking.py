"""A site unmasks once a round, for one set of sites, and gives one share of every sharer."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence

import pytest

from components.agreement.cutoff import Cutoff, cutoff_key, end_attempt
from components.agreement.sharers import Sharers, sharers_key
from components.agreement.unmasking import unmasking_key
from components.encryption.mask_recovery.unmasking import revealed_keys, unmask_sum
from components.encryption.masking.attempt_masks import attempt_names
from components.encryption.masking.share_keys import SCALAR, SELF, Kind, share_key
from components.errors import IntegrityError, ObjectMissingError, RefusedError
from tests.components.aggregation.three_sites import ThreeSites, set_policy
from tests.components.encryption.mask_recovery.recoveries import (
    FIVE,
    drawn,
    fix_cutoff,
    revealed,
    secrets_of,
    sharers,
)
from tests.components.encryption.sharing_sites import NAMES, secret_of
from tests.components.rounds.walks import Walked, walk


def summed(members: Sequence[str] = FIVE) -> Walked:
    walked = walk("sealed", "smc", sites=FIVE, colluding=0)
    walked.three.aggregate({site: walked.sealed[site] for site in members})
    return walked


def refused(three: ThreeSites, rule: str, site: str = "alpha") -> None:
    """The site gives nothing away, and says why in words that others may read."""
    with pytest.raises(RefusedError, match=rule) as caught:
        unmask_sum(three.place(site))
    assert caught.value.disclosed == str(caught.value)
    assert not three.exchange.exists(unmasking_key(three.opened.ticket, site))
    assert three.place(site).store.keys("unmaskings") == []


def kinds_given(three: ThreeSites, site: str) -> dict[str, Kind]:
    """Which share of each dealer a site's key opens, as far as its unmasking is open."""
    secrets, names = secrets_of(three, site), attempt_names(three.opened.ticket, three.attempt().roster())
    found: dict[str, Kind] = {}
    for dealer, key in revealed(three)[site].items():
        for kind in (SELF, SCALAR):
            if key == share_key(secrets[dealer], kind, names, dealer=dealer, receiver=site):
                found[dealer] = kind
    return found


def test_exactly_one_share_of_every_sharer_is_given_whatever_the_set_is() -> None:
    """There is no argument by which it could be asked for both."""
    secrets = {site: secret_of(site) for site in FIVE}
    fixed = Sharers(roster="rd", shares=dict.fromkeys(FIVE, ""), left_out={})
    for size in range(6):
        for members in itertools.combinations(FIVE, size):
            cutoff = Cutoff(roster="rd", members=members, left_out={})
            given = revealed_keys(NAMES, cutoff, "alpha", secrets, fixed)
            assert set(given) == set(FIVE)
            for dealer, key in given.items():
                both = {
                    kind: share_key(secrets[dealer], kind, NAMES, dealer=dealer, receiver="alpha")
                    for kind in (SELF, SCALAR)
                }
                assert key == both[SELF if dealer in members else SCALAR]
                assert both[SELF] != both[SCALAR]


def test_members_self_keys_and_lost_sites_scalars_are_given() -> None:
    three = summed(FIVE[:4]).three
    three.unmask()
    for site in FIVE[:4]:
        assert kinds_given(three, site) == dict.fromkeys(FIVE[:4], SELF) | {"gamma": SCALAR}


class TestBothSharesOfOneSite:
    """The set that was shown first has gamma in it; a second one, in which it is lost, gets nothing."""

    def attacked(self) -> ThreeSites:
        three = summed().three
        three.unmask()
        assert {kinds_given(three, site)["gamma"] for site in FIVE} == {SELF}
        return three

    def again(self, three: ThreeSites) -> None:
        """All honest members are asked for the second set, in every way there is."""
        fix_cutoff(three, FIVE[:4])
        for site in FIVE[:4]:
            with pytest.raises(RefusedError, match="a second set of sites was fixed for the roster"):
                unmask_sum(three.place(site))
        assert revealed_none(three)

    def test_are_not_given_for_a_second_cut_off(self) -> None:
        self.again(self.attacked())

    def test_are_not_given_where_the_first_document_is_gone(self) -> None:
        three = self.attacked()
        for site in FIVE:
            (three.exchange_folder / unmasking_key(three.opened.ticket, site)).unlink()
        self.again(three)

    def test_are_not_given_after_a_restart_that_lost_what_was_published(self) -> None:
        """Killed between its record and its document: the record comes first."""
        three = self.attacked()
        for site in FIVE:
            (three.exchange_folder / unmasking_key(three.opened.ticket, site)).unlink()
            shutil.rmtree(three.store_folder(site) / "unmaskings")
        self.again(three)
        # For the set of the record it goes on, and gives the same keys under a lock drawn anew.
        fix_cutoff(three, FIVE)
        three.unmask()
        assert {kinds_given(three, site)["gamma"] for site in FIVE} == {SELF}

    def test_are_not_given_among_other_sharers(self) -> None:
        three = self.attacked()
        fixed = sharers(three)
        fewer = {site: named for site, named in fixed.shares.items() if site != "gamma"}
        path = three.exchange_folder / sharers_key(three.opened.ticket)
        path.write_bytes(Sharers(roster=fixed.roster, shares=fewer, left_out={}).to_json())
        fix_cutoff(three, FIVE[:4])
        for site in FIVE[:4]:
            with pytest.raises(RefusedError, match="has not sealed among the sharers of round 1"):
                unmask_sum(three.place(site))
            with pytest.raises(RefusedError, match="a second set of sharers was fixed"):
                three.seal(walk_roster(three), [site])

    def test_are_not_given_in_another_attempt_of_the_round(self) -> None:
        three = self.attacked()
        (three.exchange_folder / cutoff_key(three.opened.ticket)).unlink()
        three.exchange.create(f"{three.opened.ticket.folder}/shortfall.json", b"{}")
        again = three.next_attempt()
        assert (again.opened.ticket.round_number, again.opened.ticket.attempt) == (1, 2)
        with pytest.raises(RefusedError, match="released its masks in another attempt of round 1"):
            again.accepted("alpha")


def walk_roster(three: ThreeSites) -> str:
    return f"{three.exchange_uri}/{three.opened.ticket.folder}/roster.json"


def revealed_none(three: ThreeSites) -> bool:
    """Whether no document for the set that is fixed now can be opened."""
    try:
        return revealed(three) == {}
    except IntegrityError as error:
        return "was made for another cutoff" in str(error)


class TestARetry:
    def test_sends_the_very_same_bytes_and_needs_no_secret(self) -> None:
        three = summed().three
        first = unmask_sum(three.place("alpha"))
        path = three.exchange_folder / unmasking_key(three.opened.ticket, "alpha")
        before = path.read_bytes()
        assert unmask_sum(three.place("alpha")) == first
        path.unlink()
        shutil.rmtree(three.store_folder("alpha") / "secrets")
        assert unmask_sum(three.place("alpha")) == first
        assert path.read_bytes() == before
        assert first.bytes_sent == len(before)
        assert first.manifest["sites"] == list(FIVE)

    def test_finds_another_unmasking_where_its_own_belongs(self) -> None:
        three = summed().three
        unmask_sum(three.place("beta"))
        path = three.exchange_folder / unmasking_key(three.opened.ticket, "beta")
        (path.parent / "alpha.json").write_bytes(path.read_bytes())
        with pytest.raises(RefusedError, match="another unmasking lies where this site's belongs"):
            unmask_sum(three.place("alpha"))


class TestRefuses:
    def test_a_set_without_this_site(self) -> None:
        refused(summed(FIVE[1:]).three, "the site is not in the sum of round 1: its masks stay as they are")

    @pytest.mark.parametrize("members", [("alpha", "beta"), ("alpha",), ("alpha", "beta", "beta")])
    def test_a_set_below_the_quorum(self, members: Sequence[str]) -> None:
        three = summed().three
        fix_cutoff(three, members)
        refused(three, f"has {len(set(members))} sites, the charter asks for 3")
        assert three.place("alpha").store.keys("cutoffs") == []

    def test_a_set_without_a_peer_the_site_insists_on(self) -> None:
        three = summed(FIVE[:4]).three
        set_policy(
            "small", "alpha", charter=three.charter.digest, protections=("smc",), peers=("beta", "gamma")
        )
        refused(three, "insists on gamma, which does not take part")

    def test_a_roster_it_did_not_seal_under(self) -> None:
        three = summed().three
        shutil.rmtree(three.store_folder("alpha") / "rosters")
        refused(three, "the site has not sealed under the roster of round 1")

    def test_sharers_it_did_not_seal_among(self) -> None:
        three = summed().three
        shutil.rmtree(three.store_folder("alpha") / "sharers")
        refused(three, "the site has not sealed among the sharers of round 1")

    def test_an_attempt_whose_secrets_are_erased_before_it_remembers_anything(self) -> None:
        three = summed().three
        shutil.rmtree(three.store_folder("alpha") / "secrets")
        refused(three, "has erased its secrets of attempt 1 of round 1: it unmasks nothing")
        assert three.place("alpha").store.keys("cutoffs") == []

    def test_an_attempt_that_is_over(self) -> None:
        three = summed().three
        attempt = three.attempt()
        end_attempt(three.exchange, attempt.ticket, attempt.cutoff(attempt.roster()))
        refused(three, "round 1 is void: nothing of it is unmasked any more")
        assert three.place("alpha").store.keys("cutoffs") == []

    @pytest.mark.parametrize("fault", ["a stranger", "not a sharer", "another roster", "no cut-off"])
    def test_a_set_that_does_not_follow(self, fault: str) -> None:
        walked = walk("called", "smc", sites=FIVE, colluding=0)
        three = walked.three
        three.share(walked.roster, FIVE[:4])
        three.aggregate(three.seal(walked.roster, FIVE[:4]))
        if fault == "a stranger":
            fix_cutoff(three, (*FIVE, "mallory"))
        elif fault == "not a sharer":
            fix_cutoff(three, FIVE)
        else:
            path = three.exchange_folder / cutoff_key(three.opened.ticket)
            other = Cutoff(roster="0" * 64, members=FIVE, left_out={}).to_json()
            path.write_bytes(other if fault == "another roster" else b"[]")
        with pytest.raises(IntegrityError, match="cut-off"):
            unmask_sum(three.place("alpha"))
        assert three.place("alpha").store.keys("cutoffs") == []

    def test_before_there_is_a_set(self) -> None:
        three = walk("sealed", "smc", sites=FIVE, colluding=0).three
        with pytest.raises(ObjectMissingError):
            unmask_sum(three.place("alpha"))


def test_secrets_are_still_there_until_the_receipt_and_the_rounds_record_is_kept() -> None:
    three = summed().three
    three.unmask()
    fixed = three.attempt().cutoff(three.attempt().roster())
    assert drawn(three, "alpha").salt
    assert three.place("alpha").store.read(f"cutoffs/{fixed.roster}.txt").decode() == fixed.digest
