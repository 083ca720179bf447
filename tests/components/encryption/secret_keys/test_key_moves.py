"""Moving secret keys under a provider: all of them or a line each, cut off wherever it may be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.artifacts.stores import open_store
from components.encryption.framing import context_fingerprint
from components.encryption.key_providers.envelope import is_envelope
from components.encryption.key_providers.settings import FileSettings, ProviderSettings
from components.encryption.protection import generate_contexts
from components.encryption.secret_keys.key_moves import clear_keys, move_keys
from components.encryption.secret_keys.key_store import KeyStore, SecretName
from components.errors import UsageError
from tests.components.encryption.key_providers.conftest import TOKEN
from tests.components.encryption.key_providers.softhsm import PIN, SoftHsm
from tests.components.encryption.key_providers.traces import files_with, traces

KEYS = "small/keys"
CLEAR = FileSettings()
WRAPPING: dict[str, Any] = {"provider": "file", "wrapping_key": "wrapping.key"}
ELSEWHERE = WRAPPING | {"wrapped_keys_uri": "own/store"}


class KeyHolder:
    """A key holder with two secret keys."""

    def __init__(self, home: Path, *protections: str) -> None:
        self.home, self.folder = home, home / KEYS / "key-holder"
        self.folder.mkdir(parents=True, mode=0o700)
        self.secrets: dict[SecretName, bytes] = {}
        self.needles: list[bytes] = []
        for protection in protections:
            public, secret = generate_contexts(protection)
            context = context_fingerprint(public)
            name = SecretName(federation="small", protection=protection, context=context)
            self.secrets[name] = secret
            self.needles += traces(secret, public=public, stride=65536)
            KeyStore.open(KEYS).keep(name, secret)

    def choose(self, settings: dict[str, Any] | None) -> KeyStore:
        """Writes provider.yaml, or takes it away."""
        path = self.folder / "provider.yaml"
        path.unlink(missing_ok=True)
        if settings:
            path.write_text(yaml.safe_dump(settings))
            path.chmod(0o600)
        keys = KeyStore.open(KEYS)
        keys.make_wrapping_key()
        return keys

    def move(self, before: ProviderSettings = CLEAR) -> list[bool]:
        """Whether each key was wrapped anew; there is no problem."""
        moves, problems = move_keys("small", keys_uri=KEYS, before=before)
        assert problems == []
        assert [move.file for move in moves] == sorted(name.file for name in self.secrets)
        return [move.moved for move in moves]

    def reads_all(self) -> bool:
        keys = KeyStore.open(KEYS)
        return all(keys.read(name) == secret for name, secret in self.secrets.items())

    def in_clear(self) -> set[str]:
        """Names of files anywhere with a piece of a secret key."""
        return files_with([self.home], self.needles)

    def secret_files(self) -> list[Path]:
        return sorted(path for path in self.home.rglob("*.secret") if path.is_file())


@pytest.fixture
def holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyHolder:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    return KeyHolder(tmp_path, "masked", "sealed")


@pytest.fixture
def with_short_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyHolder:
    """Keys of 32 bytes, where moving is done many times over."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    return KeyHolder(tmp_path, "masked", "masked")


def test_keys_in_the_clear_are_wrapped_in_their_places(holder: KeyHolder) -> None:
    assert len(holder.in_clear()) == 2
    keys = holder.choose(WRAPPING)
    assert len(clear_keys(keys)) == 2
    assert holder.move() == [True, True]
    assert holder.in_clear() == set()
    assert clear_keys(keys) == []
    assert holder.reads_all()
    before = [path.read_bytes() for path in holder.secret_files()]
    assert len(before) == 2
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in holder.secret_files())
    assert holder.move() == [False, False]
    assert [path.read_bytes() for path in holder.secret_files()] == before


