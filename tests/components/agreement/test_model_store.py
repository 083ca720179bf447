from __future__ import annotations

import numpy as np
import pytest

from components.agreement.model_store import model_key, model_shapes, read_committed, read_model
from components.agreement.server_optimizer import with_state
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.errors import DigestMismatchError, IntegrityError, ObjectMissingError
from tests.components.agreement.signed_form import Held

MODEL = tensors.encode({"output.bias": np.array([1, 2], np.float32)})


def test_a_model_is_found_by_its_digest(exchange: Store) -> None:
    with pytest.raises(ObjectMissingError):
        read_model(exchange, digest(MODEL))
    exchange.create(model_key(digest(MODEL)), MODEL)
    assert read_model(exchange, digest(MODEL))["output.bias"].tolist() == [1, 2]
    assert model_key("ab" * 32) == f"models/{'ab' * 32}.safetensors"


def test_another_model_in_its_place_is_refused(exchange: Store) -> None:
    exchange.create(model_key("ab" * 32), MODEL)
    with pytest.raises(DigestMismatchError, match="not the one with digest abababababab"):
        read_model(exchange, "ab" * 32)


def test_what_is_no_model_is_refused(exchange: Store) -> None:
    doubles = tensors.encode({"output.bias": np.array([1, 2], np.float64)})
    for content, text in ((b"no tensors", "safetensors"), (doubles, "must be float32")):
        exchange.create(model_key(digest(content)), content)
        with pytest.raises(IntegrityError, match=text):
            read_model(exchange, digest(content))


class TestShapes:
    @pytest.mark.parametrize(
        "shapes", [[(2,)], [(3, 4), (3,)], [(5, 2), (5,), (3, 5), (3,)], [(1,)], [(0,)], [(1 << 20, 3)]]
    )
    def test_are_those_of_the_tensors(self, exchange: Store, shapes: list[tuple[int, ...]]) -> None:
        model = {f"layer{number}": np.ones(shape, np.float32) for number, shape in enumerate(shapes)}
        content = tensors.encode(model)
        exchange.create(model_key(digest(content)), content)
        assert model_shapes(exchange, digest(content)) == {
            name: values.shape for name, values in model.items()
        }

    def test_of_another_model_is_refused(self, exchange: Store) -> None:
        exchange.create(model_key("ab" * 32), MODEL)
        with pytest.raises(DigestMismatchError, match="not the one with digest abababababab"):
            model_shapes(exchange, "ab" * 32)
        with pytest.raises(ObjectMissingError):
            model_shapes(exchange, "cd" * 32)

    def test_every_altered_byte_is_refused(self) -> None:
        """The shapes stand in the first bytes; the whole is read before it is believed."""
        for position in range(len(MODEL)):
            altered = bytearray(MODEL)
            altered[position] ^= 4
            with pytest.raises(IntegrityError):
                model_shapes(Held({model_key(digest(MODEL)): bytes(altered)}), digest(MODEL))

    @pytest.mark.parametrize("content", [MODEL[:-1], MODEL[:7], b"", MODEL + b"\0", b"\xff" * 64])
    def test_what_is_longer_or_shorter_is_refused(self, content: bytes) -> None:
        with pytest.raises(IntegrityError):
            model_shapes(Held({model_key(digest(MODEL)): content}), digest(MODEL))


class TestState:
    """The optimiser's state lies beside the weights: committed with them, measured and trained without."""

    WEIGHTS = {"output.bias": np.array([1, 2], np.float32), "output.weight": np.ones((2, 3), np.float32)}  # noqa: RUF012

    @pytest.mark.parametrize(("optimizer", "tensors_of_state"), [("sgd", 0), ("momentum", 2), ("adam", 5)])
    def test_is_told_from_the_weights(self, exchange: Store, optimizer: str, tensors_of_state: int) -> None:
        committed = with_state(optimizer, self.WEIGHTS)
        content = tensors.encode(committed)
        exchange.create(model_key(digest(content)), content)
        assert model_shapes(exchange, digest(content)) == {"output.bias": (2,), "output.weight": (2, 3)}
        weights = read_model(exchange, digest(content))
        assert sorted(weights) == ["output.bias", "output.weight"]
        assert all(np.array_equal(weights[name], self.WEIGHTS[name]) for name in weights)
        found = read_committed(exchange, digest(content))
        assert len(found) == 2 + tensors_of_state
        assert {name: values.dtype for name, values in found.items() if name not in weights} == {
            name: np.dtype(np.float64) for name in found if name not in weights
        }
        assert tensors.encode(found) == content

    def test_is_part_of_the_digest(self, exchange: Store) -> None:
        first = with_state("momentum", self.WEIGHTS)
        second = {**first, "optimizer.momentum.output.bias": np.array([0, 0.5])}
        contents = [tensors.encode(each) for each in (first, second)]
        exchange.create(model_key(digest(contents[0])), contents[1])
        for read in (read_model, read_committed, model_shapes):
            with pytest.raises(DigestMismatchError):
                read(exchange, digest(contents[0]))

    def test_a_weight_in_the_place_of_a_state_is_refused(self, exchange: Store) -> None:
        mixed = tensors.encode({**self.WEIGHTS, "optimizer.momentum.output.bias": np.zeros(2, np.float32)})
        exchange.create(model_key(digest(mixed)), mixed)
        with pytest.raises(IntegrityError, match="must be float64"):
            read_model(exchange, digest(mixed))
