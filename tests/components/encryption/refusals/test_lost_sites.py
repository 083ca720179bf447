"""Sites that are lost: before the cut-off at no cost, after it at the cost of the attempt, never of a site.

Four sites of which one may collude: at least three are in every sum.
"""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from components.agreement.cutoff import sum_key
from components.agreement.released import release_key
from components.agreement.roster import read_commitments
from components.agreement.round_secrets import read_secrets
from components.artifacts.documents import digest
from components.encryption.aggregate_opening.unmasking import released_masks
from components.encryption.bfv.context import BlockDecryptor, load_secret_context
from components.encryption.bfv.packing import PLAIN_MODULUS, Packing
from components.encryption.ciphertext_sum import MemberSum, sealed_length
from components.encryption.masking.attempt_masks import attempt_names, private_half, public_halves
from components.encryption.masking.masks import Masks
from components.encryption.masking.pair_keys import site_masks
from components.errors import QuorumNotReachedError, RefusedError
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.encryption.refusals.uniformity import departures
from tests.components.encryption.refusals.walk import (
    FOUR,
    THREE,
    WalkTo,
    assert_exact_sum,
    blob_of,
    files,
    goes_on,
    integers_of,
    nothing_is_open,
    refused,
    secret_key_file,
    show_cutoff,
    words_of,
)


def committed(three: ThreeSites) -> dict[str, object]:
    record: dict[str, object] = json.loads(
        three.exchange.read(f"{three.opened.ticket.folder}/committed.json")
    )["body"]
    return record


class TestBeforeTheCutOff:
    def test_a_site_that_does_not_train_costs_nothing(self, walk_to: WalkTo) -> None:
        three = walk_to("opened", FOUR).three
        goes_on(three, THREE)
        assert committed(three)["members"] == list(THREE)
        assert committed(three)["left_out"] == {"delta": "failed: nothing was heard of the site"}

    def test_a_site_that_does_not_seal_costs_nothing(self, walk_to: WalkTo) -> None:
        walk = walk_to("rostered", FOUR)
        three = walk.three
        sealed = three.seal(walk.roster, THREE)
        total = three.aggregate(sealed, {"delta": "timeout: seal did not end within 60 s"}).reference
        three.release()
        three.commit(three.open_sum(total).reference)
        assert_exact_sum(three, THREE)
        assert committed(three)["members"] == list(THREE)
        assert committed(three)["left_out"] == {"delta": "timeout: seal did not end within 60 s"}
        assert three.next_round().opened.ticket.round_number == 2

    def test_a_late_upload_is_harmless(self, walk_to: WalkTo) -> None:
        walk = walk_to("rostered", FOUR)
        three = walk.three
        sealed = three.seal(walk.roster, THREE)
        total = three.aggregate(sealed).reference
        before = three.exchange.read(sum_key(three.opened.ticket))
        late = three.seal(walk.roster, ["delta"])
        assert three.aggregate(sealed | late).manifest["sites"] == list(THREE)
        assert three.exchange.read(sum_key(three.opened.ticket)) == before
        with refused(three, RefusedError, "the site is not in the sum of round 1"):
            three.release(["delta"])
        three.release()
        three.commit(three.open_sum(total).reference)
        assert_exact_sum(three, THREE)

    def test_a_late_site_cannot_be_opened_from_all_that_is_published(self, walk_to: WalkTo) -> None:
        """By the key holder with every release: the pads are known then, the self-mask is nobody's."""
        walk = walk_to("sealed", FOUR)
        three = walk.three
        three.aggregate({site: walk.sealed[site] for site in THREE})
        three.release()
        opened, own = opened_keys(three), masks_of(three, "delta")
        pads = {"added": own.added[1:], "subtracted": own.subtracted}
        # Everything that masks delta but its self-mask was given away, with the sign turned round.
        assert set(opened.added) & {*own.added, *own.subtracted} == set(pads["subtracted"])
        assert set(opened.subtracted) == set(pads["added"])
        assert own.added[0] not in {*opened.added, *opened.subtracted}

        blob = blob_of(three, "delta")
        slots = BlockDecryptor(load_secret_context(secret_key_file(three))).decrypt(words_of(blob))
        rest = Masks(added=pads["added"], subtracted=pads["subtracted"]).unmask(slots, 0)
        assert departures(rest) == []
        # The attack is whole but for that key: with it, delta's vector lies open.
        bare = Masks(added=own.added[:1], subtracted=()).unmask(rest, 0)
        packing = Packing(values_per_slot=2, sites=4)
        assert np.array_equal(packing.unpack(bare)[:30], integers_of(three, "delta"))
        published = b"".join(
            content for path, content in files(three).items() if path.startswith("exchange/")
        )
        assert blob in published
        assert own.added[0] not in published
        assert base64.b64encode(own.added[0]) not in published

    def test_neither_can_the_difference_of_what_was_sealed_and_what_was_opened(self, walk_to: WalkTo) -> None:
        """All four ciphertexts added, less the opened sum of three, is delta under its self-mask."""
        walk = walk_to("sealed", FOUR)
        three = walk.three
        three.aggregate({site: walk.sealed[site] for site in THREE})
        three.release()
        decryptor = BlockDecryptor(load_secret_context(secret_key_file(three)))
        total = sum(decryptor.decrypt(words_of(blob_of(three, site))).astype(object) for site in FOUR)
        selves = [masks_of(three, site).added[0] for site in THREE]
        slots = (np.asarray(total) % PLAIN_MODULUS).astype(np.uint64)
        assert departures(Masks(added=tuple(selves), subtracted=()).unmask(slots, 0)) == []


