from __future__ import annotations

import numpy as np
import pytest

from components.encryption import protection
from components.errors import CiphertextError, UsageError
from tests.contracts.protection import HEADER_BYTES, ProtectionContract, vectors


class TestPlain(ProtectionContract):
    name = "none"
    absolute_error = 0.0
    largest_value = 1e300

    def test_the_body_is_the_vector(self) -> None:
        values = vectors(1, 10)[0]
        assert self.sealer().seal(values)[HEADER_BYTES:] == values.astype("<f8").tobytes()

    def test_opens_no_sum_that_overflowed(self) -> None:
        blob = self.sealer().seal(np.array([1e308, 1.0]))
        total = self.summer().add([blob, blob], 2)
        with pytest.raises(CiphertextError, match="not finite"):
            self.opener().open(total, 2)


@pytest.mark.parametrize("role", [protection.sealer, protection.summer, protection.opener])
def test_takes_no_context(role: object) -> None:
    assert callable(role)
    with pytest.raises(UsageError, match="takes no encryption context, got 3 bytes"):
        role("none", b"key")
