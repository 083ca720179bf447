"""The noise that a charter asks of a round, as the mechanism that adds it and the event that it is."""

from __future__ import annotations

from components.agreement.charter import SHARED_NOISE, Charter
from components.agreement.released_sum import Shapes, released_sum
from components.agreement.ticket import METRICS, UPDATE
from components.errors import RefusedError
from components.privacy.events import DiscreteGaussianSum, LocalSgd
from components.privacy.mechanism import SumMechanism


def is_private(charter: Charter) -> bool:
    """Whether what a charter's rounds release has an epsilon, and is charged to the sites' ledgers."""
    return charter.privacy is not None


def shares_noise(charter: Charter) -> bool:
    """Whether the sums of a charter are sums of clipped contributions with shares of one noise."""
    return charter.algorithm in SHARED_NOISE


def round_mechanism(
    charter: Charter, round_number: int, shapes: Shapes, purpose: str = UPDATE
) -> SumMechanism:
    """The mechanism of one round.

    Args:
        charter: of a federation whose sites share noise.
        round_number: the ticket's.
        shapes: of the model's tensors.
        purpose: of the ticket.

    Raises:
        RefusedError: the round is outside the charter's schedule: there is no noise to release under.
        UsageError: the charter's numbers make no mechanism.
    """
    released = released_sum(charter, round_number, shapes, purpose)
    weight = charter.privacy.count_weight if charter.privacy else 0.0
    if purpose == METRICS:
        # A row counts as much among the rows as in any other place.
        weight = 1 / released.clipping_norm
    return SumMechanism(
        clipping_norm=released.clipping_norm,
        noise_multiplier=round_noise_multiplier(charter, round_number, purpose),
        dimensions=released.dimensions,
        sites=len(charter.sites),
        min_sum_sites=charter.min_sum_sites,
        colluding_sites=charter.colluding_sites,
        count_weight=weight,
    )


def round_event(
    charter: Charter, round_number: int, shapes: Shapes, purpose: str = UPDATE
) -> DiscreteGaussianSum | LocalSgd:
    """What one round's ticket of a purpose releases of a site.

    Raises:
        RefusedError: see `round_mechanism`.
    """
    local = charter.privacy.local if charter.privacy else None
    if local is not None and purpose == UPDATE:
        return LocalSgd(
            noise_multiplier=round_noise_multiplier(charter, round_number),
            sample_rate=local.sample_rate,
            steps=local.steps,
        )
    rows = charter.privacy.priced_rows if charter.privacy else 1
    return round_mechanism(charter, round_number, shapes, purpose).event(rows_per_unit=rows)


def round_noise_multiplier(charter: Charter, round_number: int, purpose: str = UPDATE) -> float:
    """σ of what a round releases under a ticket of this purpose.

    Raises:
        RefusedError: the round is outside the charter's schedule, or has no noise set aside for metrics.
    """
    terms = charter.privacy
    if purpose == METRICS:
        if terms is None or terms.metrics is None or not terms.metrics_in(round_number):
            text = f"the charter's schedule sets no noise aside for the metrics of round {round_number}"
            raise RefusedError(text, disclosed=text)
        return terms.metrics.noise_multiplier
    sigma = terms.noise_multiplier(round_number) if terms else None
    if sigma is None:
        text = f"round {round_number} is outside the charter's schedule of noise"
        if terms is not None:
            text += (
                f", which begins with round {terms.first_round}"
                if terms.per == "month"
                else f", rounds {terms.first_round} to {terms.last_round}: its privacy budget is used up"
            )
        raise RefusedError(text, disclosed=text)
    return sigma
