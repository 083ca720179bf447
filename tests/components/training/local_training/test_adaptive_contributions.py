"""What a site adds where the clipping norm adapts: gradients in its units, and how many are within it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from components.agreement.noise_terms import AdaptiveClipping
from components.agreement.released_sum import shapes_of
from components.encryption.update_vector import from_sum, to_vector
from components.evaluation.rehearsal.plans import Plan
from components.evaluation.rehearsal.rounds import Rehearsal
from components.privacy.mechanism import STEPS
from components.privacy.round_noise import round_mechanism
from components.training import heads
from components.training.features import Examples
from components.training.local_training.clipped_gradients import RAMP, summed_gradients
from components.training.local_training.contributions import contribution

RULE = AdaptiveClipping(quantile=0.5, learning_rate=0.2, weight=0.5)
FEATURES, CLASSES = 5, 3


def rows(count: int, seed: int) -> Examples:
    generator = np.random.default_rng(seed)
    return Examples(
        features=generator.normal(size=(count, FEATURES)).astype(np.float32),
        labels=generator.integers(0, CLASSES, count),
    )


def head(seed: int = 2) -> heads.Head:
    generator = np.random.default_rng(seed)
    return {
        "output.weight": generator.normal(size=(CLASSES, FEATURES)).astype(np.float32),
        "output.bias": generator.normal(size=CLASSES).astype(np.float32),
    }


def lengths(model: heads.Head, examples: Examples) -> NDArray[np.float64]:
    """Norm of every row's gradient, by autograd."""
    found = []
    for z, y in zip(examples.features, examples.labels, strict=True):
        weights = {
            name: torch.tensor(values, dtype=torch.float64, requires_grad=True)
            for name, values in model.items()
        }
        scores = weights["output.weight"] @ torch.tensor(z, dtype=torch.float64) + weights["output.bias"]
        loss = torch.nn.functional.cross_entropy(scores[None], torch.tensor([y]))
        torch.autograd.backward([loss])
        squares = sum(
            float(weight.grad.square().sum()) for weight in weights.values() if weight.grad is not None
        )
        found.append(squares**0.5)
    return np.array(found)


def ramp(norms: NDArray[np.float64], norm: float) -> NDArray[np.float64]:
    return np.clip(0.5 + (1 - norms / norm) / (2 * RAMP), 0, 1)


def rehearsal(examples: Examples) -> Rehearsal:
    plan = Plan(method="ours", rounds=3, learning_rate=0.1, epsilon=8.0, optimizer="adam", adaptive=RULE)
    sites = {f"cloud-{number}": examples for number in (1, 2, 3)}
    return Rehearsal(plan, sites, classes=CLASSES, seed=1)


@pytest.mark.parametrize("norm", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("batch_size", [7, 4096])
def test_gradients_within_the_norm_are_counted(norm: float, batch_size: int) -> None:
    examples, model = rows(40, 3), head()
    found = summed_gradients(model, examples, max_grad_norm=norm, device="cpu", batch_size=batch_size)
    assert found.within == pytest.approx(ramp(lengths(model, examples), norm).sum(), abs=1e-9)


def test_a_unit_of_several_rows_is_counted_once() -> None:
    examples, model = rows(12, 4), head()
    alone = summed_gradients(model, examples, max_grad_norm=1e6, device="cpu", units=np.arange(12) // 4)
    assert alone.within == pytest.approx(3.0)
    large = summed_gradients(
        model, examples, max_grad_norm=1e6, device="cpu", units=np.zeros(12, np.int64), batch_size=5
    )
    assert large.within == pytest.approx(1.0)


def test_rounding_of_a_rows_place_tips_no_count() -> None:
    """Rows just at the norm: a hard edge would count each of them or not, as its batch happens to round."""
    examples, model = rows(1, 5), head()
    many = Examples(features=np.repeat(examples.features, 500, 0), labels=np.repeat(examples.labels, 500))
    norm = float(lengths(model, examples)[0])
    counts = [
        summed_gradients(model, many, max_grad_norm=norm, device="cpu", batch_size=size).within
        for size in (1, 3, 64, 500)
    ]
    assert counts == pytest.approx([250.0] * 4, abs=1e-7)


def test_the_contribution_is_in_units_of_the_norm_of_the_round() -> None:
    examples = rows(30, 6)
    made, model = rehearsal(examples), head()
    ticket = made.ticket(1)
    for norm in (0.2, 1.0, 3.0):
        values, count = contribution(
            made.charter, ticket, "cloud-1", model, examples, device="cpu", clipping_norm=norm
        )
        plain = summed_gradients(model, examples, max_grad_norm=norm, device="cpu")
        assert values[:-1] == pytest.approx(plain.values / norm, rel=1e-12)
        assert values[-1] == pytest.approx(RULE.weight * (plain.within - 15))
        assert count == 30


def test_the_whole_vector_changes_by_at_most_delta() -> None:
    """By search: one row more or less, of any length, at any norm; noise is switched off by its bytes."""
    generator = np.random.default_rng(7)
    made, model, worst = rehearsal(rows(20, 8)), head(), 0.0
    mechanism = round_mechanism(made.charter, 1, shapes_of(model))
    for trial in range(60):
        before = rows(20, 100 + trial)
        scale = 10.0 ** generator.uniform(-2, 2)
        more = Examples(
            features=np.concatenate([before.features, scale * rows(1, 500 + trial).features]),
            labels=np.append(before.labels, trial % CLASSES),
        )
        norm = 10.0 ** generator.uniform(-1.5, 1.5)
        integers = []
        for examples in (before, more):
            values, count = contribution(
                made.charter, made.ticket(1), "cloud-1", model, examples, device="cpu", clipping_norm=norm
            )
            scaled = np.append(
                values * (STEPS / mechanism.clipping_norm), mechanism.count_weight * STEPS * count
            )
            integers.append(np.rint(scaled))
        change = float(np.linalg.norm(integers[1] - integers[0]))
        assert change <= mechanism.sensitivity
        worst = max(worst, change)
    assert worst > 0.999 * mechanism.sensitivity  # the bound is no wider than it has to be


def test_sites_of_a_rehearsal_follow_the_committed_norm() -> None:
    made = rehearsal(rows(60, 9))
    norms = [made.clipping_norm]
    for number in (1, 2, 3):
        made.round(number)
        norms.append(made.clipping_norm)
    assert len(set(norms)) == 4
    steps = np.diff(np.log(norms))
    assert np.abs(steps).max() <= RULE.learning_rate * max(RULE.quantile, 1 - RULE.quantile) + 1e-12
    fixed = Rehearsal(replace(made.plan, adaptive=None), made.sites, classes=CLASSES, seed=1)
    fixed.round(1)
    assert fixed.clipping_norm == 1.0


def test_what_is_opened_is_what_was_added() -> None:
    examples = rows(50, 10)
    made = rehearsal(examples)
    shapes = shapes_of(made.genesis)
    values, count = made.contribution(made.ticket(1), made.model, "cloud-1", examples)
    vector = to_vector(made.charter, values, count, round_number=1, shapes=shapes)
    decoded = from_sum(made.charter, vector, round_number=1, shapes=shapes)
    deviation = round_mechanism(made.charter, 1, shapes).sum_deviation(1)
    assert np.abs(decoded[:-1] - values).max() < 8 * deviation
