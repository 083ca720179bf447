"""What a site's processes create in the exchange is written down first, whole and in time."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.artifacts.file_store import FileStore
from components.artifacts.stores import Store, open_store
from components.errors import ObjectExistsError, StoreError
from components.execution.departures import Departure, Departures, Occasion, read_departures
from components.execution.recorded_exchange import RecordedExchange
from tests.components.artifacts.test_object_store import S3Server, running_server, server, uri
from tests.contracts.conditional_create import ConditionalCreateContract, OpenAgain

__all__ = ["running_server", "server", "uri"]
TICKET = "exchange/rounds/00003-2/ticket.json"
OCCASION = Occasion(
    step="seal",
    reference=TICKET,
    round_number=3,
    attempt=2,
    ticket="ab" * 32,
    protection="sealed",
    least_sites=3,
)
KEY = "rounds/00003-2/sealed/alpha.bin"
START = datetime(2026, 11, 28, 12, tzinfo=UTC)


class Clock:
    """A second later at every look."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> datetime:
        self.looks += 1
        return START + timedelta(seconds=self.looks)


@pytest.fixture
def own(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "own"))


@pytest.fixture
def bare(tmp_path: Path) -> FileStore:
    return FileStore("exchange", tmp_path / "exchange")


@pytest.fixture
def recorded(own: Store, bare: FileStore) -> RecordedExchange:
    return RecordedExchange(bare, Departures(store=own, occasion=OCCASION, now=Clock()))


class TestAsAnyStore(ConditionalCreateContract):
    @pytest.fixture
    def open_again(self, tmp_path: Path) -> OpenAgain:
        def opened() -> Store:
            store = open_store(str(tmp_path / "exchange"))
            return RecordedExchange(
                store, Departures(store=open_store(str(tmp_path / "own")), occasion=OCCASION)
            )

        return opened


def only(own: Store) -> Departure:
    (departure,) = read_departures(own)
    return departure


class TestAnObject:
    def test_is_recorded_with_size_digest_and_the_time_before_it_left(
        self, own: Store, recorded: RecordedExchange
    ) -> None:
        recorded.create(KEY, b"sealed")
        assert only(own) == Departure(
            time="2026-11-28T12:00:01.000+00:00",
            occasion=OCCASION,
            key=KEY,
            state="sent",
            size=6,
            sha256=hashlib.sha256(b"sealed").hexdigest(),
        )

    def test_in_chunks_is_counted_as_it_passes(self, own: Store, recorded: RecordedExchange) -> None:
        recorded.create_from(KEY, iter([b"sea", b"", b"led"]))
        found = only(own)
        assert (found.state, found.size) == ("sent", 6)
        assert found.sha256 == hashlib.sha256(b"sealed").hexdigest()

    def test_is_begun_before_the_exchange_has_a_byte_of_it(
        self, own: Store, bare: FileStore, recorded: RecordedExchange
    ) -> None:
        seen: list[tuple[list[str], bool]] = []

        def chunks() -> Iterator[bytes]:
            seen.append((own.keys("left"), bare.exists(KEY)))
            yield b"sealed"

        recorded.create_from(KEY, chunks())
        ((names, there),) = seen
        assert [name.rpartition("/")[2] for name in names] == ["rounds=00003-2=sealed=alpha.bin.begun.json"]
        assert not there

    def test_records_hold_nothing_of_its_content(self, own: Store, recorded: RecordedExchange) -> None:
        recorded.create(KEY, b"Ottilie Quastenberg")
        for key in own.keys("left"):
            assert b"Ottilie" not in own.read(key)

    def test_that_was_sent_again_in_a_resumed_round_left_once(
        self, own: Store, recorded: RecordedExchange
    ) -> None:
        recorded.create(KEY, b"sealed")
        before = own.keys("left")
        for _ in range(2):
            with pytest.raises(ObjectExistsError):
                recorded.create(KEY, b"sealed")
            with pytest.raises(ObjectExistsError):
                recorded.create_from("rounds/00003-2/sealed/alpha.bin", [b"sealed"])
        begun = [key for key in own.keys("left") if key not in before]
        assert [key.rpartition("/")[2] for key in begun] == ["rounds=00003-2=sealed=alpha.bin.begun.json"]
        assert only(own).state == "sent"

    def test_that_another_lay_before_is_told_so_and_by_its_own_digest(
        self, own: Store, bare: FileStore, recorded: RecordedExchange
    ) -> None:
        bare.create(KEY, b"somebody else's")
        with pytest.raises(ObjectExistsError):
            recorded.create_from(KEY, [b"sea", b"led"])
        found = only(own)
        assert (found.state, found.size, found.sha256) == ("met", 6, hashlib.sha256(b"sealed").hexdigest())

    def test_of_other_bytes_under_one_key_is_another_departure(
        self, own: Store, recorded: RecordedExchange
    ) -> None:
        recorded.create(KEY, b"first")
        with pytest.raises(ObjectExistsError):
            recorded.create(KEY, b"second")
        assert [(each.state, each.size) for each in read_departures(own)] == [("sent", 5), ("met", 6)]


