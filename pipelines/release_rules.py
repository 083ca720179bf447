"""What may be known of sites' figures, by what their federation file says and its protection hides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from components.agreement.protections import SEALED, TRAITS
from components.agreement.site_policy import AGGREGATE, NONE

Release: TypeAlias = Literal["none", "aggregate", "per_site"]
_HIDING: Final = tuple(name for name, traits in TRAITS.items() if traits.masked)


def default_release(protection: str) -> Release:
    """Of a site that says nothing: counted with others where nobody can see its part, else not at all."""
    return "aggregate" if TRAITS[protection].masked else "none"


def counting(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The sites of a federation file, of which parts may break their rules, that say or mean `aggregate`."""
    protection = document.get("protection", SEALED)
    if not isinstance(protection, str) or protection not in TRAITS:
        return []
    listed = document.get("sites")
    sites = listed if isinstance(listed, list) else []
    return [
        site
        for site in sites
        if isinstance(site, dict) and (_said(site) or default_release(protection)) == AGGREGATE
    ]


def release_problems(document: Mapping[str, Any]) -> list[str]:
    """Rules of `evaluation.release` that a site's own section cannot tell."""
    protection, found = document.get("protection", SEALED), counting(document)
    if not found:
        return []
    if not TRAITS[protection].masked:
        return [
            f"sites[{number}].evaluation.release: aggregate needs protection {' or '.join(_HIDING)}, which "
            f"hide single sites, got {protection}: say {NONE} or per_site"
            for number, site in _numbered(document["sites"])
            if site in found
        ]
    quorum = document.get("quorum")
    least = quorum.get("min_sites") if isinstance(quorum, dict) else None
    if type(least) is int and len(found) < least <= len(document["sites"]):
        named = ", ".join(str(site.get("name")) for site in found)
        return [
            f"sites: evaluation.release aggregate needs at least quorum.min_sites, {least}, sites that say "
            f"so or say nothing, got {named}: let as many say it, or say {NONE} or per_site at each of these"
        ]
    return []


def _said(site: Mapping[str, Any]) -> str | None:
    section = site.get("evaluation")
    said = section.get("release") if isinstance(section, dict) else None
    return said if isinstance(said, str) else None


def _numbered(sites: Sequence[Any]) -> list[tuple[int, Mapping[str, Any]]]:
    return [(number, site) for number, site in enumerate(sites) if isinstance(site, dict)]
