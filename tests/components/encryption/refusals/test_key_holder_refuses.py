"""What the key holder opens nothing of, whoever else works together against one site."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest

from components.agreement.charter_book import charter_key, signature_key
from components.agreement.cutoff import Cutoff, cutoff_key, end_attempt, shortfall_key, sum_key
from components.agreement.key_certificate import certificate_key, certified_keys
from components.agreement.receipt import aggregate_key, receipt_key
from components.agreement.released import ReleasedMasks, read_release, release_key
from components.agreement.roster import read_commitments, roster_key
from components.agreement.round_secrets import read_secrets
from components.agreement.sealed_manifest import blob_key
from components.agreement.void import void_document, void_key
from components.artifacts.stores import open_store, reference
from components.encryption.bfv.packing import BLOCK_SLOTS, PLAIN_MODULUS
from components.encryption.bfv.words import MODULUS
from components.encryption.ciphertext_sum import MemberSum, attempt_summer, sealed_length
from components.encryption.masking.attempt_masks import attempt_names, private_half, public_halves
from components.encryption.masking.release_lock import Release, open_releases, release
from components.errors import (
    CiphertextError,
    DigestMismatchError,
    IntegrityError,
    QuorumNotReachedError,
    SignatureError,
)
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.encryption.refusals.walk import (
    FOUR,
    THREE,
    WalkTo,
    ask,
    blob_of,
    files,
    goes_on,
    nothing_is_open,
    put,
    refused,
    roster_of,
    show_cutoff,
    signing_key,
    upload,
    with_words,
    without,
    words_of,
)

VOID_KEY = "rounds/00001-1/shortfall.json"
VOID = [f"exchange/{VOID_KEY}"]


def summed(three: ThreeSites, members: Sequence[str]) -> str:
    """The sum of these sites, rightly added; its reference."""
    attempt = three.attempt()
    roster = attempt.roster()
    cutoff = Cutoff(roster=roster.digest, members=tuple(members), left_out={})
    member_sum = MemberSum(attempt=attempt, roster=roster, cutoff=cutoff, length=sealed_length(attempt))
    return put(three, "offers/sum.bin", b"".join(member_sum.add(attempt_summer(attempt))))


def collude(three: ThreeSites, site: str, members: Sequence[str]) -> None:
    """A malicious site releases for this set too, with its own keys and past its own records."""
    place, attempt = three.place(site), three.attempt()
    roster, ticket = attempt.roster(), attempt.ticket
    ud = Cutoff(roster=roster.digest, members=tuple(members), left_out={}).digest
    secrets = read_secrets(place.store, place.key, ticket.digest)
    halves = public_halves(place.charter, read_commitments(three.exchange, ticket, roster, place.charter))
    made = release(
        attempt_names(ticket, roster), ud, members, private_half(place, secrets), halves, secrets.seed
    )
    publish(three, site, ud, made)


def publish(three: ThreeSites, site: str, cutoff: str, made: Release, **changes: str) -> None:
    ticket = three.opened.ticket
    document = ReleasedMasks(
        **{
            "charter": ticket.charter,
            "ticket": ticket.digest,
            "roster": three.attempt().roster().digest,
            "cutoff": cutoff,
            "purpose": ticket.purpose,
            "site": site,
            **changes,
        },
        shares=dict(made.shares),
        locked=made.locked,
    ).signed(signing_key(three, site))
    put(three, release_key(ticket, site), document)


def released(three: ThreeSites, site: str) -> ReleasedMasks:
    attempt = three.attempt()
    return read_release(
        three.exchange, attempt.ticket, attempt.cutoff(attempt.roster()), site, attempt.charter
    )


def after_a_void(three: ThreeSites) -> None:
    """The next run goes on: the next number, the same model."""
    later = three.next_attempt()
    assert (later.opened.ticket.round_number, later.opened.ticket.attempt) == (2, 1)
    assert later.opened.ticket.model == three.opened.ticket.model
    goes_on(later)


class TestCharter:
    def test_a_foreign_charter_is_refused(self, walk_to: WalkTo) -> None:
        """All sites have signed it; the key holder's signature is of the edition before."""
        walk = walk_to("released")
        three, store = walk.three, open_store(walk.three.keys_uri)
        charter = replace(three.charter, edition=2, previous=three.charter.digest, max_rounds=1000)
        store.create(charter_key(2), charter.to_json())
        asked = ask(three, "offers/ticket.json", charter=charter.digest)
        with refused(three, SignatureError, "the ticket names a foreign charter"):
            asked.open_sum(walk.total)
        assert not store.exists(signature_key(2, "key-holder"))
        three.open_sum(walk.total)

    def test_a_ticket_that_the_coordinator_did_not_sign_is_refused(self, walk_to: WalkTo) -> None:
        walk = walk_to("released")
        asked = ask(walk.three, "offers/ticket.json", signer="beta", seed=4)
        with refused(walk.three, SignatureError, "the signature of coordinator on a ticket document"):
            asked.open_sum(walk.total)

    def test_the_certificate_of_a_stranger_is_refused(self, walk_to: WalkTo) -> None:
        walk = walk_to("released")
        three = walk.three
        named = certified_keys(three.keys_uri, three.charter, "sealed")[0].certificate
        path = three.keys_folder / certificate_key(three.charter, "sealed", 1)
        path.write_bytes(replace(named, context="0" * 64).signed(signing_key(three, "coordinator")))
        with refused(three, SignatureError, "the signature of key-holder on a key certificate"):
            three.open_sum(walk.total)


