"""What every protection of ours does around the sealed bytes: digests and signatures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import BinaryIO, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.sealed_manifest import DOMAIN, SealedManifest, VouchedReader
from components.artifacts.background_hash import BackgroundHash
from components.artifacts.documents import verify
from components.encryption.protection import Summer


class SignedUpdates:
    """The sealed updates of all sites under one ticket."""

    def __init__(self, sites: int, length: int) -> None:
        self._keys = [Ed25519PrivateKey.generate() for _ in range(sites)]
        self._length = length
        self._documents: dict[int, bytes] = {}

    def write(self, site: int, chunks: Iterable[bytes], sink: BinaryIO, *, keep: bool) -> None:
        """The sealed bytes to the sink, hashed on their way, and their signed manifest."""
        blob, size = BackgroundHash(), 0
        for chunk in chunks:
            blob.update(chunk)
            size += sink.write(chunk)
        document = SealedManifest(
            charter="1" * 64,
            ticket="2" * 64,
            roster="3" * 64,
            purpose="update",
            site=f"site-{site:02d}",
            protection="sealed",
            certificate="5" * 64,
            blob=blob.hexdigest(),
            size=size,
            length=self._length,
        ).signed(self._keys[site])
        if keep:
            self._documents[site] = document

    def add(
        self,
        summer: Summer,
        blobs: Sequence[BinaryIO],
        total: BinaryIO | None,
        expected: BinaryIO | None = None,
    ) -> None:
        """Verifies every manifest, adds while hashing, compares the digests; and with a sum expected."""
        readers = []
        for site, blob in enumerate(blobs):
            key = self._keys[site].public_key()
            body = verify(self._documents[site], domain=DOMAIN, signer=f"site-{site:02d}", key=key)
            readers.append(VouchedReader(blob, SealedManifest(**body)))
        added = BackgroundHash()
        for block in summer.add(cast(Sequence[BinaryIO], readers), self._length):
            if total is not None:
                total.write(block)
            if expected is not None:
                added.update(block)
                if expected.read(len(block)) != block:
                    raise AssertionError("the sum is not the sum of its members")
        for reader in readers:
            reader.require_whole()