def test_they_may_move_to_a_store_and_back(holder: KeyHolder) -> None:
    settings = holder.choose(ELSEWHERE).settings
    holder.move()
    assert holder.reads_all()
    assert not list(holder.folder.glob("*.secret"))
    assert len(open_store("own/store").keys()) == 2
    assert holder.in_clear() == set()
    holder.choose(WRAPPING)
    holder.move(settings)
    assert holder.reads_all()
    assert open_store("own/store").keys() == []
    assert len(list(holder.folder.glob("*.secret"))) == 2


def test_under_a_new_wrapping_key_the_old_one_opens_nothing_any_more(holder: KeyHolder) -> None:
    for place in ({}, {"wrapped_keys_uri": "own/store"}):
        old = holder.choose(WRAPPING | place).settings
        holder.move(CLEAR if not place else FileSettings(**NEW))
        holder.choose(NEW | place)
        assert holder.move(old) == [True, True]
        assert holder.reads_all()
        assert len(holder.secret_files()) == 2
        (holder.folder / "wrapping.key").unlink()
        assert holder.reads_all()
        if not place:
            continue
        assert not list(holder.folder.glob("*.secret"))


NEW: dict[str, Any] = {"provider": "file", "wrapping_key": "new.key"}


def test_into_an_hsm_and_under_its_next_key(
    holder: KeyHolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hsm = SoftHsm.start(tmp_path / "hsm", monkeypatch)
    hsm.add_token(TOKEN)
    (holder.folder / "pin").write_text(PIN)
    (holder.folder / "pin").chmod(0o600)
    under = {"provider": "pkcs11", "module": str(hsm.module), "token": TOKEN, "make_key": True}
    first = holder.choose(under | {"key": "master-1"}).settings
    assert holder.move() == [True, True]
    assert holder.in_clear() == set()
    assert holder.reads_all()
    holder.choose(under | {"key": "master-2"})
    _, problems = move_keys("small", keys_uri=KEYS, before=CLEAR)
    assert len(problems) == 2
    assert all(
        "is wrapped by pkcs11 under pkcs11:token=crosscloud;object=master-1" in each for each in problems
    )
    assert holder.move(first) == [True, True]
    assert holder.reads_all()
    assert holder.in_clear() == set()


def test_a_provider_that_cannot_be_used_is_asked_once_and_nothing_is_moved(
    holder: KeyHolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token would lock after a wrong PIN for each key."""
    hsm = SoftHsm.start(tmp_path / "hsm", monkeypatch)
    hsm.add_token(TOKEN)
    (holder.folder / "pin").write_text(PIN)
    (holder.folder / "pin").chmod(0o600)
    under = {"provider": "pkcs11", "module": str(hsm.module), "token": TOKEN, "key": "m", "make_key": True}
    settings = holder.choose(under).settings
    (holder.folder / "pin").write_text("wrong")
    with pytest.raises(UsageError, match="it was tried once"):
        move_keys("small", keys_uri=KEYS, before=CLEAR)
    assert len(holder.in_clear()) == 2
    (holder.folder / "pin").write_text(PIN)
    holder.move()
    (holder.folder / "pin").write_text("wrong")
    holder.choose(WRAPPING)
    with pytest.raises(UsageError, match="it was tried once"):
        move_keys("small", keys_uri=KEYS, before=settings)
    assert all(b'"pkcs11"' in path.read_bytes() for path in holder.secret_files())


CALLS = ("open", "fsync", "replace", "unlink", "link")


@pytest.mark.parametrize(
    ("start", "end"),
    [(None, WRAPPING), (None, ELSEWHERE), (WRAPPING, NEW), (ELSEWHERE, ELSEWHERE | NEW), (ELSEWHERE, NEW)],
    ids=["clear-folder", "clear-store", "folder-folder", "store-store", "store-folder"],
)
def test_cut_off_at_any_call_it_has_lost_nothing_and_is_gone_on_with(
    with_short_keys: KeyHolder,
    monkeypatch: pytest.MonkeyPatch,
    start: dict[str, Any] | None,
    end: dict[str, Any],
) -> None:
    """And no key ever lies in the clear beside its wrapped form: each is one or the other."""
    holder = with_short_keys
    before = holder.choose(start).settings
    holder.move()
    for cut in range(1, 200):
        holder.choose(end)
        with monkeypatch.context() as patched:
            ended = _cut_off(patched, cut, lambda: move_keys("small", keys_uri=KEYS, before=before))
        if ended:
            break
        wrapped = {path.name for path in holder.secret_files() if is_envelope(path.read_bytes())}
        clear = {path.name for path in holder.secret_files() if not is_envelope(path.read_bytes())}
        assert wrapped | clear == {name.file for name in holder.secrets}
        assert wrapped & clear == set()
        holder.move(before)
        assert holder.reads_all()
        assert holder.in_clear() == set()
        assert len(holder.secret_files()) == 2
        _back(holder, start, end)
    assert ended
    assert cut > 8
    assert holder.reads_all()


def _back(holder: KeyHolder, start: dict[str, Any] | None, end: dict[str, Any]) -> None:
    settings = holder.choose(end).settings
    for each in [*holder.folder.glob(".*")]:
        each.unlink()
    holder.choose(start)
    holder.move(settings)
    assert holder.reads_all()


def _cut_off(patched: pytest.MonkeyPatch, cut: int, work: Callable[[], object]) -> bool:
    """Works until the given call of the file system, which does not happen; whether it came to its end."""
    made = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def made_or_cut(*arguments: Any, **named: Any) -> Any:
            nonlocal made
            made += 1
            if made >= cut:
                raise KeyboardInterrupt
            return call(*arguments, **named)

        return made_or_cut

    for name in CALLS:
        patched.setattr(os, name, counted(getattr(os, name)))
    try:
        work()
    except KeyboardInterrupt:
        return False
    return True


def test_what_cannot_be_moved_is_told_and_lies_as_it_lay(holder: KeyHolder) -> None:
    """A key under another's name, and what is no key: nothing is bound to what it is not."""
    masked, sealed = sorted(holder.secrets, key=lambda name: name.protection)
    renamed = holder.folder / "masked-00112233aabbccdd.secret"
    (holder.folder / masked.file).rename(renamed)
    damaged = bytearray((holder.folder / sealed.file).read_bytes())
    damaged[0] ^= 0xFF
    (holder.folder / sealed.file).write_bytes(damaged)
    holder.choose(WRAPPING)
    moves, problems = move_keys("small", keys_uri=KEYS, before=CLEAR)
    assert moves == []
    assert problems[0] == f"{renamed}: holds the key {masked.file}: restore the file of this name"
    assert problems[1].startswith(f"{holder.folder}/{sealed.file}: 393")
    assert "bytes are no secret context of sealed" in problems[1]
    assert renamed.read_bytes() == holder.secrets[masked]
    assert (holder.folder / sealed.file).read_bytes() == damaged


def test_an_altered_envelope_is_told(holder: KeyHolder) -> None:
    old = holder.choose(WRAPPING).settings
    holder.move()
    one, two = holder.secret_files()
    one.write_bytes(one.read_bytes().replace(b'"small"', b'"smell"'))
    two.write_bytes(two.read_bytes()[:-1])
    holder.choose(NEW)
    moves, problems = move_keys("small", keys_uri=KEYS, before=old)
    assert moves == []
    assert "is wrapped for another federation or name" in problems[0]
    assert "is not a wrapped key in the form this version knows" in problems[1]
    one.write_bytes(b"}" + holder.secret_files()[0].read_bytes()[1:])
    assert "are no secret key of protection masked" in move_keys("small", keys_uri=KEYS, before=old)[1][0]


def test_drafts_of_starts_that_were_cut_off_long_ago_are_erased(holder: KeyHolder) -> None:
    """A start that was killed while it wrote a key in the clear."""
    old, new = holder.folder / ".sealed-00.secret-ab", holder.folder / ".sealed-01.secret-cd"
    for draft in (old, new):
        draft.write_bytes(next(iter(holder.secrets.values())))
    os.utime(old, (0, 0))
    holder.choose(WRAPPING)
    holder.move()
    assert not old.exists()
    assert new.exists()
