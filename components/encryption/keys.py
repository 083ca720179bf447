"""Makes keys: each party its own, and the key holder its encryption keys, one after another."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from components.agreement.charter import COORDINATOR, KEY_HOLDER, Charter, SitePublicKeys, raw_key
from components.agreement.key_certificate import (
    KeyCertificate,
    certificate_key,
    certified_keys,
    context_key,
)
from components.agreement.private_keys import (
    AGREEMENT_KEY,
    SIGNING_KEY,
    load_agreement_key,
    load_signing_key,
    pem,
    private_folder,
    write_private,
)
from components.agreement.replaced_keys import charter_signing_key, replace_private_keys
from components.artifacts.documents import sign, verify
from components.artifacts.stores import Store, create_or_read, open_store
from components.encryption.framing import context_fingerprint
from components.encryption.protection import generate_contexts
from components.encryption.secret_keys.key_store import KeyStore, SecretName
from components.errors import ObjectMissingError, SignatureError, UsageError

DOMAIN = "key card"


@dataclass(frozen=True, kw_only=True)
class KeyCard:
    """The public keys a party offers for the next charter, signed with the first of them.

    Attributes:
        federation: it is offered to.
        owner: whose keys they are.
        signing: Ed25519, base64.
        agreement: X25519, base64; empty for the coordinator and the key holder.
    """

    federation: str
    owner: str
    signing: str
    agreement: str

    @property
    def site_keys(self) -> SitePublicKeys:
        """As a charter names them."""
        return SitePublicKeys(signing=self.signing, agreement=self.agreement)


def card_key(owner: str, number: int = 1) -> str:
    """Where a party's card lies, below the keys; every replacement of its keys is a card more."""
    return f"cards/{owner}.json" if number == 1 else f"cards/{owner}.{number}.json"


def newest_card(store: Store, owner: str) -> int:
    """Number of the card that a party has published last; 1 where it has published none."""
    number = 1
    while store.exists(card_key(owner, number + 1)):
        number += 1
    return number


def initialise_keys(federation: str, owners: Sequence[str], *, keys_uri: str) -> None:
    """Makes the private keys of parties on this machine and publishes their cards.

    A party whose private keys are there keeps them; its card is published if it is not.

    Args:
        federation: id of the federation.
        owners: sites, `coordinator`, `key-holder`.
        keys_uri: folder of charters and cards.

    Raises:
        UsageError: a card with other keys was published for one of them.
    """
    for owner in owners:
        folder = private_folder(keys_uri, owner)
        # Whoever loses the race for a file uses the winner's.
        with contextlib.suppress(FileExistsError):
            write_private(folder / SIGNING_KEY, pem(Ed25519PrivateKey.generate()))
        is_site = owner not in {COORDINATOR, KEY_HOLDER}
        if is_site:
            with contextlib.suppress(FileExistsError):
                write_private(folder / AGREEMENT_KEY, pem(X25519PrivateKey.generate()))
        _publish_card(federation, owner, keys_uri)


def replace_keys(federation: str, owner: str, *, keys_uri: str) -> tuple[int, tuple[str, ...]]:
    """Makes new private keys for a party on this machine and publishes its next card.

    The keys before are set aside, and the cards before stay: what was signed with them is verified by the
    editions that name them. The next edition of the charter takes the newest card.

    Returns:
        Number of the card, and the files that were set aside.

    Raises:
        UsageError: the party has offered no keys to this federation that could be replaced.
    """
    store = open_store(keys_uri)
    if not store.exists(card_key(owner)):
        raise UsageError(
            f"{owner} has offered no keys at {store.uri} that could be replaced: 'crosscloud keys init --as "
            f"{owner}' makes the first"
        )
    aside = replace_private_keys(keys_uri, owner)
    card = _card(federation, owner, keys_uri)
    number = newest_card(store, owner) + 1
    # Whoever else published one in the meantime, the party's newest keys are in the newest card.
    while create_or_read(store, card_key(owner, number), card) != card:
        number += 1
    return number, aside


