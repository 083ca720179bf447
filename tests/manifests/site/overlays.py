"""The overlays of manifests/site, and what is picked out of a built one."""

from __future__ import annotations

from pathlib import Path

from tests.manifests.site.admission import Manifest, Policy

SITE = Path("manifests/site")
CLOUDS = ("gke", "eks", "aks", "onprem")
OVERLAYS = ("base", *CLOUDS)
COMPONENTS = ("agent", "agent-federated")


def named(objects: list[Manifest], kind: str, name: str) -> Manifest:
    """The object of a kind and a name."""
    return next(each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name)


def pins_of(objects: list[Manifest]) -> dict[str, str]:
    """What the overlay's ConfigMap pins."""
    data: dict[str, str] = named(objects, "ConfigMap", "crosscloud-pins")["data"]
    return dict(data)


def template_of(objects: list[Manifest]) -> str:
    """The overlay's template of a Job."""
    text: str = named(objects, "ConfigMap", "crosscloud-step")["data"]["job.yaml"]
    return text


def policies_of(objects: list[Manifest]) -> list[Policy]:
    """Its admission policies, compiled."""
    return [Policy.compiled(each) for each in objects if each["kind"] == "ValidatingAdmissionPolicy"]
