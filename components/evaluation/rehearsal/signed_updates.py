"""What stands around the sealed bytes of every protection: digests, signed manifests, verification."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import BinaryIO, cast

from components.agreement.sealed_manifest import DOMAIN, SealedManifest, VouchedReader
from components.artifacts.background_hash import BackgroundHash
from components.artifacts.documents import verify
from components.encryption.masking.pair_keys import AttemptNames
from components.encryption.protection import Summer
from components.errors import DigestMismatchError
from components.evaluation.rehearsal.site_keys import SiteKeys


class SignedUpdates:
    """The sealed updates of all sites in one attempt.

    Args:
        keys: of every site.
        names: charter, ticket, purpose and roster.
        protection: under which they are sealed.
        certificate: SHA-256 of the key certificate, empty where there is no key.
        length: values in each.
    """

    def __init__(
        self,
        keys: Mapping[str, SiteKeys],
        names: AttemptNames,
        *,
        protection: str,
        certificate: str,
        length: int,
    ) -> None:
        self._keys, self._names = keys, names
        self._protection, self._certificate, self._length = protection, certificate, length
        self._documents: dict[str, bytes] = {}

    def write(self, site: str, chunks: Iterable[bytes], sink: BinaryIO, *, keep: bool = True) -> bytes:
        """Passes sealed bytes on to the sink, hashed on their way, and returns their signed manifest.

        Args:
            site: who sealed.
            chunks: what a sealer yields.
            sink: takes them.
            keep: whether `add` is to find this manifest.
        """
        blob, size = BackgroundHash(), 0
        for chunk in chunks:
            blob.update(chunk)
            size += sink.write(chunk)
        document = SealedManifest(
            charter=self._names.charter,
            ticket=self._names.ticket,
            roster=self._names.roster,
            purpose=self._names.purpose,
            site=site,
            protection=self._protection,
            certificate=self._certificate,
            blob=blob.hexdigest(),
            size=size,
            length=self._length,
        ).signed(self._keys[site].signing)
        if keep:
            self._documents[site] = document
        return document

    def add(
        self,
        summer: Summer,
        blobs: Sequence[BinaryIO],
        total: BinaryIO | None,
        expected: BinaryIO | None = None,
    ) -> str:
        """Verifies every manifest, adds the updates while they are hashed, and compares the digests.

        Args:
            summer: of the protection.
            blobs: sealed updates in the order of the sites' keys.
            total: takes the sum; None where it is only compared.
            expected: a sum that this one must be, byte for byte.

        Returns:
            SHA-256 of the sum where one was expected.

        Raises:
            IntegrityError: a manifest, an update or the sum is not what it should be.
        """
        readers = []
        for (site, keys), blob in zip(self._keys.items(), blobs, strict=True):
            key = keys.signing.public_key()
            body = verify(self._documents[site], domain=DOMAIN, signer=site, key=key)
            readers.append(VouchedReader(blob, SealedManifest(**body)))
        added = BackgroundHash()
        for block in summer.add(cast(Sequence[BinaryIO], readers), self._length):
            if total is not None:
                total.write(block)
            if expected is not None:
                added.update(block)
                if expected.read(len(block)) != block:
                    raise DigestMismatchError("the sum is not the sum of its members")
        if expected is not None and expected.read(1):
            raise DigestMismatchError("the sum is longer than the sum of its members")
        for reader in readers:
            reader.require_whole()
        return added.hexdigest()
