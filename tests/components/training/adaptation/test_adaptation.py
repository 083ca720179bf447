"""The `adapt` step: Δw from a site's training rows, which stays in its own store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.model_store import model_key
from components.agreement.receipt import receipt_key
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import Store, key_of, reference
from components.errors import DigestMismatchError, ObjectMissingError, SignatureError
from components.training import heads
from components.training.adaptation.adaptation import adapt, adapted
from components.training.adaptation.closed_form import fit_adaptation
from tests.components.aggregation.three_sites import CLASSES, FEATURES, ThreeSites
from tests.components.rounds.walks import walk

Arrays = dict[str, NDArray[np.generic]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)


@pytest.fixture
def three(home: None) -> ThreeSites:
    """A round whose receipt is there; the models that are adapted are those of the test."""
    return walk("opened", "none", hidden_units=5).three


def rows(*, train_seed: int = 1, test_seed: int = 2) -> Arrays:
    """90 training rows of two well-separated classes and 30 test rows, each with a seed of its own."""
    parts = []
    for count, seed in ((90, train_seed), (30, test_seed)):
        generator = np.random.default_rng(seed)
        labels = generator.integers(2, size=count)
        centres = np.random.default_rng(0).normal(size=(CLASSES, FEATURES)) * 2
        parts.append((centres[labels] + generator.normal(size=(count, FEATURES)), labels))
    return {
        "features": np.concatenate([part[0] for part in parts]).astype(np.float32),
        "labels": np.concatenate([part[1] for part in parts]),
        "is_test": np.repeat([0, 1], [90, 30]).astype(np.uint8),
    }


def put(store: Store, name: str, arrays: Arrays) -> str:
    store.create(f"features/{name}", tensors.encode(arrays))
    return reference(store, f"features/{name}")


def read_delta(store: Store, adaptation: str) -> tensors.Tensors:
    return tensors.decode(store.read(key_of(store, adaptation)))


def test_fits_the_last_layer_of_the_model_to_the_training_rows(three: ThreeSites) -> None:
    place, arrays = three.place("alpha"), rows()
    model = three.opened.ticket.model
    outcome = adapt(place, model=model, features=put(place.store, "a", arrays))

    head, train = three.model(model), arrays["is_test"] == 0
    features, labels = arrays["features"][train].astype(np.float32), arrays["labels"][train].astype(np.int64)
    inputs = np.maximum(features @ head["hidden.weight"].T + head["hidden.bias"], 0)
    expected = fit_adaptation(head["output.weight"], head["output.bias"], inputs, labels, seed=3)
    delta = read_delta(place.store, outcome.reference)
    assert delta.keys() == {"output.weight", "output.bias"}
    assert np.array_equal(delta["output.weight"], expected.weight_delta)
    assert np.array_equal(delta["output.bias"], expected.bias_delta)

    before = (heads.logits(head, features).argmax(axis=1) == labels).mean()
    after = (heads.logits(adapted(head, delta), features).argmax(axis=1) == labels).mean()
    assert after > max(before, 0.9)


def test_fits_both_paths_of_a_head_with_a_skip_connection(three: ThreeSites) -> None:
    place, arrays = three.place("alpha"), rows()
    generator = np.random.default_rng(4)
    like = heads.initial(FEATURES, 5, CLASSES, 0, skip=True)
    head = {name: generator.normal(0, 0.3, array.shape).astype(np.float32) for name, array in like.items()}
    content = tensors.encode(head)
    model = digest(content)
    three.exchange.create(model_key(model), content)
    outcome = adapt(place, model=model, features=put(place.store, "a", arrays))

    train = arrays["is_test"] == 0
    features, labels = arrays["features"][train].astype(np.float32), arrays["labels"][train].astype(np.int64)
    hidden = np.maximum(features @ head["hidden.weight"].T + head["hidden.bias"], 0)
    together = np.hstack([head["output.weight"], head["skip.weight"]])
    expected = fit_adaptation(
        together, head["output.bias"], np.hstack([hidden, features]), labels, seed=place.ticket.seed
    )
    delta = read_delta(place.store, outcome.reference)
    assert delta.keys() == {"output.weight", "output.bias", "skip.weight"}
    assert np.array_equal(delta["output.weight"], expected.weight_delta[:, :5])
    assert np.array_equal(delta["skip.weight"], expected.weight_delta[:, 5:])
    assert delta["skip.weight"].any()

    before = (heads.logits(head, features).argmax(axis=1) == labels).mean()
    fitted = adapted(head, delta)
    after = (heads.logits(fitted, features).argmax(axis=1) == labels).mean()
    assert after > max(before, 0.9)
    residual = heads.logits(fitted, features) - heads.logits(head, features)
    inputs = np.hstack([hidden, features]).astype(np.float64)
    np.testing.assert_allclose(residual, inputs @ expected.weight_delta.T + expected.bias_delta, atol=1e-4)


def test_test_rows_do_not_matter(three: ThreeSites) -> None:
    model, deltas = three.opened.ticket.model, []
    for site, seed in (("alpha", 2), ("beta", 77)):
        place = three.place(site)
        outcome = adapt(place, model=model, features=put(place.store, "a", rows(test_seed=seed)))
        deltas.append(place.store.read(key_of(place.store, outcome.reference)))
    assert deltas[0] == deltas[1]


def test_is_fitted_once_a_model(three: ThreeSites) -> None:
    place, model = three.place("alpha"), three.opened.ticket.model
    first = adapt(place, model=model, features=put(place.store, "a", rows()))
    content = place.store.read(key_of(place.store, first.reference))
    second = adapt(place, model=model, features=put(place.store, "b", rows(train_seed=9)))
    assert second == first
    assert place.store.read(key_of(place.store, second.reference)) == content


def test_nothing_of_it_leaves_the_site(three: ThreeSites) -> None:
    place = three.place("alpha")
    before = three.exchange.keys()
    outcome = adapt(place, model=three.opened.ticket.model, features=put(place.store, "a", rows()))
    assert three.exchange.keys() == before
    assert outcome.reference.startswith("small/sites/alpha/")
    assert outcome.bytes_sent == 0
    assert outcome.metrics == {}
    assert set(outcome.manifest) == {"uri"}


def test_a_model_that_was_exchanged_is_refused(three: ThreeSites) -> None:
    place, model = three.place("alpha"), three.opened.ticket.model
    other = tensors.encode(heads.initial(FEATURES, 5, CLASSES, seed=8))
    (three.exchange_folder / model_key(model)).write_bytes(other)
    with pytest.raises(DigestMismatchError):
        adapt(place, model=model, features=put(place.store, "a", rows()))
    assert place.store.keys("adaptations") == []


class TestSecrets:
    """Whoever obtains a site's keys later must find nothing to open what was sealed before with."""

    def kept(self, three: ThreeSites) -> list[str]:
        return three.place("alpha").store.keys("secrets")

    @pytest.mark.parametrize("protection", ["none", "he", "sealed"])
    def test_are_erased_once_the_receipt_is_there(self, protection: str) -> None:
        three = walk("committed", protection).three
        place, model = three.place("alpha"), three.opened.ticket.model
        assert self.kept(three) == [f"secrets/{three.opened.ticket.digest}.bin"]
        adapt(place, model=model, features=put(place.store, "a", rows()))
        assert self.kept(three) == []
        assert len(three.place("beta").store.keys("secrets")) == 1
        adapt(place, model=model, features=put(place.store, "b", rows()))

    def test_are_kept_as_long_as_there_is_none(self) -> None:
        three = walk("released", "sealed").three
        place = three.place("alpha")
        with pytest.raises(ObjectMissingError):
            adapt(place, model=three.opened.ticket.model, features=put(place.store, "a", rows()))
        assert len(self.kept(three)) == 1

    @pytest.mark.parametrize("fault", ["altered", "of somebody else", "of the round before"])
    def test_are_kept_where_it_does_not_verify(self, fault: str) -> None:
        """Or whoever writes to the exchange could end every attempt before its release."""
        first = walk("opened", "sealed")
        path = first.three.exchange_folder / receipt_key(first.three.opened.ticket.folder)
        document, three = path.read_bytes(), first.three
        if fault == "altered":
            path.write_bytes(document.replace(b'"purpose":"update"', b'"purpose":"updatf"'))
        elif fault == "of somebody else":
            path.write_bytes(document.replace(b'"signer":"key-holder"', b'"signer":"alpha"'))
        else:
            three.commit(first.receipt)
            three = three.next_round()
            three.seal(three.roster(three.train()))
            three.exchange.create(receipt_key(three.opened.ticket.folder), document)
        place = three.place("alpha")
        with pytest.raises(SignatureError):
            adapt(place, model=three.opened.ticket.model, features=put(place.store, "a", rows()))
        assert f"secrets/{three.opened.ticket.digest}.bin" in self.kept(three)

    def test_are_erased_by_the_next_ticket_that_is_accepted_at_the_latest(self) -> None:
        three = walk("committed", "sealed").three
        later = three.next_round()
        later.place("alpha")
        assert len(self.kept(three)) == 1
        later.accepted("alpha")
        assert self.kept(three) == []


def test_adapting_adds_to_the_last_layer_and_changes_no_argument() -> None:
    head = heads.initial(FEATURES, 5, CLASSES, seed=1)
    delta = {
        "output.weight": np.full((CLASSES, 5), 0.25, np.float32),
        "output.bias": np.array([1, -1, 2, -2], np.float32),
    }
    for array in (*head.values(), *delta.values()):
        array.setflags(write=False)
    result = adapted(head, delta)
    assert result.keys() == head.keys()
    assert np.array_equal(result["hidden.weight"], head["hidden.weight"])
    assert np.array_equal(result["hidden.bias"], head["hidden.bias"])
    assert np.array_equal(result["output.weight"], head["output.weight"] + np.float32(0.25))
    assert np.array_equal(result["output.bias"], head["output.bias"] + delta["output.bias"])
    assert all(values.dtype == np.float32 for values in result.values())
