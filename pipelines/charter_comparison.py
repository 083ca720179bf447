"""What a federation file asks of a charter, and where file, charters and policies differ."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

from components.agreement.charter import ANALYTIC, AVERAGE, GRADIENT_SUMS, RIDGE, SHARED_NOISE, Charter
from components.agreement.data_policy import QueryParameter
from components.agreement.noise_terms import NoiseTerms
from components.agreement.privacy_unit import read_unit
from components.agreement.private_keys import private_folder
from components.agreement.server_steps import SERVER_STEPS
from components.agreement.site_policy import POLICY, SitePolicy, load_policy, task_digest
from components.artifacts.documents import digest
from components.artifacts.stores import open_store
from components.errors import RefusedError
from components.rounds.round_opening.opening import ModelShape, genesis
from components.rounds.state import committed_rounds
from pipelines.feature_projection import asked_projection
from pipelines.federation import Federation
from pipelines.federation_sections import Site
from pipelines.noise_schedule import noise_terms


def terms(federation: Federation, *, first_round: int = 1) -> dict[str, Any]:
    """What the federation file says of a charter: everything but keys, genesis, projection and history.

    Args:
        federation: whose file it is.
        first_round: of its schedule of noise, if it has one.
    """
    limits, training, algorithm = federation.limits, federation.training, federation.training.algorithm
    noise = noise_terms(federation, first_round=first_round)
    bounds: dict[str, Any] = {
        "values_per_slot": limits.values_per_slot,
        "clipping_norm": limits.clipping_norm,
        "largest_value": limits.largest_value,
    }
    if federation.privacy is not None and algorithm in SHARED_NOISE:
        # An example's contribution is bounded as a whole, and its sums need all bits of a slot.
        bounds = {
            "values_per_slot": 1,
            "clipping_norm": federation.privacy.clipping_norm,
            "largest_value": federation.privacy.clipping_norm,
        }
    optimizer = server_optimizer(federation)
    return bounds | {
        "federation": federation.federation,
        "protection": federation.protection,
        "algorithm": algorithm,
        "server_optimizer": optimizer,
        "server_learning_rate": training.server_learning_rate if optimizer in SERVER_STEPS else 1.0,
        "proximal": training.proximal if algorithm == "fedprox" else 0.0,
        "cross_weight": training.cross_weight if algorithm == ANALYTIC else 0.0,
        "ridge": training.ridge if algorithm == ANALYTIC else 0.0,
        "privacy": noise,
        "encoder": federation.encoder.digest,
        "public_corpus": corpus.digest if (corpus := federation.encoder.public_corpus) else "",
        "rotation_rounds": limits.key_rotation_rounds,
        "colluding_sites": federation.quorum.colluding_sites,
        "min_sum_sites": federation.min_sum_sites,
        "min_sites": federation.quorum.min_sites,
        "max_examples": limits.max_examples,
        "local_epochs": limits.local_epochs,
        "learning_rate": limits.learning_rate,
        "batch_size": limits.batch_size,
        "max_rounds": limits.rounds,
    }


def server_optimizer(federation: Federation) -> str:
    """What makes the next model of an opened sum."""
    if federation.training.algorithm == ANALYTIC:
        return RIDGE
    stepping = federation.training.algorithm in {GRADIENT_SUMS, "fedadam"}
    return federation.training.server_optimizer if stepping else AVERAGE


def shape(federation: Federation) -> ModelShape:
    """The head that the federation file asks for."""
    return ModelShape(
        features=federation.num_features,
        hidden_units=federation.head.hidden_units,
        classes=len(federation.task.classes),
        seed=federation.training.seed,
        skip=federation.head.skip,
        server_optimizer=server_optimizer(federation),
    )


def disagreements(federation: Federation, charter: Charter) -> list[tuple[str, str, str]]:
    """Terms in which the federation file and a charter differ: name, the file's value, the charter's."""
    first_round = charter.privacy.first_round if charter.privacy else 1
    asked = terms(federation, first_round=first_round) | {"sites": sorted(federation.site_names)}
    asked["projection"] = asked_projection(federation, charter)
    agreed = asdict(charter) | {"sites": sorted(charter.sites), "privacy": charter.privacy}
    if not committed_rounds(open_store(federation.state_uri)):
        # Later rounds start from the model that was committed, whatever the file's seed is now.
        asked["genesis"] = digest(genesis(shape(federation)))
    return [
        (name, _shown(asked[name]), _shown(agreed[name])) for name in asked if asked[name] != agreed[name]
    ]


def differences(federation: Federation, charter: Charter) -> list[str]:
    """Where the federation file and a charter disagree, one a line."""
    return [
        f"{name}: the federation file has {asked}, the charter in force has {agreed}: change the file back, "
        "or have a new charter signed ('crosscloud charter new', then 'charter sign')"
        for name, asked, agreed in disagreements(federation, charter)
    ]


def changes(older: Charter, newer: Charter) -> list[str]:
    """What a new edition changes, one a line; what it takes back, `taking_back.told` says."""
    before, after = ({**asdict(each), "privacy": each.privacy} for each in (older, newer))
    return [
        f"{name}: {_shown(before[name])} → {_shown(after[name])}"
        for name in before
        if name not in {"edition", "previous", "sites", "restart"} and before[name] != after[name]
    ] + _site_changes(older, newer)


def _site_changes(older: Charter, newer: Charter) -> list[str]:
    lines = [f"sites: {site} leaves" for site in older.site_names if site not in newer.sites]
    lines += [f"sites: {site} joins" for site in newer.site_names if site not in older.sites]
    for site in newer.site_names:
        if site in older.sites and older.sites[site] != newer.sites[site]:
            lines.append(f"sites: {site} has other keys")
    return lines


def asked_task(federation: Federation) -> str:
    """`task_digest` of what the federation file has records read as, the same for all sites."""
    task = federation.task
    return task_digest(
        template=task.template,
        label_column=task.label_column,
        split_column=task.split.column,
        test_fraction=task.split.test_fraction,
        classes=task.classes,
        columns=[column.model_dump(mode="json") for column in task.columns],
    )


def policy_problems(federation: Federation, charter: Charter) -> list[str]:
    """What the policies that lie on this machine would refuse of the federation file, one a line."""
    problems: list[str] = []
    for site in federation.sites:
        path = private_folder(federation.keys_uri, site.name) / POLICY
        if not path.is_file():
            continue
        policy = load_policy(federation.keys_uri, site.name)
        if charter.digest not in {policy.charter, policy.next_charter}:
            problems.append(
                f"{site.name}: {path} pins another charter than the one in force: "
                f"'crosscloud charter sign --as {site.name}'"
            )
        checks = [
            partial(policy.require_protection, charter.protection),
            partial(policy.require_query, site.data.sql),
            partial(policy.require_task, asked_task(federation)),
            partial(policy.require_warehouse, site.data.source, site.data.uri),
            partial(policy.require_stores, [site.store_uri, federation.exchange_uri]),
            partial(policy.require_release, federation.release(site)),
            partial(require_noise, policy, charter),
        ]
        if federation.encoder.digest:
            checks.append(partial(policy.require_encoder, federation.encoder.digest))
        for check in checks:
            try:
                check()
            except RefusedError as error:
                problems.append(f"{site.name}: {error} ({path})")
        problems += [f"{site.name}: {problem} ({path})" for problem in _term_differences(site, policy)]
    return problems


def _term_differences(site: Site, policy: SitePolicy) -> list[str]:
    """Where the file says other terms of BigQuery than those that the site reads on."""
    section, terms = site.data.bigquery, policy.bigquery
    if section is None or terms is None:
        return []
    return [
        f"bigquery.{name}: the federation file has {_shown(asked)}, the site's policy {_shown(kept)}, "
        "which is what binds: change the file, or have the site's people change the policy"
        for name, asked in section
        if asked != (kept := getattr(terms, name))
    ]


def require_noise(policy: SitePolicy, charter: Charter) -> None:
    """`RefusedError` where a site would refuse every round for its noise, or for want of it."""
    noise, wanted = charter.privacy, policy.privacy
    if noise is None and wanted is not None:
        raise RefusedError("the site's policy asks for differential privacy, the charter has none")
    if noise is not None and wanted is None:
        raise RefusedError("the charter asks for differential privacy, the site's policy sets no budget")
    sigmas = [*noise.noise_multipliers, *_metrics_noise(noise)] if noise else []
    if wanted and sigmas and (least := min(sigmas)) < wanted.least_noise_multiplier:
        raise RefusedError(
            f"the site's policy asks for a noise multiplier of at least {wanted.least_noise_multiplier:g}, "
            f"the charter has {least:g}"
        )
    read_unit(wanted, noise)


def _metrics_noise(noise: NoiseTerms) -> list[float]:
    return [noise.metrics.noise_multiplier] if noise.metrics else []


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, NoiseTerms):
        sigma = ", ".join(f"{each:g}" for each in sorted(set(value.noise_multipliers)))
        start = ", class sums first" if value.class_sum_start else ""
        span = f"over rounds {value.first_round} to {value.last_round}"
        if value.per == "month":
            span = f"in every month of {len(value.noise_multipliers)} rounds from {value.first_round} on"
        if value.adaptive is not None:
            start += (
                f", clipped to a norm that aims at {value.adaptive.quantile:g} of the gradients in steps of "
                f"{value.adaptive.learning_rate:g}, told with weight {value.adaptive.weight:g}"
            )
        counted = value.metrics
        counts = (
            f", metrics in rounds {', '.join(map(str, counted.rounds))} with {counted.noise_multiplier:g}"
            if counted
            else ""
        )
        local = value.local
        own = (
            ""
            if local is None
            else f", {local.steps} local steps of rate {local.learning_rate:g} on {local.sample_rate:g} of "
            f"the rows with gradients of norm {local.max_grad_norm:g}"
        )
        return (
            f"epsilon {value.target_epsilon:g} at delta {value.delta:g} {span}, noise multiplier "
            f"{sigma}, of one {value.protected} among "
            f"{value.public_population} people, count weight {value.count_weight:g}{start}{counts}{own}"
        )
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items()) or "none"
    if isinstance(value, QueryParameter):
        return f"{value.type} {_shown(value.value)}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value) or "none"
