"""The `release` step: a site gives up its masks for one set of sites."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Mapping
from dataclasses import replace

import pytest

from components.agreement.released import read_release, release_key
from components.agreement.roster import read_commitments, roster_key
from components.agreement.round_secrets import read_secrets
from components.encryption.mask_release.releasing import release_masks
from components.encryption.masking.attempt_masks import attempt_names, private_half, public_halves
from components.encryption.masking.pair_keys import pad_key, self_key, shared_secret
from components.encryption.masking.release_lock import Release, open_releases
from components.errors import (
    IntegrityError,
    SignatureError,
)
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.encryption.mask_release.releases import (
    REMAINING,
    cutoff,
    fix,
    refused,
    release,
    released,
)
from tests.components.rounds.walks import FOUR, Walked, content, walk


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
        before = content(f"{three.name}/sites/alpha")
        refused(three, "the site has erased its secrets of attempt 1 of round 1: it releases nothing")
        assert content(f"{three.name}/sites/alpha") == before
