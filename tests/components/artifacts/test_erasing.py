"""What is erased is told as it was, in whatever store it lay; a store that fails leaves the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.artifacts.erasing import Erasable, Erased, by_kind, erase, measured
from components.artifacts.stores import Store, open_store
from components.errors import StoreError
from tests.components.artifacts.test_object_store import S3Server, running_server, server, uri

__all__ = ["running_server", "server", "uri"]
LISTED = [
    Erasable(kind="blobs", key="rounds/1/sealed/a.bin"),
    Erasable(kind="sums", key="rounds/1/sum.bin"),
    Erasable(kind="blobs", key="rounds/1/sealed/b.bin"),
    Erasable(kind="blobs", key="rounds/1/sealed/gone.bin"),
]


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    found = (
        open_store(str(tmp_path / "store"))
        if request.param == "file"
        else open_store(request.getfixturevalue("uri"))
    )
    for number, name in enumerate(("sealed/a.bin", "sealed/b.bin", "sum.bin", "ticket.json")):
        found.create(f"rounds/1/{name}", b"x" * (number + 1))
    return found


def test_what_is_listed_and_there_goes_and_nothing_else(store: Store) -> None:
    objects = measured(store, LISTED)
    assert by_kind(objects) == [
        Erased(kind="blobs", objects=2, size=3),
        Erased(kind="sums", objects=1, size=3),
    ]
    erase(store, objects)
    assert store.keys() == ["rounds/1/ticket.json"]
    # Another process that had listed them too finds nothing to do.
    erase(store, objects)
    assert measured(store, LISTED) == []


def test_a_store_that_fails_keeps_what_comes_after(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = measured(store, LISTED)
    remove, tries = type(store).remove, list[str]()

    def failing(at: Store, key: str) -> None:
        tries.append(key)
        if len(tries) == 2:
            raise StoreError("no more")
        remove(at, key)

    monkeypatch.setattr(type(store), "remove", failing)
    with pytest.raises(
        StoreError, match=r"^1 of 3 objects were erased, the others are as they were: no more"
    ):
        erase(store, objects)
    assert store.keys() == ["rounds/1/sealed/b.bin", "rounds/1/sum.bin", "rounds/1/ticket.json"]


def test_a_bucket_that_is_away_is_told(server: S3Server, uri: str) -> None:
    there = open_store(uri)
    there.create("a", b"x")
    objects = measured(there, [Erasable(kind="blobs", key="a")])
    server.environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"^0 of 1 objects were erased.*cannot remove s3://"):
        erase(open_store(uri), objects)
