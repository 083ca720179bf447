from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from components.agreement.site_records import (
    accept_cutoff,
    accept_roster,
    accept_sharers,
    accept_ticket,
    accepted_roster,
    accepted_sharers,
    require_accepted,
)
from components.agreement.ticket import Ticket
from components.artifacts.stores import Store, open_store
from components.errors import IntegrityError, RefusedError
from tests.components.agreement.signed_form import TICKET

NOW = datetime(2026, 11, 22, 10, 0, 5, tzinfo=UTC)
FIRST = replace(TICKET, attempt=1, void="")
RD, UD = "4d" * 32, "0d" * 32


@pytest.fixture
def store(exchange: Store) -> Store:
    return open_store("store")


def of_round(number: int, **changes: Any) -> Ticket:
    return replace(FIRST, round_number=number, **changes)


def opened_at(time: datetime, number: int) -> Ticket:
    """A ticket whose data are as of five seconds before."""
    return of_round(number, snapshot=(time - timedelta(seconds=5)).isoformat())


def accept(store: Store, ticket: Ticket, *, now: datetime = NOW, rounds_a_day: int | None = None) -> None:
    accept_ticket(store, ticket, now=now, rounds_a_day=rounds_a_day)


def refused(text: str) -> Any:
    return pytest.raises(RefusedError, match=text, check=lambda error: bool(error.disclosed))


