from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.agreement.sealed_manifest import (
    MAX_SEALED_BYTES,
    SealedManifest,
    VouchedReader,
    blob_key,
    manifest_key,
    open_blob,
    read_manifest,
)
from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.errors import DigestMismatchError, ObjectMissingError, SignatureError
from tests.components.agreement.signed_form import (
    CHARTER,
    KEYS,
    OTHER_TICKETS,
    ROSTER,
    TICKET,
    Held,
    SignedForm,
)

BLOB = bytes(range(48))
CERTIFICATE = "ce" * 32
MANIFEST = SealedManifest(
    charter=CHARTER.digest,
    ticket=TICKET.digest,
    roster=ROSTER.digest,
    purpose="update",
    site="alpha",
    protection="sealed",
    certificate=CERTIFICATE,
    blob=digest(BLOB),
    size=len(BLOB),
    length=5,
)


def found(document: bytes, *, site: str = "alpha", certificate: str = CERTIFICATE) -> SealedManifest:
    exchange = Held({manifest_key(TICKET, "alpha"): document})
    return read_manifest(exchange, TICKET, ROSTER, site, charter=CHARTER, certificate=certificate)


class TestSealedManifest(SignedForm):
    domain = "sealed update"
    signer = "alpha"
    form = MANIFEST

    def read(self, document: bytes) -> SealedManifest:
        return found(document)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("ticket", ticket.digest) for ticket in OTHER_TICKETS),
            ("charter", "00" * 32),
            ("charter", replace(CHARTER, max_rounds=13).digest),
            ("roster", replace(ROSTER, commitments={"alpha": "a1" * 32}).digest),
            ("purpose", "metrics"),
            ("site", "beta"),
            ("protection", "none"),
            ("protection", "he"),
            ("certificate", "cf" * 32),
            ("certificate", ""),
            ("certificate", None),
        ],
    )
    def test_what_was_made_for_another_occasion_is_refused(self, name: str, value: str) -> None:
        with pytest.raises(
            SignatureError, match=f"of alpha (was made for another {name}|is not in the form.*)$"
        ):
            self.read(self.signed(self.body() | {name: value}))

    @pytest.mark.parametrize(
        "size", [0, -1, MAX_SEALED_BYTES + 1, None, "48", [48], {}, True, 48.5], ids=repr
    )
    def test_a_size_that_no_sealed_update_has_is_refused(self, size: object) -> None:
        text = "the manifest of alpha (states a size that no sealed update has|is not in the form)"
        with pytest.raises(SignatureError, match=text):
            self.read(self.signed(self.body() | {"size": size}))

    def test_the_largest_size_is_one(self) -> None:
        assert self.read(self.signed(self.body() | {"size": MAX_SEALED_BYTES})).size == 16 * 2**30


def test_a_site_that_uploaded_nothing_is_missing(exchange: Store) -> None:
    with pytest.raises(ObjectMissingError):
        found(b"", site="beta")
    with pytest.raises(ObjectMissingError), open_blob(exchange, TICKET, MANIFEST):
        pass


def test_another_sites_upload_is_refused_in_this_ones_place() -> None:
    with pytest.raises(SignatureError, match="names another signer"):
        found(replace(MANIFEST, site="gamma").signed(KEYS["gamma"]))


def test_a_manifest_above_the_limit_is_its_sites_fault(exchange: Store) -> None:
    """The aggregator leaves such a site out; it must be told apart from a store that cannot be read."""
    exchange.create(manifest_key(TICKET, "alpha"), b" " * ((1 << 16) + 1))
    with pytest.raises(SignatureError, match="the manifest of alpha is larger than any manifest"):
        read_manifest(exchange, TICKET, ROSTER, "alpha", charter=CHARTER, certificate=CERTIFICATE)


def test_where_there_is_no_key_the_manifest_names_none() -> None:
    document = replace(MANIFEST, certificate="").signed(KEYS["alpha"])
    assert found(document, certificate="").certificate == ""
    with pytest.raises(SignatureError, match="for another certificate"):
        found(MANIFEST.signed(KEYS["alpha"]), certificate="")


def test_lie_in_the_folder_of_their_attempt() -> None:
    assert manifest_key(TICKET, "alpha") == "rounds/00007-2/sealed/alpha.json"
    assert blob_key(TICKET, "alpha") == "rounds/00007-2/sealed/alpha.bin"


def reader(blob: bytes, manifest: SealedManifest = MANIFEST) -> VouchedReader:
    return VouchedReader(io.BytesIO(blob), manifest)


