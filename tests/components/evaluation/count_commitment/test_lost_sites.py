"""Sites that are lost in the second exchange: it ends with nothing, is told, and stands in no round's way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import pytest

from components.agreement.commitment import Commitment, commitment_key, read_commitment
from components.agreement.cutoff import cutoff_key, shortfall_key
from components.agreement.ledger_head import LedgerHead, first_head, head_after
from components.agreement.round_secrets import read_secrets
from components.agreement.site_records import counted_sets
from components.errors import IntegrityError, ObjectMissingError, QuorumNotReachedError, RefusedError
from components.execution import central_step, journal
from components.execution.outcome import Outcome
from components.privacy.charging import follow_head, open_ledger, shown_heads
from tests.components.aggregation.three_sites import ThreeSites, privacy_policy
from tests.components.evaluation.count_commitment.counted_sites import (
    COUNTED,
    FOUR,
    CountedSites,
    noised,
    start,
    with_metrics,
)

TWO = ("alpha", "beta")
OTHERS = ("alpha", "beta", "gamma")


def softly(counted: CountedSites, name: str, work: Callable[[], Outcome]) -> Outcome:
    """A step that belongs to no site, as a run does it."""
    return central_step.run(
        work,
        name=name,
        exchange_uri=counted.metrics.exchange_uri,
        ticket=counted.metrics.opened.reference,
    )


def goes_on(counted: CountedSites) -> None:
    """The next round commits, and its metrics come off."""
    following = with_metrics(counted.round.next_round())
    following.opened()
    before, _ = following.pooled()
    assert following.total()[-1] == before.num_examples


class TestLost:
    def test_before_the_roster(self) -> None:
        counted = with_metrics(start())
        commitments = counted.counted(TWO)
        ended = softly(counted, "roster", lambda: Outcome(reference=counted.metrics.roster(commitments)))
        assert ended.reference == ""
        # All later steps find that there is nothing to do.
        for name, work in (
            ("aggregate", lambda: counted.metrics.aggregate({})),
            ("open", lambda: counted.metrics.open_sum("")),
        ):
            assert softly(counted, name, work).reference == ""
        told = journal.entries(counted.metrics.exchange, counted.metrics.opened.ticket.folder)
        assert "2 of 4 sites can take part, the quorum is 3" in next(
            word for entry in told if entry.step == "roster" for word in entry.findings
        )
        goes_on(counted)

    def test_before_the_sum(self) -> None:
        counted = with_metrics(start())
        roster = counted.metrics.roster(counted.counted())
        sealed = counted.metrics.seal(roster, TWO)
        assert softly(counted, "aggregate", lambda: counted.metrics.aggregate(sealed)).reference == ""
        exchange, ticket = counted.metrics.exchange, counted.metrics.opened.ticket
        assert exchange.exists(shortfall_key(ticket))
        assert not exchange.exists(cutoff_key(ticket))
        assert softly(counted, "open", lambda: counted.metrics.open_sum("")).reference == ""

    def test_between_sealing_and_release(self) -> None:
        counted = with_metrics(start())
        summed = counted.metrics.aggregate(counted.sealed()).reference
        counted.metrics.release(OTHERS)
        for _ in range(2):
            assert softly(counted, "open", lambda: counted.metrics.open_sum(summed)).reference == ""
        with pytest.raises(ObjectMissingError):
            counted.total()
        goes_on(counted)

    def test_between_sealing_and_unmasking_the_others_finish(self) -> None:
        counted = with_metrics(start("smc"))
        summed = counted.metrics.aggregate(counted.sealed()).reference
        counted.metrics.unmask(OTHERS)
        counted.metrics.open_sum(summed)
        before, _ = counted.pooled()
        assert counted.total()[-1] == before.num_examples

    def test_nothing_is_forgiven_but_missing_sites(self) -> None:
        counted = with_metrics(start())
        summed = counted.metrics.summed(counted.sealed())
        path = counted.metrics.exchange_folder / f"{counted.metrics.opened.ticket.folder}/sum.bin"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
        with pytest.raises(IntegrityError, match="is not the sum of its members"):
            counted.metrics.open_sum(summed)
        with pytest.raises(SystemExit):
            softly(counted, "open", lambda: counted.metrics.open_sum(summed))

    def test_a_round_that_falls_short_fails_as_ever(self) -> None:
        three = start()
        with pytest.raises(SystemExit) as ended:
            central_step.run(
                lambda: Outcome(reference=three.roster(three.train(TWO))),
                name="roster",
                exchange_uri=three.exchange_uri,
                ticket=three.opened.reference,
            )
        assert ended.value.code == QuorumNotReachedError.exit_code

    def test_an_empty_ticket_asks_for_nothing(self) -> None:
        def fails() -> Outcome:
            raise AssertionError

        assert central_step.run(fails, name="roster", exchange_uri="nowhere", ticket="") == Outcome()


class TestResumed:
    def test_every_step_finds_its_work_and_nothing_is_charged_twice(self) -> None:
        counted = with_metrics(start(privacy=COUNTED))
        counted.opened()
        total = counted.total().tolist()
        for site in FOUR:
            counted.round.accepted(site)  # a rerun begins with the round's own steps
        roster = counted.metrics.roster(counted.counted())
        summed = counted.metrics.aggregate(counted.metrics.seal(roster)).reference
        counted.metrics.release()
        counted.metrics.open_sum(summed)
        assert counted.total().tolist() == total
        for site in FOUR:
            assert len(open_ledger(privacy_policy("small", site)).entries()) == 2

    def test_the_secrets_of_the_exchange_are_gone_once_masks_are_lifted(self) -> None:
        counted = with_metrics(start())
        counted.sealed()
        place = counted.place("alpha")
        read_secrets(place.store, place.key, place.ticket.digest)
        counted.metrics.aggregate(dict.fromkeys(FOUR, "x"))
        counted.metrics.release()
        with pytest.raises(ObjectMissingError):
            read_secrets(place.store, place.key, place.ticket.digest)


class TestLedgerHeads:
    def test_metrics_are_shown_after_their_update_and_followed_by_the_next_round(self) -> None:
        counted = with_metrics(start(privacy=COUNTED))
        counted.opened()
        following = counted.round.next_round()
        following.train()
        lengths = [head.length for head in shown_heads(following.exchange, "alpha")]
        assert lengths == [1, 2]
        following.roster(following.train())
        assert [head.length for head in shown_heads(following.exchange, "alpha")] == [1, 2, 3]
        # A ledger without the entry of the metrics goes on from the update's head, and not from the last.
        peer = following.place("beta").store
        for three in (counted.round, counted.metrics):
            follow_head(peer, three.charter, three.opened.ticket, shown(three), site="alpha")
        honest, ticket = shown(following), following.opened.ticket
        with pytest.raises(RefusedError, match="alpha"):
            follow_head(peer, following.charter, ticket, without_metrics(honest), site="alpha")
        follow_head(peer, following.charter, ticket, honest, site="alpha")


def without_metrics(honest: Commitment) -> Commitment:
    """The same with a ledger in which the entry of the update is followed by another than the metrics'."""
    entries = [str((honest.ledger or {})["entries"][0]), "ab" * 32]
    head = head_after(first_head("alpha-visits", "row"), entries)
    return replace(honest, ledger=asdict(LedgerHead(length=2, head=head, entries=tuple(entries))))