class TestTickets:
    def test_a_store_serves_one_federation(self, store: Store) -> None:
        accept(store, FIRST)
        with refused("the site's store remembers rounds of paper: give elsewhere a store_uri of its own at"):
            accept(store, of_round(8, federation="elsewhere"))
        accept(store, of_round(8))

    def test_records_of_before_the_federation_was_written_down_are_read(self, store: Store) -> None:
        accept(store, FIRST)
        kept = json.loads(store.read("tickets/000000007-000001.json"))
        assert kept.pop("federation") == "paper"
        other = open_store("older")
        other.create("tickets/000000007-000001.json", json.dumps(kept).encode())
        accept(other, of_round(8))

    def test_a_ticket_is_remembered_and_passes_again(self, store: Store) -> None:
        with refused("has not accepted the ticket of round 7: 'ingest' does that"):
            require_accepted(store, FIRST)
        accept(store, FIRST)
        require_accepted(store, FIRST)
        accept(store, FIRST, now=NOW + timedelta(days=400))
        assert store.keys() == ["tickets/000000007-000001.json"]
        kept = json.loads(store.read("tickets/000000007-000001.json"))
        assert (kept["ticket"], kept["seen_at"]) == (FIRST.digest, "2026-11-22T10:00:05+00:00")

    @pytest.mark.parametrize(
        "change", [{"model": "00" * 32}, {"seed": 4}, {"local_epochs": 1}, {"charter": "00" * 32}]
    )
    def test_a_second_ticket_for_an_attempt_is_refused(self, store: Store, change: dict[str, Any]) -> None:
        accept(store, FIRST)
        with refused("a second ticket was issued for attempt 1 of round 7"):
            accept(store, replace(FIRST, **change))
        with refused("has not accepted the ticket of round 7"):
            require_accepted(store, replace(FIRST, **change))
        require_accepted(store, FIRST)

    @pytest.mark.parametrize(("number", "attempt"), [(7, 1), (6, 3), (1, 1)])
    def test_an_old_round_or_attempt_is_refused(self, store: Store, number: int, attempt: int) -> None:
        accept(store, TICKET)
        with refused(f"round {number} was replayed: the site has taken part in round 7 since"):
            accept(store, replace(TICKET, round_number=number, attempt=attempt))
        assert store.keys() == ["tickets/000000007-000002.json"]

    def test_what_was_accepted_once_is_old_once_a_later_one_is(self, store: Store) -> None:
        accept(store, FIRST)
        accept(store, of_round(8))
        with refused("round 7 was replayed: the site has taken part in round 8 since"):
            accept(store, FIRST)

    def test_rounds_go_on_past_where_text_would_be_sorted_otherwise(self, store: Store) -> None:
        for number in (9, 10, 99_999, 100_000, 100_001):
            accept(store, of_round(number))
        with refused("round 99999 was replayed: the site has taken part in round 100001 since"):
            accept(store, of_round(99_999, attempt=2))

    def test_of_two_tickets_at_once_one_is_accepted(self, store: Store) -> None:
        tickets = [replace(FIRST, seed=seed) for seed in range(8)]
        start, accepted = threading.Barrier(8), []

        def take(ticket: Ticket) -> None:
            start.wait()
            try:
                accept(store, ticket)
            except RefusedError:
                return
            accepted.append(ticket)

        threads = [threading.Thread(target=take, args=(ticket,)) for ticket in tickets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(accepted) == 1
        require_accepted(store, accepted[0])

    @pytest.mark.parametrize(
        "content", [b"{", b"[]", b"{}", b'{"ticket":"x"}', b"null", b'{"hint":1}'], ids=repr
    )
    def test_an_altered_record_is_told(self, store: Store, content: bytes) -> None:
        store.create("tickets/000000006-000001.json", content)
        with pytest.raises(IntegrityError, match=r"record tickets/000000006-000001\.json was altered"):
            accept(store, FIRST)


class TestOrigins:
    """A model that was left behind comes back with other rounds' noise and members around one update."""

    @pytest.mark.parametrize(
        ("before", "now"),
        [
            ("", ""),
            ("", "rounds/00003-1"),
            ("rounds/00003-1", "rounds/00003-1"),
            ("rounds/00003-2", "rounds/00004-1"),
            ("rounds/99999-1", "rounds/100000-1"),
        ],
    )
    def test_go_on(self, store: Store, before: str, now: str) -> None:
        accept(store, of_round(100_001, previous_folder=before))
        accept(store, of_round(100_002, previous_folder=now))

    @pytest.mark.parametrize(
        ("before", "now"),
        [("rounds/00003-1", ""), ("rounds/00003-1", "rounds/00002-7"), ("rounds/100000-1", "rounds/99999-1")],
    )
    def test_never_go_back(self, store: Store, before: str, now: str) -> None:
        accept(store, of_round(100_001, previous_folder=before))
        with refused("round 100002 starts from an older receipt than an earlier round did"):
            accept(store, of_round(100_002, previous_folder=now))


class TestSnapshots:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("2026-11-22T10:00:00+00:00", "2026-11-22T10:00:00+00:00"),
            ("2026-11-22T10:00:00+00:00", "2026-11-22T10:00:01+00:00"),
            ("2026-11-22T10:00:00+00:00", "2026-11-22T10:00:00Z"),
            # Later as text, earlier in time; the same moment in two zones; earlier as text, later in time.
            ("2026-11-22T23:00:00+14:00", "2026-11-22T10:00:00+00:00"),
            ("2026-11-22T12:00:00+02:00", "2026-11-22T10:00:00+00:00"),
            ("2026-11-22T11:00:00+02:00", "2026-11-22T05:00:00-05:00"),
        ],
    )
    def test_go_on(self, store: Store, before: str, after: str) -> None:
        accept(store, of_round(7, snapshot=before))
        accept(store, of_round(8, snapshot=after))

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("2026-11-22T10:00:00+00:00", "2026-11-22T09:59:59+00:00"),
            ("2026-11-22T10:00:00+00:00", "2025-11-22T10:00:00+00:00"),
            ("2026-11-22T10:00:00.000001+00:00", "2026-11-22T10:00:00+00:00"),
            ("2026-11-22T10:00:00+00:00", "2026-11-22T11:00:00+02:00"),
            ("2026-11-22T05:00:00-05:00", "2026-11-22T09:59:59+00:00"),
            ("2026-11-22T10:00:00+00:00", "2026-11-22T23:59:00+14:00"),
        ],
    )
    def test_never_go_back(self, store: Store, before: str, after: str) -> None:
        accept(store, of_round(7, snapshot=before))
        with refused("lies before that of an earlier round: data never go back"):
            accept(store, of_round(8, snapshot=after))
        assert len(store.keys("tickets")) == 1

    def test_nor_by_a_detour(self, store: Store) -> None:
        """The newest snapshot counts, whichever round it was of."""
        for number, hour in ((5, "06"), (6, "10"), (7, "10")):
            accept(store, of_round(number, snapshot=f"2026-11-22T{hour}:00:00+00:00"))
        with refused("data never go back"):
            accept(store, of_round(8, snapshot="2026-11-22T09:00:00+00:00"))

    @pytest.mark.parametrize("seconds", [-300, 0, 86400])
    def test_are_of_the_last_day(self, store: Store, seconds: int) -> None:
        """Or of a clock that is up to five minutes ahead of the site's."""
        taken = NOW - timedelta(seconds=seconds)
        accept(store, of_round(8, snapshot=taken.isoformat()))
        assert len(store.keys("tickets")) == 1

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (86401, "is older than a day: a new attempt of the round has a new one"),
            (6 * 86400, "is older than a day"),
            (-301, "lies in the future: set the clocks of coordinator and site"),
            (-(10**9), "lies in the future"),
        ],
    )
    def test_of_another_time_are_refused(self, store: Store, seconds: int, text: str) -> None:
        """Deleted rows may not be read for long, and one to come would end all later rounds."""
        taken = NOW - timedelta(seconds=seconds)
        with refused(text):
            accept(store, of_round(8, snapshot=taken.isoformat()))
        assert store.keys() == []
        accept(store, of_round(8))

    def test_of_an_accepted_ticket_stay_what_was_agreed_to(self, store: Store) -> None:
        accept(store, FIRST)
        accept(store, FIRST, now=NOW + timedelta(days=6))
        late = NOW + timedelta(days=6)
        with refused("is older than a day"):
            accept(store, of_round(8), now=late)
        accept(store, opened_at(late, 8), now=late)

    @pytest.mark.parametrize(
        "snapshot",
        ["", "yesterday", "2026-11-22", "2026-11-22T10:00:00", "2026-13-22T10:00:00+00:00", "1763805600"],
    )
    def test_are_times_with_their_zone(self, store: Store, snapshot: str) -> None:
        with refused("is not a time with its zone") as refusal:
            accept(store, of_round(8, snapshot=snapshot))
        assert refusal.value.disclosed == "the ticket's snapshot is not a time"
        assert store.keys() == []


