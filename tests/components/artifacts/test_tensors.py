"""Named tensors: the same bytes for the same tensors, and nothing but float32 comes back."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from components.artifacts import tensors
from components.errors import IntegrityError

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12).filter(
    lambda name: name != "__metadata__"
)
shapes = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
named = st.dictionaries(
    names, arrays.arrays(np.float32, shapes, elements=st.floats(width=32)), min_size=1, max_size=4
)
HEAD: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {
    "output.weight": np.array([[1, 2, 3], [4, 5, 6]], np.float32),
    "output.bias": np.array([7, 8], np.float32),
    "hidden.weight": np.array([[9]], np.float32),
}


def safetensors_file(header: Mapping[str, Any], content: bytes) -> bytes:
    """The format written by hand: length of the header, header, content."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


@given(given_tensors=named)
def test_round_trip_keeps_every_bit(given_tensors: dict[str, Any]) -> None:
    found = tensors.decode(tensors.encode(given_tensors))
    assert {name: (v.shape, v.dtype, v.tobytes()) for name, v in found.items()} == {
        name: (v.shape, np.dtype(np.float32), v.tobytes()) for name, v in given_tensors.items()
    }


@given(given_tensors=named, order=st.randoms(use_true_random=False))
def test_bytes_depend_on_nothing_but_the_tensors(given_tensors: dict[str, Any], order: Any) -> None:
    shuffled = list(given_tensors.items())
    order.shuffle(shuffled)
    other_memory = {name: np.asfortranarray(values.copy()) for name, values in shuffled}
    assert tensors.encode(other_memory) == tensors.encode(given_tensors)


def test_strides_and_byte_order_are_of_the_values_not_of_the_memory() -> None:
    wide = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = tensors.encode({"a": np.array([[0, 3], [12, 15]], np.float32)})
    assert tensors.encode({"a": wide[::2, ::3]}) == expected
    assert tensors.encode({"a": wide[::2, ::3].astype(">f4")}) == expected


def test_bytes_are_a_safetensors_file() -> None:
    content = tensors.encode(HEAD)
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    for name, values in HEAD.items():
        start, stop = header[name]["data_offsets"]
        assert header[name]["dtype"] == "F32"
        assert header[name]["shape"] == list(values.shape)
        assert content[8 + length :][start:stop] == values.astype("<f4").tobytes()


def test_the_arrays_of_the_caller_are_not_changed() -> None:
    before = {name: values.copy() for name, values in HEAD.items()}
    decoded = tensors.decode(tensors.encode(HEAD))
    decoded["output.bias"][:] = 0
    tensors.flatten(HEAD)[:] = 0
    for name, values in before.items():
        np.testing.assert_array_equal(HEAD[name], values)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.int64, np.uint8, np.bool_])
def test_another_type_is_named_and_refused(dtype: type[np.generic]) -> None:
    content = tensors.encode({"weights": np.ones(3, dtype)})
    with pytest.raises(IntegrityError, match=f"weights must be float32, got {np.dtype(dtype)}"):
        tensors.decode(content)
    np.testing.assert_array_equal(tensors.decode_any(content)["weights"], np.ones(3, dtype))
    assert tensors.decode_any(content)["weights"].dtype == dtype


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "X32"])
def test_a_type_that_numpy_does_not_know_is_refused(dtype: str) -> None:
    header = {"a": {"dtype": dtype, "shape": [2], "data_offsets": [0, 4]}}
    with pytest.raises(IntegrityError, match="safetensors"):
        tensors.decode_any(safetensors_file(header, bytes(4)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        b"not tensors at all",
        struct.pack("<Q", 1 << 62) + b"{}",
        safetensors_file({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(7)),
        safetensors_file({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(9)),
        safetensors_file({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8)),
        safetensors_file({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, bytes(8)),
        safetensors_file({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}, bytes(8)),
        safetensors_file({"a": 1}, b""),
    ],
)
def test_what_is_no_tensor_file_is_refused(content: bytes) -> None:
    with pytest.raises(IntegrityError, match="not in safetensors format"):
        tensors.decode(content)


@given(position=st.integers(0, len(tensors.encode(HEAD)) - 1), byte=st.integers(0, 255))
def test_an_altered_file_gives_tensors_or_an_integrity_error(position: int, byte: int) -> None:
    content = tensors.encode(HEAD)
    try:
        found = tensors.decode(content[:position] + bytes([byte]) + content[position + 1 :])
    except IntegrityError:
        return
    assert all(values.dtype == np.float32 for values in found.values())


def test_flatten_takes_names_in_order_and_rows_first() -> None:
    flat = tensors.flatten(HEAD)
    assert flat.dtype == np.float64
    # hidden.weight, output.bias, output.weight
    assert flat.tolist() == [9, 7, 8, 1, 2, 3, 4, 5, 6]


def test_flatten_does_not_round() -> None:
    third = np.array([1 / 3], np.float32)
    assert tensors.flatten({"a": third})[0] == 11184811 / 2**25


@given(given_tensors=named)
def test_unflatten_is_the_inverse(given_tensors: dict[str, Any]) -> None:
    found = tensors.unflatten(tensors.flatten(given_tensors), given_tensors)
    assert {name: values.shape for name, values in found.items()} == {
        name: values.shape for name, values in given_tensors.items()
    }
    for name, values in given_tensors.items():
        np.testing.assert_array_equal(found[name], values.astype(np.float64))


@pytest.mark.parametrize("shape", [(8,), (10,), (0,), (3, 3), ()])
def test_unflatten_refuses_another_length(shape: tuple[int, ...]) -> None:
    with pytest.raises(IntegrityError, match="must have 9 values"):
        tensors.unflatten(np.zeros(shape), HEAD)


class TestShapes:
    """From the header alone, so that a model of gigabytes is measured at once."""

    CONTENT = tensors.encode(
        {
            "output.bias": np.zeros(3, np.float32),
            "output.weight": np.zeros((3, 5), np.float32),
            "optimizer.steps": np.zeros(1),
        }
    )

    def test_are_read_and_nothing_behind_them(self) -> None:
        source = io.BytesIO(self.CONTENT)
        assert tensors.read_shapes(source) == {
            "optimizer.steps": (1,),
            "output.bias": (3,),
            "output.weight": (3, 5),
        }
        assert len(source.read()) == 8 + 3 * 4 + 15 * 4

    @pytest.mark.parametrize("shape", ["[-1, 2]", "[1.5]", "[true]", '"ab"', "null", "7"])
    def test_that_are_none_are_refused(self, shape: str) -> None:
        header = f'{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}}}'.encode()
        with pytest.raises(IntegrityError, match="not in safetensors format"):
            tensors.read_shapes(io.BytesIO(len(header).to_bytes(8, "little") + header))


@pytest.mark.parametrize("size", [0, 1, 7, (1 << 17) - 1, (1 << 17) + 1])
def test_a_vector_in_parts_is_the_same_file(size: int) -> None:
    values = np.random.default_rng(size).normal(size=size)
    parts = list(tensors.vector_chunks("aggregate", values))
    assert b"".join(parts) == tensors.encode({"aggregate": values})
    assert max(map(len, parts)) <= 1 << 20
