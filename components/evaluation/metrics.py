"""Classification metrics, all derived from a confusion matrix and a mean log-loss.

A confusion matrix adds up over sites and the log-loss is a mean over rows, so pooled figures are
those of all test rows together although no site shows a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.errors import BadDataError, IntegrityError


class ClassCounts(NamedTuple):
    """Test rows of one class: of this label, labelled so by the model, and both."""

    labelled: int
    predicted: int
    correct: int

    @property
    def recall(self) -> float:
        """Share of the class's rows that the model finds; 0 where the class has no rows."""
        return self.correct / self.labelled if self.labelled else 0.0

    @property
    def precision(self) -> float:
        """Share of the rows given this label that deserve it; 0 where none was given it."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision; 0 where the class does not occur at all."""
        rows = self.labelled + self.predicted
        return 2 * self.correct / rows if rows else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """A model measured on `num_examples` test rows.

    Attributes:
        num_examples: test rows, at least 1.
        log_loss: mean negative natural logarithm of the probability given to the true class.
        confusion: int64 (classes, classes); entry [i, j] counts rows of class i labelled j.
    """

    num_examples: int
    log_loss: float
    confusion: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Checks the figures against each other.

        Raises:
            IntegrityError: the matrix is not square, holds a negative count or does not sum to
                `num_examples`, or the log-loss is not a finite number of at least 0.
        """
        matrix = np.array(self.confusion, np.int64)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
            raise IntegrityError(f"a confusion matrix must be square, got shape {matrix.shape}")
        if matrix.min() < 0:
            raise IntegrityError(f"a confusion matrix must hold counts, got {matrix.min()}")
        if self.num_examples < 1 or int(matrix.sum()) != self.num_examples:
            raise IntegrityError(
                f"a confusion matrix must count the {self.num_examples} test rows (at least 1), "
                f"got {int(matrix.sum())}"
            )
        if not 0 <= self.log_loss < np.inf:
            raise IntegrityError(f"a log-loss must be a finite number of at least 0, got {self.log_loss}")
        matrix.setflags(write=False)
        object.__setattr__(self, "confusion", matrix)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Evaluation)
            and (self.num_examples, self.log_loss) == (other.num_examples, other.log_loss)
            and np.array_equal(self.confusion, other.confusion)
        )

    def __hash__(self) -> int:
        return hash((self.num_examples, self.log_loss, self.confusion.tobytes()))

    @property
    def accuracy(self) -> float:
        """Share of rows whose most probable class is the true one."""
        return int(np.trace(self.confusion)) / self.num_examples

    @property
    def per_class_counts(self) -> tuple[ClassCounts, ...]:
        """Counts of every class, in the order of the matrix."""
        labelled, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        correct = np.diagonal(self.confusion)
        return tuple(map(ClassCounts, labelled.tolist(), predicted.tolist(), correct.tolist()))

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur among the labels or the predictions."""
        scores = [counts.f1 for counts in self.per_class_counts if counts.labelled or counts.predicted]
        return float(np.mean(scores))

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as a JSON object."""
        return {
            "num_examples": self.num_examples,
            "log_loss": self.log_loss,
            "confusion": self.confusion.tolist(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Evaluation:
        """Reads what `to_dict` wrote.

        Raises:
            IntegrityError: a field is missing or is not what it should be.
        """
        try:
            num_examples = int(document["num_examples"])
            log_loss = float(document["log_loss"])
            confusion = np.array(document["confusion"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise IntegrityError(
                f"an evaluation needs num_examples, log_loss and confusion: {error!r}"
            ) from error
        if confusion.dtype.kind not in "iu":
            raise IntegrityError(f"a confusion matrix must hold whole numbers, got {confusion.dtype}")
        return cls(num_examples=num_examples, log_loss=log_loss, confusion=confusion)


def evaluate_logits(logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> Evaluation:
    """Measures scores against labels.

    Args:
        logits: scores (n, classes), n at least 1.
        labels: (n,), each in 0 … classes - 1.

    Raises:
        BadDataError: there are no test rows, a label is not a class, or a score is not finite.
    """
    num_examples, classes = logits.shape
    if num_examples == 0 or labels.shape != (num_examples,):
        raise BadDataError(
            f"{labels.shape[0]} labels for {num_examples} rows: a model is measured on at least one"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise BadDataError(f"labels lie in {labels.min()}…{labels.max()}: they must lie in 0…{classes - 1}")
    if not np.isfinite(logits).all():
        raise BadDataError("a score of the model is not a finite number: the model or a feature is broken")
    return Evaluation(
        num_examples=num_examples,
        log_loss=log_loss(logits, labels),
        confusion=confusion_matrix(labels, logits.argmax(axis=1), classes),
    )


def confusion_matrix(
    labels: NDArray[np.integer[Any]], predictions: NDArray[np.integer[Any]], classes: int
) -> NDArray[np.int64]:
    """Counts (classes, classes): rows are the truth, columns what the model said."""
    cells = labels.astype(np.int64) * classes + predictions.astype(np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def log_loss(logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> float:
    """Mean of -ln p(true class), p the softmax of the logits (n, classes).

    Probabilities are clipped to [ε, 1 - ε], ε = 2^-52, as scikit-learn does: one row that is
    surely wrong costs 36, not infinity.
    """
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    log_probability = scores[np.arange(len(labels)), labels] - np.log(np.exp(scores).sum(axis=1))
    epsilon = float(np.finfo(np.float64).eps)
    return float(-np.clip(log_probability, np.log(epsilon), np.log1p(-epsilon)).mean())


def pool(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The evaluation of all test rows together: counts added, log-loss weighted by examples.

    Raises:
        IntegrityError: there is nothing to pool, or the evaluations differ in their classes.
    """
    sizes = sorted({len(evaluation.confusion) for evaluation in evaluations})
    if len(sizes) != 1:
        raise IntegrityError(f"evaluations of one model must share their classes, got {sizes} classes")
    num_examples = sum(evaluation.num_examples for evaluation in evaluations)
    total_loss = sum(evaluation.num_examples * evaluation.log_loss for evaluation in evaluations)
    return Evaluation(
        num_examples=num_examples,
        log_loss=total_loss / num_examples,
        confusion=np.sum([evaluation.confusion for evaluation in evaluations], axis=0),
    )
