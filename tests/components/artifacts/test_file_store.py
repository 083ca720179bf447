"""The contract on files, and what only files can get wrong: processes, kills, permissions, links."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.artifacts.file_store import FileStore
from components.artifacts.object_keys import is_key
from components.errors import (
    ConditionalCreateUnsupportedError,
    ObjectExistsError,
    ObjectMissingError,
    StoreError,
)
from tests.contracts.conditional_create import CREATORS, ConditionalCreateContract, peak_of_streaming

# Each creator says that it is ready, waits for the start, and answers with its exit status who won.
CREATOR = """
import sys, time
from pathlib import Path
from components.artifacts.file_store import FileStore
from components.errors import ObjectExistsError
root, index = Path(sys.argv[1]), int(sys.argv[2])
store = FileStore("race", root / "store")
(root / f"ready-{index}").touch()
while not (root / "start").exists():
    time.sleep(0.001)
try:
    store.create("rounds/1/round.json", bytes([index]) * 200_000)
except ObjectExistsError:
    sys.exit(3)
"""

ENDLESS_WRITER = """
import itertools, sys
from pathlib import Path
from components.artifacts.file_store import FileStore
store = FileStore("killed", Path(sys.argv[1]))
print("ready", flush=True)
for number in itertools.count(int(sys.argv[2])):
    store.create(f"objects/{number:06d}", b"x" * 3_000_000)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "home" / "state"


@pytest.fixture
def store(root: Path) -> FileStore:
    return FileStore("state", root)


class TestContract(ConditionalCreateContract):
    @pytest.fixture
    def open_again(self, root: Path) -> Callable[[], FileStore]:
        return lambda: FileStore("state", root)


def test_one_of_many_processes_wins(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", CREATOR, str(tmp_path), str(index)])
        for index in range(CREATORS)
    ]
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("ready-*"))) < CREATORS and time.monotonic() < deadline:
        time.sleep(0.01)
    (tmp_path / "start").touch()
    statuses = [process.wait(timeout=60) for process in processes]
    assert sorted(statuses) == [0] + [3] * (CREATORS - 1)
    winner = statuses.index(0)
    store = FileStore("race", tmp_path / "store")
    assert store.read("rounds/1/round.json") == bytes([winner]) * 200_000
    assert [path.name for path in (tmp_path / "store/rounds/1").iterdir()] == ["round.json"]


def test_a_killed_writer_leaves_whole_objects_only(tmp_path: Path) -> None:
    store = FileStore("killed", tmp_path)
    for attempt in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", ENDLESS_WRITER, str(tmp_path), str(attempt * 1000)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.02 + 0.013 * attempt)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    keys = store.keys()
    for key in keys:
        assert store.read(key) == b"x" * 3_000_000
    # A leftover is in nobody's way: what the killed writer was at can be created.
    store.create("objects/999999", b"after")
    assert store.keys()[-1] == "objects/999999"


