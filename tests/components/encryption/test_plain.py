from __future__ import annotations

import io

import numpy as np
import pytest

from components.encryption import protection
from components.errors import CiphertextError, UsageError
from tests.contracts.protection import HEADER_BYTES, RegisteredContract, add, opened, vectors


class TestPlain(RegisteredContract):
    name = "none"
    header_name = "none"
    absolute_error = 0.0
    largest_value = 1e300
    outside = (np.nan, np.inf, -np.inf)
    values_per_part = 131_072
    long_length = 1_000_000

    def test_the_body_is_the_vector(self) -> None:
        values = vectors(1, 10)[0]
        assert self.seal(values)[HEADER_BYTES:] == values.astype("<f8").tobytes()

    def test_opens_no_sum_that_overflowed(self) -> None:
        roles, blob = self.roles(2), self.seal(np.array([1e308, 1.0]))
        total = add(roles.summer, [blob, blob], 2)
        with pytest.raises(CiphertextError, match="not finite"):
            opened(roles.opener, total, 2)

    def test_adds_in_the_order_given(self) -> None:
        # 1e16 + 1 rounds to 1e16; the ones together are not lost.
        blobs = [self.seal(np.array([value])) for value in (1.0, 1.0, 1e16)]
        roles = self.roles(3)
        assert opened(roles.opener, add(roles.summer, blobs, 1), 1)[0] == 1e16 + 2
        assert opened(roles.opener, add(roles.summer, blobs[::-1], 1), 1)[0] == 1e16

    def test_a_sum_leaves_the_handling_of_floating_point_errors_alone(self) -> None:
        blob = self.seal(np.full(300_000, 1e308))
        with np.errstate(over="raise"):
            for _ in self.roles(2).summer.add([io.BytesIO(blob), io.BytesIO(blob)], 300_000):
                assert np.geterr()["over"] == "raise"


@pytest.mark.parametrize("role", [protection.sealer, protection.summer, protection.opener])
def test_takes_no_context(role: object) -> None:
    assert callable(role)
    with pytest.raises(UsageError, match="takes no encryption context, got 3 bytes"):
        role("none", b"key")