def _publish_card(federation: str, owner: str, keys_uri: str) -> None:
    card, store = _card(federation, owner, keys_uri), open_store(keys_uri)
    newest = card_key(owner, newest_card(store, owner))
    if create_or_read(store, newest, card) != card:
        raise UsageError(
            f"{keys_uri}/{newest} offers other keys for {owner} than "
            f"{private_folder(keys_uri, owner)} holds: restore those, or make new ones with 'crosscloud keys "
            f"replace --as {owner}' and have a new edition of the charter signed"
        )


def _card(federation: str, owner: str, keys_uri: str) -> bytes:
    is_site = owner not in {COORDINATOR, KEY_HOLDER}
    key = load_signing_key(keys_uri, owner)
    agreement = load_agreement_key(keys_uri, owner).public_key().public_bytes_raw() if is_site else b""
    body = {
        "federation": federation,
        "owner": owner,
        "signing": base64.b64encode(key.public_key().public_bytes_raw()).decode(),
        "agreement": base64.b64encode(agreement).decode(),
    }
    return sign(key, domain=DOMAIN, signer=owner, body=body)


def read_card(store: Store, owner: str, federation: str) -> KeyCard:
    """A party's newest card. That it is the party's, people make sure of before they sign a charter with it.

    Raises:
        UsageError: there is none, or it was offered to another federation.
        SignatureError: it is not signed with the key it offers.
    """
    try:
        document = store.read(card_key(owner, newest_card(store, owner)), limit=1 << 16)
    except ObjectMissingError:
        raise UsageError(
            f"{owner} has offered no keys at {store.uri}: it does with 'crosscloud keys init --as {owner}'"
        ) from None
    try:
        key = Ed25519PublicKey.from_public_bytes(raw_key(json.loads(document)["body"]["signing"]))
        card = KeyCard(**verify(document, domain=DOMAIN, signer=owner, key=key))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SignatureError(f"the card of {owner} is not in the form this version knows") from None
    if card.federation != federation or card.owner != owner:
        raise UsageError(
            f"{store.uri} holds the card of {card.owner} of {card.federation}, not of {owner} of "
            f"{federation}: give each federation a state_uri in a folder of its own"
        )
    return card


def offered_keys(
    federation: str, sites: Sequence[str], *, keys_uri: str
) -> tuple[Mapping[str, SitePublicKeys], str, str]:
    """Public keys of the sites, of the coordinator and of the key holder, from their cards.

    Raises:
        UsageError: a party has offered none.
    """
    store = open_store(keys_uri)
    keys = {site: read_card(store, site, federation).site_keys for site in sites}
    coordinator, key_holder = (
        read_card(store, owner, federation).signing for owner in (COORDINATOR, KEY_HOLDER)
    )
    return keys, coordinator, key_holder


def certify_key(charter: Charter, *, keys_uri: str, first_round: int) -> KeyCertificate | None:
    """Makes the next encryption key of a charter's protection and certifies it.

    Args:
        charter: whose protection and key holder it is for.
        keys_uri: folder of charters, certificates and public contexts.
        first_round: from which it serves.

    Returns:
        The certificate; None under a protection that needs no key.

    Raises:
        UsageError: a key serves from this round or a later one already, the key holder's signing key here
            is not the one that the charter names, or its provider cannot keep the secret half.
    """
    signing_key = charter_signing_key(keys_uri, KEY_HOLDER, charter)
    public, secret = generate_contexts(charter.protection)
    if not public:
        return None
    before = certified_keys(keys_uri, charter, charter.protection)
    if before and before[-1].certificate.first_round >= first_round:
        raise UsageError(
            f"the newest key serves from round {before[-1].certificate.first_round}: "
            f"the next one must serve from a later round, got {first_round}"
        )
    store = open_store(keys_uri)
    certificate = KeyCertificate(
        federation=charter.federation,
        protection=charter.protection,
        number=len(before) + 1,
        context=context_fingerprint(public),
        first_round=first_round,
        previous=before[-1].digest if before else "",
    )
    own, name = KeyStore.open(keys_uri), SecretName.of(certificate)
    own.keep(name, secret)
    store.create(context_key(charter.protection, certificate.context), public)
    document = certificate.signed(signing_key)
    if (
        create_or_read(store, certificate_key(charter, charter.protection, certificate.number), document)
        != document
    ):
        # Another start was faster: its key is the certified one, and serves as well.
        own.forget(name)
    return certified_keys(keys_uri, charter, charter.protection)[-1].certificate
