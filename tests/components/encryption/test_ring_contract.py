"""The contract under `masked` and `smc`: masks that cancel in Z_{2^32}, and an opener of what remains."""

from __future__ import annotations

import secrets
from itertools import combinations

import numpy as np

from components.encryption import protection
from components.encryption.masking.masks import KEY_BYTES, Masks
from components.encryption.ring import BLOCK_WORDS, RingOpener, RingSealer
from tests.contracts.protection import ProtectionContract, Roles


class RingContract(ProtectionContract):
    absolute_error = 0.0
    dtype = np.int32
    opened_dtype = np.int32
    largest_value = (2**31 - 1) // 5
    outside = (largest_value + 1, -largest_value - 1, 2**31 - 1, -(2**31))
    values_per_part = BLOCK_WORDS
    long_length = 2_000_000
    no_vectors = (
        "one non-empty vector of int32",
        (np.ones(0, np.int32), np.ones((2, 2), np.int32), np.ones(3), np.ones(3, np.int64)),
    )

    def roles(self, sites: int) -> Roles:
        public, _ = self.contexts
        own = [secrets.token_bytes(KEY_BYTES) for _ in range(sites)]
        added = [[key] for key in own]
        subtracted: list[list[bytes]] = [[] for _ in range(sites)]
        for lower, higher in combinations(range(sites), 2):
            pair = secrets.token_bytes(KEY_BYTES)
            added[lower].append(pair)
            subtracted[higher].append(pair)
        return Roles(
            sealers=[
                RingSealer(self.name, public, Masks(added=tuple(plus), subtracted=tuple(minus)), sites=5)
                for plus, minus in zip(added, subtracted, strict=True)
            ],
            summer=protection.summer(self.name, public),
            opener=RingOpener(self.name, public, Masks(added=tuple(own), subtracted=())),
        )

    def opener_of_zeros(self) -> protection.Opener:
        return RingOpener(self.name, self.contexts[0], Masks(added=(), subtracted=()))


class TestMasked(RingContract):
    name = "masked"
    header_name = "masked"


class TestSmc(RingContract):
    name = "smc"
    header_name = "smc"
