"""The noise that a charter asks of a round, as the mechanism that adds it and the event that it is."""

from __future__ import annotations

from components.agreement.charter import GRADIENT_SUMS, Charter
from components.errors import RefusedError
from components.privacy.events import DiscreteGaussianSum
from components.privacy.mechanism import SumMechanism


def gradient_sums(charter: Charter) -> bool:
    """Whether the sums of a charter are noised sums of clipped gradients."""
    return charter.algorithm == GRADIENT_SUMS


def round_mechanism(charter: Charter, round_number: int, dimensions: int) -> SumMechanism:
    """The mechanism of one round.

    Args:
        charter: of a federation whose sums are noised.
        round_number: the ticket's.
        dimensions: d, weights of the model.

    Raises:
        RefusedError: the round is outside the charter's schedule: there is no noise to release under.
        UsageError: the charter's numbers make no mechanism.
    """
    terms = charter.privacy
    sigma = terms.noise_multiplier(round_number) if terms else None
    if terms is None or sigma is None:
        text = f"round {round_number} is outside the charter's schedule of noise"
        if terms is not None:
            text += f", rounds {terms.first_round} to {terms.last_round}: its privacy budget is used up"
        raise RefusedError(text, disclosed=text)
    return SumMechanism(
        clipping_norm=charter.clipping_norm,
        noise_multiplier=sigma,
        dimensions=dimensions,
        sites=len(charter.sites),
        min_sum_sites=charter.min_sum_sites,
        colluding_sites=charter.colluding_sites,
        count_weight=terms.count_weight,
    )


def round_event(charter: Charter, round_number: int, dimensions: int) -> DiscreteGaussianSum:
    """What opening one round's sum releases.

    Raises:
        RefusedError: see `round_mechanism`.
    """
    rows = charter.privacy.rows_per_unit if charter.privacy else 1
    return round_mechanism(charter, round_number, dimensions).event(rows_per_unit=rows)
