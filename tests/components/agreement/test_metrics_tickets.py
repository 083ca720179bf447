"""Tickets for metrics: they belong to one attempt of one round, and to nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components.agreement.charter import COORDINATOR
from components.agreement.private_keys import load_signing_key
from components.agreement.round_secrets import draw_once, read_secrets
from components.agreement.site_records import accept_ticket, accepted_tickets, last_release
from components.agreement.ticket import METRICS, UPDATE, Ticket, metrics_folder, read_ticket, releases_metrics
from components.artifacts.stores import open_store
from components.encryption.masking.pair_keys import AttemptNames, self_key
from components.errors import ObjectMissingError, RefusedError, SignatureError
from tests.components.aggregation.three_sites import NOISE, ThreeSites
from tests.components.evaluation.count_commitment.counted_sites import (
    COUNTED,
    CountedSites,
    noised,
    published,
    start,
    with_metrics,
)

OTHER = "ab" * 32


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh CROSSCLOUD_HOME."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    return tmp_path / "home"


def asked(counted: CountedSites, ticket: Ticket) -> ThreeSites:
    """The sites under a ticket that the coordinator has signed, whatever it says."""
    three = counted.metrics
    named = published(three, ticket, load_signing_key(three.keys_uri, COORDINATOR))
    return replace(three, opened=replace(three.opened, ticket=ticket, reference=named))


class TestForm:
    def test_it_is_the_rounds_but_for_purpose_model_and_receipt(self) -> None:
        counted = with_metrics(start())
        of_round, ticket = counted.round.opened.ticket, counted.metrics.opened.ticket
        record = counted.committed.manifest
        changed = replace(
            of_round,
            purpose=METRICS,
            model=str(record["model"]),
            previous=ticket.previous,
            previous_folder="rounds/00001-1",
        )
        assert ticket == changed
        assert (ticket.folder, metrics_folder(of_round.folder)) == ("metrics/00001-1",) * 2
        assert ticket.digest != of_round.digest

    @pytest.mark.parametrize(
        "change",
        [
            {"round_number": 2},
            {"attempt": 2},
            {"void": OTHER},
            {"previous": "", "previous_folder": ""},
            {"previous_folder": "rounds/00001-2"},
        ],
    )
    def test_its_numbers_are_those_of_the_receipt_it_follows(self, change: dict[str, Any]) -> None:
        counted = with_metrics(start())
        three = counted.metrics
        ticket = replace(three.opened.ticket, **change)
        document = ticket.signed(load_signing_key(three.keys_uri, COORDINATOR))
        with pytest.raises(SignatureError, match="belong"):
            read_ticket(document, three.charter)

    def test_an_update_never_follows_from_metrics(self) -> None:
        counted = with_metrics(start())
        three = counted.metrics
        ticket = replace(
            counted.round.opened.ticket, round_number=2, previous=OTHER, previous_folder="metrics/00001-1"
        )
        document = ticket.signed(load_signing_key(three.keys_uri, COORDINATOR))
        with pytest.raises(SignatureError, match="previous_folder is not a folder"):
            read_ticket(document, three.charter)


class TestReleased:
    def test_only_where_single_sites_are_hidden_and_noise_is_set_aside(self) -> None:
        charter = with_metrics(start()).metrics.charter
        for protection in ("sealed", "masked", "smc"):
            assert releases_metrics(replace(charter, protection=protection), 7)
        for protection in ("none", "he"):
            assert not releases_metrics(replace(charter, protection=protection), 7)
        assert not releases_metrics(replace(charter, privacy=NOISE), 1)
        private = replace(charter, privacy=COUNTED)
        assert [number for number in range(6) if releases_metrics(private, number)] == [1, 3]

    def test_every_month_of_a_schedule_has_its_rounds(self) -> None:
        monthly = replace(noised(4, 6), per="month", first_round=3)
        assert not monthly.problems()
        assert [number for number in range(15) if monthly.metrics_in(number)] == [4, 6, 8, 10, 12, 14]

    @pytest.mark.parametrize("rounds", [(5,), (1, 5)])
    def test_rounds_are_of_the_schedule(self, rounds: tuple[int, ...]) -> None:
        assert noised(*rounds).problems() == [
            f"privacy.metrics.rounds must be rounds of the schedule, 1 to 4, got {rounds[0]} to 5"
        ]


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"model": OTHER}, "is not the one that the last receipt gives"),
            ({"previous": OTHER}, "cannot be traced to the last receipt"),
            ({"snapshot": "2026-01-01T00:00:00+00:00"}, "cannot be traced to the last receipt"),
        ],
    )
    def test_of_another_model_receipt_or_data(self, change: dict[str, Any], why: str) -> None:
        counted = with_metrics(start())
        other = asked(counted, replace(counted.metrics.opened.ticket, **change))
        with pytest.raises(RefusedError, match=why):
            other.accepted("alpha")
        counted.metrics.accepted("alpha")

    def test_in_a_round_without(self) -> None:
        three = start(privacy=noised(2))
        committed = three.committed()
        of_round = three.opened.ticket
        ticket = replace(
            of_round,
            purpose=METRICS,
            model=str(committed.manifest["model"]),
            previous=OTHER,
            previous_folder=of_round.folder,
        )
        named = published(three, ticket, load_signing_key(three.keys_uri, COORDINATOR))
        other = replace(three, opened=replace(three.opened, ticket=ticket, reference=named))
        with pytest.raises(RefusedError, match="the charter releases no metrics of round 1"):
            other.place("alpha")

    def test_a_second_one_for_an_attempt(self) -> None:
        counted = with_metrics(start())
        counted.metrics.accepted("alpha")
        second = asked(counted, replace(counted.metrics.opened.ticket, seed=8))
        with pytest.raises(RefusedError, match="a second ticket was issued for attempt 1 of round 1"):
            second.accepted("alpha")

    def test_by_a_site_that_has_not_accepted_the_round(self) -> None:
        counted = with_metrics(start())
        ticket, now = counted.metrics.opened.ticket, datetime.now(UTC)
        with pytest.raises(RefusedError, match="whose metrics are asked for"):
            accept_ticket(open_store("fresh"), ticket, now=now, rounds_a_day=None)

    def test_once_a_later_round_has_begun(self) -> None:
        counted = with_metrics(start())
        counted.round.next_round().accepted("alpha")
        with pytest.raises(RefusedError, match="round 1 was replayed"):
            counted.metrics.accepted("alpha")


class TestBeside:
    def test_it_is_no_further_round_of_the_day_and_stands_in_nobodys_way(self) -> None:
        counted = with_metrics(start())
        store = counted.place("alpha").store
        of_round, ticket = counted.round.opened.ticket, counted.metrics.opened.ticket
        late = datetime.now(UTC) + timedelta(hours=30)
        for each in (ticket, of_round, ticket):
            accept_ticket(store, each, now=late, rounds_a_day=1)
        found = [(each.round_number, each.purpose) for each in accepted_tickets(store)]
        assert found == [(1, UPDATE), (1, METRICS)]

    def test_a_rerun_of_the_round_keeps_the_secrets_of_its_metrics_and_the_next_ends_them(self) -> None:
        counted = with_metrics(start())
        place = counted.metrics.accepted("alpha")
        drawn = draw_once(place.store, place.key, place.ticket.digest)
        counted.round.accepted("alpha")
        assert read_secrets(place.store, place.key, place.ticket.digest).seed == drawn.seed
        counted.round.next_round().accepted("alpha")
        with pytest.raises(ObjectMissingError):
            read_secrets(place.store, place.key, place.ticket.digest)

    def test_what_was_released_of_metrics_is_no_release_of_an_update(self) -> None:
        counted = with_metrics(start())
        counted.opened()
        store = counted.place("alpha").store
        assert store.keys("released") == ["released/000000001-metrics.txt", "released/000000001-update.txt"]
        assert last_release(store) == (1, "rounds/00001-1")
        counted.round.next_round().accepted("alpha")

    def test_no_key_is_shared_between_purposes(self) -> None:
        names = {"charter": "c", "ticket": "t", "roster": "r"}
        seed = bytes(32)
        keys = {self_key(seed, AttemptNames(purpose=each, **names), "alpha") for each in (UPDATE, METRICS)}
        assert len(keys) == 2
