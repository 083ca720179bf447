"""Moves the key holder's secret keys under its present provider: from the clear, or from the provider before.

Each is wrapped anew, seen to come back, and only then takes the place of what was there: in the folder by one
rename, so that a key never lies in the clear beside its wrapped form, and whoever is cut off runs it again.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from components.artifacts.stores import create_or_read, open_store
from components.encryption.framing import context_fingerprint
from components.encryption.key_providers.envelope import MAX_ENVELOPE_BYTES, is_envelope, read_envelope
from components.encryption.key_providers.provider import require_working
from components.encryption.key_providers.settings import ProviderSettings
from components.encryption.secret_keys.key_store import KeyStore, SecretName
from components.encryption.secret_keys.public_halves import public_half
from components.errors import KeyProviderError, UsageError

DRAFT_S = 60.0
"""A draft that is older than this was left by a start that was cut off."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """One secret key: the name of its file, whether it was wrapped anew, and where it lies now."""

    file: str
    moved: bool
    place: str


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A secret key as it lies before it is moved, and what erases it there."""

    where: str
    content: bytes
    erase: Callable[[], None]

    @property
    def file(self) -> str:
        return Path(self.where).name


def move_keys(federation: str, *, keys_uri: str, before: ProviderSettings) -> tuple[list[Move], list[str]]:
    """Wraps every secret key of the key holder under the provider that `provider.yaml` names.

    Args:
        federation: its id.
        keys_uri: folder of the charters, beside which the key holder's own folder lies.
        before: settings of the provider that wrapped keys until now.

    Returns:
        What lies where now, and a line for each key that was not moved and lies as it lay.

    Raises:
        UsageError: the settings break a rule, or a provider cannot be used: nothing was moved.
    """
    target = KeyStore.open(keys_uri)
    source = KeyStore(folder=target.folder, settings=before)
    _erase_drafts(target.folder)
    lying = [*_in_folder(target.folder), *_in_stores(source, target)]
    if lying and target.provider:
        # Before the first key: a token that counts wrong PINs must not be asked for every one.
        require_working(target.provider, federation=federation)
    if source.provider and any(_is_under(source, found.content) for found in lying):
        require_working(source.provider, federation=federation)
    moves: dict[str, Move] = {}
    problems: list[str] = []
    for found in lying:
        try:
            name = _name(found, federation)
            # One that an earlier start was cut off at lies in both places.
            moves[found.file] = _moved(found, name, source, target)
        except OSError as error:
            problems.append(
                f"{found.where}: cannot be replaced ({error.strerror}): do this where it can be written"
            )
        except UsageError as error:
            problems.append(f"{found.where}: {error}")
    return [moves[file] for file in sorted(moves)], problems


def clear_keys(keys: KeyStore) -> list[Path]:
    """Secret keys in the folder that lie in the clear although a provider should wrap them."""
    if keys.provider is None:
        return []
    return [path for path in sorted(keys.folder.glob("*.secret")) if not is_envelope(path.read_bytes())]


def _in_folder(folder: Path) -> Iterator[_Found]:
    for path in sorted(folder.glob("*.secret")):
        yield _Found(where=str(path), content=path.read_bytes(), erase=path.unlink)


def _in_stores(*stores: KeyStore) -> Iterator[_Found]:
    """Those in the stores of wrapped keys, where an earlier start may have put some already."""
    places = {(each.settings.wrapped_keys_uri, each.wrapped_below) for each in stores}
    for uri, below in sorted((uri, below) for uri, below in places if below):
        store = open_store(uri)
        for key in store.keys(below):
            content = store.read(key, limit=MAX_ENVELOPE_BYTES)
            yield _Found(where=f"{store.uri}/{key}", content=content, erase=partial(store.remove, key))


def _name(found: _Found, federation: str) -> SecretName:
    """Whose secret half it is: as the envelope says, or, of one in the clear, as the key itself says."""
    protection = found.file.removesuffix(".secret").rpartition("-")[0]
    if is_envelope(found.content):
        bound = read_envelope(found.content).bound
        name = SecretName(federation=federation, protection=protection, context=bound.get("context", ""))
        if dict(bound) != name.bound or name.file != found.file:
            raise KeyProviderError("is wrapped for another federation or name: restore the file of this name")
        return name
    context = context_fingerprint(public_half(protection, found.content))
    name = SecretName(federation=federation, protection=protection, context=context)
    if name.file != found.file:
        raise UsageError(f"holds the key {name.file}: restore the file of this name")
    return name


def _moved(found: _Found, name: SecretName, source: KeyStore, target: KeyStore) -> Move:
    content = found.content
    if _is_under(target, content):
        target.opened(name, content)
    else:
        content = target.enclosed(name, source.opened(name, content) if is_envelope(content) else content)
    own, place = target.folder / name.file, target.in_store(name)
    if found.where == str(own) and content != found.content:
        _replace(own, content)
    if place is None:
        if found.where != str(own):
            _replace(own, content)
            found.erase()
        return Move(file=name.file, moved=content != found.content, place=str(target.folder))
    store, key = place
    if found.where != f"{store.uri}/{key}":
        # An earlier start may have been cut off here: what it left must open as well.
        target.opened(name, create_or_read(store, key, content))
        found.erase()
    return Move(file=name.file, moved=content != found.content, place=store.uri)


def _is_under(keys: KeyStore, content: bytes) -> bool:
    """Whether stored bytes say that they are as this provider keeps them."""
    if keys.provider is None or not is_envelope(content):
        return keys.provider is None and not is_envelope(content)
    try:
        envelope = read_envelope(content)
    except KeyProviderError:
        return False
    return (envelope.provider, envelope.key) == (keys.provider.provider, keys.provider.key)


def _replace(path: Path, content: bytes) -> None:
    """Puts a file in another's place, whole, and so that a crash leaves one of the two."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _erase_drafts(folder: Path) -> None:
    """Erases what starts have left that were cut off while they wrote a key, in the clear maybe."""
    for draft in folder.glob(".*.secret-*"):
        if time.time() - draft.stat().st_mtime > DRAFT_S:
            draft.unlink(missing_ok=True)
