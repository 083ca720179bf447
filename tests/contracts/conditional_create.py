"""What every store promises, whatever it is made of.

A store's tests inherit `ConditionalCreateContract` and provide one fixture, `open_again`: a function that
opens the same place anew at each call, as another process would. The place is empty when a test starts.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from components.artifacts.stores import Store, create_or_read, key_of, reference
from components.errors import ObjectExistsError, ObjectMissingError, RefusedError, StoreError, UsageError

OpenAgain = Callable[[], Store]

CREATORS = 16
NOT_KEYS = (
    "",
    "/",
    "a/",
    "/a",
    "a//b",
    ".",
    "..",
    "a/../b",
    ".a",
    "a/.b",
    "a b",
    "ä",
    "a\n",
    "a\\b",
    "a?b",
    "*",
)


STREAMER = """
import sys, tracemalloc
from components.artifacts.stores import open_store
size, block = int(sys.argv[2]), bytes(range(256)) * 4096
store = open_store(sys.argv[1])
store.create_from("small", [block])
with store.open("small") as file:
    file.read()
tracemalloc.start()
store.create_from("large", (block for _ in range(size // len(block))))
with store.open("large") as file:
    for _ in range(size // len(block)):
        assert file.read(len(block)) == block
    assert file.read(1) == b""
print(tracemalloc.get_traced_memory()[1])
"""


def peak_of_streaming(uri: str, size: int) -> int:
    """Most bytes that a process has allocated while it writes `size` bytes to a store and reads them back."""
    ran = subprocess.run(
        [sys.executable, "-c", STREAMER, uri, str(size)], capture_output=True, text=True, check=True
    )
    return int(ran.stdout)


def create_at_once(
    stores: list[Store], key: str, contents: list[bytes], *, in_chunks: bool = False
) -> list[int]:
    """Let each of `contents` be created as `key` by a thread of its own, all at once.

    The creators take turns in using the `stores`, so that some share one and some do not.

    Returns:
        Indices of the contents whose creators were told that they won.
    """
    start = threading.Barrier(len(contents))
    winners: list[int] = []
    losers: list[int] = []

    def create(index: int) -> None:
        store, content = stores[index % len(stores)], contents[index]

        def chunks() -> Iterator[bytes]:
            # Every creator has seen that the key is free before one of them has it.
            start.wait()
            yield from (content[:1000], content[1000:])

        try:
            if in_chunks:
                store.create_from(key, chunks())
            else:
                start.wait()
                store.create(key, content)
        except ObjectExistsError:
            losers.append(index)
        else:
            winners.append(index)

    threads = [threading.Thread(target=create, args=(index,)) for index in range(len(contents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) + len(losers) == len(contents)
    return winners


class ConditionalCreateContract:
    """Tests that hold for any store."""

    def test_what_was_created_is_read(self, open_again: OpenAgain) -> None:
        creator, reader = open_again(), open_again()
        for number, content in enumerate((b"", b"x", bytes(range(256)) * 1200)):
            creator.create(f"rounds/{number}/model", content)
            assert reader.read(f"rounds/{number}/model") == content
            assert reader.read(f"rounds/{number}/model", limit=len(content)) == content
            assert reader.read(f"rounds/{number}/model", limit=10**9) == content

    def test_a_second_create_fails_and_changes_nothing(self, open_again: OpenAgain) -> None:
        store = open_again()
        store.create("rounds/1/round.json", b"first")
        for later, content in ((store, b"other"), (store, b"first"), (open_again(), b"longer other")):
            with pytest.raises(ObjectExistsError, match=r"rounds/1/round\.json"):
                later.create("rounds/1/round.json", content)
        assert store.read("rounds/1/round.json") == b"first"

    def test_one_of_many_creators_wins(self, open_again: OpenAgain) -> None:
        stores = [open_again() for _ in range(4)]
        for index, store in enumerate(stores):
            # Whatever a store does once (connect, try its server) is over when the race begins.
            store.create(f"ready/{index}", b"")
        contents = [bytes([index]) * 50_000 for index in range(CREATORS)]
        for race, in_chunks in (("race-1", False), ("race-2", True), ("race-3", False)):
            winners = create_at_once(stores, race, contents, in_chunks=in_chunks)
            assert len(winners) == 1
            assert stores[0].read(race) == contents[winners[0]]

    def test_what_was_created_in_chunks_is_read_in_pieces(self, open_again: OpenAgain) -> None:
        creator, reader = open_again(), open_again()
        longer = [bytes(range(256)) * 4096, b"!"] * 9
        for number, chunks in enumerate(([], [b""], [b"x"], [b"a", b"", b"bc"], longer)):
            key, content = f"rounds/{number}/sealed", b"".join(chunks)
            creator.create_from(key, iter(chunks))
            assert reader.read(key) == content
            assert reader.size(key) == len(content)
            for piece in (700_001, 5_000_000, -1):
                with reader.open(key) as file:
                    pieces = list(iter(partial(file.read, piece), b""))
                assert b"".join(pieces) == content
                assert all(len(whole) == piece for whole in pieces[:-1])

    def test_what_was_created_whole_is_read_in_pieces(self, open_again: OpenAgain) -> None:
        store = open_again()
        store.create("a", b"12345")
        with store.open("a") as file:
            assert [file.read(2) for _ in range(4)] == [b"12", b"34", b"5", b""]
        assert store.size("a") == 5

    def test_chunks_of_an_object_that_is_there_change_nothing(self, open_again: OpenAgain) -> None:
        store = open_again()
        store.create("a", b"first")
        with pytest.raises(ObjectExistsError, match="a is already there"):
            open_again().create_from("a", [b"second"])
        assert store.read("a") == b"first"

    def test_chunks_that_end_in_an_error_leave_nothing(self, open_again: OpenAgain) -> None:
        def chunks(fault: BaseException) -> Iterator[bytes]:
            yield b"header"
            raise fault

        store = open_again()
        for fault in (OSError(5, "a disk of theirs"), ValueError("v"), KeyboardInterrupt()):
            with pytest.raises(type(fault)) as raised:
                store.create_from("rounds/1/sealed", chunks(fault))
            assert raised.value is fault
            assert not store.exists("rounds/1/sealed")
        assert store.keys() == []
        store.create_from("rounds/1/sealed", [b"whole"])
        assert store.read("rounds/1/sealed") == b"whole"

    def test_what_was_removed_is_gone(self, open_again: OpenAgain) -> None:
        store = open_again()
        for key in ("secrets/1", "secrets/1.5", "secrets/2/a"):
            store.create(key, b"x")
        for remover in (store, store):
            remover.remove("secrets/1")
            assert not store.exists("secrets/1")
        # A folder of objects is not one of them.
        store.remove("secrets")
        store.remove("secrets/2")
        store.remove("secrets/2/a/b")
        assert store.keys() == ["secrets/1.5", "secrets/2/a"]
        store.create("secrets/1", b"again")
        assert store.read("secrets/1") == b"again"

    def test_create_or_read_gives_everybody_the_same(self, open_again: OpenAgain) -> None:
        assert create_or_read(open_again(), "ticket", b"first") == b"first"
        assert create_or_read(open_again(), "ticket", b"second") == b"first"

    def test_a_missing_object(self, open_again: OpenAgain) -> None:
        store = open_again()
        store.create("rounds/1/round.json", b"{}")
        for key in ("rounds", "rounds/1", "rounds/2/round.json", "rounds/1/round.json/x", "other"):
            assert not store.exists(key)
            with pytest.raises(ObjectMissingError, match=key):
                store.read(key)
            with pytest.raises(ObjectMissingError, match=key):
                store.read(key, limit=10)
            with pytest.raises(ObjectMissingError, match=key):
                store.open(key)
            with pytest.raises(ObjectMissingError, match=key):
                store.size(key)
        assert store.exists("rounds/1/round.json")

    def test_an_empty_place(self, open_again: OpenAgain) -> None:
        store = open_again()
        assert store.keys() == []
        assert store.keys("rounds") == []
        assert not store.exists("rounds")

    def test_keys_are_sorted_and_prefixes_end_at_slashes(self, open_again: OpenAgain) -> None:
        store = open_again()
        keys = [
            "rounds/10/a",
            "rounds/1/b=2",
            "rounds/1/A_b",
            "rounds-old/1",
            "round",
            "rounds/1.5",
            "rounds/1/c/d",
        ]
        for key in keys:
            store.create(key, b"")
        for prefix in ("", "rounds", "rounds/", "rounds/1", "rounds/1/c", "round", "roun", "rounds/1/c/d"):
            below = f"{prefix.rstrip('/')}/" if prefix else ""
            assert store.keys(prefix) == sorted(key for key in keys if key.startswith(below)), prefix

    def test_what_others_create_is_seen_at_once(self, open_again: OpenAgain) -> None:
        watcher, other = open_again(), open_again()
        assert watcher.keys("rounds") == []
        assert not watcher.exists("rounds/1")
        other.create("rounds/1", b"1")
        assert watcher.exists("rounds/1")
        assert watcher.read("rounds/1", limit=1) == b"1"
        assert watcher.keys("rounds") == ["rounds/1"]
        other.create("rounds/2", b"2")
        assert watcher.keys("rounds") == ["rounds/1", "rounds/2"]

    def test_nothing_larger_than_the_limit_is_read(self, open_again: OpenAgain) -> None:
        store = open_again()
        store.create("update", b"12345")
        assert store.read("update", limit=5) == b"12345"
        with pytest.raises(StoreError, match=r"update has 5 bytes, at most 4 are read"):
            store.read("update", limit=4)

    def test_what_is_not_a_key_is_refused(self, open_again: OpenAgain) -> None:
        store = open_again()
        for key in NOT_KEYS:
            for use in (
                store.read,
                store.exists,
                store.open,
                store.remove,
                store.size,
                lambda bad: store.create(bad, b""),
                lambda bad: store.create_from(bad, [b""]),
            ):
                with pytest.raises(UsageError, match="is not an object key"):
                    use(key)
        # Everything, and a folder's name as people write it.
        for prefix in set(NOT_KEYS) - {"", "a/"}:
            with pytest.raises(UsageError, match="is not an object key"):
                store.keys(prefix)
        assert store.keys() == []

    def test_a_reference_leads_back_to_its_key_and_no_further(self, open_again: OpenAgain) -> None:
        store = open_again()
        handed_on = reference(store, "rounds/1/round.json")
        assert key_of(open_again(), handed_on) == "rounds/1/round.json"
        for elsewhere in (
            f"{store.uri}-2/a",
            f"{store.uri}/../a",
            store.uri,
            f"{store.uri}/",
            "a",
            f"x{handed_on}",
        ):
            with pytest.raises(RefusedError, match="does not lie in store"):
                key_of(store, elsewhere)
