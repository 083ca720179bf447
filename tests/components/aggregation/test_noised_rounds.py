"""Rounds whose sites share noise, from the ticket to the commit: what is opened, drawn, paid and left out."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.agreement.commitment import Commitment, commitment_key, read_commitment
from components.agreement.cutoff import shortfall_key
from components.agreement.ledger_head import LedgerHead, first_head, head_after, read_ledger_head
from components.agreement.model_store import read_committed
from components.agreement.receipt import aggregate_key, receipt_key
from components.agreement.released_sum import shapes_of
from components.agreement.roster import Roster, read_roster, roster_key
from components.agreement.server_optimizer import next_model
from components.agreement.site_update import read_update, update_key
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import local_path, open_store, reference
from components.encryption.update_vector import from_sum
from components.errors import QuorumNotReachedError, RefusedError
from components.privacy.charging import charged_head, follow_head, open_ledger, shown_heads
from components.privacy.round_noise import round_mechanism
from components.rounds.verification import verify_state
from components.training.features import read_features
from components.training.local_training.clipped_gradients import clipped_gradient_sum
from components.training.local_training.training import train
from tests.components.aggregation.three_sites import NOISE, SITES, ThreeSites, privacy_policy

FOUR = ("alpha", "beta", "delta", "gamma")
"""A sum of three is opened: one site may be left out."""
OTHERS = ("alpha", "delta", "gamma")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh CROSSCLOUD_HOME."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    return tmp_path / "home"


def start(sites: tuple[str, ...] = SITES, **terms: Any) -> ThreeSites:
    return ThreeSites.start(protection="sealed", privacy=NOISE, sites=sites, **terms)


def opened(three: ThreeSites) -> Any:
    content = three.exchange.read(aggregate_key(three.opened.ticket.folder))
    return tensors.decode_any(content)["aggregate"]


def exact_sum(three: ThreeSites, sites: tuple[str, ...]) -> tuple[Any, int]:
    """Clipped gradients and rows of these sites, without any noise."""
    total, rows = np.zeros(0), 0
    for site in sites:
        place = three.place(site)
        examples = read_features(place.store, three.features(site)).train
        norm = three.charter.clipping_norm
        part = clipped_gradient_sum(place.model(), examples, max_grad_norm=norm, device="cpu")
        total = total + part if total.size else part
        rows += len(examples.labels)
    return total, rows


def entries_of(site: str) -> int:
    return len(open_ledger(privacy_policy("small", site)).entries())


def shows(three: ThreeSites, site: str, head: LedgerHead | None) -> None:
    """Puts a commitment in the place of a site's, which it signed and which shows this head."""
    key = commitment_key(three.opened.ticket, site)
    made = read_commitment(three.exchange.read(key), three.opened.ticket, site, three.charter)
    document = replace(made, ledger=asdict(head) if head else None).signed(three.place(site).key)
    (three.exchange_folder / key).write_bytes(document)


def made_up(length: int, site: str = "beta") -> LedgerHead:
    """A ledger of so many entries that nobody has seen before."""
    entries = [f"{number:064x}" for number in range(length)]
    head = head_after(first_head(f"{site}-visits", "row"), entries)
    return LedgerHead(length=length, head=head, entries=tuple(entries[-512:]))


