"""The keys of a federation's parties, as they lie on this machine and as the charter names them."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from components.agreement.charter import COORDINATOR, KEY_HOLDER, Charter, raw_key
from components.agreement.charter_book import charter_in_force
from components.agreement.key_certificate import KeyCertificate, certified_keys
from components.agreement.private_keys import load_agreement_key, load_signing_key, private_folder
from components.agreement.replaced_keys import charter_agreement_key, charter_signing_key
from components.artifacts.documents import digest
from components.artifacts.stores import open_store
from components.encryption.keys import KeyCard, certify_key, read_card
from components.errors import SignatureError, UsageError
from components.rounds.state import next_round_number
from pipelines.encryption_key import encryption_key_problems, end_of
from pipelines.federation import Federation


@dataclass(frozen=True, kw_only=True)
class KeyProblems:
    """What must be mended, and what will have to be soon; one line each."""

    wrong: list[str] = field(default_factory=list)
    soon: list[str] = field(default_factory=list)


def parties(federation: Federation) -> tuple[str, ...]:
    """All who have keys: the sites in the order of the file, the coordinator, the key holder."""
    return (*federation.site_names, COORDINATOR, KEY_HOLDER)


def chosen_parties(federation: Federation, named: Sequence[str] | None) -> tuple[str, ...]:
    """The parties that a command is for: those named, or all where all are on this machine.

    Raises:
        UsageError: a name is not a party's, or none is named where parties are on several machines.
    """
    known = parties(federation)
    for owner in named or ():
        if owner not in known:
            raise UsageError(f"{owner!r} is no party of {federation.federation}: {', '.join(known)} are")
    if named:
        return tuple(dict.fromkeys(named))
    if not is_local(federation.keys_uri):
        raise UsageError(
            f"the keys of {federation.federation} lie at {federation.keys_uri}, so its parties may be on "
            f"several machines: name yours with --as ({', '.join(known)})"
        )
    return known


def is_local(uri: str) -> bool:
    """Whether an address is a folder of this machine."""
    return "://" not in uri or uri.startswith("file://")


def edition_in_force(federation: Federation) -> Charter | None:
    """The charter in force; None while there is none.

    Raises:
        SignatureError: an edition or a signature was altered.
    """
    try:
        return charter_in_force(federation.keys_uri)
    except UsageError:
        return None


def offered_card(federation: Federation, owner: str) -> KeyCard | None:
    """The keys a party offers; None while it offers none.

    Raises:
        SignatureError: its card was altered.
    """
    try:
        return read_card(open_store(federation.keys_uri), owner, federation.federation)
    except UsageError:
        return None


def charter_keys(charter: Charter, owner: str) -> tuple[str, str]:
    """Signing and agreement key of a party as a charter names them; empty for one it does not name."""
    if owner in charter.sites:
        return charter.sites[owner].signing, charter.sites[owner].agreement
    return {COORDINATOR: (charter.coordinator, ""), KEY_HOLDER: (charter.key_holder, "")}.get(owner, ("", ""))


def fingerprint(key: str) -> str:
    """Sixteen digits that tell one public key from another; a dash for none."""
    return digest(raw_key(key))[:16] if key else "–"


def key_problems(federation: Federation, owners: Sequence[str]) -> KeyProblems:
    """Looks at the private keys of parties on this machine, and at the key holder's certificates.

    Raises:
        SignatureError: the charter, a card or a certificate was altered.
    """
    found = KeyProblems()
    charter = edition_in_force(federation)
    for owner in owners:
        try:
            _check_own_keys(federation, charter, owner)
        except UsageError as error:
            found.wrong.append(f"{owner}: {error}")
    if KEY_HOLDER in owners:
        wrong, soon = encryption_key_problems(federation, charter)
        found.wrong.extend(f"{KEY_HOLDER}: {line}" for line in wrong)
        found.soon.extend(f"{KEY_HOLDER}: {line}" for line in soon)
    return found


def first_round_of_next_key(federation: Federation, charter: Charter) -> int:
    """The first round that a new encryption key can serve: none of its tickets was issued."""
    number = next_round_number(open_store(federation.state_uri))
    if not certified_keys(federation.keys_uri, charter, charter.protection):
        return number
    issued = open_store(federation.exchange_uri).exists(f"rounds/{number:05d}-1/ticket.json")
    return number + 1 if issued else number


def first_encryption_key(federation: Federation) -> KeyCertificate | None:
    """Makes the encryption key that the charter in force asks for, where there is none yet; else None.

    Raises:
        UsageError: the key holder's private keys are not those of the charter.
    """
    charter = edition_in_force(federation)
    if charter is None or not charter.traits.keyed:
        return None
    if certified_keys(federation.keys_uri, charter, charter.protection):
        return None
    return rotate_key(federation)


def rotate_key(federation: Federation, *, first_round: int | None = None) -> KeyCertificate:
    """Makes and certifies the key holder's next encryption key.

    Args:
        federation: with a charter in force; the key holder's private keys are on this machine.
        first_round: that the key serves; by default the first that it can.

    Raises:
        UsageError: the protection needs no key, the key holder's keys are not those of the charter,
            or the rounds would not follow on those of the key before.
    """
    charter = charter_in_force(federation.keys_uri)
    _check_own_keys(federation, charter, KEY_HOLDER)
    least = first_round_of_next_key(federation, charter)
    number = least if first_round is None else first_round
    if number < least:
        raise UsageError(
            f"round {number} was opened with the key before: a new key can serve from {least} on"
        )
    before = certified_keys(federation.keys_uri, charter, charter.protection)
    if before and number > max(least, end_of(charter, before[-1])):
        raise UsageError(
            f"rounds {end_of(charter, before[-1])} to {number - 1} would have no key, the one before may "
            f"serve {charter.rotation_rounds} rounds: rotate with an earlier --first-round"
        )
    certificate = certify_key(charter, keys_uri=federation.keys_uri, first_round=number)
    if certificate is None:
        raise UsageError(f"protection {charter.protection} needs no encryption key: there is none to rotate")
    return certificate


def _check_own_keys(federation: Federation, charter: Charter | None, owner: str) -> None:
    """`UsageError` unless the private keys are there, private, and those that others know."""
    keys_uri, known = federation.keys_uri, ("", "")
    source = "the charter names"
    if charter:
        known = charter_keys(charter, owner)
    if not known[0]:
        card = read_card(open_store(keys_uri), owner, federation.federation)
        known, source = (card.signing, card.agreement), "its card offers"
    own = [("signing", _signing(keys_uri, owner, charter).public_key().public_bytes_raw())]
    if owner not in {COORDINATOR, KEY_HOLDER}:
        own.append(("agreement", _agreement(keys_uri, owner, charter).public_key().public_bytes_raw()))
    for (name, key), public in zip(own, known, strict=False):
        if base64.b64encode(key).decode() != public:
            raise UsageError(
                f"{private_folder(keys_uri, owner)} holds another {name} key than {source}: restore the one "
                f"with fingerprint {fingerprint(public)}"
            )


def _signing(keys_uri: str, owner: str, charter: Charter | None) -> Ed25519PrivateKey:
    """The key that the charter names, made last or replaced since; the one made last where none here is."""
    newest = load_signing_key(keys_uri, owner)
    with contextlib.suppress(UsageError, SignatureError):
        return charter_signing_key(keys_uri, owner, charter) if charter else newest
    return newest


def _agreement(keys_uri: str, owner: str, charter: Charter | None) -> X25519PrivateKey:
    newest = load_agreement_key(keys_uri, owner)
    if charter is None or owner not in charter.sites:
        return newest
    with contextlib.suppress(UsageError):
        return charter_agreement_key(keys_uri, owner, charter)
    return newest