class TestRoundsADay:
    def test_no_more_than_the_policy_allows(self, store: Store) -> None:
        accept(store, of_round(1), rounds_a_day=2)
        accept(store, of_round(2), now=NOW + timedelta(hours=1), rounds_a_day=2)
        with refused("the site's policy allows 2 rounds a day and they are used up"):
            accept(store, of_round(3), now=NOW + timedelta(hours=2), rounds_a_day=2)
        assert len(store.keys("tickets")) == 2

    def test_a_day_later_there_is_room_for_another(self, store: Store) -> None:
        accept(store, of_round(1), rounds_a_day=1)
        late = NOW + timedelta(hours=24)
        with refused("1 rounds a day"):
            accept(store, opened_at(late, 2), now=late - timedelta(seconds=1), rounds_a_day=1)
        accept(store, opened_at(late, 2), now=late, rounds_a_day=1)
        later = late + timedelta(hours=23)
        with refused("1 rounds a day"):
            accept(store, opened_at(later, 3), now=later, rounds_a_day=1)

    def test_a_ticket_that_is_resumed_costs_nothing(self, store: Store) -> None:
        accept(store, of_round(1), rounds_a_day=1)
        for hour in range(5):
            accept(store, of_round(1), now=NOW + timedelta(hours=hour), rounds_a_day=1)

    def test_attempts_count_like_rounds(self, store: Store) -> None:
        accept(store, FIRST, rounds_a_day=2)
        accept(store, TICKET, rounds_a_day=2)
        with refused("2 rounds a day"):
            accept(store, replace(TICKET, attempt=3), rounds_a_day=2)

    def test_a_refused_ticket_costs_nothing(self, store: Store) -> None:
        accept(store, FIRST, rounds_a_day=2)
        for seed in range(5):
            with refused("a second ticket"):
                accept(store, replace(FIRST, seed=10 + seed), rounds_a_day=2)
        accept(store, of_round(8), rounds_a_day=2)

    @pytest.mark.parametrize("hours", [-11, 0, 14])
    def test_a_day_is_as_long_in_every_zone(self, store: Store, hours: int) -> None:
        zone = timezone(timedelta(hours=hours))
        accept(store, of_round(1), rounds_a_day=1)
        early, late = (NOW + timedelta(hours=23)), (NOW + timedelta(hours=25))
        with refused("1 rounds a day"):
            accept(store, opened_at(early, 2), now=early.astimezone(zone), rounds_a_day=1)
        accept(store, opened_at(late, 2), now=late.astimezone(zone), rounds_a_day=1)

    @pytest.mark.parametrize(("minutes", "text"), [(4, "1 rounds a day"), (4320, "lies in the future")])
    def test_a_clock_that_was_set_back_opens_nothing(self, store: Store, minutes: int, text: str) -> None:
        accept(store, of_round(1), rounds_a_day=1)
        with refused(text):
            accept(store, of_round(2), now=NOW - timedelta(minutes=minutes), rounds_a_day=1)

    def test_without_a_limit_there_is_none(self, store: Store) -> None:
        for number in range(1, 30):
            accept(store, of_round(number))