class TestOpened:
    @pytest.mark.parametrize(("optimizer", "hidden_units"), [("adam", 0), ("momentum", 3), ("sgd", 0)])
    def test_the_sum_is_that_of_clipped_gradients_and_the_model_one_step_on(
        self, optimizer: str, hidden_units: int
    ) -> None:
        three = start(server_optimizer=optimizer, hidden_units=hidden_units, server_learning_rate=0.25)
        for number in (1, 2):
            committed = three.committed()
            total = opened(three)
            places = [three.place(site) for site in three.sites]
            vectors = [read_update(place.store, place.ticket).astype(np.int64) for place in places]
            shapes = shapes_of(places[0].model())
            assert np.array_equal(
                total, from_sum(three.charter, np.sum(vectors, axis=0), round_number=number, shapes=shapes)
            )
            exact, rows = exact_sum(three, three.sites)
            mechanism = round_mechanism(three.charter, number, shapes)
            deviation = mechanism.sum_deviation(3)
            assert np.abs(total[:-1] - exact).max() < 8 * deviation
            assert abs(total[-1] - rows) < 8 * deviation / NOISE.count_weight
            assert np.abs(total[:-1] - exact).max() > deviation / 8  # noise there is
            parent = read_committed(three.exchange, three.opened.ticket.model)
            expected = tensors.encode(
                next_model(three.charter, parent, total, round_number=number, members=3)
            )
            assert committed.manifest["model"] == digest(expected)
            three = three.next_round()
        assert verify_state("small/state", keys_uri=three.keys_uri).problems == ()

    def test_a_lost_site_is_missed_from_the_sum_and_nothing_else(self) -> None:
        three = start(FOUR)
        commitments = three.train()
        sealed = three.seal(three.roster(commitments), ("alpha", "beta", "gamma")) | {"delta": ""}
        three.commit(three.open_sum(three.summed(sealed)).reference)
        exact, _ = exact_sum(three, ("alpha", "beta", "gamma"))
        deviation = round_mechanism(three.charter, 1, {"w": exact.shape}).sum_deviation(3)
        assert np.abs(opened(three)[:-1] - exact).max() < 8 * deviation
        assert entries_of("delta") == 1  # it was paid for, whatever became of it


class TestDrawnOnce:
    def test_a_retry_commits_to_what_was_drawn_first(self) -> None:
        three = start()
        three.train()
        place, key = three.place("alpha"), commitment_key(three.opened.ticket, "alpha")
        document, vector = three.exchange.read(key), place.store.read(update_key(place.ticket))
        for _ in range(2):
            train(three.accepted("alpha"), features=three.features("alpha"), device="cpu")
            assert three.exchange.read(key) == document
            # Killed after the noise was drawn and before anything was published.
            (three.exchange_folder / key).unlink()
            train(three.accepted("alpha"), features=three.features("alpha"), device="cpu")
            assert three.exchange.read(key) == document
        assert place.store.read(update_key(place.ticket)) == vector
        assert entries_of("alpha") == 1

    def test_a_site_that_has_forgotten_its_draw_publishes_no_second_one(self) -> None:
        three = start()
        three.train()
        place, key = three.place("alpha"), commitment_key(three.opened.ticket, "alpha")
        document = three.exchange.read(key)
        place.store.remove(update_key(place.ticket))
        with pytest.raises(RefusedError, match="another commitment lies where this site's belongs"):
            train(three.accepted("alpha"), features=three.features("alpha"), device="cpu")
        assert three.exchange.read(key) == document

    def test_a_ticket_that_was_not_paid_for_draws_nothing(self) -> None:
        three = start()
        place = three.place("alpha")
        three.accepted("alpha")
        shutil.rmtree(local_path("small/ledgers/alpha"))
        with pytest.raises(RefusedError, match="round 1 was not charged to the site's privacy ledger"):
            train(place, features=three.features("alpha"), device="cpu")
        assert not place.store.exists(update_key(place.ticket))
        assert not three.exchange.exists(commitment_key(three.opened.ticket, "alpha"))

    def test_a_new_attempt_is_paid_again_and_draws_anew(self) -> None:
        three = start()
        three.train()
        three.exchange.create(shortfall_key(three.opened.ticket), b"{}")
        again = three.next_attempt()
        again.committed()
        assert (again.opened.ticket.round_number, again.opened.ticket.attempt) == (1, 2)
        assert [entries_of(site) for site in SITES] == [2, 2, 2]
        first, second = (
            read_update(each.place("alpha").store, each.opened.ticket) for each in (three, again)
        )
        assert not np.array_equal(first, second)