class TestAfterTheCutOff:
    def test_a_site_lost_before_its_release_voids_the_attempt_and_the_next_run_goes_on(
        self, walk_to: WalkTo
    ) -> None:
        walk = walk_to("summed", FOUR)
        three = walk.three
        three.release(THREE)
        text = (
            "round 1 is void: delta sealed but did not release, so nothing can be opened and nothing was. "
            "Run again: the next round starts from the same model"
        )
        with refused(
            three, QuorumNotReachedError, text, remembers=["exchange/rounds/00001-1/shortfall.json"]
        ):
            three.open_sum(walk.total)
        assert nothing_is_open(three)

        later = three.next_attempt()
        ticket = later.opened.ticket
        assert (ticket.round_number, ticket.attempt, ticket.model) == (2, 1, three.opened.ticket.model)
        assert (ticket.previous, ticket.previous_folder) == ("", "")
        goes_on(later)
        assert committed(later)["members"] == sorted(FOUR)
        # The lost site comes back, and its release comes too late for the voided attempt.
        with pytest.raises(RefusedError, match="replayed"):
            three.accepted("delta")
        assert nothing_is_open(three)
        assert later.next_round().opened.ticket.previous == digest(
            later.exchange.read(f"{ticket.folder}/receipt.json")
        )

    def test_the_void_of_the_coordinator_stands_in_state_and_exchange(self, walk_to: WalkTo) -> None:
        walk = walk_to("summed", FOUR)
        walk.three.release(THREE)
        with pytest.raises(QuorumNotReachedError):
            walk.three.open_sum(walk.total)
        walk.three.next_attempt()
        after = files(walk.three)
        assert after["state/rounds/00001/void.json"] == after["exchange/rounds/00001-1/void.json"]
        assert "state/rounds/00001/round.json" not in after


class TestBelowTheQuorum:
    def test_two_of_four_that_sealed_open_nothing_and_the_next_attempt_goes_on(self, walk_to: WalkTo) -> None:
        walk = walk_to("rostered", FOUR)
        three = walk.three
        sealed = three.seal(walk.roster, ("alpha", "beta"))
        text = "round 1: 2 of 4 sites on the roster sealed, the quorum is 3."
        with refused(
            three, QuorumNotReachedError, text, remembers=["exchange/rounds/00001-1/shortfall.json"]
        ):
            three.aggregate(sealed, {"gamma": "oom", "delta": "timeout"})
        assert nothing_is_open(three)
        assert not three.exchange.exists(sum_key(three.opened.ticket))

        # A coordinator who fixes the set himself gets no release for it, so there is nothing to open with.
        show_cutoff(three, ("alpha", "beta"))
        for site in ("alpha", "beta"):
            with refused(three, RefusedError, "has 2 sites, the charter asks for 3"):
                three.release([site])
            assert not three.exchange.exists(release_key(three.opened.ticket, site))
        (three.exchange_folder / f"{three.opened.ticket.folder}/cutoff.json").unlink()

        again = three.next_attempt()
        assert (again.opened.ticket.round_number, again.opened.ticket.attempt) == (1, 2)
        goes_on(again)

    def test_two_of_four_that_can_take_part_leave_the_round_as_it_was(self, walk_to: WalkTo) -> None:
        three = walk_to("opened", FOUR).three
        commitments = three.train(("alpha", "beta"))
        with refused(three, QuorumNotReachedError, "2 of 4 sites can take part, the quorum is 3"):
            three.roster(commitments, {"gamma": "oom", "delta": "timeout"})
        goes_on(three)


def opened_keys(three: ThreeSites) -> Masks:
    """All keys that the releases of the attempt give away."""
    attempt = three.attempt()
    roster = attempt.roster()
    return released_masks(
        MemberSum(
            attempt=attempt, roster=roster, cutoff=attempt.cutoff(roster), length=sealed_length(attempt)
        )
    )


def masks_of(three: ThreeSites, site: str) -> Masks:
    """All streams that mask a site, from its own secrets; the first is its self-mask."""
    place, attempt = three.place(site), three.attempt()
    roster = attempt.roster()
    commitments = read_commitments(three.exchange, attempt.ticket, roster, attempt.charter)
    secrets = read_secrets(place.store, place.key, attempt.ticket.digest)
    return site_masks(
        attempt_names(attempt.ticket, roster),
        private_half(place, secrets),
        public_halves(attempt.charter, commitments),
        secrets.seed,
    )
