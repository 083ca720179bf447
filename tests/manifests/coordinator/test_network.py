"""What the pods of a run may reach, by the rules of Kubernetes' network policies."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.manifests.coordinator.shipped_overlays import (
    MANIFESTS,
    NAMESPACES,
    OVERLAYS,
    Manifest,
    Overlay,
    of_kind,
)

STEP = {"pipelines.kubeflow.org/v2_component": "true", "workflows.argoproj.io/workflow": "complaints-round-x"}
NAMED = "kubernetes.io/metadata.name"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """The other end of a connection: a pod of this cluster, or an address outside it."""

    port: int
    protocol: str = "TCP"
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = "10.4.0.7"
    """Pods have one too: most network plugins let a block of addresses cover them."""


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """A label selector; an empty one selects everything."""
    equal = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    among = True
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        among = among and labels.get(expression["key"]) in expression["values"]
    return equal and among


def is_peer(rule: Mapping[str, Any], peer: Peer, own: str) -> bool:
    """Whether one entry of `to` or `from` covers the peer, for a policy of the namespace `own`."""
    if "ipBlock" in rule:
        block = rule["ipBlock"]
        if ip_address(peer.address).version != ip_network(block["cidr"]).version:
            return False
        address = ip_address(peer.address)
        left_out = any(address in ip_network(each) for each in block.get("except", []))
        return address in ip_network(block["cidr"]) and not left_out
    if not peer.namespace:
        return False
    of_namespace = rule.get("namespaceSelector")
    near = peer.namespace == own if of_namespace is None else selects(of_namespace, {NAMED: peer.namespace})
    return near and selects(rule.get("podSelector", {}), peer.labels)


def allowed(policies: list[Manifest], labels: Mapping[str, str], peer: Peer, direction: str) -> bool:
    """Whether a pod with these labels may talk to a peer: any policy that selects it may allow it."""
    ruling = [
        policy
        for policy in policies
        if selects(policy["spec"]["podSelector"], labels) and direction in policy["spec"]["policyTypes"]
    ]
    if not ruling:
        return True
    for policy in ruling:
        for rule in policy["spec"].get(direction.lower(), []):
            ports = [(each["protocol"], each["port"]) for each in rule["ports"]]
            peers = rule["to" if direction == "Egress" else "from"]
            own = policy["metadata"]["namespace"]
            if (peer.protocol, peer.port) in ports and any(is_peer(each, peer, own) for each in peers):
                return True
    return False


def in_kubeflow(port: int, **labels: str) -> Peer:
    """A pod beside Kubeflow's services."""
    return Peer(port=port, namespace="kubeflow", labels=labels)


REACHED = {
    "API server of pipelines": in_kubeflow(8887, app="ml-pipeline"),
    "metadata": in_kubeflow(8080, component="metadata-grpc-server"),
    "MinIO": in_kubeflow(9000, app="minio"),
    "SeaweedFS": in_kubeflow(8333, app="seaweedfs"),
    "names": Peer(port=53, protocol="UDP", namespace="kube-system", labels={"k8s-app": "kube-dns"}),
    "long names": Peer(port=53, namespace="kube-system", labels={"k8s-app": "kube-dns"}),
    "a store": Peer(port=443, address="203.0.113.5"),
    "a store by IPv6": Peer(port=443, address="2001:db8::5"),
    "API server behind its service": Peer(port=6443, address="10.0.0.2"),
}
REFUSED = {
    "the database": in_kubeflow(3306, app="mysql"),
    "the store's filer": in_kubeflow(8888, app="seaweedfs"),
    "the UI": in_kubeflow(3000, app="ml-pipeline-ui"),
    "metadata under another port": in_kubeflow(9901, component="metadata-grpc-server"),
    "another team's API server": Peer(port=8887, namespace="else", labels={"app": "ml-pipeline"}),
    "names elsewhere": Peer(port=53, protocol="UDP", address="8.8.8.8"),
    "a pod that calls itself kube-dns": Peer(
        port=53, protocol="UDP", namespace="else", labels={"k8s-app": "kube-dns"}
    ),
    "clear text": Peer(port=80, address="203.0.113.5"),
    "a shell": Peer(port=22, address="203.0.113.5"),
    "the node's identity": Peer(port=80, address="169.254.169.254"),
    "the node's identity by TLS": Peer(port=443, address="169.254.169.254"),
    "the node's identity by IPv6": Peer(port=443, address="fd00:ec2::254"),
    "another step": Peer(port=8080, namespace="kubeflow", labels=STEP),
}