class TestShown:
    def test_every_commitment_shows_the_head_that_holds_the_charge(self) -> None:
        three = start()
        for number in (1, 2):
            three.committed()
            for site in three.sites:
                document = three.exchange.read(commitment_key(three.opened.ticket, site))
                made = read_commitment(document, three.opened.ticket, site, three.charter)
                ledger = open_ledger(privacy_policy("small", site))
                assert read_ledger_head(made.ledger) == ledger.head()
                assert ledger.head().length == number
                assert ledger.entries()[-1].charge.ticket == three.opened.ticket.digest
            three = three.next_round()

    def test_everybody_remembers_what_everybody_showed(self) -> None:
        three = start()
        three.committed()
        three.next_round().committed()
        stores = [three.place(site).store for site in three.sites]
        for store in (*stores, three.exchange, open_store("small/key-holder")):
            for site in three.sites:
                assert [head.length for head in shown_heads(store, site)] == [1, 2]


class TestLeftOut:
    """A site whose ledger went back holds up nobody: the others commit without it, in the same attempt."""

    def goes_on_without_beta(self, three: ThreeSites, reason: str) -> None:
        commitments = {
            site: reference(three.exchange, commitment_key(three.opened.ticket, site)) for site in FOUR
        }
        called = three.roster(commitments)
        roster = read_roster(
            three.exchange.read(roster_key(three.opened.ticket)), three.opened.ticket, three.charter
        )
        assert dict(roster.left_out) == {"beta": reason}
        sealed = three.seal(called, roster.sites)
        assert three.commit(three.open_sum(three.summed(sealed)).reference).manifest["sites"] == [
            "alpha",
            "delta",
            "gamma",
        ]

    @pytest.mark.parametrize(
        ("length", "reason"),
        [
            (1, "beta: a privacy ledger of 1 entries was forked"),
            (2, "beta: a privacy ledger does not go on from its entry 1: it was forked"),
            (600, "beta: a privacy ledger has 599 entries more and tells 512: some are concealed"),
        ],
    )
    def test_a_forked_ledger(self, length: int, reason: str) -> None:
        three = start(FOUR)
        three.committed()
        second = three.next_round()
        second.train()
        shows(second, "beta", made_up(length))
        self.goes_on_without_beta(second, f"refused: {reason}")
        # Its own steps would refuse to go on from what lies there in its name.
        (three.exchange_folder / commitment_key(second.opened.ticket, "beta")).unlink()
        third = second.next_round()
        third.train()
        shows(third, "beta", made_up(length))
        self.goes_on_without_beta(third, f"refused: {reason}")

    def test_a_stale_head(self) -> None:
        three = start(FOUR)
        three.committed()
        second = three.next_round()
        second.train()
        [shown] = list(shown_heads(three.place("alpha").store, "beta"))
        shows(second, "beta", shown)
        self.goes_on_without_beta(second, "refused: beta: a privacy ledger of 1 entries was not charged")

    def test_no_ledger_at_all(self) -> None:
        three = start(FOUR)
        three.train()
        shows(three, "beta", None)
        self.goes_on_without_beta(three, "refused: beta shows no privacy ledger in its commitment")

    def test_a_ledger_under_a_charter_without_noise(self) -> None:
        three = ThreeSites.start(protection="sealed", sites=FOUR)
        three.train()
        shows(three, "beta", made_up(1))
        self.goes_on_without_beta(three, "refused: beta shows a privacy ledger in its commitment")

    def test_a_ledger_that_went_back_while_the_site_stayed_away(self) -> None:
        """The last committed round knows nothing of it; what its peers remember is on record all the same."""
        three = start(FOUR)
        three.committed()
        second = three.next_round()
        commitments = second.train(OTHERS) | {"beta": ""}
        second.commit(
            second.open_sum(second.summed(second.seal(second.roster(commitments), OTHERS))).reference
        )
        third = second.next_round()
        third.train()
        shows(third, "beta", made_up(1))
        self.goes_on_without_beta(third, "refused: beta: a privacy ledger of 1 entries was forked")

    def test_a_ledger_that_went_back_after_an_attempt_that_came_to_nothing(self) -> None:
        three = start(FOUR)
        called = three.roster(three.train())
        three.seal(called, ("alpha",))  # it has seen what beta showed, and remembers it
        three.exchange.create(shortfall_key(three.opened.ticket), b"{}")
        again = three.next_attempt()
        again.train()
        shows(again, "beta", made_up(1))
        self.goes_on_without_beta(again, "refused: beta: a privacy ledger of 1 entries was forked")

    def test_a_ledger_that_was_restored_with_the_sites_own_store(self) -> None:
        """The site itself cannot know: no round was committed that says what it showed."""
        three = start(FOUR)
        three.roster(three.train())
        for folder in (local_path("small/ledgers/beta"), three.store_folder("beta")):
            shutil.rmtree(folder)
        three.exchange.create(shortfall_key(three.opened.ticket), b"{}")
        again = three.next_attempt()
        again.train()
        assert entries_of("beta") == 1
        self.goes_on_without_beta(again, "refused: beta: a privacy ledger of 1 entries was forked")


