"""What a site refuses before it seals and before it releases: commitments, rosters, keys, sets."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from components.agreement.charter import KEY_HOLDER
from components.agreement.commitment import Commitment, commitment_key, read_commitment
from components.agreement.cutoff import Cutoff
from components.agreement.key_certificate import certificate_key, certified_keys, context_key
from components.agreement.released import release_key
from components.agreement.roster import Roster, roster_key
from components.agreement.sealed_manifest import blob_key, manifest_key
from components.agreement.ticket import Ticket
from components.artifacts.documents import digest
from components.artifacts.stores import reference
from components.encryption.framing import context_fingerprint
from components.encryption.keys import certify_key
from components.encryption.protection import generate_contexts
from components.errors import (
    CiphertextError,
    IntegrityError,
    QuorumNotReachedError,
    RefusedError,
    SignatureError,
    UsageError,
)
from components.execution.outcome import disclosed_reason
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.encryption.refusals.walk import (
    FOUR,
    THREE,
    WalkTo,
    goes_on,
    nothing_is_open,
    put,
    refused,
    roster_of,
    show_cutoff,
    signing_key,
    without,
)

FIELD = 2**255 - 19
LOW_ORDER = {
    "zero": 0,
    "one": 1,
    "order 8": 325606250916557431795983626356110631294008115727848805560023387167927233504,
    "zero, written as p": FIELD,
}
ROSTER_SEEN = ["sites/alpha/rosters/"]


def commit_as_gamma(three: ThreeSites, ephemeral: bytes) -> dict[str, str]:
    """Alpha and beta are honest; gamma commits with this ephemeral key."""
    commitments = three.train(("alpha", "beta"))
    ticket = three.accepted("gamma").ticket
    document = Commitment(
        charter=ticket.charter,
        ticket=ticket.digest,
        site="gamma",
        ephemeral=base64.b64encode(ephemeral).decode(),
        commitment="0" * 64,
    ).signed(signing_key(three, "gamma"))
    three.exchange.create(commitment_key(ticket, "gamma"), document)
    return commitments | {"gamma": reference(three.exchange, commitment_key(ticket, "gamma"))}


def call_them_all(three: ThreeSites, commitments: Mapping[str, str]) -> str:
    """The roster of a malicious coordinator, who leaves nobody out whatever was committed to."""
    ticket = three.opened.ticket
    named = {site: digest(three.exchange.read(commitment_key(ticket, site))) for site in commitments}
    roster = Roster(charter=ticket.charter, ticket=ticket.digest, commitments=named, left_out={})
    return three.sign_roster(roster, roster_key(ticket))


def ephemeral_of(three: ThreeSites, site: str) -> bytes:
    ticket = three.opened.ticket
    document = three.exchange.read(commitment_key(ticket, site))
    return base64.b64decode(read_commitment(document, ticket, site, three.charter).ephemeral)


def ends_and_starts_again(three: ThreeSites) -> None:
    """Nobody has sealed: the attempt is void, and in the next one gamma is honest."""
    with pytest.raises(QuorumNotReachedError, match="a new attempt is opened"):
        three.aggregate({}, dict.fromkeys(three.sites, "refused"))
    assert nothing_is_open(three)
    again = three.next_attempt()
    assert (again.opened.ticket.round_number, again.opened.ticket.attempt) == (1, 2)
    goes_on(again)


class TestEphemeralKeys:
    @pytest.mark.parametrize("point", LOW_ORDER)
    def test_a_zero_diffie_hellman_result_is_refused(self, walk_to: WalkTo, point: str) -> None:
        """Everybody would know what masks this pair."""
        three = walk_to("opened").three
        roster = call_them_all(three, commit_as_gamma(three, LOW_ORDER[point].to_bytes(32, "little")))
        text = "a public key of gamma is no key or gives an all-zero secret"
        with refused(three, RefusedError, text, remembers=ROSTER_SEEN):
            three.seal(roster, ["alpha"])
        if point == "zero":
            with pytest.raises(RefusedError) as caught:
                three.seal(roster, ["beta"])
            assert disclosed_reason(caught.value) == "refused: a public key of gamma is unusable"
            ends_and_starts_again(three)

    def test_a_repeated_ephemeral_key_is_refused(self, walk_to: WalkTo) -> None:
        three = walk_to("opened").three
        three.train(("beta",))
        roster = call_them_all(three, commit_as_gamma(three, ephemeral_of(three, "beta")))
        text = "two sites on the roster have committed with the same ephemeral key"
        with refused(three, SignatureError, text, remembers=ROSTER_SEEN):
            three.seal(roster, ["alpha"])
        with refused(three, SignatureError, text, remembers=["sites/beta/rosters/"]):
            three.seal(roster, ["beta"])
        ends_and_starts_again(three)

    def test_a_commitment_without_an_ephemeral_key_is_refused(self, walk_to: WalkTo) -> None:
        three = walk_to("opened").three
        roster = call_them_all(three, commit_as_gamma(three, b""))
        with refused(three, SignatureError, "must be 32 bytes in base64", remembers=ROSTER_SEEN):
            three.seal(roster, ["alpha"])


class TestRoster:
    def test_a_sybil_on_the_roster_is_refused(self, walk_to: WalkTo) -> None:
        walk = walk_to("rostered")
        called = roster_of(walk.three)
        more = replace(called, commitments={**called.commitments, "mallory": "0" * 64})
        there = walk.three.sign_roster(more, "offers/roster.json")
        with refused(walk.three, SignatureError, "names mallory, which the charter does not"):
            walk.three.seal(there, ["alpha"])
        walk.three.seal(walk.roster, ["alpha"])

    def test_a_commitment_in_the_name_of_another_site_is_refused(self, walk_to: WalkTo) -> None:
        """A site that is away is played by the coordinator, with a key the charter does not name."""
        walk = walk_to("rostered")
        three, ticket = walk.three, walk.three.opened.ticket
        genuine = three.exchange.read(commitment_key(ticket, "gamma"))
        played = read_commitment(genuine, ticket, "gamma", three.charter).signed(
            signing_key(three, "coordinator")
        )
        put(three, commitment_key(ticket, "gamma"), played)
        called = roster_of(three)
        called = replace(called, commitments={**called.commitments, "gamma": digest(played)})
        there = three.sign_roster(called, "offers/roster.json")
        with refused(three, SignatureError, "the signature of gamma on a commitment document"):
            three.seal(there, ["alpha"])
        put(three, commitment_key(ticket, "gamma"), genuine)
        three.seal(walk.roster, ["alpha"])

    def test_a_roster_that_the_coordinator_did_not_sign_is_refused(self, walk_to: WalkTo) -> None:
        walk = walk_to("rostered")
        forged = roster_of(walk.three).signed(signing_key(walk.three, "beta"))
        there = put(walk.three, "offers/roster.json", forged)
        with refused(walk.three, SignatureError, "the signature of coordinator on a roster document"):
            walk.three.seal(there, ["alpha"])

    def test_a_roster_of_another_ticket_is_refused(self, walk_to: WalkTo) -> None:
        walk = walk_to("rostered")
        other = walk.three.sign_roster(roster_of(walk.three, ticket="0" * 64), "offers/roster.json")
        with refused(walk.three, SignatureError, "was made for another ticket"):
            walk.three.seal(other, ["alpha"])

    def test_a_roster_below_min_sites_is_refused(self, walk_to: WalkTo) -> None:
        walk = walk_to("rostered", FOUR)
        two = walk.three.sign_roster(without(roster_of(walk.three), "gamma", "delta"), "offers/roster.json")
        with refused(walk.three, RefusedError, "has 2 sites, the charter asks for 3"):
            walk.three.seal(two, ["alpha"])
        walk.three.seal(walk.roster, ["alpha"])

    def test_a_roster_without_its_own_commitment_is_refused(self, walk_to: WalkTo) -> None:
        walk = walk_to("rostered", FOUR)
        others = walk.three.sign_roster(without(roster_of(walk.three), "alpha"), "offers/roster.json")
        with refused(walk.three, RefusedError, "does not hold this site's commitment"):
            walk.three.seal(others, ["alpha"])

    def test_a_roster_with_another_commitment_of_its_own_is_refused(self, walk_to: WalkTo) -> None:
        walk = walk_to("rostered")
        called = roster_of(walk.three)
        other = replace(called, commitments={**called.commitments, "alpha": "0" * 64})
        there = walk.three.sign_roster(other, "offers/roster.json")
        with refused(walk.three, SignatureError, "the commitment of alpha is not the one on the roster"):
            walk.three.seal(there, ["alpha"])

    def test_a_second_roster_for_one_ticket_is_refused(self, walk_to: WalkTo) -> None:
        """Two sums of different sites would give away their difference."""
        walk = walk_to("sealed", FOUR)
        three, text = walk.three, "a second roster was called for round 1"
        genuine = three.exchange.read(roster_key(three.opened.ticket))
        fewer = without(roster_of(three), "delta")
        there = three.sign_roster(fewer, "offers/roster.json")
        with refused(three, RefusedError, text):
            three.seal(there, ["alpha"])
        # Nor is anything released under it.
        put(three, roster_key(three.opened.ticket), fewer.signed(signing_key(three, "coordinator")))
        show_cutoff(three, THREE)
        with refused(three, RefusedError, "the site has not sealed under the roster of round 1"):
            three.release(["alpha"])
        put(three, roster_key(three.opened.ticket), genuine)
        show_cutoff(three, FOUR)
        goes_on(three)


class TestEncryptionKey:
    def test_the_key_certificate_of_a_stranger_is_refused(self, walk_to: WalkTo) -> None:
        walk = walk_to("rostered")
        three = walk.three
        path = three.keys_folder / certificate_key(three.charter, "sealed", 1)
        genuine = path.read_bytes()
        public, _ = generate_contexts("sealed")
        put_key(three, public)
        named = certified_keys(three.keys_uri, three.charter, "sealed")[0].certificate
        theirs = replace(named, context=context_fingerprint(public))
        path.write_bytes(theirs.signed(signing_key(three, "coordinator")))
        text = "the signature of key-holder on a key certificate document does not verify"
        with refused(three, SignatureError, text, remembers=ROSTER_SEEN):
            three.seal(walk.roster, ["alpha"])
        path.write_bytes(genuine)
        goes_on(three)

    def test_an_expired_certificate_is_refused(
        self, walk_to: WalkTo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        walk_to("opened")  # sets the home
        first = ThreeSites.start("short", protection="sealed", rotation_rounds=1)
        first.committed()
        # As if the key holder had not made the next one when the round was opened.
        (first.keys_folder / certificate_key(first.charter, "sealed", 2)).unlink()
        second = first.next_round()
        roster = second.roster(second.train())
        text = "may serve 1 rounds and round 2 is not among them: 'crosscloud keys rotate'"
        with refused(second, UsageError, text, remembers=ROSTER_SEEN):
            second.seal(roster, ["alpha"])
        certify_key(second.charter, keys_uri=second.keys_uri, first_round=2)
        second.seal(roster, ["alpha"])

    def test_another_context_than_the_certified_one_is_refused(self, walk_to: WalkTo) -> None:
        walk = walk_to("rostered")
        three = walk.three
        named = certified_keys(three.keys_uri, three.charter, "sealed")[0].certificate.context
        path = three.keys_folder / context_key("sealed", named)
        genuine = path.read_bytes()
        path.write_bytes(generate_contexts("sealed")[0])
        with refused(three, RefusedError, "is not the certified one", remembers=ROSTER_SEEN):
            three.seal(walk.roster, ["alpha"])
        path.write_bytes(genuine)
        three.seal(walk.roster, ["alpha"])

    def test_a_certified_context_with_a_secret_key_in_it_is_refused(self, walk_to: WalkTo) -> None:
        """The key holder would make every site and the aggregator able to decrypt."""
        walk = walk_to("rostered")
        three = walk.three
        _, secret = generate_contexts("sealed")
        put_key(three, secret)
        named = certified_keys(three.keys_uri, three.charter, "sealed")[0].certificate
        certificate = replace(named, context=context_fingerprint(secret)).signed(
            signing_key(three, KEY_HOLDER)
        )
        (three.keys_folder / certificate_key(three.charter, "sealed", 1)).write_bytes(certificate)
        with refused(three, CiphertextError, "is none to seal under, it has", remembers=ROSTER_SEEN):
            three.seal(walk.roster, ["alpha"])


def put_key(three: ThreeSites, context: bytes) -> None:
    path = three.keys_folder / context_key("sealed", context_fingerprint(context))
    path.write_bytes(context)


class TestSet:
    def test_a_second_set_for_one_roster_is_refused(self, walk_to: WalkTo) -> None:
        walk = walk_to("summed", FOUR)
        three = walk.three
        three.release(["alpha"])
        show_cutoff(three, THREE)
        with refused(three, RefusedError, "a second set of sites was fixed for the roster of round 1"):
            three.release(["alpha"])
        show_cutoff(three, FOUR)
        goes_on(three)

    def test_a_set_below_u_min_is_refused(self, walk_to: WalkTo) -> None:
        walk = walk_to("summed", FOUR)
        show_cutoff(walk.three, ("alpha", "beta"))
        with refused(walk.three, RefusedError, "the sum of round 1 has 2 sites, the charter asks for 3"):
            walk.three.release(["alpha"])
        show_cutoff(walk.three, FOUR)
        walk.three.release(["alpha"])

    def test_a_repeated_member_does_not_make_a_quorum(self, walk_to: WalkTo) -> None:
        walk = walk_to("summed", FOUR)
        twice = Cutoff(
            roster=roster_of(walk.three).digest, members=("alpha", "beta", "beta"), left_out={}
        ).to_json()
        put(walk.three, f"{walk.three.opened.ticket.folder}/cutoff.json", twice)
        with refused(walk.three, RefusedError, "has 2 sites, the charter asks for 3"):
            walk.three.release(["alpha"])

    def test_a_set_that_it_is_not_in_is_refused(self, walk_to: WalkTo) -> None:
        walk = walk_to("summed", FOUR)
        show_cutoff(walk.three, ("beta", "delta", "gamma"))
        with refused(walk.three, RefusedError, "the site is not in the sum of round 1"):
            walk.three.release(["alpha"])

    @pytest.mark.parametrize("fault", ["a stranger", "another roster"])
    def test_a_set_that_does_not_follow_from_the_roster_is_refused(self, walk_to: WalkTo, fault: str) -> None:
        walk = walk_to("summed", FOUR)
        if fault == "a stranger":
            show_cutoff(walk.three, (*FOUR, "mallory"))
        else:
            show_cutoff(walk.three, FOUR, roster="0" * 64)
        with refused(walk.three, IntegrityError, "does not follow from its roster"):
            walk.three.release(["alpha"])

    def test_a_site_that_has_not_sealed_releases_nothing(self, walk_to: WalkTo) -> None:
        walk = walk_to("rostered")
        walk.three.seal(walk.roster, ["beta", "gamma"])
        show_cutoff(walk.three, THREE)
        with refused(walk.three, RefusedError, "the site has not sealed under the roster of round 1"):
            walk.three.release(["alpha"])
        walk.three.seal(walk.roster, ["alpha"])
        walk.three.release(["alpha"])


SLOTS: dict[str, tuple[str, Callable[[Ticket, str], str]]] = {
    "commitment": ("opened", commitment_key),
    "sealed update": ("rostered", blob_key),
    "manifest": ("rostered", manifest_key),
    "release": ("summed", release_key),
}
KEPT = ("sites/alpha/", "exchange/rounds/00001-1/sealed/alpha.bin")


@pytest.mark.parametrize("name", SLOTS)
def test_foreign_bytes_where_its_own_belong_are_refused(walk_to: WalkTo, name: str) -> None:
    """Whoever is first in the exchange keeps a site out, and cannot speak for it."""
    stage, key = SLOTS[name]
    walk = walk_to(stage)
    three = walk.three
    steps = {
        "opened": three.train,
        "rostered": lambda own: three.seal(walk.roster, own),
        "summed": three.release,
    }
    three.exchange.create(key(three.opened.ticket, "alpha"), b"{}")
    three.accepted("alpha")
    three.features("alpha")
    with refused(three, RefusedError, "where this site", remembers=KEPT):
        steps[stage](["alpha"])
    (three.exchange_folder / key(three.opened.ticket, "alpha")).unlink()
    steps[stage](["alpha"])


def test_a_commitment_that_is_gone_is_refused(walk_to: WalkTo) -> None:
    walk = walk_to("rostered")
    path = walk.three.exchange_folder / commitment_key(walk.three.opened.ticket, "gamma")
    genuine = path.read_bytes()
    path.unlink()
    with refused(walk.three, SignatureError, "the roster names gamma, whose commitment is not there"):
        walk.three.seal(walk.roster, ["alpha"])
    path.write_bytes(genuine)
    walk.three.seal(walk.roster, ["alpha"])


def test_an_update_other_than_the_committed_one_is_not_sealed(walk_to: WalkTo) -> None:
    """Whoever changes a site's stored vector after its commitment does not get it sealed."""
    walk = walk_to("rostered")
    path = next((walk.three.store_folder("alpha") / "updates").iterdir())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with refused(walk.three, RefusedError, "does not hold this site's commitment", remembers=ROSTER_SEEN):
        walk.three.seal(walk.roster, ["alpha"])
    content[-1] ^= 1
    path.write_bytes(content)
    walk.three.seal(walk.roster, ["alpha"])
