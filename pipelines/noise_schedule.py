"""From the federation file's section `privacy` to the noise of every round, as it stands in the charter."""

from __future__ import annotations

from components.agreement.charter import GRADIENT_SUMS
from components.agreement.noise_terms import NoiseTerms
from components.errors import UsageError
from components.privacy.schedule import noise_multipliers
from pipelines.federation import Federation
from pipelines.privacy_rules import COUNT_WEIGHT, privacy_terms


def noise_terms(federation: Federation, *, first_round: int) -> NoiseTerms | None:
    """The schedule that a federation file asks for; None where its updates are not noised.

    Args:
        federation: whose file it is.
        first_round: number of the schedule's first round.

    Raises:
        UsageError: the file asks for privacy without a section that says how much.
    """
    if federation.training.algorithm != GRADIENT_SUMS:
        return None
    privacy = federation.privacy
    if privacy is None:
        raise UsageError(f"privacy: missing: {GRADIENT_SUMS} needs target_epsilon, delta, public_population")
    asked = privacy_terms(
        privacy,
        min_sum_sites=federation.min_sum_sites,
        colluding_sites=federation.quorum.colluding_sites,
    )
    return NoiseTerms(
        target_epsilon=privacy.target_epsilon,
        delta=privacy.delta,
        public_population=privacy.public_population,
        first_round=first_round,
        noise_multipliers=noise_multipliers(asked),
        count_weight=COUNT_WEIGHT,
        rows_per_unit=privacy.rows_per_unit,
    )
