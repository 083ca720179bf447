"""Rules of the federation file's section `privacy`, told before keys or charters are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from components.agreement.charter import (
    ANALYTIC,
    GRADIENT_SUMS,
    LOCAL_PRIVACY,
    PRIVATE,
    SHARED_NOISE,
    least_sum_sites,
)
from components.agreement.noise_terms import ROW
from components.agreement.protections import SEALED
from components.agreement.released_sum import feature_norm
from components.agreement.ridge_head import gram_length, gram_sensitivity
from components.encryption.bfv.packing import largest_sum
from components.encryption.fixed_point import FixedPoint
from components.errors import UsageError
from components.privacy.mechanism import SumMechanism
from components.privacy.schedule import AUTO, PrivacyTerms, metrics_multiplier, noise_multipliers
from components.training.local_training.clipped_gradients import ROWS_AT_ONCE
from pipelines.federation_sections import EncoderSection, Head, Limits, Privacy, Quorum, Section, Training
from pipelines.release_rules import counting

COUNT_WEIGHT = 0.1
"""Costs half a per cent more noise, and counts the examples without telling how many a site has."""
_SOUND = {"target_epsilon": 1.0, "delta": 1e-12, "public_population": 1, "clipping_norm": 1.0}
"""Stand for values that are told already, while the others are looked at."""

AnySection = TypeVar("AnySection", bound=Section)


def privacy_problems(document: Mapping[str, Any], sites: int) -> list[str]:
    """Rules of the algorithms that have an epsilon, and of no other.

    Args:
        document: the federation file, of which some sections may break their own rules.
        sites: in it.
    """
    training, given = document.get("training"), document.get("privacy")
    if not isinstance(training, dict):
        return []
    algorithm = training.get("algorithm", Training.model_fields["algorithm"].default)
    if algorithm not in PRIVATE:
        return _misplaced(algorithm) if given is not None else []
    problems = []
    if algorithm in SHARED_NOISE and document.get("protection", SEALED) != SEALED:
        problems.append(
            f"protection: {algorithm} needs sealed: its noise is shared among sites that hide each other"
        )
    if given is None:
        needed = "target_epsilon, delta, public_population and clipping_norm"
        return [*problems, f"privacy: missing: {algorithm} needs {needed}"]
    if not isinstance(given, dict):
        return problems
    counts = bool(counting(document))
    asked = _asked(given, algorithm, document.get("quorum"), sites, counts=counts)
    broken = [f"privacy.{problem}" for problem in asked.problems()]
    broken += [*_algorithm_problems(document, algorithm, given), *_ledger_problems(document)]
    if broken or algorithm == LOCAL_PRIVACY:
        return [*problems, *broken]
    return [*problems, *_range_problems(document, algorithm, asked, sites)]


def privacy_terms(
    privacy: Privacy,
    *,
    algorithm: str,
    min_sum_sites: int,
    colluding_sites: int,
    first_round: int = 1,
    counts: bool = False,
) -> PrivacyTerms:
    """What a section asks for, with the sites that share its noise.

    Only a schedule from round 1 starts with class sums: a later one goes on from the model that is there.
    Under `dp-sgd` every site has noise of its own, whoever else is in the sum. Something is set aside for
    sums of confusion counts only where sites are counted (`counts`).
    """
    starts = algorithm == GRADIENT_SUMS and first_round == 1
    alone = algorithm == LOCAL_PRIVACY
    return PrivacyTerms(
        target_epsilon=privacy.target_epsilon,
        delta=privacy.delta,
        public_population=privacy.public_population,
        clipping_norm=privacy.clipping_norm,
        rounds=1 if algorithm == ANALYTIC and privacy.rounds == AUTO else privacy.rounds,
        min_sum_sites=max(2, min_sum_sites) if alone else min_sum_sites,
        colluding_sites=0 if alone else colluding_sites,
        start_fraction=privacy.start_fraction if starts else 0.0,
        rows_per_unit=privacy.rows_per_unit if privacy.unit == ROW else 1,
        monthly=privacy.per == "month",
        metrics_fraction=privacy.metrics.fraction if counts and not alone else 0.0,
        metrics_every=privacy.metrics.every,
    )


def num_weights(features: int, hidden_units: int, classes: int, *, skip: bool) -> int:
    """Numbers of a head, without making one."""
    if not hidden_units:
        return classes * (features + 1)
    return hidden_units * (features + 1) + classes * (hidden_units + 1) + skip * classes * features


def _misplaced(algorithm: object) -> list[str]:
    if algorithm not in get_args(Training.model_fields["algorithm"].annotation):
        return []
    return [
        f"privacy: has no meaning for training.algorithm {algorithm}, whose sums have no sensitivity to one "
        f"example: choose one of {', '.join(PRIVATE)}, or leave the section out"
    ]


def _algorithm_problems(document: Mapping[str, Any], algorithm: str, given: dict[str, Any]) -> list[str]:
    """What one of the private algorithms cannot do."""
    problems = []
    head = document.get("head")
    deep = isinstance(head, dict) and bool(head.get("hidden_units"))
    skips = isinstance(head, dict) and bool(head.get("skip"))
    if algorithm == ANALYTIC and given.get("rounds", AUTO) not in (1, AUTO):
        problems.append(f"privacy.rounds: {ANALYTIC} is solved in one round, got {given['rounds']}: say 1")
    if algorithm == ANALYTIC and deep and not skips:
        problems.append(
            f"head.skip: {ANALYTIC} solves a head with hidden units and a skip connection: say true"
        )
    if algorithm == GRADIENT_SUMS and given.get("start_fraction") and deep and not skips:
        problems.append(
            "privacy.start_fraction: class sums start a linear head or one with head.skip, this has neither"
        )
    problems += _unit_problems(algorithm, given)
    if algorithm != GRADIENT_SUMS and given.get("adaptive_clipping") is not None:
        problems.append(
            f"privacy.adaptive_clipping: belongs to {GRADIENT_SUMS}, whose gradients are clipped one by one "
            f"in every round, got {algorithm}: leave it out"
        )
    if algorithm == LOCAL_PRIVACY and given.get("rows_per_unit", 1) != 1:
        problems.append(
            f"privacy.rows_per_unit: {LOCAL_PRIVACY} protects rows and no people, got "
            f"{given['rows_per_unit']}: choose {GRADIENT_SUMS}, or 1"
        )
    return problems


def _unit_problems(algorithm: str, given: dict[str, Any]) -> list[str]:
    """A column as unit: what is clipped by it, and how many rows of one take part."""
    unit, rows = given.get("unit", ROW), given.get("rows_per_unit", 1)
    if unit == ROW or not isinstance(unit, str):
        return []
    if algorithm != GRADIENT_SUMS:
        return [
            f"privacy.unit: {algorithm} has contributions of single rows, got {unit!r}: choose "
            f"{GRADIENT_SUMS} to clip by it, or row"
        ]
    return [f"privacy.rows_per_unit must be at least 1, got {rows}"] if type(rows) is int and rows < 1 else []


def _ledger_problems(document: Mapping[str, Any]) -> list[str]:
    """A BigQuery address names who pays, not the data: two federations would not find one ledger by it."""
    listed = document.get("sites")
    sites = listed if isinstance(listed, list) else []
    return [
        f"sites[{number}].data.{name}: missing: under an epsilon a BigQuery site names {meaning}, so that "
        "all federations that read its records share one ledger"
        for number, site in enumerate(sites)
        if isinstance(site, dict) and isinstance(data := site.get("data"), dict)
        if data.get("source") == "bigquery"
        for name, meaning in (("dataset", "its records"), ("ledger_uri", "the store of their ledger"))
        if not data.get(name)
    ]


def _asked(given: dict[str, Any], algorithm: str, quorum: Any, sites: int, *, counts: bool) -> PrivacyTerms:
    """The terms with u_min as it has to be at least: a smaller one is told with the quorum."""
    agreed = _sound(Quorum, quorum if isinstance(quorum, dict) else {}, {"min_sites": max(2, sites)})
    least = least_sum_sites(sites, agreed.colluding_sites)
    return privacy_terms(
        _sound(Privacy, given, _SOUND),
        algorithm=algorithm,
        min_sum_sites=max(agreed.min_sum_sites or 0, least),
        colluding_sites=agreed.colluding_sites,
        counts=counts,
    )


def _sound(section: type[AnySection], given: dict[str, Any], sound: Mapping[str, Any]) -> AnySection:
    """A section without the values that break its own rules, which are told by themselves."""
    try:
        return section.model_validate(given)
    except ValidationError as error:
        broken = {str(each["loc"][0]) for each in error.errors() if each["loc"]}
        kept = {name: value for name, value in given.items() if name not in broken}
        return section.model_validate(kept | {name: sound[name] for name in broken & sound.keys()})


def _range_problems(
    document: Mapping[str, Any], algorithm: str, asked: PrivacyTerms, sites: int
) -> list[str]:
    """Sums and noise must stay within their range, and float64 sums within the sensitivity."""
    task, limits = document.get("task"), document.get("limits")
    classes = task.get("classes") if isinstance(task, dict) else None
    try:
        head = Head.model_validate(document.get("head") or {})
        encoder = EncoderSection.model_validate(document.get("encoder"))
        training = Training.model_validate(document.get("training"))
        rows = Limits.model_validate(limits if isinstance(limits, dict) else {}).max_examples
    except ValidationError:
        return []
    if not isinstance(classes, list) or sites < asked.min_sum_sites:
        return []
    compression = document.get("compression")
    left = compression.get("dimensions") if isinstance(compression, dict) else None
    width = left if type(left) is int and 0 < left < encoder.dimensions else encoder.dimensions
    norm = asked.clipping_norm or 0.0
    adapts = 1 if isinstance(document["privacy"].get("adaptive_clipping"), dict) else 0
    sums = [(num_weights(width, head.hidden_units, len(classes), skip=head.skip) + adapts, norm)]
    if algorithm == ANALYTIC:
        weight = training.cross_weight
        sums = [(gram_length(width, head.hidden_units, len(classes)), gram_sensitivity(weight))]
    elif asked.start_fraction:
        sums.append((width * len(classes), feature_norm(width)))
    try:
        for dimensions, largest in sums:
            _require_range(asked, dimensions, largest, rows=rows, sites=sites)
        if asked.metrics_fraction:
            counts, norm = 1 + len(classes) ** 2, math.sqrt(2)
            sigma, weight = metrics_multiplier(asked), 1 / norm
            mechanism = _mechanism(asked, counts, norm, sites=sites, sigma=sigma, count_weight=weight)
            mechanism.require_range(max_examples=rows, additions=asked.rows_per_unit)
    except UsageError as error:
        return [f"privacy: with limits.max_examples {rows}: {error}"]
    return []


def _require_range(asked: PrivacyTerms, dimensions: int, norm: float, *, rows: int, sites: int) -> None:
    FixedPoint(
        sites=sites, clipping_norm=norm, largest_value=norm, max_examples=rows, largest_sum=largest_sum(1)
    )
    additions = min(rows, ROWS_AT_ONCE) + -(-rows // ROWS_AT_ONCE)
    for sigma in set(noise_multipliers(asked)):
        mechanism = _mechanism(asked, dimensions, norm, sites=sites, sigma=sigma)
        mechanism.require_range(max_examples=rows, additions=additions)


def _mechanism(
    asked: PrivacyTerms,
    dimensions: int,
    norm: float,
    *,
    sites: int,
    sigma: float,
    count_weight: float = COUNT_WEIGHT,
) -> SumMechanism:
    return SumMechanism(
        clipping_norm=norm,
        noise_multiplier=sigma,
        dimensions=dimensions,
        sites=sites,
        min_sum_sites=asked.min_sum_sites,
        colluding_sites=asked.colluding_sites,
        count_weight=count_weight,
    )
