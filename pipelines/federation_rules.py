"""Rules between the sections of a federation file."""

from __future__ import annotations

import math
from typing import Any

from pydantic import ValidationError

from components.agreement.charter import least_sum_sites
from components.agreement.protections import SEALED, TRAITS
from components.agreement.public_projection import MAX_MATRIX_BYTES
from components.errors import UsageError
from pipelines.federation_sections import Limits
from pipelines.privacy_rules import privacy_problems
from pipelines.release_rules import release_problems

MAX_HE_SITES = 64
RESERVED = {"coordinator", "key-holder", "aggregator", "contexts", "certificates", "charters", "cards"}
BOUNDS = ("clipping_norm", "largest_value", "max_examples", "values_per_slot")
"""Limits that fix, with the number of sites, how updates become integers."""


def disagreements(document: dict[str, Any]) -> list[str]:
    """Rules between parts of the file, checked on whatever is there, to be told with the others."""
    listed = document.get("sites")
    sites = [site for site in listed if isinstance(site, dict)] if isinstance(listed, list) else []
    quorum = document.get("quorum")
    least = quorum.get("min_sites") if isinstance(quorum, dict) else None
    problems = _name_problems([str(site.get("name")) for site in sites])
    stores = {key: document.get(key) for key in ("state_uri", "exchange_uri")}
    stores |= {f"sites[{number}].store_uri": site.get("store_uri") for number, site in enumerate(sites)}
    problems += _store_problems({key: uri.rstrip("/") for key, uri in stores.items() if isinstance(uri, str)})
    if document.get("protection") == "he" and len(sites) > MAX_HE_SITES:
        problems.append(f"sites: he takes at most {MAX_HE_SITES}, got {len(sites)}")
    if isinstance(quorum, dict) and isinstance(least, int) and sites:
        problems += _quorum_problems(quorum, least, len(sites), protection=_protection(document))
    problems += _compression_problems(document.get("compression"), document.get("encoder"))
    problems += release_problems(document)
    return problems + _limit_problems(document, len(sites)) + privacy_problems(document, len(sites))


def _compression_problems(compression: object, encoder: object) -> list[str]:
    """A projection leaves fewer features than there are, and is made of texts that one section names."""
    if not isinstance(compression, dict) or not isinstance(encoder, dict):
        return []
    asked, width = compression.get("dimensions"), encoder.get("dimensions")
    problems: list[str] = []
    if type(asked) is int and type(width) is int and 1 <= width <= asked:
        problems.append(f"compression.dimensions: must be below encoder.dimensions, {width}, got {asked}")
    elif type(asked) is int and type(width) is int and (size := 4 * asked * width) > MAX_MATRIX_BYTES:
        problems.append(
            f"compression.dimensions: a projection has at most {MAX_MATRIX_BYTES:,} bytes, "
            f"{asked} × {width} values of 4 bytes are {size:,}: ask for fewer"
        )
    if compression.get("corpus") is None and encoder.get("public_corpus") is None:
        problems.append(
            "compression.corpus: missing: name public texts whose features tell the directions, here or as "
            "encoder.public_corpus"
        )
    return problems


def _protection(document: dict[str, Any]) -> str:
    """The file's, or the default where it says none that there is."""
    named = document.get("protection", SEALED)
    return named if isinstance(named, str) and named in TRAITS else SEALED


def _quorum_problems(quorum: dict[str, Any], least: int, sites: int, *, protection: str) -> list[str]:
    colluding, smallest = quorum.get("colluding_sites", 1), quorum.get("min_sum_sites")
    if least > sites:
        return [f"quorum.min_sites: must be at most the number of sites, {sites}, got {least}"]
    if not isinstance(colluding, int) or not isinstance(smallest, int | None):
        return []
    problems: list[str] = []
    needed, masked = least_sum_sites(sites, colluding), TRAITS[protection].masked
    if masked and least < max(3, needed):
        problems.append(
            f"quorum.min_sites: {protection} needs at least {max(3, needed)} of {sites} sites on a roster "
            f"when {colluding} may collude, got {least}"
        )
    if masked and smallest is not None and smallest < needed:
        problems.append(
            f"quorum.min_sum_sites: must be at least {needed} for {sites} sites of which {colluding} may "
            f"collude, got {smallest}"
        )
    if smallest is not None and smallest > least:
        problems.append(f"quorum.min_sum_sites: must be at most min_sites, {least}, got {smallest}")
    return problems


def _limit_problems(document: dict[str, Any], sites: int) -> list[str]:
    """What a run asks for by default must lie within the limits, and they must leave a sum its bits."""
    training, given = document.get("training"), document.get("limits")
    limits = {name: field.default for name, field in Limits.model_fields.items()}
    limits |= given if isinstance(given, dict) else {}
    problems = _bound_problems(limits, sites, _protection(document))
    if not isinstance(training, dict):
        return problems
    return problems + [
        f"training.{name}: must be at most limits.{name}, {_written(limits[name])}, "
        f"got {_written(training[name])}"
        for name in ("local_epochs", "learning_rate", "batch_size")
        if isinstance(training.get(name), int | float) and isinstance(limits[name], int | float)
        if training[name] > limits[name]
    ]


def _bound_problems(limits: dict[str, Any], sites: int, protection: str) -> list[str]:
    """What bounds an update must leave its integers enough bits; a value's own rule is its section's."""
    from components.encryption.fixed_point import FixedPoint
    from components.encryption.update_vector import largest_sum

    try:
        bounds = Limits.model_validate({name: limits[name] for name in BOUNDS})
    except ValidationError:
        return []
    largest, norm = bounds.largest_value, bounds.clipping_norm
    if largest > norm:
        return [
            f"limits.largest_value: must be at most limits.clipping_norm, {_written(norm)}, "
            f"got {_written(largest)}"
        ]
    if sites < 2:
        return []
    try:
        FixedPoint(
            sites=sites,
            clipping_norm=norm,
            largest_value=largest,
            max_examples=bounds.max_examples,
            largest_sum=largest_sum(protection, bounds.values_per_slot),
        )
    except UsageError as error:
        return [f"limits: {error}"]
    return []


def _written(number: float) -> str:
    """As a person writes it: 1,000,000 and 0.05."""
    whole = number == math.trunc(number) if math.isfinite(number) else False
    return f"{int(number):,}" if whole and abs(number) < 1e15 else f"{number:g}"


def _name_problems(names: list[str]) -> list[str]:
    doubled = sorted({name for name in names if names.count(name) > 1})
    reserved = sorted(RESERVED & set(names))
    return [f"sites: the name {name} stands twice" for name in doubled] + [
        f"sites: {name} is the name of a role, not of a site" for name in reserved
    ]


def _store_problems(stores: dict[str, str]) -> list[str]:
    named = list(stores.items())
    return [
        f"{later}: must lie apart from {earlier}, got {second} and {first}"
        for number, (earlier, first) in enumerate(named)
        for later, second in named[number + 1 :]
        if _within(first, second) or _within(second, first)
    ]


def _within(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(f"{outer}/")