class TestAnEndInBetween:
    def test_before_it_arrived_leaves_a_beginning(
        self, own: Store, bare: FileStore, recorded: RecordedExchange
    ) -> None:
        def broken() -> Iterator[bytes]:
            yield b"sea"
            raise ConnectionError

        with pytest.raises(ConnectionError):
            recorded.create_from(KEY, broken())
        assert (only(own).state, only(own).size, bare.exists(KEY)) == ("begun", None, False)
        recorded.create_from(KEY, [b"sealed"])
        assert (only(own).state, only(own).size) == ("sent", 6)

    def test_after_it_arrived_is_settled_when_it_is_sent_again(
        self, own: Store, bare: FileStore, recorded: RecordedExchange
    ) -> None:
        """The process was killed between the object and the record of its end."""
        Departures(store=own, occasion=OCCASION, now=Clock()).begin(KEY)
        bare.create(KEY, b"sealed")
        assert only(own).state == "begun"
        with pytest.raises(ObjectExistsError):
            recorded.create_from(KEY, [b"sealed"])
        assert (only(own).state, only(own).size) == ("met", 6)


def test_an_upload_that_a_bucket_asks_for_again_is_counted_once(
    own: Store, server: S3Server, uri: str
) -> None:
    server.environment.setenv("AWS_MAX_ATTEMPTS", "3")
    bucket = open_store(uri)
    bucket.create("before", b"")
    server.answers_to_writes = [("503 Slow Down", "SlowDown")]
    recorded = RecordedExchange(bucket, Departures(store=own, occasion=OCCASION, now=Clock()))
    recorded.create_from(KEY, [b"sea" * 100_000, b"led"])
    found = only(own)
    assert (found.state, found.size) == ("sent", bucket.size(KEY)) == ("sent", 300_003)
    assert found.sha256 == hashlib.sha256(bucket.read(KEY)).hexdigest()


def test_nothing_leaves_a_site_whose_store_takes_no_record(tmp_path: Path, bare: FileStore) -> None:
    (tmp_path / "own").write_text("no folder")
    own = open_store(str(tmp_path / "own"))
    recorded = RecordedExchange(bare, Departures(store=own, occasion=OCCASION))
    with pytest.raises(StoreError):
        recorded.create(KEY, b"sealed")
    with pytest.raises(StoreError):
        recorded.create_from(KEY, [b"sealed"])
    assert bare.keys() == []


def test_memory_does_not_grow_with_the_object(recorded: RecordedExchange) -> None:
    block = bytes(1 << 20)
    recorded.create_from("small", [block])
    tracemalloc.start()
    try:
        recorded.create_from(KEY, (block for _ in range(64)))
        # 64 MiB pass; one block is held at a time.
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
