"""Steps of sites that run as Jobs: what their dispatchers may be and hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from components import images
from tests.pipelines.spec_check.specs import (
    Documents,
    Shipped,
    broken,
    container,
    examined,
    given,
    only,
    read,
    settings,
)


@pytest.fixture(scope="module")
def three_clusters(shipped: Shipped) -> Documents:
    """Up to the roster: north by a dispatcher with a kubeconfig, south and east by their agents."""
    steps = {f"{step}{nth}" for step in ("ingest", "augment", "train") for nth in ("", "-2", "-3")}
    return only(read(shipped["three-clusters", "ours"]), {"open-round", "roster", *steps})


def mount(name: str, path: str) -> dict[str, Any]:
    return {"mountPath": path, "secretName": name, "optional": False}


CLUSTERS = "/var/run/secrets/crosscloud-clusters"
FAULTS: list[tuple[str, Callable[[Documents], Any], str]] = [
    ("in the site's image", lambda d: container(d, "train").update(image=images.SITE), "image-role"),
    ("in the key holder's", lambda d: container(d, "train").update(image=images.KEY_HOLDER), "image-role"),
    (
        "without a site",
        lambda d: given(d, "train").update(site={"componentInputParameter": "device"}),
        "site-unnamed",
    ),
    (
        "without a deadline",
        lambda d: given(d, "train").update(deadline_s={"componentInputParameter": "batch_size"}),
        "site-deadline",
    ),
    (
        "terms by hand",
        lambda d: given(d, "train").update(job={"runtimeValue": {"constant": "agent"}}),
        "job-terms",
    ),
    (
        "a door nobody knows",
        lambda d: given(d, "train").update(
            job={"runtimeValue": {"constant": '{"door":"window","namespace":"crosscloud"}'}}
        ),
        "job-terms",
    ),
    ("no kubeconfig", lambda d: settings(d)["exec-train"].pop("secretAsVolume"), "job-terms"),
    (
        "another site's cluster",
        lambda d: settings(d)["exec-train-2"].update(
            secretAsVolume=[mount("crosscloud-cluster-north", f"{CLUSTERS}/north")]
        ),
        "secret-owner",
    ),
    (
        "the same kubeconfig under another name",
        lambda d: settings(d)["exec-train-2"].update(
            secretAsVolume=[mount("crosscloud-cluster-north", f"{CLUSTERS}/south")]
        ),
        "secret-owner",
    ),
    (
        "a kubeconfig at the roster",
        lambda d: settings(d)["exec-roster"].update(
            secretAsVolume=[mount("crosscloud-cluster-north", f"{CLUSTERS}/north")]
        ),
        "secret-owner",
    ),
    (
        "a site's keys",
        lambda d: settings(d)["exec-train"].update(
            secretAsVolume=[mount("crosscloud-north", "/var/run/secrets/crosscloud/north")]
        ),
        "secret-owner",
    ),
]


def test_the_round_is_whole(three_clusters: Documents) -> None:
    assert examined(three_clusters) == []
    mounted = {
        each["secretName"]: each["mountPath"]
        for each in settings(three_clusters)["exec-train"]["secretAsVolume"]
    }
    assert mounted == {
        "crosscloud-coordinator": "/var/run/secrets/crosscloud/coordinator",
        "crosscloud-cluster-north": f"{CLUSTERS}/north",
    }
    assert container(three_clusters, "train")["image"].endswith(images.AGGREGATOR)


@pytest.mark.parametrize(("how", "rule"), [pytest.param(how, rule, id=name) for name, how, rule in FAULTS])
def test_a_fault_is_found(three_clusters: Documents, how: Callable[[Documents], Any], rule: str) -> None:
    assert rule in {each.rule for each in broken(three_clusters, how)}
