"""The `release` step: a site gives up its masks for one set of sites, once a round."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from components.agreement.cutoff import Cutoff, cutoff_key, read_cutoff, sum_key
from components.agreement.released import read_release, release_key
from components.agreement.roster import read_commitments, roster_key
from components.agreement.round_secrets import read_secrets
from components.encryption.attempt_masks import attempt_names, private_half, public_halves
from components.encryption.mask_release.releasing import release_masks
from components.encryption.pair_keys import pad_key, self_key, shared_secret
from components.encryption.release_lock import Release, open_releases
from components.errors import (
    IntegrityError,
    ObjectMissingError,
    QuorumNotReachedError,
    RefusedError,
    SignatureError,
)
from tests.components.aggregation.three_sites import ThreeSites, put_in_force, set_policy
from tests.components.rounds.walks import FOUR, Walked, content, walk

REMAINING = ("alpha", "beta", "gamma")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)


@pytest.fixture
def walked(home: None) -> Walked:
    """Four sites on the roster; delta was lost, the others are in the sum."""
    return walk("summed", "sealed", sites=FOUR, lost="delta")


def release(three: ThreeSites, site: str = "alpha") -> str:
    return release_masks(three.place(site)).reference


def released(three: ThreeSites, site: str = "alpha") -> Path:
    return three.exchange_folder / release_key(three.opened.ticket, site)


def cutoff(three: ThreeSites) -> Cutoff:
    attempt = three.attempt()
    return attempt.cutoff(attempt.roster())


def fix(three: ThreeSites, members: Sequence[str], **changes: str) -> None:
    """Another set of sites in the place of the one that was fixed."""
    fixed = {"roster": three.attempt().roster().digest, **changes}
    path = three.exchange_folder / cutoff_key(three.opened.ticket)
    path.write_bytes(Cutoff(members=tuple(members), left_out={}, **fixed).to_json())


def refused(three: ThreeSites, rule: str, site: str = "alpha") -> None:
    """The site gives nothing away, and says why in words that others may read."""
    with pytest.raises(RefusedError, match=rule) as caught:
        release(three, site)
    assert caught.value.disclosed == str(caught.value)
    assert not released(three, site).exists()
    assert three.place(site).store.keys("releases") == []


class TestWhatIsReleased:
    def test_opens_the_sum_with_all_of_the_others_releases(self, walked: Walked) -> None:
        """What comes out is the self keys of the members and their pads with the site that was lost."""
        three = walked.three
        for site in REMAINING:
            outcome = release_masks(three.place(site))
            assert outcome.manifest["sites"] == list(REMAINING)
            assert outcome.bytes_sent == outcome.manifest["bytes"] == released(three, site).stat().st_size
            assert outcome.reference == f"{three.exchange_uri}/{release_key(three.opened.ticket, site)}"
            assert outcome.bytes_sent < 2_000
        names = attempt_names(three.opened.ticket, three.attempt().roster())
        masks = open_releases(names, cutoff(three).digest, REMAINING, FOUR, releases_of(three))
        assert set(masks.added) | set(masks.subtracted) == self_keys(three) | pads_with(three, "delta")
        # Names are ordered: alpha and beta add the pad with delta, gamma subtracts it.
        assert (len(masks.added), len(masks.subtracted)) == (3 + 2, 1)

    def test_is_locked_as_long_as_one_member_has_not_released(self, walked: Walked) -> None:
        three = walked.three
        three.release()
        names = attempt_names(three.opened.ticket, three.attempt().roster())
        releases = releases_of(three)
        for missing in REMAINING:
            others = {site: each for site, each in releases.items() if site != missing}
            with pytest.raises(IntegrityError):
                open_releases(names, cutoff(three).digest, REMAINING, FOUR, others)
            # A made-up release does not stand for it, nor does any of the others'.
            for stand_in in others.values():
                forged = others | {missing: replace(stand_in, site=missing)}
                with pytest.raises(IntegrityError):
                    open_releases(names, cutoff(three).digest, REMAINING, FOUR, forged)

    def test_no_key_lies_in_the_exchange_in_the_open(self, walked: Walked) -> None:
        three = walked.three
        three.release()
        everything = content(three.exchange_uri)
        place = three.place("alpha")
        secrets = read_secrets(place.store, place.key, place.ticket.digest)
        keys = self_keys(three) | pads_with(three, "delta") | {secrets.seed, secrets.salt}
        for key in keys:
            for encoding in (key, base64.b64encode(key)[:43], key.hex().encode()):
                assert not any(encoding in each for each in everything.values())

    def test_is_signed_for_this_set(self, walked: Walked) -> None:
        three = walked.three
        release(three)
        ticket, fixed = three.opened.ticket, cutoff(three)
        found = read_release(three.exchange, ticket, fixed, "alpha", three.charter)
        assert (found.charter, found.ticket) == (three.charter.digest, ticket.digest)
        assert (found.roster, found.cutoff) == (three.attempt().roster().digest, fixed.digest)
        assert (found.purpose, found.site) == ("update", "alpha")
        assert set(found.shares) == {"beta", "gamma"}

    def test_everybody_in_the_sum_of_all(self) -> None:
        walked = walk("summed", "sealed")
        assert set(walked.three.release()) == set(walked.three.sites)
        names = attempt_names(walked.three.opened.ticket, walked.three.attempt().roster())
        found = open_releases(
            names, cutoff(walked.three).digest, REMAINING, REMAINING, releases_of(walked.three)
        )
        assert (len(found.added), found.subtracted) == (3, ())


def releases_of(three: ThreeSites) -> Mapping[str, Release]:
    fixed, found = cutoff(three), {}
    for site in fixed.members:
        each = read_release(three.exchange, three.opened.ticket, fixed, site, three.charter)
        found[site] = Release(site=site, shares=each.shares, locked=each.locked)
    return found


def self_keys(three: ThreeSites) -> set[bytes]:
    names, found = attempt_names(three.opened.ticket, three.attempt().roster()), set()
    for site in cutoff(three).members:
        place = three.place(site)
        seed = read_secrets(place.store, place.key, place.ticket.digest).seed
        found.add(self_key(seed, names, site))
    return found


def pads_with(three: ThreeSites, lost: str) -> set[bytes]:
    """The pads of the members with a lost site, from its own private keys."""
    place, roster = three.place(lost), three.attempt().roster()
    commitments = read_commitments(three.exchange, place.ticket, roster, place.charter)
    halves = {half.name: half for half in public_halves(place.charter, commitments)}
    own = private_half(place, read_secrets(place.store, place.key, place.ticket.digest))
    names = attempt_names(place.ticket, roster)
    return {
        pad_key(shared_secret(own, halves[site]), names, own.public(), halves[site])
        for site in cutoff(three).members
    }


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


class TestTheRoster:
    def test_another_one_than_it_sealed_under_is_refused(self, walked: Walked) -> None:
        """A coordinator that calls two rosters gets a release for none but the one that was sealed under."""
        three = walked.three
        roster = three.attempt().roster()
        fewer = {site: roster.commitments[site] for site in REMAINING}
        path = three.exchange_folder / roster_key(three.opened.ticket)
        path.unlink()
        three.sign_roster(replace(roster, commitments=fewer), roster_key(three.opened.ticket))
        fix(three, REMAINING)
        refused(three, "has not sealed under the roster of round 1")

    def test_a_site_that_has_not_sealed_releases_nothing(self) -> None:
        walked = walk("called", "sealed", sites=FOUR)
        fix(walked.three, FOUR)
        refused(walked.three, "has not sealed under the roster of round 1")

    def test_one_of_somebody_else_is_refused(self, walked: Walked) -> None:
        three = walked.three
        forged = three.attempt().roster().signed(three.place("beta").key)
        (three.exchange_folder / roster_key(three.opened.ticket)).write_bytes(forged)
        with pytest.raises(SignatureError):
            release(three)
        assert not released(three).exists()

    def test_a_ticket_that_was_not_accepted_is_refused(self, walked: Walked) -> None:
        shutil.rmtree(walked.three.store_folder("alpha") / "tickets")
        refused(walked.three, "has not accepted the ticket of round 1")

    def test_secrets_that_are_erased_are_not_drawn_anew(self, walked: Walked) -> None:
        three = walked.three
        shutil.rmtree(three.store_folder("alpha") / "secrets")
        with pytest.raises(ObjectMissingError):
            release(three)
        assert not released(three).exists()
        assert three.place("alpha").store.keys("secrets") == []


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
        two = one.next_attempt()
        assert (two.opened.ticket.round_number, two.opened.ticket.attempt) == (1, 2)
        two.aggregate(two.sealed())
        hidden.write_bytes(fixed)
        attempts = [one, two] if first_to_release == 1 else [two, one]
        # The secrets of the first were erased when the second was accepted: nothing is left to release.
        with pytest.raises(ObjectMissingError) if first_to_release == 1 else contextlib.nullcontext():
            release(attempts[0], "beta")
        with pytest.raises(RefusedError, match="released its masks in another attempt of round 1"):
            release(attempts[1], "beta")
        assert [each for each in (one, two) if released(each, "beta").exists()] == (
            [] if first_to_release == 1 else [two]
        )

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
