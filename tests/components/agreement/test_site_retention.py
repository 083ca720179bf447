"""What a site may erase: never what it remembers, nor what an attempt that is not over may need."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from components.agreement.cache_uses import is_used, note_use, noted_uses
from components.agreement.site_retention import old_records, site_retention
from components.agreement.ticket import Ticket
from components.artifacts.file_store import FileStore
from components.artifacts.stores import Store, open_store
from components.errors import IntegrityError

DAY = timedelta(days=1)
START = datetime(2026, 11, 1, tzinfo=UTC)
REMEMBERED = (
    "tickets",
    "rosters",
    "cutoffs",
    "released",
    "releases",
    "ledgers",
    "ledger-heads",
    "left",
    "notes",
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def td(number: int) -> str:
    return f"{number:064x}"


def attempt(store: Store, number: int, *, rows: str = "", ended: bool = True, **uses: str) -> None:
    """Round `number`, on its day, with everything that an attempt leaves at a site."""
    record = {
        "round_number": number,
        "attempt": 1,
        "ticket": td(number),
        "snapshot": START.isoformat(),
        "previous_folder": "",
        "seen_at": (START + number * DAY).isoformat(),
    }
    store.create(f"tickets/{number:09d}-000001.json", json.dumps(record).encode())
    for folder in REMEMBERED[1:]:
        store.create(f"{folder}/{td(number)}.txt", b"x")
    if rows:
        for name in (f"rows/{rows}.parquet", f"rows/{rows}.json", f"ingested/{td(number)}.json"):
            content = {
                "uri": f"somewhere/rows/{rows}.json",
                "shards": [{"key": f"rows/{rows}.parquet", "rows": 1}],
            }
            if not store.exists(name):
                store.create(name, json.dumps(content).encode())
    for kind, name in uses.items():
        note_use(store, cast(Ticket, SimpleNamespace(digest=td(number))), f"{kind}/{name}")
        if not store.exists(f"{kind}/{name}"):
            store.create(f"{kind}/{name}", b"x")
    if ended:
        for folder, ending in (("updates", "npy"), ("sealed", "bin"), ("secrets", "bin")):
            store.create(f"{folder}/{td(number)}.{ending}", b"x")


def going(store: Store, *, days: float = 0, keep: float = 0) -> set[str]:
    now = START + days * DAY
    return {each.key for each in site_retention(store, keep_for=keep * DAY, now=now).erasable}


def test_a_site_that_has_accepted_nothing_erases_nothing(store: Store) -> None:
    store.create("rows/x.parquet", b"x")
    assert going(store, days=1000) == set()


def test_what_is_remembered_is_never_among_it_and_the_newest_attempt_is_whole(store: Store) -> None:
    for number in (1, 2, 3):
        attempt(store, number, rows=f"r{number}", features=f"f{number}", adaptations=f"a{number}")
    gone = going(store, days=10_000)
    assert not any(key.startswith(tuple(f"{folder}/" for folder in REMEMBERED)) for key in gone)
    assert not any(td(3) in key or key.endswith(("3", "r3.parquet", "r3.json")) for key in gone)
    expected = {f"{kind}/{td(n)}.{end}" for n in (1, 2) for kind, end in (
        ("updates", "npy"), ("sealed", "bin"), ("secrets", "bin"), ("ingested", "json"))}  # fmt: skip
    expected |= {f"rows/r{n}.{end}" for n in (1, 2) for end in ("parquet", "json")}
    expected |= {f"{kind}/{kind[0]}{n}" for n in (1, 2) for kind in ("features", "adaptations")}
    expected |= {key for key in store.keys("uses") if td(3) not in key}
    assert gone == expected


def test_time_is_counted_from_the_next_ticket(store: Store) -> None:
    for number in (1, 2, 3):
        attempt(store, number)
    assert going(store, days=2.9, keep=1) == set()
    assert {key for key in going(store, days=3, keep=1) if key.startswith("updates")} == {
        f"updates/{td(1)}.npy"
    }
    assert {key for key in going(store, days=4, keep=1) if key.startswith("updates")} == {
        f"updates/{td(1)}.npy", f"updates/{td(2)}.npy"
    }  # fmt: skip


def test_what_attempts_share_stays_while_one_of_them_does(store: Store) -> None:
    for number in (1, 2, 3):
        attempt(store, number, rows="same", features="same", adaptations=f"a{number}")
    assert not {key for key in going(store, days=100) if key.startswith(("rows", "features"))}


def test_the_newest_adaptation_stays_until_there_is_another(store: Store) -> None:
    """It is what `predict` uses while the next round is open."""
    attempt(store, 1, rows="r", features="f", adaptations="a1")
    attempt(store, 2, rows="r", features="f", adaptations="a2")
    attempt(store, 3, rows="r", features="f")
    gone = going(store, days=100)
    assert "adaptations/a1" in gone
    assert "adaptations/a2" not in gone
    assert any(td(2) in key for key in store.keys("uses"))
    assert not any(td(2) in key for key in gone if key.startswith("uses/"))


def test_rows_and_features_wait_while_an_attempt_begins(store: Store) -> None:
    for number in (1, 2):
        attempt(store, number, rows=f"r{number}", features=f"f{number}")
    attempt(store, 3, ended=False)
    found = site_retention(store, keep_for=timedelta(), now=START + 100 * DAY)
    assert found.waiting == "attempt 1 of round 3"
    assert not {each.key for each in found.erasable if each.key.startswith(("rows", "features"))}
    assert f"updates/{td(2)}.npy" in {each.key for each in found.erasable}


def test_where_no_use_is_known_a_cache_stays(store: Store) -> None:
    """Objects of an earlier version, which noted none."""
    for number in (1, 2):
        attempt(store, number)
    for name in ("features/old", "adaptations/old", "rows/old.parquet"):
        store.create(name, b"x")
    assert not {key for key in going(store, days=100) if key.endswith(("old", "old.parquet"))}


def test_what_says_what_was_used_goes_last(store: Store) -> None:
    for number in (1, 2, 3):
        attempt(store, number, rows=f"r{number}", features=f"f{number}", adaptations=f"a{number}")
    found = site_retention(store, keep_for=timedelta(), now=START + 100 * DAY).erasable
    traces = [each.key.startswith(("ingested/", "uses/")) for each in found]
    assert traces == sorted(traces)
    # Interrupted anywhere, the rest is found again.
    for stop in range(len(found)):
        copied = open_store(f"{store.uri}-{stop}")
        for key in store.keys(""):
            copied.create(key, store.read(key))
        for each in found[:stop]:
            copied.remove(each.key)
        again = site_retention(copied, keep_for=timedelta(), now=START + 100 * DAY).erasable
        assert {each.key for each in again} == {each.key for each in found[stop:]}


@pytest.mark.parametrize("key", [f"tickets/{1:09d}-000001.json", f"ingested/{td(1)}.json"])
def test_what_decides_and_was_altered_stops_it(store: Store, key: str) -> None:
    for number in (1, 2):
        attempt(store, number, rows=f"r{number}")
    store.remove(key)
    store.create(key, b"[]")
    with pytest.raises(IntegrityError, match="was altered"):
        going(store, days=100)


class TestRecords:
    def write(self, store: Store, **times: Any) -> None:
        for name, time in times.items():
            folder = "left/000000001-000001-untold" if name.startswith("left") else "notes"
            field = "time" if name.startswith("left") else "at"
            store.create(f"{folder}/{name}.json", json.dumps({field: time}).encode())

    def test_go_by_their_own_time(self, store: Store) -> None:
        old, new = (START - DAY).isoformat(), (START + DAY).isoformat()
        self.write(store, left_old=old, left_new=new, note_old=old, note_new=new)
        assert sorted(each.key.rpartition("/")[2] for each in old_records(store, before=START)) == [
            "left_old.json", "note_old.json"
        ]  # fmt: skip

    @pytest.mark.parametrize("time", ["", "yesterday", None, "2026-11-01T00:00:00"])
    def test_without_a_time_are_told(self, store: Store, time: object) -> None:
        self.write(store, left=time)
        with pytest.raises(IntegrityError, match=r"left/.*left\.json was altered"):
            list(old_records(store, before=START))


def test_uses_are_noted_once_and_read_by_ticket(store: Store) -> None:
    for number, name in ((1, "a"), (1, "a"), (1, "b"), (2, "a")):
        note_use(store, cast(Ticket, SimpleNamespace(digest=td(number))), f"features/{name}")
    assert noted_uses(store) == {td(1): {"features/a", "features/b"}, td(2): {"features/a"}}


def test_a_use_is_known_until_its_note_is_erased(store: Store) -> None:
    ticket = cast(Ticket, SimpleNamespace(digest=td(1)))
    assert not is_used(store, ticket, "features/a")
    note_use(store, ticket, "features/a")
    assert is_used(store, ticket, "features/a")
    assert not is_used(store, ticket, "features/b")
    (key,) = store.keys("uses")
    store.remove(key)
    assert not is_used(store, ticket, "features/a")


class TestBesideAnotherPrune:
    """What it has listed is erased before it is read."""

    @pytest.fixture
    def store(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
        listed = FileStore.keys

        def keys_and_gone(this: FileStore, prefix: str = "") -> list[str]:
            found = listed(this, prefix)
            if prefix in {"uses", "left", "notes"} and found:
                this.remove(found[0])
            return found

        monkeypatch.setattr(FileStore, "keys", keys_and_gone)
        return store

    def test_notes_of_uses_that_are_left_are_read(self, store: Store) -> None:
        for name in "abc":
            note_use(store, cast(Ticket, SimpleNamespace(digest=td(1))), f"features/{name}")
        (found,) = noted_uses(store).values()
        assert len(found) == 2

    def test_records_that_are_left_are_told(self, store: Store) -> None:
        for name in ("left/one/a", "left/one/b", "notes/a", "notes/b"):
            field = "time" if name.startswith("left") else "at"
            store.create(f"{name}.json", json.dumps({field: (START - DAY).isoformat()}).encode())
        assert [each.key for each in old_records(store, before=START)] == ["left/one/b.json", "notes/b.json"]
