"""From the federation file's section `privacy` to the noise of every round, as it stands in the charter."""

from __future__ import annotations

from components.agreement.charter import LOCAL_PRIVACY, PRIVATE
from components.agreement.noise_terms import AdaptiveClipping, LocalTraining, MetricsNoise, NoiseTerms
from components.errors import UsageError
from components.privacy.local_schedule import local_noise_multiplier
from components.privacy.schedule import PrivacyTerms, metrics_multiplier, noise_multipliers
from pipelines.federation import Federation
from pipelines.federation_sections import Privacy
from pipelines.privacy_rules import COUNT_WEIGHT, privacy_terms


def noise_terms(federation: Federation, *, first_round: int) -> NoiseTerms | None:
    """The schedule that a federation file asks for; None where its updates are not noised.

    Args:
        federation: whose file it is.
        first_round: number of the schedule's first round.

    Raises:
        UsageError: the file asks for privacy without a section that says how much.
    """
    algorithm, privacy = federation.training.algorithm, federation.privacy
    if algorithm not in PRIVATE:
        return None
    if privacy is None:
        raise UsageError(f"privacy: missing: {algorithm} needs target_epsilon, delta, public_population")
    asked = privacy_terms(
        privacy,
        algorithm=algorithm,
        min_sum_sites=federation.min_sum_sites,
        colluding_sites=federation.quorum.colluding_sites,
        first_round=first_round,
        counts=bool(federation.counting_sites),
    )
    local = _local(privacy) if algorithm == LOCAL_PRIVACY else None
    return NoiseTerms(
        target_epsilon=privacy.target_epsilon,
        delta=privacy.delta,
        public_population=privacy.public_population,
        first_round=first_round,
        noise_multipliers=noise_multipliers(asked) if local is None else _local_noise(asked, local),
        count_weight=COUNT_WEIGHT,
        rows_per_unit=privacy.rows_per_unit,
        class_sum_start=asked.start_fraction > 0,
        local=local,
        unit=privacy.unit,
        adaptive=_adaptive(privacy),
        per=privacy.per,
        metrics=_metrics(asked, first_round),
    )


def _adaptive(privacy: Privacy) -> AdaptiveClipping | None:
    rule = privacy.adaptive_clipping
    return None if rule is None else AdaptiveClipping(**dict(rule))


def _metrics(asked: PrivacyTerms, first_round: int) -> MetricsNoise | None:
    if not asked.metrics_fraction:
        return None
    rounds = tuple(number + first_round - 1 for number in asked.metrics_rounds)
    return MetricsNoise(noise_multiplier=metrics_multiplier(asked), rounds=rounds)


def _local(privacy: Privacy) -> LocalTraining:
    return LocalTraining(
        steps=privacy.local.steps,
        sample_rate=privacy.local.sample_rate,
        learning_rate=privacy.local.learning_rate,
        max_grad_norm=privacy.clipping_norm or 0.0,
    )


def _local_noise(asked: PrivacyTerms, local: LocalTraining) -> tuple[float, ...]:
    sigma = local_noise_multiplier(
        asked.target_epsilon,
        delta=asked.delta,
        sample_rate=local.sample_rate,
        steps=local.steps * asked.num_rounds,
    )
    return (sigma,) * asked.num_rounds