class TestRosters:
    def test_one_roster_a_ticket(self, store: Store) -> None:
        assert accepted_roster(store, FIRST) == ""
        accept_roster(store, FIRST, RD)
        accept_roster(store, FIRST, RD)
        assert accepted_roster(store, FIRST) == RD
        with refused("a second roster was called for round 7"):
            accept_roster(store, FIRST, "4e" * 32)
        assert accepted_roster(store, FIRST) == RD

    def test_every_attempt_has_its_own(self, store: Store) -> None:
        accept_roster(store, FIRST, RD)
        accept_roster(store, TICKET, "4e" * 32)
        assert (accepted_roster(store, FIRST), accepted_roster(store, TICKET)) == (RD, "4e" * 32)


class TestCutoffs:
    def test_one_set_a_roster(self, store: Store) -> None:
        accept_cutoff(store, FIRST, roster=RD, cutoff=UD)
        accept_cutoff(store, FIRST, roster=RD, cutoff=UD)
        with refused("a second set of sites was fixed for the roster of round 7"):
            accept_cutoff(store, FIRST, roster=RD, cutoff="0e" * 32)

    def test_after_a_release_no_other_attempt_of_the_round(self, store: Store) -> None:
        accept(store, FIRST)
        accept_cutoff(store, FIRST, roster=RD, cutoff=UD)
        with refused("has released its masks in another attempt of round 7: the next round may follow"):
            accept(store, TICKET)
        before = store.keys()
        with refused("has released its masks in another attempt of round 7"):
            accept_cutoff(store, TICKET, roster="4e" * 32, cutoff="0e" * 32)
        assert store.keys() == before, "what is refused is not remembered"
        accept(store, FIRST)
        accept_cutoff(store, FIRST, roster=RD, cutoff=UD)

    def test_nor_an_earlier_one(self, store: Store) -> None:
        """A site that went on to the second attempt releases in that one, and never in the first again."""
        accept(store, FIRST)
        accept(store, TICKET)
        accept_cutoff(store, TICKET, roster="4e" * 32, cutoff="0e" * 32)
        with refused("has released its masks in another attempt of round 7"):
            accept_cutoff(store, FIRST, roster=RD, cutoff=UD)

    def test_the_next_round_is_free(self, store: Store) -> None:
        accept(store, FIRST)
        accept_cutoff(store, FIRST, roster=RD, cutoff=UD)
        following = of_round(8)
        accept(store, following)
        accept_cutoff(store, following, roster="4e" * 32, cutoff="0e" * 32)

    def test_before_a_release_a_void_attempt_may_be_followed(self, store: Store) -> None:
        accept(store, FIRST)
        accept_roster(store, FIRST, RD)
        accept(store, TICKET)

    def test_every_purpose_is_released_for_itself(self, store: Store) -> None:
        accept_cutoff(store, FIRST, roster=RD, cutoff=UD)
        accept_cutoff(store, replace(FIRST, purpose="metrics"), roster="4e" * 32, cutoff="0e" * 32)

    def test_of_two_sets_at_once_one_is_accepted(self, store: Store) -> None:
        start, accepted = threading.Barrier(8), []

        def take(number: int) -> None:
            start.wait()
            try:
                accept_cutoff(
                    store, replace(FIRST, attempt=number), roster=f"{number:064d}", cutoff=f"{number:064d}"
                )
            except RefusedError:
                return
            accepted.append(number)

        threads = [threading.Thread(target=take, args=(number,)) for number in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(accepted) == 1


class TestSharers:
    def test_are_remembered_once_for_a_roster(self, store: Store) -> None:
        assert accepted_sharers(store, "rd") == ""
        for _ in range(2):
            accept_sharers(store, TICKET, roster="rd", sharers="sd")
        assert accepted_sharers(store, "rd") == "sd"
        with pytest.raises(RefusedError, match="a second set of sharers was fixed for the roster of round"):
            accept_sharers(store, TICKET, roster="rd", sharers="other")
        assert accepted_sharers(store, "rd") == "sd"
        accept_sharers(store, TICKET, roster="other", sharers="other")