class TestSet:
    def test_a_roster_below_min_sites_is_not_opened(self, walk_to: WalkTo) -> None:
        walk = walk_to("released", FOUR)
        three = walk.three
        two = without(roster_of(three), "gamma", "delta")
        put(three, roster_key(three.opened.ticket), two.signed(signing_key(three, "coordinator")))
        show_cutoff(three, ("alpha", "beta"))
        text = "a roster of 2 sites is not opened, the charter asks for 3"
        with refused(three, QuorumNotReachedError, text, remembers=VOID):
            three.open_sum(walk.total)
        after_a_void(three)

    def test_a_set_below_u_min_is_not_opened(self, walk_to: WalkTo) -> None:
        walk = walk_to("summed", FOUR)
        three, two = walk.three, ("alpha", "beta")
        show_cutoff(three, two)
        for site in two:
            collude(three, site, two)
        total = summed(three, two)
        text = "a sum of 2 sites is not opened, the charter asks for 3"
        with refused(three, QuorumNotReachedError, text, remembers=VOID):
            three.open_sum(total)
        assert json.loads(three.exchange.read(VOID_KEY))["members"] == list(two)
        after_a_void(three)

    def test_a_second_set_for_one_attempt_is_not_opened(self, walk_to: WalkTo) -> None:
        """Every site is malicious and releases twice; the coordinator takes the first receipt away."""
        walk = walk_to("committed", FOUR)
        three, folder = walk.three, walk.three.opened.ticket.folder
        for key in (receipt_key(folder), aggregate_key(folder)):
            (three.exchange_folder / key).unlink()
        show_cutoff(three, THREE)
        for site in THREE:
            collude(three, site, THREE)
        total = summed(three, THREE)
        with refused(three, IntegrityError, "another set of sites was opened for round 1 before: refused"):
            three.open_sum(total)

    def test_views_that_differ_open_nothing(self, walk_to: WalkTo) -> None:
        """Alpha is shown three members, the others four: neither set has all its shares."""
        walk = walk_to("summed", FOUR)
        three = walk.three
        show_cutoff(three, THREE)
        three.release(["alpha"])
        show_cutoff(three, FOUR)
        three.release(["beta", "gamma", "delta"])
        releases = {}
        for site in FOUR:
            sent = json.loads(three.exchange.read(release_key(three.opened.ticket, site)))["body"]
            releases[site] = Release(site=site, shares=sent["shares"], locked=sent["locked"])
        attempt = three.attempt()
        roster = attempt.roster()
        names = attempt_names(attempt.ticket, roster)
        # A malicious key holder tries both sets, without looking at what the documents say they are for.
        for members in (FOUR, THREE):
            ud = Cutoff(roster=roster.digest, members=tuple(sorted(members)), left_out={}).digest
            parts = {
                site: replace(
                    releases[site],
                    shares={to: share for to, share in releases[site].shares.items() if to in members},
                )
                for site in members
            }
            with pytest.raises(CiphertextError, match="the releases do not open this set"):
                open_releases(names, ud, sorted(members), roster.sites, parts)
        with refused(three, QuorumNotReachedError, "alpha sealed but did not release", remembers=VOID):
            three.open_sum(walk.total)
        after_a_void(three)

    def test_a_share_is_good_for_one_set_alone(self, walk_to: WalkTo) -> None:
        """What alpha gave towards beta's lock for three members is nothing towards that for four."""
        three = walk_to("summed", FOUR).three
        shares = []
        for members in (THREE, FOUR):
            show_cutoff(three, members)
            collude(three, "alpha", sorted(members))
            shares.append(released(three, "alpha").shares)
        assert set(shares[0]) == {"beta", "gamma"} < set(shares[1])
        assert not set(shares[0].values()) & set(shares[1].values())
        assert len(set(shares[1].values())) == 3


