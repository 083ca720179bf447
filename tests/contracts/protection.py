"""What every protection promises, whichever it is; a protection's own tests inherit `ProtectionContract`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.encryption import protection
from components.errors import BadDataError, CiphertextError

HEADER_BYTES = 80
LENGTHS = (1, 4095, 4096, 4097, 10_000)


def vectors(count: int, length: int, seed: int = 0) -> list[NDArray[np.float64]]:
    """Vectors like those of a round: an update of scale 0.05 times 300 examples."""
    generator = np.random.default_rng([seed, count, length])
    return [generator.normal(0, 15, length) for _ in range(count)]


class ProtectionContract:
    """Inherit it, set `name`, `absolute_error` and `largest_value`."""

    name: ClassVar[str]
    absolute_error: ClassVar[float]
    largest_value: ClassVar[float]
    contexts: ClassVar[tuple[bytes, bytes]]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _keys(cls) -> None:
        cls.contexts = protection.generate_contexts(cls.name)

    def sealer(self) -> protection.Sealer:
        return protection.sealer(self.name, self.contexts[0])

    def summer(self) -> protection.Summer:
        return protection.summer(self.name, self.contexts[0])

    def opener(self) -> protection.Opener:
        return protection.opener(self.name, self.contexts[1])

    def opened_sum(self, values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        sealer, length = self.sealer(), values[0].size
        return self.opener().open(self.summer().add([sealer.seal(v) for v in values], length), length)

    def assert_refused(self, blob: bytes, length: int) -> None:
        """Neither role lets it pass, on its own or among good ones."""
        good = self.sealer().seal(np.ones(length))
        with pytest.raises(CiphertextError):
            self.summer().check(blob, length)
        with pytest.raises(CiphertextError):
            self.summer().add([good, blob], length)
        with pytest.raises(CiphertextError):
            self.opener().open(blob, length)

    def assert_sum(self, values: Sequence[NDArray[np.float64]]) -> None:
        expected = reduce(np.add, values)
        # Rounding of float64 in K additions and in an encoding's transforms, relative to the largest value.
        rounding = 1e-14 * sum(float(np.abs(v).max()) for v in values)
        opened = self.opened_sum(values)
        assert opened.shape == expected.shape
        assert opened.dtype == np.float64
        assert np.abs(opened - expected).max() <= self.absolute_error + rounding

    def test_states_its_error(self) -> None:
        assert self.opener().absolute_error == self.absolute_error

    @pytest.mark.parametrize("length", LENGTHS)
    @pytest.mark.parametrize("sites", [1, 2, 3, 4, 5])
    def test_opens_the_sum(self, sites: int, length: int) -> None:
        self.assert_sum(vectors(sites, length))

    def test_opens_the_sum_of_any_values_in_range(self) -> None:
        value = st.floats(-self.largest_value, self.largest_value)

        def sites(length: int) -> st.SearchStrategy[list[list[float]]]:
            return st.lists(st.lists(value, min_size=length, max_size=length), min_size=1, max_size=3)

        @settings(max_examples=15, deadline=None)
        @given(values=st.integers(1, 20).flatmap(sites))
        def opens(values: list[list[float]]) -> None:
            self.assert_sum([np.array(site) for site in values])

        opens()

    def test_opens_a_number_of_examples_exactly(self) -> None:
        opened = self.opened_sum(
            [np.array([0.1, 3_150.0]), np.array([-7.3, 1.0]), np.array([0.0, 999_983.0])]
        )
        assert opened[1] == 1_003_134.0

    def test_adds_the_same_blobs_to_the_same_bytes_for_aggregator_and_key_holder(self) -> None:
        sealer = self.sealer()
        blobs = [sealer.seal(v) for v in vectors(4, 5_000)]
        assert self.summer().add(blobs, 5_000) == self.summer().add(blobs, 5_000)

    def test_a_sum_is_itself_a_blob(self) -> None:
        blob = self.sealer().seal(np.ones(3))
        total = self.summer().add([blob, blob], 3)
        self.summer().check(total, 3)
        assert len(total) == len(blob)

    def test_leaves_its_arguments_alone(self) -> None:
        values = vectors(1, 100)[0]
        before = values.copy()
        values.setflags(write=False)
        blobs = [self.sealer().seal(values)]
        kept = list(blobs)
        self.summer().add(blobs, 100)
        np.testing.assert_array_equal(values, before)
        assert blobs == kept

    def test_size_depends_on_the_length_alone(self) -> None:
        sealer = self.sealer()
        sizes = {len(sealer.seal(v)) for v in (np.zeros(300), np.full(300, 1e6), *vectors(3, 300))}
        assert len(sizes) == 1

    @pytest.mark.parametrize("wrong", [1, 99, 101, 5_000])
    def test_refuses_another_length(self, wrong: int) -> None:
        self.assert_refused(self.sealer().seal(vectors(1, 100)[0]), wrong)

    def test_refuses_it_truncated_anywhere(self) -> None:
        blob, summer, opener = self.sealer().seal(vectors(1, 100)[0]), self.summer(), self.opener()
        self.assert_refused(blob[:-1], 100)
        cuts = [*range(HEADER_BYTES + 64), *range(HEADER_BYTES, len(blob), 61), len(blob) - 8, len(blob) - 1]
        for cut in cuts:
            with pytest.raises(CiphertextError):
                summer.check(blob[:cut], 100)
            with pytest.raises(CiphertextError):
                opener.open(blob[:cut], 100)

    def test_refuses_it_prolonged(self) -> None:
        blob = self.sealer().seal(vectors(1, 100)[0])
        for more in (b"\0", bytes(8), blob):
            self.assert_refused(blob + more, 100)

    def test_refuses_every_flipped_bit_of_the_header(self) -> None:
        blob, summer, opener = self.sealer().seal(vectors(1, 100)[0]), self.summer(), self.opener()
        for bit in range(8 * HEADER_BYTES):
            flipped = bytearray(blob)
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(CiphertextError):
                summer.check(bytes(flipped), 100)
            with pytest.raises(CiphertextError):
                opener.open(bytes(flipped), 100)

    @pytest.mark.parametrize("content", [b"", b"\0", bytes(HEADER_BYTES), b"x" * 200_000])
    def test_refuses_what_is_no_blob(self, content: bytes) -> None:
        self.assert_refused(content, 100)

    def test_refuses_another_context(self) -> None:
        blob = self.sealer().seal(np.ones(100))
        self.assert_refused(blob[:24] + bytes(32) + blob[56:], 100)

    def test_refuses_another_protection(self) -> None:
        for other in protection.PROTECTIONS:
            if other != self.name:
                public, _ = protection.generate_contexts(other)
                self.assert_refused(protection.sealer(other, public).seal(np.ones(100)), 100)

    def test_refuses_the_name_of_another_protection(self) -> None:
        blob = self.sealer().seal(np.ones(100))
        for other in (*protection.PROTECTIONS, "sealed", ""):
            if other != self.name:
                self.assert_refused(blob[:10] + other.encode().ljust(14, b"\0") + blob[24:], 100)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_seals_no_value_that_is_not_finite(self, value: float) -> None:
        values = np.ones(5_000)
        values[4_321] = value
        with pytest.raises(BadDataError, match="value 4321") as caught:
            self.sealer().seal(values)
        assert caught.value.disclosed == f"the update is outside the range of {self.name}"

    @pytest.mark.parametrize("values", [np.ones(0), np.ones((2, 2)), np.ones(3, np.float32)])
    def test_seals_nothing_but_a_float64_vector(self, values: NDArray[np.float64]) -> None:
        with pytest.raises(ValueError, match="one non-empty float64 vector"):
            self.sealer().seal(values)

    def test_adds_no_less_than_one_blob(self) -> None:
        with pytest.raises(ValueError, match="at least one"):
            self.summer().add([], 3)
