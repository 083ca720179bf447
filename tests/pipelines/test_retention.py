"""`crosscloud prune` on a federation that goes on: what stays is enough for everybody."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from components.artifacts.file_store import FileStore
from components.artifacts.stores import open_store
from components.errors import StoreError
from components.rounds.verification import verify_state
from pipelines.federation import load_federation
from pipelines.prediction import newest_labeller
from pipelines.retention.parties import Pruning, prune
from tests.conftest import SITES, SmallFederation
from tests.pipelines.command_line import Say, say_here
from tests.pipelines.conftest import copied, typed
from tests.pipelines.kept_updates import assert_mean_of_updates
from tests.pipelines.round_in_process import RoundInProcess
from tests.pipelines.run_in_progress import RunInProgress

NEVER = ("tickets", "rosters", "cutoffs", "released", "releases", "evaluations", "left", "statistics")
OF_RECORD = {"ticket.json", "roster.json", "cutoff.json", "receipt.json"}
Content = dict[str, bytes]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_here(monkeypatch, capsys)


def content(folder: Path) -> Content:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def exchange(made: SmallFederation) -> Content:
    return content(made.home / "small/exchange")


def own(made: SmallFederation, site: str) -> Content:
    return content(made.home / f"small/sites/{site}/store")


def below(found: Content, folder: str) -> set[str]:
    return {key for key in found if key.startswith(f"{folder}/")}


def in_order(rounds: int) -> None:
    found = verify_state("small/state", keys_uri="small/keys")
    assert (found.problems, found.rounds) == ((), rounds)


AfterRounds = Callable[[int], SmallFederation]


@pytest.fixture(scope="module")
def walked() -> dict[int, SmallFederation]:
    """Federations by the number of their rounds, made once. To be copied only."""
    return {}


@pytest.fixture
def after_rounds(
    small_federation: Callable[..., SmallFederation],
    walked: dict[int, SmallFederation],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> AfterRounds:
    """A federation after some rounds in process, to be changed; CROSSCLOUD_HOME is its home."""

    def walk(rounds: int) -> SmallFederation:
        if rounds not in walked:
            before = walk(rounds - 1) if rounds else small_federation([20, 21, 22])
            made = copied(before, tmp_path_factory.mktemp("walked") / str(rounds))
            monkeypatch.setenv("CROSSCLOUD_HOME", str(made.home))
            if rounds:
                RoundInProcess(made).finish()
            walked[rounds] = made
        return walked[rounds]

    def made(rounds: int) -> SmallFederation:
        federation = copied(walk(rounds), tmp_path / "walked")
        monkeypatch.setenv("CROSSCLOUD_HOME", str(federation.home))
        return federation

    return made


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


class TestCaches:
    def test_of_records_that_have_changed_are_erased_and_filled_again(
        self, after_rounds: AfterRounds
    ) -> None:
        made = after_rounds(1)
        first = own(made, "alpha")
        original = made.warehouse("alpha").read_bytes()
        with duckdb.connect(str(made.warehouse("alpha"))) as connection:
            connection.execute("DELETE FROM visits WHERE id < 3")
        RoundInProcess(made).finish()
        pruning = Pruning(now=datetime.now(UTC), older_than=0)
        prune(load_federation(made.path), "alpha", pruning)
        second = own(made, "alpha")
        for folder in ("rows", "features"):
            assert len(below(second, folder)) == len(below(first, folder))
            assert not below(second, folder) & below(first, folder)
        made.warehouse("alpha").write_bytes(original)
        RoundInProcess(made).finish()
        third = own(made, "alpha")
        for key in below(first, "rows") | below(first, "features"):
            assert third[key] == first[key]
        in_order(3)

    def test_wait_while_an_attempt_is_at_its_beginning(self, after_rounds: AfterRounds) -> None:
        made = after_rounds(1)
        walk = RoundInProcess(made)
        place = walk.place("alpha")
        place.accept(datetime.now(UTC))
        stale = made.home / "small/sites/alpha/store/rows/0000.parquet"
        stale.write_bytes(b"rows of long ago")
        found = prune(load_federation(made.path), "alpha", Pruning(now=datetime.now(UTC), older_than=0))
        assert found.remark == "rows and features stay while attempt 1 of round 2 begins"
        assert stale.exists()
        walk.finish()
        found = prune(load_federation(made.path), "alpha", Pruning(now=datetime.now(UTC), older_than=0))
        assert found.remark == ""
        assert not stale.exists()


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


class TestTime:
    def test_is_counted_from_the_commit_and_is_the_files_by_default(self, after_rounds: AfterRounds) -> None:
        made = after_rounds(3)
        made.document["retention"] = {"exchange_days": 7, "cache_days": 3}
        made.save()
        federation = load_federation(made.path)
        now = datetime.now(UTC)

        def told(party: str, later: timedelta, **how: int) -> int:
            pruning = Pruning(now=now + later, dry_run=True, **how)
            return sum(each.objects for each in prune(federation, party, pruning).erased)

        assert told("coordinator", timedelta(days=6, hours=23)) == 0
        assert told("coordinator", timedelta(days=7)) > 0
        assert told("coordinator", timedelta(days=7), older_than=8) == 0
        assert told("coordinator", timedelta(), older_than=0) > 0
        assert told("alpha", timedelta(days=2, hours=23)) == 0
        assert told("alpha", timedelta(days=3)) > 0

    def test_of_records_is_the_officers_own_and_only_when_he_says_it(self, after_rounds: AfterRounds) -> None:
        made = after_rounds(2)
        federation, now = load_federation(made.path), datetime.now(UTC)
        late = now + timedelta(days=4000)
        prune(federation, "alpha", Pruning(now=late, older_than=0))
        left = below(own(made, "alpha"), "left")
        assert left
        prune(federation, "alpha", Pruning(now=now, records_older_than=1))
        assert below(own(made, "alpha"), "left") == left
        prune(federation, "alpha", Pruning(now=late, records_older_than=3999))
        assert below(own(made, "alpha"), "left") == set()
        assert below(own(made, "beta"), "left")


class TestStoresThatFail:
    def test_half_way_say_how_far_it_came_and_the_next_prune_does_the_rest(
        self, after_rounds: AfterRounds, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = after_rounds(3)
        federation = load_federation(made.path)
        untouched = made.home.parent / "untouched"
        shutil.copytree(made.home, untouched)
        pruning = Pruning(now=datetime.now(UTC), older_than=0)
        removed: list[str] = []
        remove = FileStore.remove

        def failing(store: FileStore, key: str) -> None:
            if len(removed) == 9:
                raise StoreError("the disk is gone")
            removed.append(key)
            remove(store, key)

        with monkeypatch.context() as broken:
            broken.setattr(FileStore, "remove", failing)
            for party in ("coordinator", "alpha"):
                removed.clear()
                with pytest.raises(
                    StoreError, match=r"^9 of \d+ objects were erased, .* the disk is gone; then"
                ):
                    prune(federation, party, pruning)
        in_order(3)
        for party in ("coordinator", "alpha"):
            prune(federation, party, pruning)
        done = {name: content(made.home / f"small/{name}") for name in ("exchange", "sites/alpha/store")}
        RoundInProcess(made).finish()
        in_order(4)

        monkeypatch.setenv("CROSSCLOUD_HOME", str(untouched))
        for party in ("coordinator", "alpha"):
            prune(federation, party, pruning)
        for name, found in done.items():
            at_once = content(untouched / f"small/{name}")
            kept = {key for key in found if not key.startswith("pruned/")}
            assert kept == {key for key in at_once if not key.startswith("pruned/")}

    def test_a_record_that_was_altered_stops_it_before_anything_goes(self, after_rounds: AfterRounds) -> None:
        made = after_rounds(2)
        record = made.home / "small/state/rounds/00001/round.json"
        record.write_text(record.read_text().replace('"attempt":1', '"attempt":2'))
        before = exchange(made)
        with pytest.raises(Exception, match="signature"):
            prune(load_federation(made.path), "coordinator", Pruning(now=datetime.now(UTC), older_than=0))
        assert exchange(made) == before

    def test_two_at_once_erase_what_one_would(self, after_rounds: AfterRounds) -> None:
        made = after_rounds(3)
        federation = load_federation(made.path)
        start, failures = threading.Barrier(4), list[BaseException]()

        def one(party: str) -> None:
            start.wait()
            try:
                prune(federation, party, Pruning(now=datetime.now(UTC), older_than=0))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=one, args=(party,)) for party in ("coordinator", "alpha") * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert not any("/sealed/" in key for key in exchange(made))
        found = prune(federation, "coordinator", Pruning(now=datetime.now(UTC), older_than=0))
        assert found.erased == ()
        in_order(3)


class TestLeftovers:
    def test_drafts_of_killed_processes_go_after_a_day(self, after_rounds: AfterRounds) -> None:
        made = after_rounds(0)
        RoundInProcess(made)
        names = ("small/exchange/rounds/.123-0123456789abcdef", "small/sites/alpha/store/.7-00000000000000ff")
        for name in (*names, "small/exchange/.keep"):
            (made.home / name).parent.mkdir(parents=True, exist_ok=True)
            (made.home / name).write_bytes(b"half of it")
        now = datetime.now(UTC)
        for later, there in ((timedelta(hours=23), True), (timedelta(hours=25), False)):
            for party in ("coordinator", "alpha"):
                prune(load_federation(made.path), party, Pruning(now=now + later))
            assert [(made.home / name).exists() for name in names] == [there] * 2
        assert (made.home / "small/exchange/.keep").exists()


class TestWhoMayPrune:
    def test_each_party_its_own(self, after_one_round: SmallFederation, say: Say) -> None:
        RoundInProcess(after_one_round).finish()
        before = {site: own(after_one_round, site) for site in SITES} | {
            "exchange": exchange(after_one_round)
        }
        assert say("prune", after_one_round.path, "--as", "beta", "--older-than", 0).code == 0
        after = {site: own(after_one_round, site) for site in SITES} | {"exchange": exchange(after_one_round)}
        assert {name for name in before if before[name] != after[name]} == {"beta"}

    def test_the_key_holder_keeps_all(self, after_one_round: SmallFederation, say: Say) -> None:
        before = content(after_one_round.home / "small/key-holder")
        (line,) = say("prune", after_one_round.path, "--as", "key-holder", "--older-than", 0).lines
        assert line.endswith("all that it keeps says what it has opened: that stays")
        assert content(after_one_round.home / "small/key-holder") == before

    @pytest.mark.parametrize(
        ("party", "line"),
        [
            ("alpha", r"crosscloud: alpha: there is no .*policy.yaml: only its own people may ask"),
            ("coordinator", r"crosscloud: no private key at "),
            ("delta", r"crosscloud: 'delta' is no party of small"),
        ],
    )
    def test_nobody_else(self, after_one_round: SmallFederation, say: Say, party: str, line: str) -> None:
        shutil.rmtree(after_one_round.home / f"small/keys/{party}", ignore_errors=True)
        said = say("prune", after_one_round.path, "--as", party, "--older-than", 0)
        assert (said.code, said.out) == (2, "")
        assert re.match(line, said.err)
        assert len(said.err.splitlines()) == 1

    def test_by_default_those_whose_keys_are_here(self, after_one_round: SmallFederation, say: Say) -> None:
        shutil.rmtree(after_one_round.home / "small/keys/alpha")
        told = json.loads(say("prune", after_one_round.path, "--json").out)
        assert [each["party"] for each in told["parties"]] == ["beta", "gamma", "coordinator"]
        for party in ("beta", "gamma", "coordinator"):
            shutil.rmtree(after_one_round.home / f"small/keys/{party}")
        said = say("prune", after_one_round.path)
        assert said.code == 2
        assert said.complaints[0].startswith("no party of small has its keys on this machine")


def test_it_prints_kinds_numbers_and_bytes(after_one_round: SmallFederation, say: Say) -> None:
    blobs = [path for path in (after_one_round.home / "small/exchange").rglob("sealed/*") if path.is_file()]
    size = sum(path.stat().st_size for path in blobs)
    lines = say("prune", after_one_round.path, "--as", "coordinator", "--older-than", 0, "--dry-run").lines
    assert re.fullmatch(r"coordinator: \d+ objects, [\d,]+ bytes would be erased", lines[0])
    (line,) = [line for line in lines if "sealed updates and their manifests" in line]
    assert line.split()[-3:] == [str(len(blobs)), f"{size:,}", "bytes"]
    assert open_store("small/exchange").keys("pruned") == []
