from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from components.agreement.sealed_manifest import (
    MAX_SEALED_BYTES,
    SealedManifest,
    blob_key,
    manifest_key,
    read_sealed,
)
from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.errors import DigestMismatchError, IntegrityError, ObjectMissingError, SignatureError
from tests.components.agreement.signed_form import (
    KEYS,
    OTHER_TICKETS,
    PARTIES,
    ROSTER,
    TICKET,
    SignedForm,
)

BLOB = bytes(range(48))
MANIFEST = SealedManifest(
    ticket=TICKET.digest,
    roster=ROSTER.digest,
    purpose="update",
    site="alpha",
    protection="he",
    context="c0" * 32,
    blob=digest(BLOB),
    size=len(BLOB),
    length=5,
)


class OneUpload:
    """An exchange that holds one manifest and one blob, so that the contract can try thousands."""

    uri = "memory"

    def __init__(self, document: bytes, blob: bytes = BLOB) -> None:
        self._objects = {manifest_key(TICKET, "alpha"): document, blob_key(TICKET, "alpha"): blob}

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        assert limit is not None
        assert len(self._objects[key]) <= limit
        return self._objects[key]

    def create(self, key: str, content: bytes) -> None:
        raise AssertionError(key)

    def exists(self, key: str) -> bool:
        return key in self._objects

    def keys(self, prefix: str = "") -> list[str]:
        return sorted(self._objects)


class TestSealedManifest(SignedForm):
    domain = "sealed update"
    signer = "alpha"
    form = MANIFEST

    def read(self, document: bytes) -> SealedManifest:
        manifest, blob = read_sealed(OneUpload(document), TICKET, ROSTER, "alpha", PARTIES)
        assert blob == BLOB
        return manifest

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("ticket", ticket.digest) for ticket in OTHER_TICKETS),
            ("roster", replace(ROSTER, commitments={"alpha": "a1" * 32}).digest),
            ("purpose", "metrics"),
            ("site", "beta"),
            ("protection", "none"),
            ("context", "c1" * 32),
            ("context", ""),
        ],
    )
    def test_what_was_made_for_another_occasion_is_refused(self, name: str, value: str) -> None:
        with pytest.raises(SignatureError, match=f"of alpha was made for another {name}"):
            self.read(self.signed(self.body() | {name: value}))

    @pytest.mark.parametrize("size", [0, -1, MAX_SEALED_BYTES + 1, None, "48", [48], {}, "x"], ids=repr)
    def test_a_size_that_no_sealed_update_has_is_refused(self, size: object) -> None:
        with pytest.raises(SignatureError, match="alpha"):
            self.read(self.signed(self.body() | {"size": size}))


def uploaded(exchange: Store, manifest: SealedManifest, blob: bytes = BLOB, *, site: str = "alpha") -> None:
    exchange.create(manifest_key(TICKET, site), manifest.signed(KEYS[manifest.site]))
    exchange.create(blob_key(TICKET, site), blob)


def test_the_blob_that_the_manifest_signs_is_read(exchange: Store) -> None:
    uploaded(exchange, MANIFEST)
    assert read_sealed(exchange, TICKET, ROSTER, "alpha", PARTIES) == (MANIFEST, BLOB)


def test_a_site_that_uploaded_nothing_or_half_is_missing(exchange: Store) -> None:
    with pytest.raises(ObjectMissingError):
        read_sealed(exchange, TICKET, ROSTER, "alpha", PARTIES)
    exchange.create(manifest_key(TICKET, "alpha"), MANIFEST.signed(KEYS["alpha"]))
    with pytest.raises(ObjectMissingError):
        read_sealed(exchange, TICKET, ROSTER, "alpha", PARTIES)


@pytest.mark.parametrize(
    ("change", "blob"),
    [
        ({}, BLOB[:-1]),
        ({}, BLOB + b"\0"),
        ({}, b""),
        ({}, BLOB[::-1]),
        ({"size": len(BLOB) - 1}, BLOB),
        ({"size": len(BLOB) + 1}, BLOB),
        ({"blob": digest(b"another")}, BLOB),
        ({"blob": ""}, BLOB),
        ({"blob": None}, BLOB),
    ],
    ids=["cut", "longer", "empty", "turned", "smaller", "larger", "digest", "no-digest", "null"],
)
def test_another_blob_than_the_manifest_signs_is_refused(
    exchange: Store, change: dict[str, Any], blob: bytes
) -> None:
    """An upload that is not what its own manifest says is that site's fault, never the store's."""
    uploaded(exchange, SealedManifest(**(asdict(MANIFEST) | change)), blob)
    with pytest.raises(DigestMismatchError, match="of alpha is not the one its manifest signs"):
        read_sealed(exchange, TICKET, ROSTER, "alpha", PARTIES)


def test_a_blob_altered_by_one_bit_is_refused() -> None:
    document = MANIFEST.signed(KEYS["alpha"])
    for bit in range(8 * len(BLOB)):
        altered = bytearray(BLOB)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DigestMismatchError):
            read_sealed(OneUpload(document, bytes(altered)), TICKET, ROSTER, "alpha", PARTIES)


def test_another_sites_upload_is_refused_in_this_ones_place(exchange: Store) -> None:
    uploaded(exchange, replace(MANIFEST, site="gamma"))
    with pytest.raises(SignatureError, match="names another signer"):
        read_sealed(exchange, TICKET, ROSTER, "alpha", PARTIES)


def test_a_manifest_above_the_limit_is_refused(exchange: Store) -> None:
    """The aggregator leaves such a site out; it must be told apart from a store that cannot be read."""
    exchange.create(manifest_key(TICKET, "alpha"), b" " * (1 << 16) + b" ")
    exchange.create(blob_key(TICKET, "alpha"), BLOB)
    with pytest.raises(IntegrityError):
        read_sealed(exchange, TICKET, ROSTER, "alpha", PARTIES)


def test_without_a_context_the_manifest_must_name_none(exchange: Store) -> None:
    ticket = replace(TICKET, protection="none")
    roster = replace(ROSTER, ticket=ticket.digest)
    manifest = replace(MANIFEST, ticket=ticket.digest, roster=roster.digest, protection="none", context="")
    uploaded(exchange, manifest)
    assert read_sealed(exchange, ticket, roster, "alpha", PARTIES) == (manifest, BLOB)


def test_lies_in_the_folder_of_its_attempt() -> None:
    assert manifest_key(TICKET, "alpha") == "rounds/00007-2/sealed/alpha.json"
    assert blob_key(TICKET, "alpha") == "rounds/00007-2/sealed/alpha.bin"