def test_a_reader_sees_nothing_or_everything(store: FileStore) -> None:
    size = 4_000_000
    numbers = range(12)
    partial: list[tuple[str, int]] = []
    seen: set[str] = set()
    finished = threading.Event()

    def watch() -> None:
        while not finished.is_set():
            for key in {f"objects/{number}" for number in numbers} - seen:
                try:
                    content = store.read(key)
                except ObjectMissingError:
                    continue
                seen.add(key)
                if content != key[-1].encode() * size:
                    partial.append((key, len(content)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in numbers:
        store.create(f"objects/{number}", str(number)[-1].encode() * size)
    finished.set()
    watcher.join()
    assert seen
    assert partial == []


def test_memory_does_not_grow_with_the_content(tmp_path: Path) -> None:
    # One chunk of 1 MiB, read back in as many, and what a file's buffer takes.
    assert peak_of_streaming(str(tmp_path), 64 * 2**20) < 4 * 2**20


def test_a_removed_name_is_gone_after_a_crash(
    store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create("seeds/1", b"secret")
    (root / "seeds/bystander").write_bytes(b"")
    synced: list[tuple[Path, list[str]]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        folder = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((folder, [path.name for path in folder.iterdir()]))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store.remove("seeds/1")
    assert synced == [(root / "seeds", ["bystander"])]


def test_only_the_owner_can_read(store: FileStore, root: Path) -> None:
    store.create("rounds/1/model", b"x")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (root.parent, *root.parent.rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


def test_a_folder_that_cannot_be_written(store: FileStore, root: Path) -> None:
    root.mkdir(parents=True)
    root.chmod(0o500)
    # The superuser may write anywhere: another user has to try.
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            with pytest.raises(StoreError) as refusal:
                store.create("a", b"")
        finally:
            os.seteuid(0)
    else:
        with pytest.raises(StoreError) as refusal:
            store.create("a", b"")
    message = str(refusal.value)
    assert re.match(rf"cannot (reach|write) {root}/a: Permission denied; ", message)
    assert "mend its permissions" in message
    assert "\n" not in message


def test_a_disk_that_is_full_leaves_nothing(store: FileStore, root: Path) -> None:
    store.create("a", b"")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel refuses to let a file grow past this, as it does on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        for create in (store.create, lambda key, content: store.create_from(key, [content[:9000]] * 2)):
            with pytest.raises(StoreError, match=r"cannot write .*/b: File too large"):
                create("b", b"x" * 1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in root.iterdir()] == ["a"]


@pytest.mark.parametrize("answer", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_hard_links_is_refused(
    store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(ConditionalCreateUnsupportedError, match="refuses hard links"):
        store.create("a", b"")
    assert list(root.iterdir()) == []


def test_no_key_leaves_the_root_through_a_symbolic_link(store: FileStore, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    store.create("a", b"")
    (root / "linked").symlink_to(outside)
    (root / "secret").symlink_to(outside / "secret")
    (root / "loop").symlink_to(root / "loop")
    for key in ("linked/secret", "linked/new", "secret", "loop", "loop/a"):
        for use in (
            store.read,
            store.open,
            store.exists,
            store.size,
            store.remove,
            lambda key: store.create(key, b"x"),
            store.keys,
        ):
            with pytest.raises(StoreError, match="is a symbolic link"):
                use(key)
    assert store.keys() == ["a"]
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_a_root_that_is_itself_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "disk")
    FileStore("state", tmp_path / "state").create("a/b", b"x")
    assert (tmp_path / "disk/a/b").read_bytes() == b"x"


def test_an_object_and_a_folder_cannot_have_one_name(store: FileStore) -> None:
    store.create("a/b", b"")
    with pytest.raises(StoreError, match="is a folder of other objects"):
        store.create("a", b"")
    with pytest.raises(StoreError, match=r"cannot write .*/a/b/c: Not a directory"):
        store.create("a/b/c", b"")
    with pytest.raises(ObjectExistsError):
        store.create("a/b", b"")
    assert store.keys() == ["a/b"]


def test_files_that_no_store_created_are_not_listed(store: FileStore, root: Path) -> None:
    store.create("a", b"")
    for name in (".tmp", "with space", "lost+found/x", ".hidden/x"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"")
    assert store.keys() == ["a"]


SEGMENTS = st.text("abzAZ09._=-", min_size=1, max_size=6).filter(lambda text: not text.startswith("."))


@given(segments=st.lists(SEGMENTS, min_size=1, max_size=4))
def test_every_valid_key_names_a_path_of_its_own_segments(segments: list[str]) -> None:
    assert is_key("/".join(segments))


@given(text=st.text(max_size=12))
def test_a_key_never_leaves_its_folder(text: str) -> None:
    if is_key(text):
        root = Path("/store")
        assert Path(os.path.normpath(root / text)) == root / text
        assert (root / text).relative_to(root).as_posix() == text
