"""Ledgers that were rolled back, cut or forked: found by the site itself, and by all who have seen more."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from components.agreement.commitment import Commitment
from components.agreement.ledger_head import LedgerHead
from components.artifacts.stores import Store
from components.errors import IntegrityError, RefusedError
from components.privacy.charging import (
    charge_ticket,
    charged_head,
    follow_head,
    follow_heads,
    shown_heads,
)
from tests.components.aggregation.three_sites import (
    ThreeSites,
)
from tests.components.agreement.signed_form import CHARTER, NOISED, TICKET
from tests.components.privacy.charges import (
    NOW,
    content_of,
    folder_of,
    head_of,
    ledger_of,
    shows,
)
from tests.components.privacy.ledger_runs import charge_for, release


class TestRollback:
    """Found by the site itself, before it charges or reads anything."""

    def round_two(self, three: ThreeSites) -> ThreeSites:
        three.committed()
        return three.next_round()

    def is_found(self, three: ThreeSites, text: str) -> None:
        before = {path: path.read_bytes() for path in folder_of().iterdir()}
        with pytest.raises(IntegrityError, match=text):
            three.accepted("alpha")
        assert {path: path.read_bytes() for path in folder_of().iterdir()} == before

    def test_removed_entries_are_missed(self, three: ThreeSites) -> None:
        second = self.round_two(three)
        (folder_of() / "00000001.json").unlink()
        self.is_found(second, "has 0 entries, 1 were published: its newest are gone")

    def test_a_ledger_restored_with_the_sites_own_store_is_missed(
        self, three: ThreeSites, home: Path
    ) -> None:
        """The site has forgotten what it showed; the exchange has not."""
        for name in ("ledgers", "sites"):
            shutil.rmtree(home / f"small/{name}/alpha", ignore_errors=True)
        kept = {name: home / f"kept-{name}" for name in ("ledgers", "sites")}
        second = self.round_two(three)
        for name, copy in kept.items():
            shutil.copytree(home / f"small/{name}/alpha", copy)
        third = self.round_two(second)
        for name, copy in kept.items():
            shutil.rmtree(home / f"small/{name}/alpha")
            shutil.copytree(copy, home / f"small/{name}/alpha")
        self.is_found(third, "has 1 entries, 2 were published: its newest are gone")

    @pytest.mark.parametrize("later", [1, 3])
    def test_a_fork_is_found(self, three: ThreeSites, later: int) -> None:
        second = self.round_two(three)
        (folder_of() / "00000001.json").unlink()
        for number in range(later):
            ledger_of().charge(charge_for(number), release(), now=NOW)
        self.is_found(second, "first 1 entries are not those that were published")

    def test_a_fork_is_found_where_only_the_exchange_remembers_it(self, three: ThreeSites) -> None:
        """The site's own record was made anew on the fork, and is the longer one."""
        second = self.round_two(three)
        shutil.rmtree(folder_of())
        place = second.place("alpha")
        for key in place.store.keys("ledger-heads/alpha"):
            place.store.remove(key)
        for number in range(3):
            ledger_of().charge(charge_for(number), release(), now=NOW)
        forked = Commitment(
            charter="",
            ticket="",
            site="alpha",
            ephemeral="",
            commitment="",
            ledger=asdict(ledger_of().head()),
        )
        follow_head(place.store, three.charter, three.opened.ticket, forked, site="alpha")
        self.is_found(second, "first 1 entries are not those that were published")

    def test_it_is_found_between_charge_and_commitment(self, three: ThreeSites) -> None:
        second = self.round_two(three)
        place = second.accepted("alpha")
        (folder_of() / "00000002.json").unlink()
        with pytest.raises(RefusedError, match="round 2 was not charged"):
            charged_head(place)
        (folder_of() / "00000001.json").unlink()
        with pytest.raises(IntegrityError, match="its newest are gone"):
            charged_head(place)

    def test_an_altered_byte_is_found(self, three: ThreeSites) -> None:
        second = self.round_two(three)
        path = folder_of() / "00000001.json"
        path.write_bytes(path.read_bytes().replace(b'"attempt":1', b'"attempt":2'))
        with pytest.raises(IntegrityError, match="entry 1 of the privacy ledger was altered"):
            second.accepted("alpha")

    def test_the_coordinators_state_has_no_part_in_it(self, three: ThreeSites, home: Path) -> None:
        """Whoever loses rounds and exchange starts anew; what was spent stays spent."""
        second = self.round_two(three)
        second.committed()
        for name in ("state", "exchange"):
            shutil.rmtree(home / f"small/{name}")
        anew = three.next_attempt()
        assert anew.opened.ticket.round_number == 1
        with pytest.raises(RefusedError, match=r"round 1 was replayed|a second ticket was issued"):
            anew.accepted("alpha")
        assert len(ledger_of().entries()) == 2
        shutil.rmtree(folder_of())
        place = anew.place("alpha")
        with pytest.raises(IntegrityError, match="has 0 entries, 2 were published"):
            charge_ticket(place, now=NOW)


