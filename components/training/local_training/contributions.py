"""What one site computes for a round, by what the round's sum is of."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from components.agreement.charter import Charter
from components.agreement.noise_terms import AdaptiveClipping, LocalTraining
from components.agreement.released_sum import (
    CLASS_SUMS,
    GRADIENTS,
    GRAM_SUMS,
    adaptive_rule,
    released_sum,
    shapes_of,
)
from components.agreement.ticket import Ticket
from components.encryption.update_vector import fixed_point
from components.errors import BadDataError, RefusedError, UsageError
from components.privacy.round_noise import round_mechanism, round_noise_multiplier, shares_noise
from components.training.features import Examples
from components.training.local_training.class_sums import class_sums
from components.training.local_training.clipped_gradients import ROWS_AT_ONCE, GradientSum, summed_gradients
from components.training.local_training.dp_sgd import local_dp_update
from components.training.local_training.federated_averaging import local_update, site_seed
from components.training.local_training.gram_sums import gram_sums
from components.training.local_training.reproducible import chosen

Head = Mapping[str, NDArray[np.float32]]


def contribution(
    charter: Charter,
    ticket: Ticket,
    site: str,
    model: Head,
    examples: Examples,
    *,
    device: str,
    seed: int | None = None,
    clipping_norm: float | None = None,
) -> tuple[NDArray[np.float64], int]:
    """The values that a site adds to the round's sum, and the count beside them.

    A sum over no examples is zero: where there is noise, a site without training rows takes part like any
    other, as one row would otherwise change whether it does.

    Args:
        charter: says what is asked.
        ticket: the round's.
        site: whose rows they are.
        model: the global model.
        examples: the site's training rows.
        device: `auto`, `cpu` or `cuda`.
        seed: of the noise of `dp-sgd` in a rehearsal; None, for everything else, takes the operating
            system's randomness.
        clipping_norm: of the round, where it adapts: see `adaptive_norm.norm_of`; None for the charter's.

    Returns:
        float64, (d,), and the number of examples, of units where the charter names a column of them; 1 under
        `dp-sgd`, where every site counts alike.

    Raises:
        BadDataError: there are no training rows where the count is not private, rows do not fit the model,
            or training diverged.
        RefusedError: the charter clips by unit, and the examples are not told apart by it.
    """
    classes, count = len(model["output.bias"]), len(examples.labels)
    units = _units(charter, examples)
    count = count if units is None else len(np.unique(units))
    released = released_sum(charter, ticket.round_number, shapes_of(model))
    if shares_noise(charter):
        _require_exact_sums(charter, ticket.round_number, model)
    if released.of == GRADIENTS:
        norm = charter.clipping_norm if clipping_norm is None else clipping_norm
        summed = summed_gradients(model, examples, max_grad_norm=norm, device=chosen(device), units=units)
        return _in_units(adaptive_rule(charter), summed, norm, count), count
    if released.of == CLASS_SUMS:
        norm = released.clipping_norm
        return class_sums(examples, classes=classes, clipping_norm=norm, units=units), count
    if released.of == GRAM_SUMS:
        public = model.get("hidden.weight", np.zeros((0, _features(model)), np.float32))
        weight = charter.cross_weight
        return gram_sums(examples, classes=classes, hidden_weight=public, cross_weight=weight), count
    local = charter.privacy.local if charter.privacy else None
    if local is not None:
        noise = round_noise_multiplier(charter, ticket.round_number)
        return _privately(charter, local, noise, model, examples, device=chosen(device), seed=seed), 1
    if not count:
        raise BadDataError("the query returned no training rows", disclosed="there are no training rows")
    return _trained(charter, ticket, site, model, examples, device=chosen(device)), count


def _units(charter: Charter, examples: Examples) -> NDArray[np.int64] | None:
    """By what contributions are clipped; None where every row is one.

    Rows are bounded here, as what is counted beside the sum are units: float64 sums are of rows.
    """
    if charter.privacy is None or not charter.privacy.has_unit_column:
        return None
    if examples.units is None:
        text = "the charter clips by a unit of privacy, and the features do not say which rows are of one"
        raise RefusedError(f"{text}: ingest and augment them under this charter", disclosed=text)
    if len(examples.labels):
        fixed_point(charter).require_count(len(examples.labels))
    return examples.units


def _in_units(
    rule: AdaptiveClipping | None, summed: GradientSum, norm: float, count: int
) -> NDArray[np.float64]:
    """The sum as it is released: where the norm adapts, in units of it and with the indicators' sum."""
    if rule is None:
        return summed.values
    return np.append(summed.values / norm, rule.weight * (summed.within - count / 2))


def _trained(
    charter: Charter, ticket: Ticket, site: str, model: Head, examples: Examples, *, device: str
) -> NDArray[np.float64]:
    """Δw of federated averaging, in the order of the tensors' names."""
    update = local_update(
        model,
        examples,
        local_epochs=ticket.local_epochs,
        learning_rate=ticket.learning_rate,
        batch_size=ticket.batch_size,
        seed=site_seed(ticket.seed, ticket.round_number, site),
        device=device,
        proximal=charter.proximal,
    )
    return _flat(update, ticket.learning_rate)


def _privately(
    charter: Charter,
    local: LocalTraining,
    noise_multiplier: float,
    model: Head,
    examples: Examples,
    *,
    device: str,
    seed: int | None,
) -> NDArray[np.float64]:
    """Δw of DP-SGD, which the site's own noise protects; of no rows it is noise alone.

    Steps are divided by a number that all sites know, the sampled share of the most rows a site may have:
    the scale of the noise would tell a site's own number otherwise.
    """
    update = local_dp_update(
        model,
        examples,
        steps=local.steps,
        sample_rate=local.sample_rate,
        learning_rate=local.learning_rate,
        max_grad_norm=local.max_grad_norm,
        noise_multiplier=noise_multiplier,
        device=device,
        seed=seed,
        engine="closed_form",
        expected_batch=max(1, int(local.sample_rate * charter.max_examples)),
    )
    return _flat(update, local.learning_rate)


def _require_exact_sums(charter: Charter, round_number: int, model: Head) -> None:
    """Refuses a charter whose bounds the sensitivity does not cover, whoever has signed it.

    Raises:
        RefusedError: a value could leave its range, or float64 sums could pass the sensitivity.
    """
    rows = charter.max_examples
    mechanism = round_mechanism(charter, round_number, shapes_of(model))
    try:
        mechanism.require_range(
            max_examples=rows, additions=min(rows, ROWS_AT_ONCE) + -(-rows // ROWS_AT_ONCE)
        )
    except UsageError as error:
        raise RefusedError(f"the charter's bounds: {error}", disclosed="the charter's bounds") from None


def _flat(update: Mapping[str, NDArray[np.float64]], learning_rate: float) -> NDArray[np.float64]:
    values = np.concatenate([update[name].ravel() for name in sorted(update)])
    if not math.isfinite(float(np.abs(values).sum())):
        text = f"training diverged at learning rate {learning_rate:g}: lower it"
        raise BadDataError(text, disclosed=text)
    return values


def _features(model: Head) -> int:
    return int(model["output.weight"].shape[1])
