"""The contract under `sealed`: sites whose pairwise masks cancel, and an opener with their self-masks."""

from __future__ import annotations

import secrets
from itertools import combinations
from typing import ClassVar, Literal

import numpy as np

from components.encryption import protection
from components.encryption.bfv.packing import Packing
from components.encryption.bfv.sealed import SealedOpener, SealedSealer
from components.encryption.masking.masks import KEY_BYTES, Masks
from tests.contracts.protection import ProtectionContract, Roles


class SealedContract(ProtectionContract):
    name = "sealed"
    absolute_error = 0.0
    opened_dtype = np.int64
    values_per_slot: ClassVar[Literal[1, 2]]

    @property
    def packing(self) -> Packing:
        return Packing(values_per_slot=self.values_per_slot, sites=5)

    def roles(self, sites: int) -> Roles:
        public, secret = self.contexts
        own = [secrets.token_bytes(KEY_BYTES) for _ in range(sites)]
        added = [[key] for key in own]
        subtracted: list[list[bytes]] = [[] for _ in range(sites)]
        for lower, higher in combinations(range(sites), 2):
            pair = secrets.token_bytes(KEY_BYTES)
            added[lower].append(pair)
            subtracted[higher].append(pair)
        return Roles(
            sealers=[
                SealedSealer(public, self.packing, Masks(added=tuple(plus), subtracted=tuple(minus)))
                for plus, minus in zip(added, subtracted, strict=True)
            ],
            summer=protection.summer("sealed", public, values_per_slot=self.values_per_slot),
            opener=SealedOpener(secret, self.packing, Masks(added=tuple(own), subtracted=())),
        )

    def opener_of_zeros(self) -> protection.Opener:
        return SealedOpener(self.contexts[1], self.packing, Masks(added=(), subtracted=()))


class TestTwoValuesASlot(SealedContract):
    values_per_slot = 2
    header_name = "sealed/2"
    dtype = np.int32
    largest_value = (2**22 - 1) // 5
    outside = (largest_value + 1, -largest_value - 1, 2**31 - 1, -(2**31))
    values_per_part = 16_368
    long_length = 850_000
    no_vectors = (
        "one non-empty vector of int32 or int64",
        (np.ones(0, np.int32), np.ones((2, 2), np.int32), np.ones(3), np.ones(3, np.int16)),
    )


class TestOneValueASlot(SealedContract):
    values_per_slot = 1
    header_name = "sealed/1"
    dtype = np.int64
    largest_value = (70368743669761 - 1) // 2 // 5
    outside = (largest_value + 1, -largest_value - 1, 2**63 - 1, -(2**63))
    values_per_part = 8_184
    long_length = 420_000
    no_vectors = TestTwoValuesASlot.no_vectors
