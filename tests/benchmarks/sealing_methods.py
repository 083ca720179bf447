"""The methods that the seal is compared with, each as its three parties: client, aggregator, opener."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Literal, Protocol, cast

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from components.agreement.commitment import committed_digest
from components.agreement.sealed_manifest import DOMAIN, SealedManifest, VouchedReader
from components.agreement.ticket import Ticket
from components.artifacts.documents import verify
from components.encryption import ckks, sealed
from components.encryption.fixed_point import FixedPoint
from components.encryption.packing import Packing
from components.encryption.pair_keys import AttemptNames, PrivateHalf, site_masks
from components.encryption.protection import generate_contexts
from components.encryption.release_lock import open_releases, release

LARGEST_VALUE = 0.25
MAX_EXAMPLES = 1000
_BLOCK = 1 << 20


class Method(Protocol):
    """One way of averaging updates, weighted by their sites' numbers of examples."""

    def client(self, site: int, update: NDArray[np.float64], sink: BinaryIO, *, again: bool = False) -> None:
        """Everything a site does with its update; `again` repeats it for the clock and is not opened."""

    def aggregator(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> None:
        """Adds, and divides where the method does that here."""

    def opening(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> NDArray[np.float64]:
        """The mean update, by whoever may have it."""


class NvflareCkks:
    """NVFlare's homomorphic encryption as it ships: every client and the decryption use one secret key."""

    def __init__(self, weights: NDArray[np.int64], values: int) -> None:
        """`weights` are numbers of examples by site."""
        import tenseal

        self._tenseal, self._weights, self._values = tenseal, weights, values
        self._context = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS,
            8192,
            coeff_mod_bit_sizes=[60, 40, 40],
            encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
            n_threads=1,
        )
        self._context.global_scale = 2**40

    def client(self, site: int, update: NDArray[np.float64], sink: BinaryIO, *, again: bool = False) -> None:
        """The weighted update as one CKKS vector."""
        sink.write(self._tenseal.ckks_vector(self._context, update * float(self._weights[site])).serialize())

    def aggregator(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> None:
        """Adds the vectors and divides by the sum of the weights."""
        summed: Any = None
        for blob in blobs:
            vector = self._tenseal.ckks_vector_from(self._context, blob.read())
            summed = vector if summed is None else summed + vector
        total.write((summed * (1.0 / float(self._weights.sum()))).serialize())

    def opening(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> NDArray[np.float64]:
        """A client decrypts what the server sends it."""
        return np.array(self._tenseal.ckks_vector_from(self._context, total.read()).decrypt(), np.float64)


class Plain:
    """numpy averaging in clear."""

    def __init__(self, weights: NDArray[np.int64], values: int) -> None:
        """`weights` are numbers of examples by site."""
        self._weights, self._values = weights, values

    def client(self, site: int, update: NDArray[np.float64], sink: BinaryIO, *, again: bool = False) -> None:
        """The weighted update in float32."""
        sink.write((update * float(self._weights[site])).astype(np.float32).data)

    def aggregator(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> None:
        """Adds block by block."""
        while blocks := [block for blob in blobs if (block := blob.read(_BLOCK))]:
            summed = np.frombuffer(blocks[0], np.float32).copy()
            for block in blocks[1:]:
                summed += np.frombuffer(block, np.float32)
            total.write(summed.data)

    def opening(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> NDArray[np.float64]:
        """Divides."""
        return np.frombuffer(total.read(), np.float32).astype(np.float64) / float(self._weights.sum())


class Ckks:
    """Protection `he` with signed digests and the key holder's own addition."""

    def __init__(self, weights: NDArray[np.int64], values: int) -> None:
        """`weights` are numbers of examples by site."""
        self._weights, self._length = weights, values + 1
        self._public, self._secret = generate_contexts("he")
        self._signed = _Signed(len(weights), self._length)
        self._sealer = ckks.HeSealer(self._public)
        self._summer = ckks.HeSummer(self._public)

    def client(self, site: int, update: NDArray[np.float64], sink: BinaryIO, *, again: bool = False) -> None:
        """[n·w, n] encrypted, hashed and signed."""
        vector = np.append(update * float(self._weights[site]), float(self._weights[site]))
        self._signed.write(site, self._sealer.seal(vector), sink, keep=not again)

    def aggregator(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> None:
        """Verifies and adds."""
        self._signed.add(self._summer, blobs, total)

    def opening(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> NDArray[np.float64]:
        """Verifies, adds again, compares and decrypts."""
        opener = ckks.HeOpener(self._secret)
        self._signed.add(self._summer, blobs, None, expected=total)
        total.seek(0)
        opened = opener.open(total, self._length)
        return cast(NDArray[np.float64], opened[:-1] / opened[-1])


class Sealed:
    """Protection `sealed`, from the update to the opened mean."""

    def __init__(self, weights: NDArray[np.int64], values: int, values_per_slot: Literal[1, 2] = 2) -> None:
        """`weights` are numbers of examples by site."""
        sites = len(weights)
        self._weights = weights
        self._points = FixedPoint(
            sites=sites,
            clipping_norm=1e9,
            largest_value=LARGEST_VALUE,
            max_examples=MAX_EXAMPLES,
            values_per_slot=values_per_slot,
        )
        self._length = self._points.length(values)
        self._packing = Packing(values_per_slot=values_per_slot, sites=sites)
        self._public, self._secret = sealed.generate_contexts()
        self._summer = sealed.SealedSummer(self._public, values_per_slot)
        self._signed = _Signed(sites, self._length)
        self._names = AttemptNames(charter="1" * 64, ticket="2" * 64, purpose="update", roster="3" * 64)
        self._ticket = _ticket()
        self._halves = [
            PrivateHalf(
                name=f"site-{site:02d}",
                static=X25519PrivateKey.generate(),
                ephemeral=X25519PrivateKey.generate(),
            )
            for site in range(sites)
        ]
        self._roster = [half.public() for half in self._halves]
        self._seeds = [os.urandom(32) for _ in range(sites)]
        self._releases: dict[str, Any] = {}

    def client(self, site: int, update: NDArray[np.float64], sink: BinaryIO, *, again: bool = False) -> None:
        """Fixed point, commitment twice (made, and recomputed before sealing), masks, encryption, release."""
        vector = self._points.encode(update, int(self._weights[site]))
        salt = os.urandom(32)
        for _ in range(2):
            committed_digest(self._ticket, f"site-{site:02d}", salt, vector)
        own = self._halves[site]
        masks = site_masks(self._names, own, self._roster, self._seeds[site])
        sealer = sealed.SealedSealer(self._public, self._packing, masks)
        self._signed.write(site, sealer.seal(vector), sink, keep=not again)
        members = [half.name for half in self._halves]
        self._releases[own.name] = release(
            self._names, "4" * 64, members, own, self._roster, self._seeds[site]
        )

    def aggregator(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> None:
        """Verifies and adds."""
        self._signed.add(self._summer, blobs, total)

    def opening(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> NDArray[np.float64]:
        """Unlocks, verifies, adds again, compares, decrypts, takes the masks off."""
        names = [half.name for half in self._halves]
        masks = open_releases(self._names, "4" * 64, names, names, self._releases)
        opener = sealed.SealedOpener(self._secret, self._packing, masks)
        self._signed.add(self._summer, blobs, None, expected=total)
        total.seek(0)
        opened = opener.open(total, self._length)
        decoded = self._points.decode(opened)
        return cast(NDArray[np.float64], decoded[:-1] / decoded[-1])


class _Signed:
    """What every protection of ours does around the ciphertexts: digests and signatures."""

    def __init__(self, sites: int, length: int) -> None:
        self._keys = [Ed25519PrivateKey.generate() for _ in range(sites)]
        self._length = length
        self._documents: dict[int, bytes] = {}

    def write(self, site: int, chunks: Any, sink: BinaryIO, *, keep: bool) -> None:
        """The sealed bytes to the sink, hashed on their way, and their signed manifest."""
        blob, size = hashlib.sha256(), 0
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
        self, summer: Any, blobs: Sequence[BinaryIO], total: BinaryIO | None, expected: BinaryIO | None = None
    ) -> None:
        """Verifies every manifest, adds while hashing, compares the digests; and with a sum expected."""
        readers = []
        for site, blob in enumerate(blobs):
            key = self._keys[site].public_key()
            body = verify(self._documents[site], domain=DOMAIN, signer=f"site-{site:02d}", key=key)
            readers.append(VouchedReader(blob, SealedManifest(**body)))
        added = hashlib.sha256()
        for block in summer.add(cast(Sequence[BinaryIO], readers), self._length):
            if total is not None:
                total.write(block)
            if expected is not None:
                added.update(block)
                if expected.read(len(block)) != block:
                    raise AssertionError("the sum is not the sum of its members")
        for reader in readers:
            reader.require_whole()


def _ticket() -> Ticket:
    return Ticket(
        charter="1" * 64,
        federation="bench",
        round_number=1,
        attempt=1,
        void="",
        purpose="update",
        model="6" * 64,
        previous="",
        previous_folder="",
        snapshot="2026-01-01T00:00:00+00:00",
        local_epochs=1,
        learning_rate=0.1,
        batch_size=1,
        seed=1,
    )


def _one_value(weights: NDArray[np.int64], values: int) -> Sealed:
    return Sealed(weights, values, values_per_slot=1)


METHODS: dict[str, Callable[[NDArray[np.int64], int], Method]] = {
    "nvflare_ckks": NvflareCkks,
    "he": Ckks,
    "sealed": Sealed,
    "sealed_one_value": _one_value,
    "plain": Plain,
}
