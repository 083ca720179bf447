"""A party's keys before and after a replacement, and which of them a charter names.

    signing.key               made last
    signing.replaced-1.key    the first, set aside by the first replacement; nothing is overwritten

The edition in force goes on under the keys that it names until everybody has signed the next, so both lie
there for a while. Once the next is in force nothing that the old ones sign is accepted, and they can go.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from components.agreement.charter import COORDINATOR, KEY_HOLDER, Charter
from components.agreement.private_keys import (
    AGREEMENT_KEY,
    SIGNING_KEY,
    load_agreement_key,
    load_signing_key,
    pem,
    private_folder,
    write_private,
)
from components.errors import UsageError

_ASIDE = re.compile(r"(?:signing|agreement)\.replaced-([1-9][0-9]*)\.key")


def charter_signing_key(keys_uri: str, owner: str, charter: Charter) -> Ed25519PrivateKey:
    """The owner's private key that a charter names: the one made last, or one that was replaced since.

    Raises:
        UsageError: none that lies here is, or one is missing or readable by others.
    """
    named = charter.key(owner).public_bytes_raw()
    for name in _names(keys_uri, owner, SIGNING_KEY):
        key = load_signing_key(keys_uri, owner, name=name)
        if key.public_key().public_bytes_raw() == named:
            return key
    raise _no_such_key(keys_uri, owner, charter)


def charter_agreement_key(keys_uri: str, site: str, charter: Charter) -> X25519PrivateKey:
    """The site's private key for pair keys that a charter names; see `charter_signing_key`.

    Raises:
        UsageError: none that lies here is, or one is missing or readable by others.
    """
    named = charter.agreement_key(site)
    for name in _names(keys_uri, site, AGREEMENT_KEY):
        key = load_agreement_key(keys_uri, site, name=name)
        if key.public_key().public_bytes_raw() == named:
            return key
    raise _no_such_key(keys_uri, site, charter)


def replace_private_keys(keys_uri: str, owner: str) -> tuple[str, ...]:
    """Makes new private keys in place of the owner's, which are set aside under names that say so.

    An owner whose keys are lost gets new ones as well. A start that was cut off is begun again: at every
    moment a whole key, old or new, lies where steps read it.

    Returns:
        Names of the files that were set aside.
    """
    folder = private_folder(keys_uri, owner)
    number = max(_numbers(folder), default=0) + 1
    made: dict[str, bytes] = {SIGNING_KEY: pem(Ed25519PrivateKey.generate())}
    if owner not in {COORDINATOR, KEY_HOLDER}:
        made[AGREEMENT_KEY] = pem(X25519PrivateKey.generate())
    aside: list[str] = []
    for name in made:
        kept = _aside(name, number)
        with contextlib.suppress(FileNotFoundError):
            os.link(folder / name, folder / kept)
            aside.append(kept)
    for name, content in made.items():
        draft = folder / f".{name}-{secrets.token_hex(8)}"
        write_private(draft, content)
        draft.replace(folder / name)
    return tuple(aside)


def _names(keys_uri: str, owner: str, name: str) -> Iterator[str]:
    """The key made last, then those that were replaced, newest first."""
    yield name
    folder = private_folder(keys_uri, owner)
    for number in sorted(_numbers(folder), reverse=True):
        if (folder / _aside(name, number)).is_file():
            yield _aside(name, number)


def _numbers(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return [int(found[1]) for path in folder.iterdir() if (found := _ASIDE.fullmatch(path.name))]


def _aside(name: str, number: int) -> str:
    return f"{name.removesuffix('.key')}.replaced-{number}.key"


def _no_such_key(keys_uri: str, owner: str, charter: Charter) -> UsageError:
    return UsageError(
        f"no private key in {private_folder(keys_uri, owner)} is the one that edition {charter.edition} of "
        f"the charter names for {owner}: restore it, or have a new edition signed that names another"
    )