def shown(three: ThreeSites) -> Commitment:
    """What alpha has committed to under a ticket."""
    ticket = three.opened.ticket
    document = three.exchange.read(commitment_key(ticket, "alpha"))
    return read_commitment(document, ticket, "alpha", three.charter)


class TestDifferences:
    """Without noise, sums of counts of different sets would show single sites."""

    def test_a_site_that_stays_away_would_be_shown_and_is_not(self) -> None:
        counted = with_metrics(start())
        counted.opened()
        following = with_metrics(counted.round.next_round())
        roster = following.metrics.roster(following.counted(OTHERS))
        following.metrics.aggregate(following.metrics.seal(roster, OTHERS))
        for site in OTHERS:
            with pytest.raises(RefusedError, match="would show delta apart from all others"):
                following.metrics.release([site])
        # The same sites once more show nothing new, and a round's update is not in question.
        third = with_metrics(following.round.next_round())
        third.opened()

    def test_with_noise_every_sum_is_paid_for_and_any_set_is_opened(self) -> None:
        counted = with_metrics(start(privacy=noised(1, 2)))
        counted.opened()
        following = with_metrics(counted.round.next_round())
        roster = following.metrics.roster(following.counted(OTHERS))
        following.metrics.open_sum(following.metrics.summed(following.metrics.seal(roster, OTHERS)))
        assert counted_sets(following.place("alpha").store, following.metrics.opened.ticket) == []
