"""The metrics against scikit-learn's, and the laws of pooling."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.errors import BadDataError, IntegrityError
from components.evaluation.metrics import ClassCounts, Evaluation, evaluate_logits, log_loss, pool


@st.composite
def scored_rows(draw: st.DrawFn, classes: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits and labels of 1 to 40 rows; few rows and many classes leave classes out."""
    width = classes or draw(st.integers(1, 8))
    rows = draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.0, 1.0, 30.0]))
    present = draw(st.integers(1, width))
    logits = (scale * generator.normal(size=(rows, width))).astype(np.float32)
    return logits, generator.integers(0, present, rows)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(scored_rows())
@settings(max_examples=150)
def test_agrees_with_scikit_learn(rows: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    from sklearn import metrics as sklearn_metrics

    logits, labels = rows
    classes = logits.shape[1]
    evaluation = evaluate_logits(logits, labels)
    predictions = logits.argmax(axis=1)

    assert evaluation.accuracy == pytest.approx(
        sklearn_metrics.accuracy_score(labels, predictions), abs=1e-12
    )
    expected_f1 = sklearn_metrics.f1_score(labels, predictions, average="macro", zero_division=0)
    assert evaluation.macro_f1 == pytest.approx(expected_f1, abs=1e-12)
    expected = sklearn_metrics.confusion_matrix(labels, predictions, labels=range(classes))
    np.testing.assert_array_equal(evaluation.confusion, expected)
    if classes > 1:  # scikit-learn has no log-loss of a single class
        expected_loss = sklearn_metrics.log_loss(labels, softmax(logits), labels=range(classes))
        assert evaluation.log_loss == pytest.approx(expected_loss, rel=1e-9, abs=1e-12)


@given(scored_rows())
@settings(max_examples=60)
def test_recall_and_precision_agree_with_scikit_learn(
    rows: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    from sklearn import metrics as sklearn_metrics

    logits, labels = rows
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels, logits.argmax(axis=1), labels=range(logits.shape[1]), zero_division=0
    )
    counts = evaluate_logits(logits, labels).per_class_counts
    np.testing.assert_allclose([c.precision for c in counts], precision, atol=1e-12)
    np.testing.assert_allclose([c.recall for c in counts], recall, atol=1e-12)
    np.testing.assert_allclose([c.f1 for c in counts], f1, atol=1e-12)
    assert [c.labelled for c in counts] == support.tolist()


@given(st.lists(scored_rows(classes=4), min_size=1, max_size=5))
@settings(max_examples=60)
def test_pooled_figures_are_those_of_all_rows_together(
    sites: list[tuple[NDArray[np.float32], NDArray[np.int64]]],
) -> None:
    pooled = pool([evaluate_logits(*site) for site in sites])
    together = evaluate_logits(
        np.concatenate([logits for logits, _ in sites]), np.concatenate([labels for _, labels in sites])
    )
    assert pooled.num_examples == together.num_examples
    assert pooled.log_loss == pytest.approx(together.log_loss, rel=1e-12)
    np.testing.assert_array_equal(pooled.confusion, together.confusion)


def test_figures_worked_by_hand() -> None:
    evaluation = Evaluation(
        num_examples=10, log_loss=0.5, confusion=np.array([[4, 1, 0], [2, 3, 0], [0, 0, 0]])
    )
    assert evaluation.accuracy == 0.7
    assert evaluation.per_class_counts == (
        ClassCounts(labelled=5, predicted=6, correct=4),
        ClassCounts(labelled=5, predicted=4, correct=3),
        ClassCounts(labelled=0, predicted=0, correct=0),
    )
    # The third class occurs nowhere and does not count.
    assert evaluation.macro_f1 == pytest.approx((8 / 11 + 6 / 9) / 2)


def test_log_loss_of_a_surely_wrong_row_is_36_not_infinite() -> None:
    logits = np.array([[0.0, 1e4]], np.float32)
    assert log_loss(logits, np.array([0])) == pytest.approx(52 * np.log(2))
    assert log_loss(logits, np.array([1])) == pytest.approx(2.0**-52)


def test_survives_json_exactly() -> None:
    generator = np.random.default_rng(3)
    evaluation = evaluate_logits(generator.normal(size=(50, 5)), generator.integers(0, 5, 50))
    assert Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict()))) == evaluation


def test_does_not_change_or_share_the_callers_arrays() -> None:
    counts = np.array([[1, 0], [0, 1]])
    evaluation = Evaluation(num_examples=2, log_loss=0.1, confusion=counts)
    counts[0, 0] = 9
    assert evaluation.confusion[0, 0] == 1
    logits = np.array([[3.0, 1.0]])
    before = logits.copy()
    log_loss(logits, np.array([1]))
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"confusion": [[1, 0]]}, "square"),
        ({"confusion": [[3, 0], [0, -1]]}, "counts"),
        ({"confusion": [[1, 0], [0, 0]]}, "count the 2 test rows"),
        ({"confusion": [[1.5, 0.0], [0.0, 0.5]]}, "whole numbers"),
        ({"confusion": [["1", "0"], ["0", "1"]]}, "whole numbers"),
        ({"confusion": [[1, 0], [1]]}, "evaluation needs"),
        ({"log_loss": float("nan")}, "finite"),
        ({"log_loss": -0.1}, "at least 0"),
        ({"num_examples": None}, "evaluation needs"),
        ({"num_examples": 0, "confusion": [[0, 0], [0, 0]]}, "at least 1"),
    ],
)
def test_refuses_documents_that_contradict_themselves(change: dict[str, Any], message: str) -> None:
    document = {"num_examples": 2, "log_loss": 0.1, "confusion": [[1, 0], [0, 1]]} | change
    with pytest.raises(IntegrityError, match=message):
        Evaluation.from_dict(document)


def test_refuses_to_pool_nothing_or_different_classes() -> None:
    two = Evaluation(num_examples=1, log_loss=0.1, confusion=np.array([[1, 0], [0, 0]]))
    three = Evaluation(num_examples=1, log_loss=0.1, confusion=np.diag([1, 0, 0]))
    with pytest.raises(IntegrityError, match="share their classes"):
        pool([two, three])
    with pytest.raises(IntegrityError, match="share their classes"):
        pool([])


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, np.int64), "at least one"),
        (np.zeros((2, 3)), np.array([0, 3]), "0…2"),
        (np.zeros((2, 3)), np.array([-1, 0]), "0…2"),
        (np.array([[0.0, np.nan]]), np.array([0]), "finite"),
    ],
)
def test_refuses_rows_it_cannot_measure(
    logits: NDArray[np.float64], labels: NDArray[np.int64], message: str
) -> None:
    with pytest.raises(BadDataError, match=message):
        evaluate_logits(logits, labels)
