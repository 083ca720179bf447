"""Batches of one length, of a size that follows from it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.data_processing.feature_augmentation.batching import batches, tokens_per_batch

lengths_of_rows = st.lists(st.integers(0, 600), max_size=120).map(lambda found: np.array(found, np.int64))


class TestBatches:
    @given(lengths_of_rows, st.integers(1, 2000))
    def test_every_row_is_in_one_batch(self, lengths: NDArray[np.int64], budget: int) -> None:
        found = [row for batch, _ in batches(lengths, budget) for row in batch.tolist()]
        assert sorted(found) == list(range(len(lengths)))

    @given(lengths_of_rows, st.integers(1, 2000))
    def test_a_batch_is_of_one_length_and_of_a_size_that_follows_from_it(
        self, lengths: NDArray[np.int64], budget: int
    ) -> None:
        for batch, size in batches(lengths, budget):
            (length,) = set(lengths[batch].tolist())
            assert 1 <= len(batch) <= size
            # A row that is longer than the budget is a batch of its own.
            assert size == max(1, budget // max(1, length))

    @given(lengths_of_rows, st.integers(1, 2000))
    def test_longest_first(self, lengths: NDArray[np.int64], budget: int) -> None:
        order = [length for batch, _ in batches(lengths, budget) for length in lengths[batch].tolist()]
        assert order == sorted(order, reverse=True)

    @given(st.integers(1, 40), st.integers(1, 300))
    def test_rows_of_one_length_fill_their_batches(self, length: int, count: int) -> None:
        size = max(1, 512 // length)
        found = batches(np.full(count, length, np.int64), 512)
        assert [len(batch) for batch, _ in found[:-1]] == [size] * (len(found) - 1)
        assert len(found) == -(-count // size)


def test_every_gpu_holds_as_many_tokens() -> None:
    """A size that followed from the device's number would make features follow from it."""
    assert len({tokens_per_batch(device) for device in ("cuda", "cuda:0", "cuda:7")}) == 1
    assert tokens_per_batch("cpu") < tokens_per_batch("cuda")
