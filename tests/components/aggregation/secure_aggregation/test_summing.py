"""The `aggregate` step: who is in the sum, verified as it is added, and that nothing else is looked at."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.agreement.cutoff import cutoff_key, shortfall_key, sum_key
from components.artifacts.documents import digest
from components.artifacts.stores import key_of
from components.errors import IntegrityError, QuorumNotReachedError
from tests.components.aggregation.secure_aggregation.added import (
    cutoff,
    flip,
    members,
    only,
    protections,
    publish,
    sum_of,
    values_of,
)
from tests.components.aggregation.three_sites import SITES, put_in_force
from tests.components.rounds.walks import FOUR, content, walk


class TestTheSum:
    @protections
    def test_is_of_everybody_who_sealed(self, protection: str) -> None:
        walked = walk("sealed", protection)
        three = walked.three
        outcome = three.aggregate(walked.sealed)
        assert outcome.reference == f"{three.exchange_uri}/{sum_key(three.opened.ticket)}"
        assert members(outcome) == list(SITES)
        sizes = [walked.blob(site).stat().st_size for site in SITES]
        assert outcome.manifest["bytes_received"] == sum(sizes)
        assert outcome.manifest["bytes"] == outcome.bytes_sent == sizes[0] == len(sum_of(three))
        assert cutoff(three) == {
            "roster": three.attempt().roster().digest,
            "members": list(SITES),
            "left_out": {},
        }

    def test_under_none_is_the_sum(self) -> None:
        walked = walk("summed", "none")
        alpha, beta, gamma = (walked.three.weighted(site) for site in SITES)
        assert np.array_equal(values_of(walked.three), alpha + beta + gamma)

    @protections
    def test_opens_to_the_sum_of_exactly_its_members(self, protection: str) -> None:
        walked = walk("released", protection, sites=FOUR, lost="delta")
        three = walked.three
        opened = three.open_sum(walked.total)
        aggregate = three.exchange.read(f"{three.opened.ticket.folder}/aggregate.safetensors")
        assert opened.manifest["aggregate"] == digest(aggregate)
        assert np.frombuffer(aggregate[-8:], "<f8")[0] == 26 + 16 + 40

    @protections
    def test_leaves_out_exactly_the_site_whose_update_is_bad(self, protection: str) -> None:
        """Verified as they are added: the sum that was begun with it is dropped, and not what it left."""
        walked = walk("sealed", protection, sites=FOUR)
        three, ticket = walked.three, walked.three.opened.ticket
        for site in FOUR:
            others = [each for each in FOUR if each != site]
            flip(walked.blob(site), -2)
            assert members(three.aggregate(walked.sealed)) == others
            reason = f"refused: the sealed update of {site} is not the one its manifest signs"
            assert cutoff(three)["left_out"] == {site: reason}
            assert sum_of(three) == only(walked, *others)
            flip(walked.blob(site), -2)
            for key in (cutoff_key, sum_key):
                (three.exchange_folder / key(ticket)).unlink()

    def test_leaves_out_two_bad_ones_each_for_its_own_reason(self) -> None:
        walked = walk("sealed", "none", sites=FOUR)
        flip(walked.blob("alpha"), 100)
        walked.blob("gamma").write_bytes(walked.blob("gamma").read_bytes() + bytes(8))
        assert members(walked.three.aggregate(walked.sealed)) == ["beta", "delta"]
        left_out = cutoff(walked.three)["left_out"]
        assert set(left_out) == {"alpha", "gamma"}
        for site, reason in left_out.items():
            assert reason.startswith("refused: ")
            assert site in reason or "padded" in reason

    def test_is_whole_or_not_there(self, tmp_path: Path) -> None:
        """Nothing of a sum that broke off lies in the exchange."""
        walked = walk("summed", "sealed")
        three = walked.three
        (three.exchange_folder / sum_key(three.opened.ticket)).unlink()
        flip(walked.blob("gamma"), -8)
        before = content(three.exchange_uri)
        with pytest.raises(IntegrityError, match="gamma"):
            three.aggregate(walked.sealed)
        assert content(three.exchange_uri) == before


class TestWhoIsInIt:
    @protections
    def test_a_site_that_says_it_failed_is_not(self, protection: str) -> None:
        """What lies in the exchange does not count for it."""
        walked = walk("sealed", protection, sites=FOUR)
        walked.three.aggregate(walked.sealed | {"alpha": ""}, {"alpha": "timeout: too slow"})
        assert cutoff(walked.three)["left_out"] == {"alpha": "timeout: too slow"}
        assert cutoff(walked.three)["members"] == ["beta", "delta", "gamma"]

    def test_one_that_gave_no_reason_has_one_all_the_same(self) -> None:
        walked = walk("sealed", "none")
        walked.three.aggregate({"alpha": walked.sealed["alpha"], "gamma": walked.sealed["gamma"]})
        assert cutoff(walked.three)["left_out"] == {"beta": "failed: no sealed update"}

    def test_a_site_that_is_not_on_the_roster_is_not(self) -> None:
        walked = walk("trained", "none")
        three = walked.three
        roster = three.roster(walked.commitments | {"beta": ""}, {"beta": "bad_data"})
        sealed = three.seal(roster, ("alpha", "gamma"))
        publish(three, "beta", walked.blob("alpha").read_bytes())
        outcome = three.aggregate(sealed | {"beta": f"{three.exchange_uri}/beta"})
        assert members(outcome) == ["alpha", "gamma"]
        assert values_of(three)[-1] == 26 + 40


class TestQuorum:
    @pytest.mark.parametrize(("protection", "least"), [("none", 2), ("he", 2), ("sealed", 3)])
    def test_too_few_are_refused_and_the_attempt_is_marked(self, protection: str, least: int) -> None:
        walked = walk("sealed", protection)
        three, ticket = walked.three, walked.three.opened.ticket
        flip(walked.blob("beta"), -1)
        lost = {} if protection == "sealed" else {"gamma": ""}
        with pytest.raises(QuorumNotReachedError) as caught:
            three.aggregate(walked.sealed | lost, {"gamma": "oom"})
        message = str(caught.value)
        assert f"round 1: {least - 1} of 3 sites on the roster sealed, the quorum is {least}" in message
        assert ("gamma: oom" in message) == bool(lost)
        assert "beta: refused: " in message
        assert "a new attempt is opened" in message
        assert "\n" not in message
        assert not three.exchange.exists(cutoff_key(ticket))
        assert not three.exchange.exists(sum_key(ticket))
        shortfall = json.loads(three.exchange.read(shortfall_key(ticket)))
        assert shortfall["members"] == (["alpha"] if lost else ["alpha", "gamma"])
        assert shortfall["roster"] == three.attempt().roster().digest
        assert set(shortfall["left_out"]) == {"beta", *lost}

    def test_nobody_at_all_is_too_few(self) -> None:
        walked = walk("called", "sealed")
        with pytest.raises(QuorumNotReachedError, match="0 of 3 sites on the roster sealed"):
            walked.three.aggregate({})

    @protections
    def test_the_next_run_opens_a_new_attempt_that_names_the_void_and_can_succeed(
        self, protection: str
    ) -> None:
        walked = walk("sealed", protection)
        three = walked.three
        with pytest.raises(QuorumNotReachedError):
            three.aggregate(walked.sealed | {"beta": "", "gamma": ""})
        again = three.next_attempt()
        ticket = again.opened.ticket
        assert (ticket.round_number, ticket.attempt) == (1, 2)
        assert ticket.void == digest(three.exchange.read(f"{three.opened.ticket.folder}/void.json"))
        assert (ticket.model, ticket.previous) == (three.opened.ticket.model, "")
        committed = again.committed()
        assert (committed.manifest["round"], committed.manifest["sites"]) == (1, list(SITES))

    def test_of_the_charter_and_nobody_elses(self) -> None:
        """A stricter edition counts from the next attempt on, not for the one that is open."""
        walked = walk("sealed", "none")
        three = walked.three
        edition = replace(
            three.charter, edition=2, previous=three.charter.digest, min_sum_sites=3, min_sites=3
        )
        put_in_force("small", edition)
        assert members(three.aggregate(walked.sealed | {"beta": ""})) == ["alpha", "gamma"]


class TestOnce:
    @protections
    def test_a_later_call_cannot_change_the_set(self, protection: str) -> None:
        walked = walk("summed", protection, sites=FOUR)
        three = walked.three
        before = content(three.exchange_uri)
        second = three.aggregate({"alpha": walked.sealed["alpha"], "beta": "", "gamma": ""})
        assert second.reference == walked.total
        assert members(second) == list(FOUR)
        assert content(three.exchange_uri) == before

    @protections
    def test_a_late_upload_does_not_get_in(self, protection: str) -> None:
        walked = walk("sealed", protection, sites=FOUR)
        three = walked.three
        three.aggregate(walked.sealed | {"beta": ""}, {"beta": "timeout"})
        assert members(three.aggregate(walked.sealed)) == ["alpha", "delta", "gamma"]
        assert cutoff(three)["left_out"] == {"beta": "timeout"}

    @protections
    def test_one_that_was_killed_before_the_sum_adds_the_set_it_had_fixed(self, protection: str) -> None:
        walked = walk("summed", protection, sites=FOUR, lost="delta")
        three = walked.three
        summed = sum_of(three)
        (three.exchange_folder / sum_key(three.opened.ticket)).unlink()
        three.seal(walked.roster, ["delta"])
        three.aggregate(walked.sealed | {"delta": f"{three.exchange_uri}/delta", "alpha": ""})
        assert sum_of(three) == summed
        assert key_of(three.exchange, walked.total) == sum_key(three.opened.ticket)

    @protections
    def test_a_member_altered_after_the_cut_off_is_not_added(self, protection: str) -> None:
        walked = walk("summed", protection)
        three = walked.three
        (three.exchange_folder / sum_key(three.opened.ticket)).unlink()
        flip(walked.blob("beta"), 200)
        with pytest.raises(IntegrityError, match="beta"):
            three.aggregate(walked.sealed)
        assert not three.exchange.exists(sum_key(three.opened.ticket))
