"""What the pods of a site's namespace may reach, by the rules of Kubernetes' network policies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.manifests.coordinator.test_network import Peer, allowed
from tests.manifests.site.admission import Manifest
from tests.manifests.site.overlays import CLOUDS, SITE

STEP = {"app.kubernetes.io/name": "crosscloud-step", "crosscloud.dev/step": "train"}
AGENT = {"app.kubernetes.io/name": "crosscloud-agent"}
DNS = Peer(port=53, protocol="UDP", namespace="kube-system", labels={"k8s-app": "kube-dns"})
CLOUD = Peer(port=443, address="142.250.1.1")
METADATA = Peer(port=80, address="169.254.169.254")
FORBIDDEN = [
    Peer(port=80, address="142.250.1.1"),
    Peer(port=443, address="10.0.0.1"),
    Peer(port=443, address="192.168.1.1"),
    Peer(port=6443, address="142.250.1.1"),
    Peer(port=80, address="169.254.170.23"),
    Peer(port=80, address="fd00:ec2::254"),
    Peer(port=443, address="fd00::1"),
    Peer(port=53, protocol="UDP", address="8.8.8.8"),
    Peer(port=53, protocol="UDP", namespace="elsewhere", labels={"k8s-app": "kube-dns"}),
]

Build = Callable[[Path], list[Manifest]]


def policies(objects: list[Manifest]) -> list[Manifest]:
    return [each for each in objects if each["kind"] == "NetworkPolicy"]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_step_reaches_names_and_clouds_and_nothing_else(kustomized: Build, cloud: str) -> None:
    ruling = policies(kustomized(SITE / cloud))
    for peer in (DNS, CLOUD, Peer(port=443, address="2a00:1450::1")):
        assert allowed(ruling, STEP, peer, "Egress")
    for peer in FORBIDDEN:
        assert not allowed(ruling, STEP, peer, "Egress"), peer
    assert allowed(ruling, STEP, METADATA, "Egress") == (cloud == "gke")
    own_store = Peer(port=443, address="10.20.30.40")
    assert allowed(ruling, STEP, own_store, "Egress") == (cloud == "onprem")


@pytest.mark.parametrize("cloud", CLOUDS)
def test_nothing_reaches_a_pod_and_a_strange_pod_reaches_names_alone(kustomized: Build, cloud: str) -> None:
    ruling = policies(kustomized(SITE / cloud))
    for labels in (STEP, AGENT, {}):
        for port in (80, 443, 8080):
            assert not allowed(ruling, labels, Peer(port=port, namespace="crosscloud"), "Ingress")
    assert not allowed(ruling, {"app": "strange"}, CLOUD, "Egress")


def test_the_agent_reaches_the_api_server_and_the_exchange(
    kustomized: Build, tmp_path: Path, with_overlay: Callable[..., Path]
) -> None:
    ruling = policies(kustomized(with_overlay(tmp_path, overlay="onprem", component="agent-federated")))
    for peer in (DNS, CLOUD, Peer(port=443, address="10.0.0.1"), Peer(port=6443, address="10.0.0.1")):
        assert allowed(ruling, AGENT, peer, "Egress")
    for peer in (METADATA, Peer(port=443, address="169.254.169.254"), Peer(port=22, address="10.0.0.1")):
        assert not allowed(ruling, AGENT, peer, "Egress")
    assert not allowed(ruling, STEP, Peer(port=6443, address="10.0.0.1"), "Egress")
