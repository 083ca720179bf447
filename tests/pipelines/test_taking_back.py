"""A bad round is taken back: the chain stays whole, and nobody is tricked into it, or by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from components.aggregation.secure_aggregation import summing
from components.agreement import lineage, workplace
from components.agreement.charter_book import charter_in_force, propose
from components.agreement.private_keys import load_signing_key
from components.encryption.aggregate_opening import opening as aggregate_opening
from components.encryption.mask_recovery.unmasking import unmask_sum
from components.encryption.mask_release.releasing import release_masks
from components.errors import QuorumNotReachedError, RefusedError
from components.rounds import state as rounds_state
from components.rounds.round_opening import opening
from components.rounds.verification import verify_state
from pipelines.federation import load_federation
from pipelines.federation_run import newest_report
from pipelines.prediction import newest_labeller
from tests.conftest import SmallFederation
from tests.pipelines.command_line import Say, say_here
from tests.pipelines.conftest import FinishedRuns, copied
from tests.pipelines.life import (
    KEYS,
    STATE,
    accept,
    add_site,
    agree,
    ask,
    at_work,
    committed_records,
    next_ticket,
    problems,
    typed,
)
from tests.pipelines.round_in_process import RoundInProcess

At = Callable[[str], SmallFederation]
FOUR = ("alpha", "beta", "delta", "gamma")
EVENTS = ("two rounds", "agreed", "begun again")


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_here(monkeypatch, capsys)


@pytest.fixture
def at(
    small_federation: Callable[..., SmallFederation],
    finished_runs: FinishedRuns,
    say: Say,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> At:
    """A copy of a federation of four: after two rounds, when the second is taken back, and a round later."""
    lives = finished_runs.in_process

    def live() -> None:
        made = small_federation([40, 50, 45, 60], names=FOUR)
        RoundInProcess(made).finish()
        RoundInProcess(made).finish()
        lives["two rounds"] = copied(made, finished_runs.folder / "two-rounds")
        agree(made, say, "--take-back", "2")
        lives["agreed"] = copied(made, finished_runs.folder / "agreed")
        RoundInProcess(made).finish()
        lives["begun again"] = copied(made, finished_runs.folder / "begun-again")

    def there(event: str) -> SmallFederation:
        if "begun again" not in lives:
            live()
        made = copied(lives[event], tmp_path / event.replace(" ", "-"))
        monkeypatch.setenv("CROSSCLOUD_HOME", str(made.home))
        return made

    return there


class TestWhatIsTold:
    def test_the_charter_says_it_in_words_with_the_rounds(self, at: At, say: Say) -> None:
        shown = "\n".join(say("charter", "show", at("agreed").path).lines)
        assert "this edition takes back round 2: the first round under this edition starts from the" in shown
        assert "starts from the model of round 1, " in shown
        assert "it is opened of the same sites as round 2, alpha, beta, delta, gamma," in shown
        made = at("begun again")
        made.document["limits"] = {"max_examples": 900}
        made.save()
        agree(made, say)
        later = say("charter", "show", made.path, "--edition", "2").lines
        assert any(line.startswith("this edition takes back round 2: ") for line in later)
        assert not any("takes back" in line for line in say("charter", "show", made.path).lines)

    def test_a_round_that_is_not_there_or_was_taken_back(self, at: At, say: Say) -> None:
        made = at("begun again")
        for number, text in (
            (9, "round 9 is not committed and cannot be taken back: 1, 2, 3 are"),
            (2, "round 2 was taken back before: its model is not gone on from"),
        ):
            assert say("charter", "new", made.path, "--take-back", number).complaints == [text]

    def test_what_was_agreed_and_not_yet_done_does_not_vanish_silently(self, at: At, say: Say) -> None:
        made = at("agreed")
        made.document["limits"] = {"max_examples": 900}
        made.save()
        assert say("charter", "new", made.path).complaints == [
            "edition 2 takes rounds back and no round under it is committed yet: say '--take-back 2' again, "
            "or '--keep-rounds' to let them stand"
        ]
        both = say("charter", "new", made.path, "--keep-rounds", "--take-back", "2")
        assert both.complaints == ["--take-back and --keep-rounds say opposite things: name one"]
        told = "\n".join(say("charter", "new", made.path, "--keep-rounds").lines)
        assert "lets round 2 stand, which edition 2 takes back and no round has done so yet" in told

    def test_what_stands_already_is_no_new_edition(self, at: At, say: Say) -> None:
        made = at("agreed")
        (line,) = say("charter", "new", made.path, "--take-back", "2").complaints
        assert line == "edition 2 of the charter has these terms already: nothing was written"

    def test_an_edition_that_no_set_of_its_sites_could_begin(self, at: At, say: Say) -> None:
        made = at("two rounds")
        made.document["sites"] = [site for site in made.document["sites"] if site["name"] != "gamma"]
        made.save()
        (line,) = say("charter", "new", made.path, "--take-back", "2").complaints
        assert line.startswith("this edition cannot take back round 2: without noise ")
        assert "the same sites as round 2, alpha, beta, delta, gamma, must be in it" in line

    def test_a_model_that_no_round_has_committed_is_not_signed(self, at: At, say: Say) -> None:
        made = at("two rounds")
        charter = charter_in_force(KEYS)
        propose(KEYS, replace(charter, edition=2, previous=charter.digest, restart="ab" * 32))
        (line,) = say("charter", "sign", made.path, "--as", "alpha").complaints
        assert line.startswith(f"edition 2 of the charter goes back to the model {'ab' * 6}, which no round")
        assert not (made.home / KEYS / "charters/00002/signatures").exists()


class TestWhatStands:
    def test_it_is_what_is_used(self, at: At) -> None:
        federation = load_federation(at("two rounds").path)
        assert newest_labeller(federation, "alpha", use_global=True).round_number == 2
        federation = load_federation(at("agreed").path)
        assert newest_labeller(federation, "alpha", use_global=True).round_number == 1
        assert newest_report(federation).parent.name == "00001"
        assert verify_state(STATE, keys_uri=KEYS).newest_model == committed_records()[0].model

    def test_a_sum_that_was_opened_before_is_committed_and_taken_back_with_the_others(
        self, at: At, say: Say
    ) -> None:
        """Round 3 has its receipt when the edition comes into force that takes back round 2."""
        made = at("two rounds")
        under_way = RoundInProcess(made)
        for step in (under_way.learn, under_way.call, under_way.seal, under_way.add):
            step()
        under_way.release()
        under_way.open()
        agree(made, say, "--take-back", "2")
        resumed = RoundInProcess(made)
        assert resumed.opened == under_way.opened
        resumed.receipt = under_way.receipt
        resumed.commit()
        resumed.report()
        assert "takes back rounds 2, 3: " in "\n".join(say("charter", "show", made.path).lines)
        RoundInProcess(made).finish()
        first, second, third, fourth = committed_records()
        assert [each.parent for each in (third, fourth)] == [second.model, first.model]
        assert problems(charter_in_force(KEYS).digest) == ()

    def test_the_genesis_can_be_gone_back_to(self, at: At, say: Say) -> None:
        """It is the one that round 1 has started from, not one of the seed that the file has now."""
        made = at("two rounds")
        made.document["training"] |= {"seed": 99}
        made.save()
        agree(made, say, "--take-back", "1")
        RoundInProcess(made).finish()
        assert committed_records()[-1].parent == charter_in_force(KEYS).genesis
        assert problems(charter_in_force(KEYS).digest) == ()


class TestNobodyIsTricked:
    def test_a_ticket_from_the_model_that_was_taken_back_is_refused(self, at: At) -> None:
        at("agreed")
        asked = next_ticket(charter_in_force(KEYS), model=committed_records()[-1].model)
        place = at_work("alpha", ask(asked, load_signing_key(KEYS, "coordinator")))
        with pytest.raises(RefusedError, match="is not the one that edition 2 of the charter goes back to"):
            accept(place)

    def test_an_edition_goes_back_once(self, at: At) -> None:
        at("begun again")
        charter = charter_in_force(KEYS)
        asked = next_ticket(charter, model=charter.restart)
        place = at_work("alpha", ask(asked, load_signing_key(KEYS, "coordinator")))
        with pytest.raises(RefusedError, match="is not the one that the last receipt gives"):
            accept(place)

    def test_verify_finds_a_round_from_the_model_that_was_taken_back(
        self, at: At, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Even where all parties agree to it afterwards, against what they have signed."""
        made = at("agreed")
        with monkeypatch.context() as patched:
            for module in (lineage, rounds_state, opening):
                patched.setattr(module, "goes_back", lambda charter, last: False)
            RoundInProcess(made).finish()
        (found,) = [line for line in problems() if "goes back to" in line]
        text = "its model is not the one that edition 2 of the charter goes back to"
        assert found == f"round 3: ticket: {text}"

    def test_a_restart_that_not_everybody_signed_binds_nobody(self, at: At) -> None:
        made = at("begun again")
        charter = charter_in_force(KEYS)
        forged = replace(charter, edition=3, previous=charter.digest, restart=charter.genesis)
        propose(KEYS, forged)
        asked = next_ticket(forged, model=charter.genesis)
        with pytest.raises(RefusedError, match="names a foreign charter"):
            at_work("alpha", ask(asked, load_signing_key(KEYS, "coordinator")))
        assert RoundInProcess(made).opened.model == committed_records()[-1].model

    def test_verify_finds_that_one_has_not_signed(self, at: At) -> None:
        made = at("begun again")
        (made.home / KEYS / "charters/00002/signatures/gamma.json").unlink()
        assert "charter: edition 2 is not signed by gamma" in problems()