@pytest.mark.parametrize("peer", REACHED.values(), ids=REACHED.keys())
@pytest.mark.parametrize("name", OVERLAYS)
def test_a_step_reaches_what_it_needs(overlay: Overlay, name: str, peer: Peer) -> None:
    assert allowed(of_kind(overlay(name), "NetworkPolicy"), STEP, peer, "Egress")


@pytest.mark.parametrize("peer", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("name", OVERLAYS)
def test_a_step_reaches_nothing_else(overlay: Overlay, name: str, peer: Peer) -> None:
    assert not allowed(of_kind(overlay(name), "NetworkPolicy"), STEP, peer, "Egress")


@pytest.mark.parametrize("name", OVERLAYS)
def test_nothing_reaches_a_step(overlay: Overlay, name: str) -> None:
    policies = of_kind(overlay(name), "NetworkPolicy")
    for namespace in (NAMESPACES[name], "istio-system", "else"):
        for port in (443, 8080, 15021):
            assert not allowed(policies, STEP, Peer(port=port, namespace=namespace, labels=STEP), "Ingress")


@pytest.mark.parametrize("name", OVERLAYS)
def test_pods_that_are_no_steps_are_left_alone(overlay: Overlay, name: str) -> None:
    policies = of_kind(overlay(name), "NetworkPolicy")
    for labels in ({"app": "ml-pipeline"}, {"notebook-name": "of-somebody"}, {}):
        assert allowed(policies, labels, REFUSED["a shell"], "Egress")
        assert allowed(policies, labels, Peer(port=8080, namespace="else"), "Ingress")


def test_places_move_the_policies(kustomized: Callable[[Path], list[Manifest]], tmp_path: Path) -> None:
    shutil.copytree(MANIFESTS, tmp_path / "coordinator")
    places = tmp_path / "coordinator" / "base" / "places.yaml"
    moved = places.read_text().replace("kubeflow: kubeflow", "kubeflow: pipelines")
    places.write_text(moved.replace("dns: kube-system", "dns: openshift-dns"))
    policies = of_kind(kustomized(tmp_path / "coordinator" / "overlays" / "multi-user"), "NetworkPolicy")
    for port, labels in (
        (8887, {"app": "ml-pipeline"}),
        (8080, {"component": "metadata-grpc-server"}),
        (8333, {"app": "seaweedfs"}),
    ):
        assert allowed(policies, STEP, Peer(port=port, namespace="pipelines", labels=labels), "Egress")
        assert not allowed(policies, STEP, Peer(port=port, namespace="kubeflow", labels=labels), "Egress")
    names = {"k8s-app": "kube-dns"}
    assert allowed(policies, STEP, Peer(port=53, namespace="openshift-dns", labels=names), "Egress")
    assert not allowed(policies, STEP, Peer(port=53, namespace="kube-system", labels=names), "Egress")


def test_the_component_for_gke_opens_its_metadata_server_and_nothing_else(
    own_overlay: Callable[..., list[Manifest]],
) -> None:
    policies = of_kind(own_overlay(components=["gke-identity"]), "NetworkPolicy")
    identity = [REFUSED["the node's identity"], Peer(port=988, address="169.254.169.252")]
    assert all(allowed(policies, STEP, peer, "Egress") for peer in identity)
    others = [peer for peer in REFUSED.values() if peer != identity[0]]
    assert not any(allowed(policies, STEP, peer, "Egress") for peer in others)
    assert not allowed(policies, STEP, Peer(port=80, address="169.254.169.252"), "Egress")
