"""`crosscloud prune` on a federation that goes on: what stays is enough for everybody."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from components.rounds.verification import verify_state
from pipelines.federation import load_federation
from pipelines.prediction import newest_labeller
from pipelines.retention.parties import Pruning, prune
from tests.conftest import SITES, SmallFederation
from tests.pipelines.command_line import Say
from tests.pipelines.conftest import typed
from tests.pipelines.kept_updates import assert_mean_of_updates
from tests.pipelines.retention.conftest import AfterRounds
from tests.pipelines.retention.on_disk import Content, below, content, exchange, in_order, own
from tests.pipelines.round_in_process import RoundInProcess
from tests.pipelines.run_in_progress import PATIENCE, RunInProgress

NEVER = ("tickets", "rosters", "cutoffs", "released", "releases", "evaluations", "left", "statistics")
OF_RECORD = {"ticket.json", "roster.json", "cutoff.json", "receipt.json"}


class TestAfterFourRounds:
    """The long way once: everything that follows is looked at on one federation."""

    @pytest.mark.slow
    def test_everybody_goes_on_with_what_stays(
        self,
        after_rounds: AfterRounds,
        say: Say,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        made = after_rounds(4)
        before, kept_state = exchange(made), content(made.home / "small/state")
        sites_before = {site: own(made, site) for site in SITES}
        capsys.readouterr()
        foretold = say("prune", made.path, "--older-than", 0, "--dry-run", "--json").out
        assert exchange(made) == before
        assert {site: own(made, site) for site in SITES} == sites_before
        done = say("prune", made.path, "--older-than", 0, "--json").out
        assert json.loads(done)["parties"] == json.loads(foretold)["parties"]

        after = exchange(made)
        gone = before.keys() - after.keys()
        self._is_told_as_it_is(done, {key: len(before[key]) for key in gone})
        assert {
            key: value for key, value in after.items() if not key.startswith("pruned/")
        }.items() <= before.items()
        for number in (1, 2, 3, 4):
            folder = f"rounds/{number:05d}-1"
            names = {key.removeprefix(f"{folder}/") for key in below(after, folder)}
            assert names >= OF_RECORD | {"committed.json"}
            assert not any(name.startswith(("sealed/", "released/", "figures/", "sum")) for name in names)
            assert ("aggregate.safetensors" in names) == (number >= 3)
            assert any(name.startswith("commitments/") for name in names) == (number >= 3)
        records = [
            json.loads((made.home / f"small/state/rounds/{n:05d}/round.json").read_text())["body"]
            for n in (3, 4)
        ]
        needed = {each[name] for each in records for name in ("parent", "model")}
        assert below(after, "models") == {f"models/{model}.safetensors" for model in needed}
        assert content(made.home / "small/state") == kept_state

        for site in SITES:
            self._keeps_what_it_must(sites_before[site], own(made, site))
        in_order(4)
        for site in SITES:
            assert newest_labeller(load_federation(made.path), site, use_global=False).is_adapted
        assert say("report", made.path).lines[0].endswith("00004/report.html")

        RoundInProcess(made).finish()
        in_order(5)
        assert_mean_of_updates(made, 5, SITES)
        capsys.readouterr()
        for site in SITES:
            lines = say("explain", made.path, "--as", site, "--check").lines
            # Commitments of two rounds stay, four other objects of four rounds and two commitments are gone.
            assert lines[-1] == (
                "7 objects of the exchange are as recorded, 18 were erased by the coordinator since, 0 differ"
            )

    def _is_told_as_it_is(self, said: str, gone: dict[str, int]) -> None:
        told = next(each for each in json.loads(said)["parties"] if each["party"] == "coordinator")["erased"]
        assert sum(each["objects"] for each in told) == len(gone)
        assert sum(each["size"] for each in told) == sum(gone.values())
        kinds = {each["kind"]: each["objects"] for each in told}
        assert kinds == {
            "commitments": 6,
            "figures": 12,
            "releases": 12,
            "sealed updates and their manifests": 24,
            "sums of sealed updates": 4,
            "opened sums": 2,
            "older models": 2,
        }

    def _keeps_what_it_must(self, before: Content, after: Content) -> None:
        for folder in NEVER:
            assert below(after, folder) == below(before, folder) != set()
        assert after.items() <= before.items()
        for folder in ("updates", "sealed"):
            assert (len(below(before, folder)), len(below(after, folder))) == (4, 1)
        assert (len(below(before, "adaptations")), len(below(after, "adaptations"))) == (4, 1)
        for folder in ("rows", "features"):
            assert below(after, folder) == below(before, folder) != set()


class TestBesideARound:
    @pytest.mark.slow
    def test_after_every_step_the_round_goes_on_as_if_nothing_had_been(
        self, after_rounds: AfterRounds
    ) -> None:
        """What the open attempt has made, and what it is about to read, is never touched."""
        made = after_rounds(2)
        federation = load_federation(made.path)
        folder = "rounds/00003-1"

        def pruned() -> None:
            kept = {key: told for key, told in exchange(made).items() if key.startswith(folder)}
            for party in (*SITES, "coordinator"):
                prune(federation, party, Pruning(now=datetime.now(UTC), older_than=0))
            assert kept == {key: told for key, told in exchange(made).items() if key.startswith(folder)}

        walk = RoundInProcess(made)
        pruned()
        for site in SITES:
            walk.learn([site])
            pruned()
        for step in (walk.call, walk.seal, walk.add, walk.release, walk.open, walk.commit):
            step()
            pruned()
        # Committed and not reported: a run that was killed here goes on from the exchange.
        again = RoundInProcess(made)
        assert again.stage == "committed"
        again.finish()
        for party in (*SITES, "coordinator"):
            prune(federation, party, Pruning(now=datetime.now(UTC), older_than=0))
        in_order(3)
        assert_mean_of_updates(made, 3, SITES)
        RoundInProcess(made).finish()
        in_order(4)

    @pytest.mark.slow
    def test_by_the_command_a_run_that_was_killed_is_pruned_and_finished(
        self, after_one_round: SmallFederation, say: Say, capsys: pytest.CaptureFixture[str]
    ) -> None:
        runs = after_one_round.home / "small/runs"
        (first,) = runs.iterdir()
        with RunInProgress(after_one_round) as run:
            run.await_start("release")
            with run.paused():
                lines = say("prune", after_one_round.path, "--older-than", 0).lines
                assert any(line.startswith("  run folders  ") and " 1  " in line for line in lines)
                assert not first.exists(), "nothing runs in it any more"
                assert run.log.exists(), "its run holds it"
                much_later = datetime.now(UTC) + timedelta(days=2)
                pruning = Pruning(now=much_later, older_than=0)
                prune(load_federation(after_one_round.path), "coordinator", pruning)
                assert run.log.exists()
                assert list(after_one_round.home.glob("tmp-*")), "its run holds it too"
            run.kill()
        # What was killed lets go of its folders when it is gone, which takes a busy machine a moment.
        deadline = time.monotonic() + PATIENCE
        while list(after_one_round.home.glob("tmp-*")) and time.monotonic() < deadline:
            prune(load_federation(after_one_round.path), "coordinator", pruning)
        assert not list(after_one_round.home.glob("tmp-*"))
        command = typed("run", str(after_one_round.path), home=after_one_round.home)
        assert command.returncode == 0, command.stderr
        in_order(2)
        assert_mean_of_updates(after_one_round, 2, SITES)
        assert say("prune", after_one_round.path, "--older-than", 0).code == 0
        assert list(runs.iterdir()) == []


class TestAVoidRound:
    @pytest.mark.slow
    def test_is_erased_with_the_round_after_it_and_stays_void(self, after_rounds: AfterRounds) -> None:
        made = after_rounds(1)
        federation = load_federation(made.path)
        lost = RoundInProcess(made)
        lost.learn()
        lost.call()
        lost.seal()
        lost.add()
        lost.release(["alpha", "beta"])
        with pytest.raises(Exception, match="gamma sealed but did not release"):
            lost.open()
        before = exchange(made)
        later = RoundInProcess(made)
        assert later.opened.round_number == 3
        prune(federation, "coordinator", Pruning(now=datetime.now(UTC), older_than=0))
        folder = "rounds/00002-1"
        assert below(exchange(made), folder) >= below(before, folder), "nobody has committed since"
        later.finish()
        prune(federation, "coordinator", Pruning(now=datetime.now(UTC), older_than=0))
        assert {key.rpartition("/")[2] for key in below(exchange(made), folder)} == {
            "ticket.json", "roster.json", "cutoff.json", "shortfall.json", "void.json"
        }  # fmt: skip
        found = verify_state("small/state", keys_uri="small/keys")
        assert (found.problems, found.rounds, found.voided) == ((), 2, 1)
        RoundInProcess(made).finish()
