"""Where charters and their signatures lie, and which one is in force.

    charters/00001/charter.json               an edition, canonical JSON
    charters/00001/signatures/gcp.json        gcp's signature of its digest
    cards/gcp.json                            public keys a party offers for the next edition

Every object is created once. An edition is in force when each of its signers has signed; the
newest such edition counts. Who must not trust this place (every site, the key holder) compares
the digest with the one in its own policy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from components.agreement.charter import Charter, read_charter
from components.artifacts.documents import sign, verify
from components.artifacts.stores import Store, create_or_read, open_store
from components.errors import ObjectMissingError, SignatureError, UsageError

DOMAIN = "charter"
MAX_CHARTER_BYTES = 4 * 2**20


def charter_key(edition: int) -> str:
    """Where an edition lies, below the keys."""
    return f"charters/{edition:05d}/charter.json"


def signature_key(edition: int, signer: str) -> str:
    """Where a party's signature of an edition lies."""
    return f"charters/{edition:05d}/signatures/{signer}.json"


def editions(store: Store) -> list[int]:
    """Numbers of the editions that were proposed, ascending."""
    keys = [key.split("/") for key in store.keys("charters")]
    return sorted(int(parts[1]) for parts in keys if parts[2:] == ["charter.json"] and parts[1].isdigit())


def read_edition(store: Store, edition: int) -> Charter:
    """An edition, signed or not.

    Raises:
        SignatureError: it is not a charter, or stands under another number.
    """
    charter = read_charter(store.read(charter_key(edition), limit=MAX_CHARTER_BYTES))
    if charter.edition != edition:
        raise SignatureError(f"edition {edition} of the charter calls itself edition {charter.edition}")
    return charter


def propose(keys_uri: str, charter: Charter) -> None:
    """Publishes an edition for the parties to sign.

    Raises:
        UsageError: it breaks a rule, or another charter stands under this number.
    """
    problems = charter.problems()
    if problems:
        raise UsageError("\n".join(f"charter: {problem}" for problem in problems))
    store = open_store(keys_uri)
    if create_or_read(store, charter_key(charter.edition), charter.to_json()) != charter.to_json():
        raise UsageError(
            f"edition {charter.edition} of the charter at {keys_uri} was proposed with other terms: "
            "have it signed, or propose the next edition"
        )


def sign_edition(keys_uri: str, charter: Charter, signer: str, key: Ed25519PrivateKey) -> None:
    """Publishes a party's signature.

    Raises:
        UsageError: the charter asks for no signature of this party, or names another key for it.
        SignatureError: something else lies where the signature belongs.
    """
    if signer not in charter.signers:
        raise UsageError(f"{signer} does not sign charters: {', '.join(charter.signers)} do")
    if charter.key(signer).public_bytes_raw() != key.public_key().public_bytes_raw():
        raise UsageError(
            f"edition {charter.edition} of the charter names another key for {signer} than this one: "
            "do not sign it"
        )
    document = sign(key, domain=DOMAIN, signer=signer, body={"charter": charter.digest})
    if create_or_read(open_store(keys_uri), signature_key(charter.edition, signer), document) != document:
        raise SignatureError(
            f"{keys_uri}/{signature_key(charter.edition, signer)} is not the signature of {signer} for these "
            "terms: somebody else wrote it, or other terms were signed under this number"
        )


def missing_signatures(store: Store, charter: Charter) -> tuple[str, ...]:
    """Who has not signed an edition yet.

    Raises:
        SignatureError: a signature is there but is not its signer's over this charter.
    """
    missing: list[str] = []
    for signer in charter.signers:
        try:
            document = store.read(signature_key(charter.edition, signer), limit=1 << 16)
        except ObjectMissingError:
            missing.append(signer)
            continue
        require_signature(document, charter, signer)
    return tuple(missing)


def require_signature(document: bytes, charter: Charter, signer: str) -> None:
    """Passes a party's signature of a charter.

    Raises:
        SignatureError: it is not this party's, or of another charter.
    """
    _require_signature(document, signer, charter.key(signer).public_bytes_raw(), charter.digest)


@lru_cache(maxsize=4096)
def _require_signature(document: bytes, signer: str, key: bytes, charter: str) -> None:
    # The same bytes are verified once in a process: every document of a round leads back to them.
    public = Ed25519PublicKey.from_public_bytes(key)
    if verify(document, domain=DOMAIN, signer=signer, key=public) != {"charter": charter}:
        raise SignatureError(f"the signature of {signer} is of another charter")


def charter_in_force(keys_uri: str) -> Charter:
    """The newest edition that all its signers have signed.

    Raises:
        UsageError: there is none.
        SignatureError: an edition or a signature was altered.
    """
    store = open_store(keys_uri)
    proposed = editions(store)
    for edition in reversed(proposed):
        charter = read_edition(store, edition)
        if not missing_signatures(store, charter):
            return charter
    if proposed:
        missing = missing_signatures(store, read_edition(store, proposed[-1]))
        raise UsageError(
            f"the charter at {keys_uri} is not signed by {', '.join(missing)}: "
            "each of them signs it with 'crosscloud charter sign'"
        )
    raise UsageError(
        f"no charter at {keys_uri}: make one with 'crosscloud keys init' and 'crosscloud charter new'"
    )


def charter_of(keys_uri: str, digest: str) -> Charter:
    """The edition with this cd, signed by everybody.

    Raises:
        SignatureError: there is none, or a signature is missing.
    """
    store = open_store(keys_uri)
    for edition in reversed(editions(store)):
        try:
            charter = read_edition(store, edition)
        except SignatureError:  # a broken proposal of somebody's must not stop those who work under another
            continue
        if charter.digest == digest:
            missing = missing_signatures(store, charter)
            if missing:
                raise SignatureError(
                    f"edition {edition} of the charter is not signed by {', '.join(missing)}"
                )
            return charter
    raise SignatureError(f"no edition of the charter has digest {digest[:12]}: it is a foreign one")


def pinned_charter(keys_uri: str, pinned: str, following: str) -> Charter:
    """The edition a party works under: the one it has pinned, until the next it signed is in force.

    Args:
        keys_uri: folder of the charters.
        pinned: cd in the party's policy.
        following: cd of the next edition the party has signed, empty for none.

    Raises:
        SignatureError: the pinned edition is not there, or not signed by everybody.
    """
    if following:
        with contextlib.suppress(SignatureError):
            return charter_of(keys_uri, following)
    return charter_of(keys_uri, pinned)


def is_ancestor(keys_uri: str, older: str, newer: Charter) -> bool:
    """Whether `older` is the digest of `newer` or of an edition it follows from."""
    return any(charter.digest == older for charter in ancestry(keys_uri, newer))


def ancestry(keys_uri: str, charter: Charter) -> Iterator[Charter]:
    """An edition and those it follows from, newest first, up to the first whose digest is another."""
    store = open_store(keys_uri)
    yield charter
    while charter.previous:
        follower, charter = charter, read_edition(store, charter.edition - 1)
        if charter.digest != follower.previous:
            return
        yield charter
