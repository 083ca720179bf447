"""The terms of a charter in words, for those who are to sign it."""

from __future__ import annotations

from components.agreement.charter import ANALYTIC, SHARED_NOISE, Charter
from components.agreement.noise_terms import NoiseTerms
from components.agreement.protections import MEANINGS
from components.agreement.released_sum import adaptive_rule, contribution_bound
from components.agreement.server_steps import SERVER_STEPS
from components.encryption.update_vector import fixed_point


def explained(charter: Charter) -> list[tuple[str, str, str]]:
    """Name, value and meaning of each term."""
    sites, colluding = len(charter.sites), charter.colluding_sites
    terms = [
        ("protection", charter.protection, MEANINGS[charter.protection]),
        ("sites", f"{sites}", ", ".join(charter.site_names)),
        ("min_sites", f"{charter.min_sites}", "fewest sites on a roster: a round with fewer is refused"),
        ("min_sum_sites", f"{charter.min_sum_sites}", _sum_meaning(charter)),
        ("colluding_sites", f"{colluding}", "may work with everybody else against the others"),
        ("algorithm", charter.algorithm, f"server optimiser: {_server_steps(charter)}"),
        *_bounds(charter),
        ("max_examples", f"{charter.max_examples}", "most training rows of a site"),
    ]
    if charter.privacy is not None:
        terms += _noise(charter)
    elif charter.traits.integers:
        terms.append(("error bound", f"{weight_error(charter):.1e}", _error_meaning(charter)))
    return [
        *terms,
        ("local_epochs", f"{charter.local_epochs}", "most passes that a run may ask for"),
        ("learning_rate", f"{charter.learning_rate:g}", "largest that a run may ask for"),
        ("batch_size", f"{charter.batch_size}", "largest that a run may ask for"),
        ("max_rounds", f"{charter.max_rounds}", "number of the last round"),
        ("rotation_rounds", f"{charter.rotation_rounds}", "rounds that one encryption key may serve"),
        ("encoder", charter.encoder[:16] or "any", "SHA-256 of the language model"),
        *_corpus(charter),
        *_projection(charter),
        ("genesis", charter.genesis[:16], "SHA-256 of the model that round 1 starts from"),
    ]


def _server_steps(charter: Charter) -> str:
    if charter.server_optimizer not in SERVER_STEPS:
        return charter.server_optimizer
    return f"{charter.server_optimizer} with learning rate {charter.server_learning_rate:g}"


def _bounds(charter: Charter) -> list[tuple[str, str, str]]:
    norm = f"{charter.clipping_norm:g}"
    if charter.algorithm == ANALYTIC:
        weight = f"{charter.cross_weight:g}"
        return [
            ("cross_weight", weight, "of sums by class beside those of features, in units of their norm"),
            ("ridge", f"{charter.ridge:g}", "multiple of the ridge that the noise asks for"),
        ]
    rule = adaptive_rule(charter)
    if rule is not None:
        more = 100 * (contribution_bound(rule) - 1)
        return [
            ("clipping_norm", norm, "an example's longer gradient is scaled down to this in the first round"),
            (
                "adaptive norm",
                f"{rule.quantile:g}",
                f"share of gradients that later norms aim to be above, in steps of {rule.learning_rate:g}; "
                f"told by a coordinate of weight {rule.weight:g}, which costs {more:.2g} % more noise",
            ),
        ]
    if charter.algorithm in SHARED_NOISE:
        return [("clipping_norm", norm, "an example's longer gradient is scaled down to this L2 norm")]
    return [
        ("clipping_norm", norm, "a longer update is scaled down to this L2 norm"),
        ("largest_value", f"{charter.largest_value:g}", "and until no number of it is larger than this"),
    ]


def _corpus(charter: Charter) -> list[tuple[str, str, str]]:
    if not charter.public_corpus:
        return []
    return [("public_corpus", charter.public_corpus[:16], "SHA-256 of public texts that features centre on")]


def _projection(charter: Charter) -> list[tuple[str, str, str]]:
    if not charter.projection:
        return []
    return [("projection", charter.projection[:16], "SHA-256 of the public matrix that makes features fewer")]


def _noise(charter: Charter) -> list[tuple[str, str, str]]:
    noise = charter.privacy
    if noise is None:
        return []
    sigmas = sorted(set(noise.noise_multipliers))
    rounds = f"rounds {noise.first_round} to {noise.last_round} together, at delta {noise.delta:g}"
    if noise.per == "month":
        rounds = (
            f"{len(noise.noise_multipliers)} rounds of every calendar month (UTC) together, at delta "
            f"{noise.delta:g}; months add up"
        )
    told = [("epsilon", f"{noise.target_epsilon:g}", f"{rounds}, of one {noise.protected}")]
    if noise.has_unit_column:
        told.append(("unit", noise.unit, "rows with the same value here are clipped together, as one"))
    if noise.local is not None:
        local = noise.local
        return [
            *told,
            ("noise", f"{sigmas[0]:g}", "noise multiplier of every site's own steps"),
            ("local steps", f"{local.steps}", f"a round, each draws {local.sample_rate:g} of the rows"),
            ("clipping_norm", f"{local.max_grad_norm:g}", "of one example's gradient in a local step"),
            ("local rate", f"{local.learning_rate:g}", "learning rate of the local steps"),
        ]
    if noise.class_sum_start:
        told.append(("start", "class sums", f"round {noise.first_round} sums features by class"))
    meaning = "smallest noise multiplier, after colluding sites have taken theirs off"
    return [*told, ("noise", f"{sigmas[0]:g}", meaning), *_metrics(noise)]


def _metrics(noise: NoiseTerms) -> list[tuple[str, str, str]]:
    if noise.metrics is None:
        return []
    rounds = ", ".join(map(str, noise.metrics.rounds))
    meaning = f"noise multiplier of sealed confusion counts, within epsilon, in rounds {rounds}"
    return [("metrics", f"{noise.metrics.noise_multiplier:g}", meaning)]


def weight_error(charter: Charter) -> float:
    """Largest error of one weight of the next model where all sites of the charter train on `max_examples`.

    Half a step of fixed point a site, over the number of examples: M / (2 B) for the bound B of a
    site's integers. Fewer examples make it larger in proportion.

    Raises:
        UsageError: the terms leave too few bits.
    """
    sites = len(charter.sites)
    return fixed_point(charter).absolute_error(sites) / (sites * charter.max_examples)


def _sum_meaning(charter: Charter) -> str:
    fewest = f"a sum is opened of at least {charter.min_sum_sites} of {len(charter.sites)} sites"
    if not charter.traits.masked:
        return fewest
    hidden = charter.min_sum_sites - charter.colluding_sites
    return f"{fewest}: at least {hidden} of them are honest and hide each other"


def _error_meaning(charter: Charter) -> str:
    rows = charter.max_examples
    return f"of one weight where sites train on {rows} rows each; on half as many it is twice as large"