class TestWithoutNoise:
    """Gamma's update would be the difference of two sums of one model."""

    def without_gamma(self, made: SmallFederation) -> RoundInProcess:
        """All have committed, and gamma is lost before it seals."""
        round_ = RoundInProcess(made)
        round_.learn()
        round_.call()
        if round_.charter.protection == "smc":
            round_.share()
        round_.committed_to.pop("gamma")
        round_.seal()
        return round_

    def test_the_round_waits_for_the_same_sites(self, at: At) -> None:
        made = at("agreed")
        with pytest.raises(QuorumNotReachedError, match="0 of 4 sites on the roster sealed") as raised:
            self.without_gamma(made).add()
        assert "goes back to the model that round 2 started from" in str(raised.value)
        RoundInProcess(made).finish()
        assert committed_records()[-1].members == FOUR
        assert problems() == ()

    def test_a_newcomer_sits_the_first_round_out(self, at: At, say: Say) -> None:
        made = at("two rounds")
        add_site(made, "omega", rows=40)
        made.document["quorum"] = {"min_sites": 4}
        made.save()
        typed(say, "keys", "init", made, "--as", "omega")
        agree(made, say, "--take-back", "2")
        round_ = RoundInProcess(made)
        round_.learn()
        round_.call()
        # It has committed, and what is not on the roster is not sealed.
        with pytest.raises(RefusedError, match="does not hold this site's commitment"):
            round_.seal(["omega"])
        del round_.committed_to["omega"]
        for step in (round_.seal, round_.add, round_.release, round_.open, round_.commit, round_.report):
            step()
        third = committed_records()[-1]
        assert third.members == FOUR
        assert third.left_out["omega"].startswith("refused: the round goes back to the model that round 2 ")
        RoundInProcess(made).finish()
        assert committed_records()[-1].members == (*FOUR, "omega")
        assert problems(charter_in_force(KEYS).digest) == ()

    def test_a_site_releases_nothing_for_another_set(self, at: At, monkeypatch: pytest.MonkeyPatch) -> None:
        """The aggregator may fix any set: the sites do not believe it."""
        round_ = self.without_gamma(at("agreed"))
        monkeypatch.setattr(summing, "largest_grouped", lambda earlier, available, charter: tuple(available))
        round_.add()
        for site in ("alpha", "beta", "delta"):
            with pytest.raises(RefusedError, match="would show gamma apart from all others"):
                release_masks(round_.place(site))

    def test_nor_does_a_site_whose_masks_are_shared_by_shamir(
        self, small_federation: Callable[..., SmallFederation], say: Say, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = small_federation([40, 50, 45, 60], names=FOUR, protection="smc")
        RoundInProcess(made).finish()
        agree(made, say, "--take-back", "1")
        round_ = self.without_gamma(made)
        monkeypatch.setattr(summing, "largest_grouped", lambda earlier, available, charter: tuple(available))
        round_.add()
        for site in ("alpha", "beta", "delta"):
            with pytest.raises(RefusedError, match="would show gamma apart from all others"):
                unmask_sum(round_.place(site))

    def test_key_holder_and_auditor_look_for_themselves(
        self, at: At, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = at("agreed")
        with monkeypatch.context() as patched:
            round_ = self.without_gamma(made)
            patched.setattr(summing, "largest_grouped", lambda earlier, available, charter: tuple(available))
            patched.setattr(workplace, "require_grouped", lambda earlier, members, charter: None)
            round_.add()
            round_.release()
            with pytest.raises(RefusedError, match="would show gamma apart from all others"):
                round_.open()
            (made.home / "small/exchange" / round_.opened.folder / "shortfall.json").unlink()
            patched.setattr(aggregate_opening, "require_grouped", lambda earlier, members, charter: None)
            round_.open()
            round_.commit()
        (found,) = problems()
        assert found.startswith("round 3: cut-off: without noise this sum and that of round 2, ")