class TestRefused:
    """Peers and key holder trust no roster: what they have seen themselves is what they go by."""

    def rigged(self, three: ThreeSites, commitments: Mapping[str, str]) -> str:
        """A roster of the coordinator's that holds what an honest one leaves out."""
        ticket = three.opened.ticket
        named = {site: digest(three.exchange.read(commitment_key(ticket, site))) for site in commitments}
        roster = Roster(charter=ticket.charter, ticket=ticket.digest, commitments=named, left_out={})
        return three.sign_roster(roster, roster_key(ticket))

    def test_peers_seal_beside_no_ledger_that_went_back(self) -> None:
        three = start()
        three.committed()
        second = three.next_round()
        commitments = second.train()
        shows(second, "beta", made_up(1))
        roster = self.rigged(second, commitments)
        for site in ("alpha", "gamma"):
            before = second.place(site).store.keys("sealed")
            with pytest.raises(RefusedError, match=r"^beta: a privacy ledger of 1 entries was forked$"):
                second.seal(roster, [site])
            assert second.place(site).store.keys("sealed") == before
            assert second.place(site).store.keys("rosters") == [f"rosters/{three.opened.ticket.digest}.txt"]

    def test_the_key_holder_opens_no_sum_beside_one_and_the_next_run_goes_on(self) -> None:
        three = start()
        total = three.summed(three.sealed())
        # It has seen more of beta's ledger than all others, who have lost their stores, say.
        earlier = replace(three.opened.ticket, round_number=1, purpose="earlier")
        forked = Commitment(
            charter="", ticket="", site="beta", ephemeral="", commitment="", ledger=asdict(made_up(3))
        )
        holder = open_store("small/key-holder")
        follow_head(holder, three.charter, earlier, forked, site="beta")
        with pytest.raises(
            RefusedError, match="beta: a privacy ledger of 3 entries has 1 now: it was rolled"
        ):
            three.open_sum(total)
        folder = three.opened.ticket.folder
        assert not any(three.exchange.exists(key(folder)) for key in (aggregate_key, receipt_key))
        assert holder.keys("opened") == []
        with pytest.raises(QuorumNotReachedError, match="round 1 is void"):
            three.open_sum(total)
        after = three.next_attempt()
        assert (after.opened.ticket.round_number, after.opened.ticket.attempt) == (2, 1)

    def test_a_site_shows_its_peers_what_it_showed_first(self) -> None:
        """A retry of `seal` passes what it passed, and nothing that was put in its place."""
        three = start()
        called = three.roster(three.train())
        for _ in range(2):
            three.seal(called)
        assert charged_head(three.place("beta")) is not None
        shows(three, "beta", made_up(2))
        with pytest.raises(Exception, match="commitment of beta is not the one on the roster"):
            three.seal(called, ["alpha"])

    def test_the_schedules_last_round_is_the_last(self) -> None:
        three = start()
        for _ in range(4):
            three.committed()
            last, three = three, three if three.opened.ticket.round_number == 4 else three.next_round()
        assert last.opened.ticket.round_number == 4
        assert [entries_of(site) for site in SITES] == [4, 4, 4]
        with pytest.raises(RefusedError, match="round 5 is outside the charter's schedule of noise"):
            last.next_round()
