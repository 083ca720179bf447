"""A site releases once a round, for one set of sites, however often it is asked."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace

import pytest

from components.agreement.cutoff import cutoff_key, read_cutoff, sum_key
from components.agreement.released import release_key
from components.encryption.mask_release.releasing import release_masks
from components.errors import (
    IntegrityError,
    ObjectMissingError,
    QuorumNotReachedError,
    RefusedError,
)
from tests.components.aggregation.three_sites import ThreeSites, put_in_force, set_policy
from tests.components.encryption.mask_release.releases import (
    REMAINING,
    fix,
    refused,
    release,
    released,
)
from tests.components.rounds.walks import FOUR, Walked, content, walk


class TestARetry:
    def test_sends_the_very_same_bytes(self, walked: Walked) -> None:
        three = walked.three
        first = release_masks(three.place("alpha"))
        before = released(three).read_bytes()
        assert release_masks(three.place("alpha")) == first
        released(three).unlink()
        assert release_masks(three.place("alpha")) == first
        assert released(three).read_bytes() == before

    def test_needs_no_secret_any_more(self, walked: Walked) -> None:
        three = walked.three
        release(three)
        before = released(three).read_bytes()
        released(three).unlink()
        shutil.rmtree(three.store_folder("alpha") / "secrets")
        release(three)
        assert released(three).read_bytes() == before

    def test_finds_another_release_where_its_own_belongs(self, walked: Walked) -> None:
        three = walked.three
        release(three, "beta")
        foreign = released(three, "beta").read_bytes()
        released(three).parent.mkdir(exist_ok=True)
        released(three).write_bytes(foreign)
        with pytest.raises(RefusedError, match="another release lies where this site's belongs") as caught:
            release(three)
        assert caught.value.disclosed
        assert released(three).read_bytes() == foreign

    def test_one_that_was_killed_after_its_record_goes_on(self, walked: Walked) -> None:
        """The set is remembered before anything is made: the same set is released, no other."""
        three = walked.three
        release(three)
        before = released(three).read_bytes()
        released(three).unlink()
        shutil.rmtree(three.store_folder("alpha") / "releases")
        release(three)
        assert released(three).read_bytes() == before


class TestTheSet:
    @pytest.mark.parametrize("held", ["after", "killed"])
    def test_a_second_one_is_refused(self, held: str) -> None:
        """Two sums that differ in one site give that site's update away."""
        walked = walk("summed", "sealed", sites=FOUR)
        three = walked.three
        release(three)
        before = released(three).read_bytes()
        if held == "killed":
            released(three).unlink()
            shutil.rmtree(three.store_folder("alpha") / "releases")
        fix(three, REMAINING)
        with pytest.raises(RefusedError, match="second set of sites was fixed for the roster of round 1"):
            release(three)
        assert held == "killed" or released(three).read_bytes() == before
        assert three.place("alpha").store.keys("releases") == [
            f"releases/{key}.json" for key in ([] if held == "killed" else [full(three)])
        ]
        # Who has not released yet has seen the new set only: it may release for that one, never for both.
        assert release(three, "beta")
        fix(three, FOUR)
        with pytest.raises(RefusedError, match="second set of sites"):
            release(three, "beta")

    def test_one_without_this_site_is_refused(self, walked: Walked) -> None:
        """Its upload came after the cut-off: harmless, as long as its own mask stays."""
        three = walked.three
        three.seal(walked.roster, ["delta"])
        refused(three, "the site is not in the sum of round 1: its masks stay as they are", "delta")
        three.release()
        assert walked.three.open_sum(walked.total).manifest["sites"] == list(REMAINING)

    @pytest.mark.parametrize("members", [("alpha", "beta"), ("alpha",), ("alpha", "beta", "beta", "alpha")])
    def test_one_below_the_charters_bound_is_refused(self, walked: Walked, members: Sequence[str]) -> None:
        """Three of four: two sets of three overlap in an honest site whoever the one colluding is."""
        fix(walked.three, members)
        refused(
            walked.three,
            f"the sum of round 1 has {len(set(members))} sites, the charter asks for 3",
        )
        assert walked.three.place("alpha").store.keys("cutoffs") == []

    def test_one_without_a_peer_the_site_insists_on_is_refused(self, walked: Walked) -> None:
        three = walked.three
        set_policy(
            "small", "alpha", charter=three.charter.digest, protections=("sealed",), peers=("beta", "delta")
        )
        refused(three, "insists on delta, which does not take part")
        assert release(three, "beta")

    @pytest.mark.parametrize("fault", ["a stranger", "another roster", "no cut-off"])
    def test_one_that_does_not_follow_from_the_roster_is_refused(self, walked: Walked, fault: str) -> None:
        three = walked.three
        if fault == "a stranger":
            fix(three, (*REMAINING, "mallory"))
        elif fault == "another roster":
            fix(three, REMAINING, roster="0" * 64)
        else:
            (three.exchange_folder / cutoff_key(three.opened.ticket)).write_bytes(b"[]")
        with pytest.raises(IntegrityError, match="cut-off"):
            release(three)
        assert not released(three).exists()

    def test_no_set_yet_is_no_release(self) -> None:
        three = walk("sealed", "sealed").three
        with pytest.raises(ObjectMissingError):
            release(three)
        assert not released(three).exists()
        assert not three.exchange.exists(sum_key(three.opened.ticket))


