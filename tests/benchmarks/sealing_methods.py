"""The methods that the seal is compared with, each as its three parties: client, aggregator, opener."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from components.encryption.ckks import roles as ckks
from components.encryption.protection import generate_contexts
from tests.benchmarks.masking_methods import Masking
from tests.benchmarks.signed_sites import keys_of, signed_updates

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
            n_threads=os.cpu_count() or 1,
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
        keys = keys_of(len(weights))
        self._sites, self._signed = list(keys), signed_updates(keys, "he", self._length)
        self._sealer = ckks.HeSealer(self._public)
        self._summer = ckks.HeSummer(self._public)

    def client(self, site: int, update: NDArray[np.float64], sink: BinaryIO, *, again: bool = False) -> None:
        """[n·w, n] encrypted, hashed and signed."""
        vector = np.append(update * float(self._weights[site]), float(self._weights[site]))
        self._signed.write(self._sites[site], self._sealer.seal(vector), sink, keep=not again)

    def aggregator(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> None:
        """Verifies and adds."""
        self._signed.add(self._summer, blobs, total)

    def opening(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> NDArray[np.float64]:
        """Verifies, adds again, compares and decrypts."""
        opener = ckks.HeOpener(self._secret)
        self._signed.add(self._summer, blobs, None, expected=total)
        total.seek(0)
        opened = opener.open(total, self._length)
        mean: NDArray[np.float64] = opened[:-1]
        mean /= opened[-1]
        return mean


METHODS: dict[str, Callable[[NDArray[np.int64], int], Method]] = {
    "nvflare_ckks": NvflareCkks,
    "he": Ckks,
    "sealed": Masking,
    "sealed_one_value": partial(Masking, values_per_slot=1),
    "masked": partial(Masking, protection="masked"),
    "smc": partial(Masking, protection="smc"),
    "plain": Plain,
}
