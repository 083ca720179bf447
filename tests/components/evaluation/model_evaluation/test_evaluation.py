"""The `evaluate` step: what is measured, and that it stays where the site keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.agreement.workplace import Workplace
from components.artifacts import tensors
from components.artifacts.stores import key_of, reference
from components.errors import BadDataError, RefusedError, SignatureError
from components.evaluation.model_evaluation.evaluation import evaluate, figures_key, read_figures
from components.execution.outcome import Outcome
from components.training.features import read_features
from tests.components.aggregation.three_sites import CLASSES, FEATURES, ThreeSites, set_policy
from tests.components.rounds.walks import walk

DELTA = {
    "output.weight": np.random.default_rng(6).normal(size=(CLASSES, FEATURES)).astype(np.float32),
    "output.bias": np.array([1, 0, -1, 0.5], np.float32),
}


class Measured:
    """A committed round, and a site that evaluates it."""

    def __init__(self, three: ThreeSites) -> None:
        self.three = three
        self.model: str = three.next_attempt().commit("").manifest["model"]
        for site in three.sites:
            self.allow(site, "per_site")

    def allow(self, site: str, evaluation: str) -> None:
        charter, protections = self.three.charter, (self.three.request.protection,)
        set_policy("small", site, charter=charter.digest, protections=protections, evaluation=evaluation)

    def delta(self, place: Workplace) -> str:
        if not place.store.exists("adaptations/a.safetensors"):
            place.store.create("adaptations/a.safetensors", tensors.encode(DELTA))
        return reference(place.store, "adaptations/a.safetensors")

    def evaluate(self, site: str = "alpha", *, release: str = "per_site", features: str = "") -> Outcome:
        place = self.three.place(site)
        return evaluate(
            place,
            model=self.model,
            features=features or self.three.features(site),
            adaptation=self.delta(place),
            release=release,
        )


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measured:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    return Measured(walk("committed", "sealed").three)


def kept(measured: Measured) -> dict[str, Any]:
    place = measured.three.place("alpha")
    found: dict[str, Any] = json.loads(place.store.read(f"evaluations/{place.ticket.digest}.json"))
    return found


def contents(measured: Measured) -> dict[Path, bytes]:
    """Everything in the exchange."""
    files = measured.three.exchange_folder.rglob("*")
    return {path: path.read_bytes() for path in files if path.is_file()}


def independent(measured: Measured, *, adapted: bool) -> dict[str, Any]:
    """Figures by scikit-learn from probabilities computed here."""
    from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

    place, head = measured.three.place("alpha"), measured.three.model(measured.model)
    test = read_features(place.store, measured.three.features("alpha")).test
    weight = head["output.weight"] + (DELTA["output.weight"] if adapted else 0)
    bias = head["output.bias"] + (DELTA["output.bias"] if adapted else 0)
    scores = test.features.astype(np.float64) @ weight.T + bias
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    classes = list(range(CLASSES))
    return {
        "num_examples": len(test.labels),
        "accuracy": accuracy_score(test.labels, scores.argmax(axis=1)),
        "log_loss": log_loss(test.labels, probabilities, labels=classes),
        "confusion": confusion_matrix(test.labels, scores.argmax(axis=1), labels=classes).tolist(),
    }


def test_both_models_are_measured_on_the_test_rows(measured: Measured) -> None:
    outcome = measured.evaluate()
    figures = kept(measured)
    assert figures.keys() == {"global", "adapted"}
    for name in figures:
        expected = independent(measured, adapted=name == "adapted")
        assert figures[name]["num_examples"] == expected["num_examples"] == 14  # of 40, every third
        assert figures[name]["confusion"] == expected["confusion"]
        assert figures[name]["log_loss"] == pytest.approx(expected["log_loss"], rel=1e-5)
        prefix = "adapted_" if name == "adapted" else ""
        assert outcome.metrics[f"{prefix}accuracy"] == pytest.approx(expected["accuracy"])
        assert outcome.metrics[f"{prefix}log_loss"] == pytest.approx(expected["log_loss"], rel=1e-5)
    assert figures["global"] != figures["adapted"]
    assert outcome.manifest == figures


@pytest.mark.parametrize("release", ["none", "", "aggregate", "Per_Site"])
def test_figures_stay_at_the_site_unless_it_releases_them(measured: Measured, release: str) -> None:
    before = contents(measured)
    outcome = measured.evaluate(release=release)
    assert outcome == Outcome()
    assert contents(measured) == before
    assert kept(measured)["global"]["num_examples"] == 14


@pytest.mark.parametrize("allowed", [True, False])
def test_the_sites_policy_decides_and_not_the_pipeline(measured: Measured, allowed: bool) -> None:
    measured.allow("alpha", "per_site" if allowed else "none")
    before = contents(measured)
    if allowed:
        assert measured.evaluate().reference
    else:
        with pytest.raises(RefusedError, match="does not allow its figures to be published") as caught:
            measured.evaluate()
        assert caught.value.disclosed == str(caught.value)
        assert contents(measured) == before
    assert kept(measured)["global"]["num_examples"] == 14


def test_published_figures_are_signed_by_the_site_for_this_round(measured: Measured) -> None:
    outcome = measured.evaluate()
    three, ticket = measured.three, measured.three.opened.ticket
    key = key_of(three.exchange, outcome.reference)
    assert key == figures_key(ticket, "alpha")
    document = three.exchange.read(key)
    assert outcome.bytes_sent == len(document)
    keys = three.charter
    assert read_figures(document, ticket, "alpha", keys.key("alpha")) == kept(measured)

    altered = json.loads(document)
    altered["body"]["evaluation"]["global"]["log_loss"] = 0.0
    for content, site in ((json.dumps(altered).encode(), "alpha"), (document, "beta"), (b"{}", "alpha")):
        with pytest.raises(SignatureError):
            read_figures(content, ticket, site, keys.key(site))
    with pytest.raises(SignatureError, match="another round"):
        read_figures(document, three.next_round().opened.ticket, "alpha", keys.key("alpha"))


def test_is_measured_once_a_ticket(measured: Measured) -> None:
    first = measured.evaluate()
    place = measured.three.place("alpha")
    place.store.create("features/other", tensors.encode(_features(is_test=1)))
    second = measured.evaluate(features=reference(place.store, "features/other"))
    assert second == first


def test_kept_first_and_released_later_are_the_same_figures(measured: Measured) -> None:
    measured.evaluate(release="none")
    before = kept(measured)
    assert measured.evaluate().manifest == before


def test_no_test_rows_are_bad_data(measured: Measured) -> None:
    place = measured.three.place("alpha")
    place.store.create("features/other", tensors.encode(_features(is_test=0)))
    with pytest.raises(BadDataError, match="no test rows") as caught:
        measured.evaluate(features=reference(place.store, "features/other"))
    assert caught.value.disclosed == "there are no test rows"
    assert place.store.keys("evaluations") == []


def test_other_figures_in_its_place_are_refused(measured: Measured) -> None:
    key = figures_key(measured.three.opened.ticket, "alpha")
    measured.three.exchange.create(key, b"better figures")
    with pytest.raises(RefusedError, match="other figures"):
        measured.evaluate()
    assert measured.three.exchange.read(key) == b"better figures"


def _features(*, is_test: int) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    return {
        "features": np.ones((9, FEATURES), np.float32),
        "labels": np.arange(9) % CLASSES,
        "is_test": np.full(9, is_test, np.uint8),
    }