def full(three: ThreeSites) -> str:
    """Ud of all four, computed here."""
    body = f'{{"members":["alpha","beta","delta","gamma"],"roster":"{three.attempt().roster().digest}"}}'
    return hashlib.sha256(body.encode()).hexdigest()


class TestOneRelease:
    def test_in_a_round_whatever_the_coordinator_opens(self) -> None:
        """It voids the attempt that was released in and opens the round anew: the site stays away."""
        three = walk("released", "sealed").three
        key = release_key(three.opened.ticket, "alpha")
        first = three.exchange.read(key)
        # A coordinator that hides the cut-off makes its own `open_round` believe that nobody released.
        (three.exchange_folder / cutoff_key(three.opened.ticket)).unlink()
        three.exchange.create(f"{three.opened.ticket.folder}/shortfall.json", b"{}")
        again = three.next_attempt()
        assert (again.opened.ticket.round_number, again.opened.ticket.attempt) == (1, 2)
        with pytest.raises(RefusedError, match="released its masks in another attempt of round 1") as caught:
            again.accepted("alpha")
        assert caught.value.disclosed
        assert three.exchange.read(key) == first
        with pytest.raises(RefusedError, match="has not accepted the ticket"):
            release_masks(again.place("alpha"))

    @pytest.mark.parametrize("first_to_release", [1, 2])
    def test_of_two_attempts_at_once(self, first_to_release: int) -> None:
        """The coordinator shows the cut-off of one attempt only after it has opened another."""
        walked = walk("summed", "sealed")
        one = walked.three
        hidden = one.exchange_folder / cutoff_key(one.opened.ticket)
        fixed = hidden.read_bytes()
        hidden.unlink()
        one.exchange.create(f"{one.opened.ticket.folder}/shortfall.json", b"{}")
        beta = content(f"{one.name}/sites/beta")
        kept = {name: secrets for name, secrets in beta.items() if name.startswith("secrets/")}
        assert len(kept) == 1
        two = one.next_attempt()
        assert (two.opened.ticket.round_number, two.opened.ticket.attempt) == (1, 2)
        total = two.aggregate(two.sealed()).reference
        hidden.write_bytes(fixed)
        for each in [one, two] if first_to_release == 1 else [two, one]:
            if each is two:
                assert release(two, "beta")
                continue
            # The secrets of the first were erased when the second was accepted: nothing is left to release.
            before = content(f"{one.name}/sites/beta")
            with pytest.raises(RefusedError, match="has erased its secrets of attempt 1 of round 1"):
                release(one, "beta")
            assert content(f"{one.name}/sites/beta") == before
        assert not released(one, "beta").exists()
        # Nor is it released in beside the second by a site that was killed before it erased them.
        for name, secrets in kept.items():
            (one.store_folder("beta") / name).write_bytes(secrets)
        before = content(f"{one.name}/sites/beta")
        with pytest.raises(RefusedError, match="released its masks in another attempt of round 1"):
            release(one, "beta")
        assert content(f"{one.name}/sites/beta") == before
        two.release(("alpha", "gamma"))
        assert two.open_sum(total).manifest["sites"] == list(two.sites)

    def test_a_round_and_the_next_one_is_free(self) -> None:
        """Beta sealed and did not release: the round is void, its number is used up, the model stays."""
        walked = walk("summed", "sealed")
        first = walked.three
        for site in ("alpha", "gamma"):
            release(first, site)
        with pytest.raises(QuorumNotReachedError, match="beta"):
            first.open_sum(walked.total)
        second = first.next_attempt()
        before, after = first.opened.ticket, second.opened.ticket
        assert (after.round_number, after.attempt, after.void) == (2, 1, "")
        assert (after.model, after.previous) == (before.model, before.previous)
        committed = second.committed()
        assert committed.manifest["round"] == 2
        assert committed.manifest["sites"] == list(second.sites)

    def test_under_every_charter(self) -> None:
        """A new edition does not make the site release twice in a round either."""
        three = walk("released", "sealed").three
        (three.exchange_folder / cutoff_key(three.opened.ticket)).unlink()
        edition = replace(three.charter, edition=2, previous=three.charter.digest, max_rounds=50)
        put_in_force("small", edition)
        again = three.next_attempt()
        assert (again.opened.ticket.round_number, again.opened.ticket.attempt) == (1, 2)
        assert again.opened.ticket.charter == edition.digest
        with pytest.raises(RefusedError, match="released its masks in another attempt of round 1"):
            again.accepted("alpha")


def test_the_cut_off_that_is_released_for_is_the_one_in_the_exchange(walked: Walked) -> None:
    three = walked.three
    fixed = read_cutoff(three.exchange, three.opened.ticket, three.attempt().roster())
    assert fixed.members == REMAINING
    release(three)
    recorded = three.place("alpha").store.read(f"cutoffs/{fixed.roster}.txt").decode()
    assert recorded == fixed.digest == json.loads(released(three).read_bytes())["body"]["cutoff"]
