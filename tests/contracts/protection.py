"""What every protection promises, whichever it is; a protection's own tests inherit `ProtectionContract`."""

from __future__ import annotations

import io
import tracemalloc
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.agreement.protections import TRAITS
from components.artifacts.file_store import FileStore
from components.encryption import protection
from components.encryption.masking.masks import KEY_BYTES, Masks
from components.errors import BadDataError, CiphertextError

HEADER_BYTES = 80
LARGEST_PART = 2**20
# A part that is made and one of each of three sources that is read, and as much again for what is computed.
BESIDE = 5 * LARGEST_PART


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The parties of one attempt: a sealer a site, and the opener of the sum of all of them."""

    sealers: Sequence[protection.Sealer]
    summer: protection.Summer
    opener: protection.Opener


class _ShortReads(io.RawIOBase):
    """A source that returns fewer bytes than it is asked for, as a network does."""

    def __init__(self, content: bytes) -> None:
        self._source = io.BytesIO(content)
        self._asked = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._asked += 1
        content = self._source.read(min(len(buffer), 1 + self._asked * 7_919 % 60_000))
        buffer[: len(content)] = content
        return len(content)


class _Zeros:
    """A header, then so many zero bytes, made as they are read."""

    def __init__(self, header: bytes, zeros: int) -> None:
        self._header = header
        self._left = zeros

    def read(self, size: int) -> bytes:
        read, self._header = self._header[:size], self._header[size:]
        zeros = min(size - len(read), self._left)
        self._left -= zeros
        return read + bytes(zeros) if read else bytes(zeros)


def short_reads(content: bytes) -> BinaryIO:
    return cast(BinaryIO, _ShortReads(content))


def whole(parts: Iterable[bytes]) -> bytes:
    return b"".join(parts)


def add(summer: protection.Summer, blobs: Sequence[bytes], length: int) -> bytes:
    return whole(summer.add([io.BytesIO(blob) for blob in blobs], length))


def check(summer: protection.Summer, blob: bytes, length: int) -> None:
    summer.check(io.BytesIO(blob), length)


def opened(opener: protection.Opener, blob: bytes, length: int) -> NDArray[Any]:
    return opener.open(io.BytesIO(blob), length)


def vectors(count: int, length: int, seed: int = 0) -> list[NDArray[np.float64]]:
    """Vectors like those of a round: an update of scale 0.05 times 300 examples."""
    generator = np.random.default_rng([seed, count, length])
    return [generator.normal(0, 15, length) for _ in range(count)]


def sealed_by_another(name: str, length: int) -> bytes:
    """A vector of ones as somebody seals it under the protection `name` and a key of his own."""
    public, _ = protection.generate_contexts(name)
    if TRAITS[name].masked:
        masks = Masks(added=(bytes(KEY_BYTES),), subtracted=())
        sealer = protection.masking_sealer(name, public, masks, sites=5, values_per_slot=2)
        return whole(sealer.seal(np.ones(length, np.int32)))
    return whole(protection.sealer(name, public).seal(np.ones(length)))


def exhaust(parts: Iterable[bytes]) -> None:
    for _ in parts:
        pass


def peak(work: Callable[[], object]) -> int:
    """Most bytes that are allocated while something is done, beside what is there before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class ProtectionContract(ABC):
    """Inherit it, set the class variables and write `roles`.

    Attributes:
        name: Of the protection.
        header_name: What its header calls it.
        absolute_error: Largest distance of an opened value from the exact sum.
        largest_value: Largest magnitude that a site may seal in a sum of up to five.
        dtype: Of what is sealed.
        opened_dtype: Of what is opened.
        values_per_part: After how many values another part begins.
        outside: Values that cannot be sealed.
        no_vectors: Arrays that cannot be sealed, and what is said about them.
        long_length: Values of a vector that takes more than 6 MB when it is sealed.
    """

    name: ClassVar[str]
    header_name: ClassVar[str]
    absolute_error: ClassVar[float]
    largest_value: ClassVar[float]
    dtype: ClassVar[type[np.generic]] = np.float64
    opened_dtype: ClassVar[type[np.generic]] = np.float64
    values_per_part: ClassVar[int]
    outside: ClassVar[Sequence[float]]
    no_vectors: ClassVar[tuple[str, Sequence[NDArray[Any]]]] = (
        "one non-empty float64 vector",
        (np.ones(0), np.ones((2, 2)), np.ones(3, np.float32), np.ones(3, np.int64)),
    )
    long_length: ClassVar[int]
    contexts: ClassVar[tuple[bytes, bytes]]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _keys(cls) -> None:
        cls.contexts = protection.generate_contexts(cls.name)

    @abstractmethod
    def roles(self, sites: int) -> Roles:
        """The parties of a new attempt of so many sites, at most five."""

    def vector(self, values: Sequence[float] | NDArray[np.float64]) -> NDArray[Any]:
        """Values as this protection seals them, the nearest there are."""
        array = np.asarray(values, np.float64)
        return (np.rint(array) if np.issubdtype(self.dtype, np.integer) else array).astype(self.dtype)

    def vectors(self, count: int, length: int) -> list[NDArray[Any]]:
        return [self.vector(values) for values in vectors(count, length)]

    def seal(self, values: NDArray[Any]) -> bytes:
        return whole(self.roles(1).sealers[0].seal(values))

    def sealed_ones(self, length: int) -> bytes:
        return self.seal(self.vector(np.ones(length)))

    def opened_sum(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        roles, length = self.roles(len(values)), values[0].size
        blobs = [whole(sealer.seal(v)) for sealer, v in zip(roles.sealers, values, strict=True)]
        return opened(roles.opener, add(roles.summer, blobs, length), length)

    def assert_refused(self, blob: bytes, length: int) -> None:
        """Neither role lets it pass, on its own or among good ones."""
        good, roles = self.sealed_ones(length), self.roles(1)
        with pytest.raises(CiphertextError):
            check(roles.summer, blob, length)
        for blobs in ([good, blob], [blob, good], [blob]):
            with pytest.raises(CiphertextError):
                add(roles.summer, blobs, length)
        with pytest.raises(CiphertextError):
            opened(roles.opener, blob, length)

    def assert_sum(self, values: Sequence[NDArray[Any]]) -> None:
        expected = reduce(np.add, [v.astype(self.opened_dtype) for v in values])
        # Rounding of float64 in K additions and in an encoding's transforms, relative to the largest value.
        rounding = 1e-14 * sum(float(np.abs(v).max()) for v in values) if self.dtype is np.float64 else 0.0
        total = self.opened_sum(values)
        assert total.shape == expected.shape
        assert total.dtype == self.opened_dtype
        assert np.abs(total - expected).max() <= self.absolute_error + rounding

    @pytest.mark.parametrize("sites", [1, 2, 3, 4, 5])
    def test_opens_the_sum(self, sites: int) -> None:
        part = self.values_per_part
        for length in (1, part - 1, part, part + 1, 2 * part + part // 2):
            self.assert_sum(self.vectors(sites, length))

    def test_opens_the_sum_of_any_values_in_range(self) -> None:
        largest = self.largest_value
        value = (
            st.floats(-largest, largest)
            if self.dtype is np.float64
            else st.integers(-int(largest), int(largest))
        )

        def sites(length: int) -> st.SearchStrategy[list[list[float]]]:
            return st.lists(st.lists(value, min_size=length, max_size=length), min_size=1, max_size=3)

        @settings(max_examples=15)
        @given(values=st.integers(1, 20).flatmap(sites))
        def opens(values: list[list[float]]) -> None:
            self.assert_sum([self.vector(site) for site in values])

        opens()

    def test_opens_the_sum_of_the_largest_values(self) -> None:
        for sign in (1, -1):
            self.assert_sum([self.vector(np.full(9, sign * self.largest_value))] * 5)

    def test_opens_a_number_of_examples_exactly(self) -> None:
        many = min(999_983, int(self.largest_value))
        total = self.opened_sum(
            [self.vector([0.1, 3_150.0]), self.vector([-7.3, 1.0]), self.vector([0.0, many])]
        )
        assert total[1] == 3_151 + many

    def test_adds_the_same_blobs_to_the_same_bytes_for_aggregator_and_key_holder(self) -> None:
        roles = self.roles(4)
        blobs = [
            whole(sealer.seal(v)) for sealer, v in zip(roles.sealers, self.vectors(4, 5_000), strict=True)
        ]
        assert add(roles.summer, blobs, 5_000) == add(self.roles(4).summer, blobs, 5_000)

    def test_a_sum_is_itself_a_blob(self) -> None:
        blob, summer = self.sealed_ones(3), self.roles(1).summer
        total = add(summer, [blob, blob], 3)
        check(summer, total, 3)
        assert len(total) == len(blob)

    def test_leaves_its_arguments_alone(self) -> None:
        values = self.vectors(1, 100)[0]
        before = values.copy()
        values.setflags(write=False)
        sources: list[BinaryIO] = [io.BytesIO(self.seal(values))]
        kept = list(sources)
        whole(self.roles(1).summer.add(sources, 100))
        np.testing.assert_array_equal(values, before)
        assert sources == kept

    def test_size_depends_on_the_length_alone(self) -> None:
        some = (
            self.vector(np.zeros(300)),
            self.vector(np.full(300, min(1e6, self.largest_value))),
            *self.vectors(3, 300),
        )
        assert len({len(self.seal(values)) for values in some}) == 1

    def test_comes_in_parts_after_a_header(self) -> None:
        roles, values = self.roles(1), self.vectors(1, 2 * self.values_per_part + 1)[0]
        header, *parts = roles.sealers[0].seal(values)
        assert len(header) == HEADER_BYTES
        assert len(parts) == 3
        total_header, *total_parts = roles.summer.add([io.BytesIO(header + whole(parts))], values.size)
        assert total_header == header
        assert [len(part) for part in total_parts] == [len(part) for part in parts]
        assert max(map(len, parts)) <= LARGEST_PART

    def test_reads_sources_that_return_less_than_they_are_asked_for(self) -> None:
        roles, values = self.roles(2), self.vectors(2, self.values_per_part + 5)
        length = values[0].size
        blobs = [whole(sealer.seal(v)) for sealer, v in zip(roles.sealers, values, strict=True)]
        roles.summer.check(short_reads(blobs[0]), length)
        total = whole(roles.summer.add([short_reads(blob) for blob in blobs], length))
        assert total == add(roles.summer, blobs, length)
        np.testing.assert_array_equal(
            roles.opener.open(short_reads(total), length), opened(roles.opener, total, length)
        )

    def test_memory_does_not_grow_with_the_length(self) -> None:
        roles, values = self.roles(3), self.vectors(1, self.long_length)[0]
        header, *parts = roles.sealers[0].seal(values)
        body = sum(map(len, parts))
        assert body > 6 * LARGEST_PART
        del parts

        def source() -> BinaryIO:
            return cast(BinaryIO, _Zeros(header, body))

        length, three = values.size, [source() for _ in range(3)]
        assert peak(lambda: exhaust(roles.sealers[1].seal(values))) < BESIDE
        assert peak(lambda: exhaust(roles.summer.add(three, length))) < BESIDE
        assert peak(lambda: roles.summer.check(source(), length)) < BESIDE
        # What is opened is returned whole: eight bytes a value.
        opener = self.opener_of_zeros()
        assert peak(lambda: opener.open(source(), length)) < 8 * length + BESIDE

    def opener_of_zeros(self) -> protection.Opener:
        """An opener to which zero words are a sum."""
        return self.roles(1).opener

    @pytest.mark.parametrize("wrong", [1, 99, 101, 5_000])
    def test_refuses_another_length(self, wrong: int) -> None:
        self.assert_refused(self.seal(self.vectors(1, 100)[0]), wrong)

    def test_refuses_it_truncated_anywhere(self) -> None:
        blob, roles = self.seal(self.vectors(1, 100)[0]), self.roles(1)
        self.assert_refused(blob[:-1], 100)
        cuts = [*range(HEADER_BYTES + 64), *range(HEADER_BYTES, len(blob), 61), len(blob) - 8, len(blob) - 1]
        for cut in cuts:
            with pytest.raises(CiphertextError):
                check(roles.summer, blob[:cut], 100)
            with pytest.raises(CiphertextError):
                opened(roles.opener, blob[:cut], 100)

    def test_refuses_it_prolonged(self) -> None:
        blob = self.seal(self.vectors(1, 100)[0])
        for more in (b"\0", bytes(8), blob):
            self.assert_refused(blob + more, 100)

    def test_refuses_every_flipped_bit_of_the_header(self) -> None:
        blob, roles = self.seal(self.vectors(1, 100)[0]), self.roles(1)
        for bit in range(8 * HEADER_BYTES):
            flipped = bytearray(blob)
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(CiphertextError):
                check(roles.summer, bytes(flipped), 100)
            with pytest.raises(CiphertextError):
                opened(roles.opener, bytes(flipped), 100)

    def test_a_header_of_something_else_is_refused_before_anything_is_yielded(self) -> None:
        good, summer = self.sealed_ones(100), self.roles(1).summer
        for bad in (self.sealed_ones(99), b"", b"x" * 1000):
            with pytest.raises(CiphertextError):
                summer.add([io.BytesIO(good), io.BytesIO(bad)], 100)

    def test_a_sum_over_a_damaged_end_is_stored_nowhere(self, tmp_path: Path) -> None:
        length, summer = 2 * self.values_per_part + 1, self.roles(1).summer
        blob, store = self.sealed_ones(length), FileStore("exchange", tmp_path)
        for damaged in (blob[:-1], blob + b"\0"):
            with pytest.raises(CiphertextError):
                store.create_from("sum", summer.add([io.BytesIO(blob), io.BytesIO(damaged)], length))
            assert list(tmp_path.iterdir()) == []
        store.create_from("sum", summer.add([io.BytesIO(blob), io.BytesIO(blob)], length))
        with store.open("sum") as total:
            summer.check(total, length)

    @pytest.mark.parametrize("content", [b"", b"\0", bytes(HEADER_BYTES), b"x" * 200_000])
    def test_refuses_what_is_no_blob(self, content: bytes) -> None:
        self.assert_refused(content, 100)

    def test_refuses_another_context(self) -> None:
        blob = self.sealed_ones(100)
        self.assert_refused(blob[:24] + bytes(32) + blob[56:], 100)

    def test_refuses_another_protection(self) -> None:
        for other in protection.PROTECTIONS:
            if other != self.name:
                self.assert_refused(sealed_by_another(other, 100), 100)

    def test_refuses_the_name_of_another_protection(self) -> None:
        blob = self.sealed_ones(100)
        assert blob[10:24] == self.header_name.encode().ljust(14, b"\0")
        for other in ("he", "masked", "none", "sealed", "sealed/1", "sealed/2", "smc", ""):
            if other != self.header_name:
                self.assert_refused(blob[:10] + other.encode().ljust(14, b"\0") + blob[24:], 100)

    def test_seals_no_value_outside_its_range(self) -> None:
        length = 2 * self.values_per_part
        for value in self.outside:
            for position in (0, 4_321 % length, length - 1):
                values = self.vector(np.ones(length))
                values[position] = value
                sealer = self.roles(1).sealers[0]
                # At the call: nobody has been given a part.
                with pytest.raises(BadDataError, match=f"value {position} of the ") as caught:
                    sealer.seal(values)
                assert caught.value.disclosed == f"the update is outside the range of {self.name}"

    def test_seals_nothing_but_a_vector_of_its_type(self) -> None:
        message, arrays = self.no_vectors
        for values in arrays:
            sealer = self.roles(1).sealers[0]
            with pytest.raises(ValueError, match=message):
                sealer.seal(values)

    def test_adds_no_less_than_one_blob(self) -> None:
        summer = self.roles(1).summer
        with pytest.raises(ValueError, match="at least one"):
            summer.add([], 3)


class RegisteredContract(ProtectionContract):
    """A protection whose three roles come from its name and a context alone."""

    def roles(self, sites: int) -> Roles:
        public, secret = self.contexts
        return Roles(
            sealers=[protection.sealer(self.name, public)] * sites,
            summer=protection.summer(self.name, public),
            opener=protection.opener(self.name, secret),
        )

    def test_states_its_error(self) -> None:
        opener = self.roles(1).opener
        assert getattr(opener, "absolute_error", None) == self.absolute_error