class TestFollowing:
    """What peers, roster and key holder have seen of a ledger, and pass of it."""

    FIRST = replace(TICKET, round_number=3)
    SECOND = replace(TICKET, round_number=4, attempt=1)

    @pytest.fixture
    def seen(self, store: Store) -> Store:
        """A party that was shown entries a and b in round 3."""
        follow_heads(store, NOISED, self.FIRST, shows(head_of("a", "b")))
        return store

    @pytest.mark.parametrize(
        "head", [head_of("a", "b", "c"), head_of("a", "b", "c", since=2), head_of(*"abcdefg", since=1)]
    )
    def test_a_ledger_that_goes_on_is_passed(self, seen: Store, head: LedgerHead) -> None:
        follow_heads(seen, NOISED, self.SECOND, shows(head))
        assert [each.length for each in shown_heads(seen, "beta")] == [2, head.length]

    @pytest.mark.parametrize(
        ("head", "text"),
        [
            (head_of("a"), "beta: a privacy ledger of 2 entries has 1 now: it was rolled back"),
            (head_of(), "beta: a privacy ledger of 2 entries has 0 now: it was rolled back"),
            (head_of("a", "b"), "beta: a privacy ledger of 2 entries was not charged"),
            (head_of("a", "c"), "beta: a privacy ledger of 2 entries was forked"),
            (head_of("a", "c", "d"), "beta: a privacy ledger does not go on from its entry 2: it was forked"),
            (head_of("b", "a", "d"), "beta: a privacy ledger does not go on from its entry 2: it was forked"),
            (head_of("a", "b", "c", "d", since=3), "some are concealed"),
            (replace(head_of("a", "b", "c"), length=9), "some are concealed"),
            (replace(head_of("a", "b", "c"), head="0" * 64), "it was forked"),
            (None, "beta shows no privacy ledger in its commitment"),
        ],
    )
    def test_any_other_is_refused(self, seen: Store, head: LedgerHead | None, text: str) -> None:
        before = content_of(seen)
        with pytest.raises(RefusedError) as caught:
            follow_heads(seen, NOISED, self.SECOND, shows(head))
        assert text in str(caught.value)
        assert caught.value.disclosed == str(caught.value)
        assert content_of(seen) == before
        # Once the site's people have restored it, the same attempt goes on.
        follow_heads(seen, NOISED, self.SECOND, shows(head_of("a", "b", "c")))

    def test_a_ticket_that_comes_again_shows_the_same(self, seen: Store) -> None:
        for _ in range(2):
            follow_heads(seen, NOISED, self.FIRST, shows(head_of("a", "b")))
        follow_heads(seen, NOISED, self.SECOND, shows(head_of("a", "b", "c")))
        follow_heads(seen, NOISED, self.FIRST, shows(head_of("a", "b")))
        for other in (head_of("a", "b", "c"), head_of("a"), head_of("a", "b", since=1)):
            with pytest.raises(
                RefusedError, match="beta has shown another privacy ledger for round 3 before"
            ):
                follow_heads(seen, NOISED, self.FIRST, shows(other))

    def test_attempts_and_purposes_are_told_apart(self, seen: Store) -> None:
        for attempt, entries in ((3, "abc"), (10, "abcd"), (11, "abcde")):
            ticket = replace(self.FIRST, attempt=attempt)
            follow_heads(seen, NOISED, ticket, shows(head_of(*entries)))
        with pytest.raises(RefusedError, match="of 5 entries has 4 now"):
            follow_heads(seen, NOISED, self.SECOND, shows(head_of(*"abcd")))
        follow_heads(seen, NOISED, replace(self.SECOND, purpose="metrics"), shows(head_of(*"abcdef")))
        with pytest.raises(RefusedError, match="was not charged"):
            follow_heads(seen, NOISED, self.SECOND, shows(head_of(*"abcdef")))

    def test_a_site_that_is_seen_for_the_first_time_begins_its_memory(self, seen: Store) -> None:
        follow_heads(seen, NOISED, self.FIRST, shows(head_of(*"xyz", since=2), "gamma"))
        assert [each.length for each in shown_heads(seen, "gamma")] == [3]
        with pytest.raises(RefusedError, match=r"^gamma: a privacy ledger of 3 entries was not charged"):
            follow_heads(seen, NOISED, self.SECOND, shows(head_of(*"xyz"), "gamma"))

    @pytest.mark.parametrize("content", [b"", b"no json", b"{}", b"[" * 60_000, b'{"length":1}'])
    def test_an_altered_record_is_against_the_site_alone(self, seen: Store, content: bytes) -> None:
        """In the exchange others may write it: the one site is left out, and nothing stops."""
        seen.create("ledger-heads/beta/000000003-000009-update.json", content)
        with pytest.raises(RefusedError, match=r"^beta: "):
            follow_heads(seen, NOISED, self.SECOND, shows(head_of(*"abc")))
        follow_heads(seen, NOISED, self.SECOND, shows(head_of("a"), "gamma"))

    def test_no_ledger_is_shown_under_a_charter_without_noise(self, store: Store) -> None:
        follow_heads(store, CHARTER, self.FIRST, shows(None))
        with pytest.raises(RefusedError, match=r"^beta shows a privacy ledger in its commitment$"):
            follow_heads(store, CHARTER, self.FIRST, shows(head_of("a")))
        assert store.keys() == []

    def test_one_site_that_is_refused_does_not_hide_what_others_showed(self, seen: Store) -> None:
        both = shows(head_of("a"), "alpha") | shows(head_of("a"), "beta")
        with pytest.raises(RefusedError, match=r"^beta: "):
            follow_heads(seen, NOISED, self.SECOND, both)
        assert [each.length for each in shown_heads(seen, "alpha")] == [1]