MISMATCH = "^the sealed update of alpha is not the one its manifest signs$"
READINGS: list[Callable[[VouchedReader], object]] = [
    lambda vouched: None,
    lambda vouched: vouched.read(),
    lambda vouched: [vouched.read(1) for _ in range(60)],
    lambda vouched: vouched.read(40),
    lambda vouched: vouched.readall(),
]


def whole(vouched: VouchedReader, read: Callable[[VouchedReader], object]) -> None:
    """Reads in one way or another before it asks."""
    read(vouched)
    vouched.require_whole()


class TestVouchedReader:
    @given(sizes=st.lists(st.integers(0, 60)), extra=st.booleans())
    def test_what_the_manifest_signs_passes_in_pieces_of_any_size(
        self, sizes: list[int], extra: bool
    ) -> None:
        vouched = reader(BLOB)
        pieces = [vouched.read(size) for size in sizes]
        assert [len(piece) for piece in pieces] == self.lengths(sizes)
        if extra:
            pieces.append(vouched.read())
            assert b"".join(pieces) == BLOB
        assert BLOB.startswith(b"".join(pieces))
        vouched.require_whole()
        vouched.require_whole()

    @staticmethod
    def lengths(sizes: list[int]) -> list[int]:
        left, expected = len(BLOB), []
        for size in sizes:
            expected.append(min(size, left))
            left -= expected[-1]
        return expected

    @pytest.mark.parametrize("read", READINGS)
    @pytest.mark.parametrize(
        "blob", [BLOB[:-1], BLOB[:1], b"", BLOB[1:]], ids=["cut", "one", "empty", "head"]
    )
    def test_too_short(self, blob: bytes, read: Callable[[VouchedReader], object]) -> None:
        with pytest.raises(DigestMismatchError, match=MISMATCH):
            whole(reader(blob), read)

    @pytest.mark.parametrize("read", READINGS)
    @pytest.mark.parametrize("extra", [b"\0", BLOB, bytes(1 << 21)], ids=["byte", "twice", "much"])
    def test_too_long(self, extra: bytes, read: Callable[[VouchedReader], object]) -> None:
        with pytest.raises(DigestMismatchError, match=MISMATCH):
            whole(reader(BLOB + extra), read)

    def test_a_byte_too_many_is_told_as_it_passes(self) -> None:
        vouched = reader(BLOB + b"\0")
        assert vouched.read(48) == BLOB
        with pytest.raises(DigestMismatchError, match=MISMATCH):
            vouched.read(1)
        with pytest.raises(DigestMismatchError, match=MISMATCH):
            vouched.require_whole()

    @pytest.mark.parametrize("read", READINGS)
    def test_every_flipped_bit(self, read: Callable[[VouchedReader], object]) -> None:
        for bit in range(8 * len(BLOB)):
            altered = bytearray(BLOB)
            altered[bit // 8] ^= 1 << bit % 8
            with pytest.raises(DigestMismatchError, match=MISMATCH):
                whole(reader(bytes(altered)), read)

    @pytest.mark.parametrize(
        "manifest",
        [
            replace(MANIFEST, size=47),
            replace(MANIFEST, size=49),
            replace(MANIFEST, blob=digest(b"another")),
            replace(MANIFEST, blob=digest(BLOB).upper()),
            replace(MANIFEST, blob=""),
        ],
        ids=["smaller", "larger", "digest", "case", "none"],
    )
    def test_another_manifest(self, manifest: SealedManifest) -> None:
        with pytest.raises(DigestMismatchError, match=MISMATCH):
            reader(BLOB, manifest).require_whole()

    def test_a_source_that_gives_less_at_a_time(self) -> None:
        class Slow(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                return super().read(3 if size is None or size < 0 else min(size, 3))

        vouched = VouchedReader(Slow(BLOB), MANIFEST)
        assert vouched.read(48) == BLOB[:3]
        vouched.require_whole()
        with pytest.raises(DigestMismatchError):
            VouchedReader(Slow(BLOB[:-1]), MANIFEST).require_whole()

    def test_reads_from_the_exchange(self, exchange: Store) -> None:
        exchange.create(blob_key(TICKET, "alpha"), BLOB)
        with open_blob(exchange, TICKET, MANIFEST) as vouched:
            assert vouched.readable()
            assert vouched.read(5) == BLOB[:5]
            vouched.require_whole()
        with pytest.raises(ValueError, match="closed"):
            vouched.read(1)