class TestMembers:
    def test_a_member_altered_after_the_cut_off_is_not_opened(self, walk_to: WalkTo) -> None:
        walk = walk_to("released")
        three, key = walk.three, blob_key(walk.three.opened.ticket, "beta")
        genuine = blob_of(three, "beta")
        put(three, key, genuine[:-1] + bytes([genuine[-1] ^ 1]))
        with refused(
            three, DigestMismatchError, "the sealed update of beta is not the one its manifest signs"
        ):
            three.open_sum(walk.total)
        put(three, key, genuine)
        three.open_sum(walk.total)

    @pytest.mark.parametrize("name", ["purpose", "roster", "ticket", "certificate"])
    def test_a_manifest_made_for_something_else_is_not_opened(self, walk_to: WalkTo, name: str) -> None:
        walk = walk_to("released")
        three = walk.three
        upload(three, "gamma", blob_of(three, "gamma"), **{name: "metrics"})
        with refused(three, SignatureError, f"the sealed update of gamma was made for another {name}"):
            three.open_sum(walk.total)

    def test_another_receipt_in_the_exchange_is_not_passed_on(self, walk_to: WalkTo) -> None:
        first = walk_to("committed").three
        second = first.next_round()
        total = second.summed(second.sealed())
        given = first.exchange.read(receipt_key(first.opened.ticket.folder))
        put(second, receipt_key(second.opened.ticket.folder), given)
        with refused(second, SignatureError, "was given for another ticket"):
            second.open_sum(total)

    def test_what_does_not_open_to_a_sum_is_refused_in_one_bit(self, walk_to: WalkTo) -> None:
        """A malicious member adds one to a single check slot of its own ciphertext: no value is touched."""
        walk = walk_to("rostered")
        three = walk.three
        sealed = three.seal(walk.roster)
        words = words_of(blob_of(three, "gamma")).copy()
        words[BLOCK_SLOTS - 2] = (words[BLOCK_SLOTS - 2] + MODULUS // PLAIN_MODULUS) % MODULUS
        upload(three, "gamma", with_words(blob_of(three, "gamma"), words))
        total = three.summed(sealed)
        noted = [*VOID, "key-holder/opened/"]
        with refused(three, CiphertextError, "the sum of round 1 does not open: refused", remembers=noted):
            three.open_sum(total)
        assert nothing_is_open(three)
        after_a_void(three)


class TestAnAttemptThatIsOver:
    """The next round may have begun from the same model: two sums of it would give away their difference."""

    @pytest.mark.parametrize("said", ["shortfall", "void"])
    def test_is_not_opened_though_all_have_released(self, walk_to: WalkTo, said: str) -> None:
        walk = walk_to("released")
        three, ticket = walk.three, walk.three.opened.ticket
        if said == "shortfall":
            end_attempt(three.exchange, ticket, three.attempt().cutoff(three.attempt().roster()))
        else:
            own = signing_key(three, "coordinator")
            three.exchange.create(void_key(ticket.folder), void_document(ticket.digest, 1, "timeout", own))
        with refused(three, QuorumNotReachedError, "round 1 is void: nothing of it is opened any more"):
            three.open_sum(walk.total)
        if said == "shortfall":
            after_a_void(three)

    def test_that_was_given_up_for_a_late_release_is_not_opened_beside_the_next(
        self, walk_to: WalkTo
    ) -> None:
        walk = walk_to("summed")
        three = walk.three
        three.release(["alpha", "beta"])
        with refused(three, QuorumNotReachedError, "gamma sealed but did not release", remembers=VOID):
            three.open_sum(walk.total)
        later = three.next_attempt()
        three.release(["gamma"])
        with refused(three, QuorumNotReachedError, "round 1 is void: nothing of it is opened any more"):
            three.open_sum(walk.total)
        assert nothing_is_open(three)
        goes_on(later)

    @pytest.mark.parametrize("said", ["shortfall", "void"])
    def test_that_was_opened_before_keeps_its_receipt(self, walk_to: WalkTo, said: str) -> None:
        walk = walk_to("committed")
        three, ticket = walk.three, walk.three.opened.ticket
        key = {"shortfall": shortfall_key(ticket), "void": void_key(ticket.folder)}[said]
        three.exchange.create(key, b"{}")
        before = files(three)
        given = reference(three.exchange, receipt_key(ticket.folder))
        assert three.open_sum(walk.total).reference == given
        assert files(three) == before


class TestReleases:
    @pytest.mark.parametrize("name", ["purpose", "cutoff", "roster", "ticket"])
    def test_a_release_made_for_something_else_opens_nothing(self, walk_to: WalkTo, name: str) -> None:
        walk = walk_to("released")
        three = walk.three
        body = asdict(released(three, "gamma")) | {name: "metrics"}
        put(
            three,
            release_key(three.opened.ticket, "gamma"),
            ReleasedMasks(**body).signed(signing_key(three, "gamma")),
        )
        with refused(three, QuorumNotReachedError, "gamma sealed but did not release", remembers=VOID):
            three.open_sum(walk.total)
        left_out = json.loads(three.exchange.read(shortfall_key(three.opened.ticket)))["left_out"]
        assert left_out == {"gamma": f"refused: the release of gamma was made for another {name}"}
        assert nothing_is_open(three)
        if name == "purpose":
            after_a_void(three)

    def test_a_release_in_the_name_of_another_site_opens_nothing(self, walk_to: WalkTo) -> None:
        walk = walk_to("released")
        three = walk.three
        forged = released(three, "gamma").signed(signing_key(three, "beta"))
        put(three, release_key(three.opened.ticket, "gamma"), forged)
        with refused(three, QuorumNotReachedError, "gamma sealed but did not release", remembers=VOID):
            three.open_sum(walk.total)

    @pytest.mark.parametrize("fault", ["wrong shares", "wrong lock", "no shares"])
    def test_a_malicious_release_opens_nothing_and_the_next_run_goes_on(
        self, walk_to: WalkTo, fault: str
    ) -> None:
        walk = walk_to("released")
        three = walk.three
        genuine = released(three, "gamma")
        noise = base64.b64encode(bytes(32)).decode()
        faults: dict[str, dict[str, Any]] = {
            "wrong shares": {"shares": dict.fromkeys(genuine.shares, noise)},
            "wrong lock": {"locked": noise},
            "no shares": {"shares": {}},
        }
        body = asdict(genuine) | faults[fault]
        put(
            three,
            release_key(three.opened.ticket, "gamma"),
            ReleasedMasks(**body).signed(signing_key(three, "gamma")),
        )
        with refused(three, CiphertextError, "the releases do not open this set", remembers=VOID):
            three.open_sum(walk.total)
        assert nothing_is_open(three)
        after_a_void(three)


def test_no_cut_off_and_no_sum_open_nothing(walk_to: WalkTo) -> None:
    walk = walk_to("released")
    three = walk.three
    cutoff = three.exchange.read(cutoff_key(three.opened.ticket))
    put(three, cutoff_key(three.opened.ticket), b"[]")
    with refused(three, IntegrityError, "is not in the form this version knows"):
        three.open_sum(walk.total)
    put(three, cutoff_key(three.opened.ticket), cutoff)
    assert three.exchange.exists(sum_key(three.opened.ticket))
    three.open_sum(walk.total)
