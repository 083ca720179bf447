"""Each party erases its own, when it is time, and a store that fails leaves nothing inconsistent."""

from __future__ import annotations

import json
import re
import shutil
import threading
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from components.artifacts.file_store import FileStore
from components.artifacts.stores import open_store
from components.errors import StoreError
from pipelines.federation import load_federation
from pipelines.retention.parties import Pruning, prune
from tests.conftest import SITES, SmallFederation
from tests.pipelines.command_line import Say
from tests.pipelines.retention.conftest import AfterRounds
from tests.pipelines.retention.on_disk import below, content, exchange, in_order, own
from tests.pipelines.round_in_process import RoundInProcess


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
