"""Where pods come from, who opens them, which other workloads there are, and what the accounts may change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.manifests.site.admission import NAMESPACE, Manifest, Review
from tests.manifests.site.clusters import Cluster
from tests.manifests.site.overlays import named, pins_of, policies_of
from tests.manifests.site.stored import pod_of

CONTROLLERS = "system:serviceaccount:kube-system"
JOBS, REPLICAS = f"{CONTROLLERS}:job-controller", f"{CONTROLLERS}:replicaset-controller"
ADMIN = "kubernetes-admin"
OWNED_BY_REPLICAS = [
    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "crosscloud-agent-1", "controller": True}
]
AGENT_IMAGE = f"registry.example/crosscloud-python-aggregator@sha256:{'2' * 64}"


def topics(cluster: Cluster, review: Review) -> set[str]:
    return {denial.topic for denial in cluster.denials(review)}


@pytest.fixture
def pod(eks: Cluster) -> Manifest:
    return pod_of(eks.job())


@pytest.fixture
def with_agent(
    kustomized: Callable[[Path], list[Manifest]], tmp_path: Path, with_overlay: Callable[..., Path]
) -> Cluster:
    """An overlay with the agent, whose image its pins name."""
    folder = with_overlay(tmp_path, overlay="eks", component="agent-federated", agent_image=AGENT_IMAGE)
    objects = kustomized(folder)
    return Cluster(objects=objects, policies=policies_of(objects), pins=pins_of(objects))


@pytest.mark.parametrize("controller", [JOBS, "system:kube-controller-manager"])
def test_the_job_controller_makes_the_pods_of_jobs(eks: Cluster, pod: Manifest, controller: str) -> None:
    assert topics(eks, Review(resource="pods", operation="CREATE", user=controller, new=pod)) == set()
    bare = copy.deepcopy(pod)
    del bare["metadata"]["finalizers"]
    assert (
        topics(eks, Review(resource="pods", operation="UPDATE", user=controller, new=bare, old=pod)) == set()
    )


@pytest.mark.parametrize(
    "user", [ADMIN, REPLICAS, "system:node:n1", f"system:serviceaccount:{NAMESPACE}:job-controller"]
)
def test_nobody_else_makes_a_pod(eks: Cluster, pod: Manifest, user: str) -> None:
    assert topics(eks, Review(resource="pods", operation="CREATE", user=user, new=pod)) == {"pod creator"}


@pytest.mark.parametrize(
    ("path", "value", "topic"),
    [
        ("ownerReferences", None, "pod owner"),
        ("ownerReferences", [], "pod owner"),
        ("ownerReferences", [{"apiVersion": "v1", "kind": "Node", "name": "n1"}], "pod owner"),
        ("ownerReferences", [{"apiVersion": "x/v1", "kind": "Job", "name": "j"}], "pod owner"),
        ("ownerReferences", OWNED_BY_REPLICAS, "pod owner"),
        ("serviceAccountName", "default", "pod account"),
        ("serviceAccountName", "crosscloud-agent", "pod account"),
        ("image", "busybox", "pod image"),
    ],
)
def test_a_pod_that_is_no_job_s_is_refused(
    eks: Cluster, pod: Manifest, path: str, value: object, topic: str
) -> None:
    part = pod["metadata"] if path == "ownerReferences" else pod["spec"]
    part = pod["spec"]["containers"][0] if path == "image" else part
    if value is None:
        del part[path]
    else:
        part[path] = value
    found = eks.denials(Review(resource="pods", operation="CREATE", user=JOBS, new=pod))
    assert topic in {denial.topic for denial in found}
    assert [denial for denial in found if denial.error] == []


def test_no_job_that_waits_starts_under_an_image_that_is_revoked(eks: Cluster, pod: Manifest) -> None:
    revoked = Cluster(objects=eks.objects, policies=eks.policies, pins=eks.pins | {"image": AGENT_IMAGE})
    assert topics(revoked, Review(resource="pods", operation="CREATE", user=JOBS, new=pod)) == {"pod image"}


@pytest.mark.parametrize("subresource", ["exec", "attach", "portforward", "proxy"])
@pytest.mark.parametrize("user", [ADMIN, f"system:serviceaccount:{NAMESPACE}:default"])
def test_nobody_opens_a_pod(eks: Cluster, subresource: str, user: str) -> None:
    options = {"kind": "PodExecOptions", "apiVersion": "v1", "command": ["sh"]}
    review = Review(resource=f"pods/{subresource}", operation="CONNECT", user=user, new=options)
    assert topics(eks, review) == {"opening"}


@pytest.mark.parametrize("subresource", ["ephemeralcontainers", "resize"])
def test_nothing_is_added_to_a_pod_that_runs(eks: Cluster, pod: Manifest, subresource: str) -> None:
    changed = copy.deepcopy(pod)
    changed["spec"]["ephemeralContainers"] = [{"name": "debugger", "image": "busybox"}]
    review = Review(resource=f"pods/{subresource}", operation="UPDATE", user=ADMIN, new=changed, old=pod)
    assert "opening" in topics(eks, review)


def test_a_pod_is_not_changed(eks: Cluster, pod: Manifest) -> None:
    changed = copy.deepcopy(pod)
    changed["spec"]["containers"][0]["image"] = "busybox"
    labelled = copy.deepcopy(pod)
    labelled["metadata"]["labels"]["app.kubernetes.io/name"] = "crosscloud-agent"
    bare = copy.deepcopy(pod)
    del bare["metadata"]["labels"]
    for new, topic in ((changed, "pod update"), (labelled, "pod update labels"), (bare, "pod update labels")):
        review = Review(resource="pods", operation="UPDATE", user=ADMIN, new=new, old=pod)
        assert topics(eks, review) == {topic}


KINDS = ["deployments.apps", "replicasets.apps", "statefulsets.apps", "daemonsets.apps", "cronjobs.batch"]


@pytest.mark.parametrize("resource", [*KINDS, "replicationcontrollers"])
@pytest.mark.parametrize("user", [ADMIN, f"system:serviceaccount:{NAMESPACE}:crosscloud-dispatcher"])
def test_no_other_workload_runs(eks: Cluster, resource: str, user: str, pod: Manifest) -> None:
    workload = {"metadata": {"name": "crosscloud-agent"}, "spec": {"template": {"spec": pod["spec"]}}}
    found = eks.denials(Review(resource=resource, operation="CREATE", user=user, new=workload))
    assert {"workload"} <= {denial.topic for denial in found} <= {"workload", "account"}
    assert [denial for denial in found if denial.error] == []


def test_what_was_there_before_can_be_removed(eks: Cluster) -> None:
    workload = {"metadata": {"name": "old", "deletionTimestamp": "2026-11-28T12:00:00Z"}, "spec": {}}
    review = Review(resource="deployments.apps", operation="UPDATE", user=ADMIN, new=workload, old=workload)
    assert topics(eks, review) == set()


def replica_set(deployment: Manifest) -> Manifest:
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "crosscloud-agent", "controller": True}
    metadata = {"name": "crosscloud-agent-1", "namespace": NAMESPACE, "ownerReferences": [owner]}
    return {"metadata": metadata, "spec": copy.deepcopy(deployment["spec"])}


def test_the_agent_runs_where_the_pins_name_its_image(with_agent: Cluster) -> None:
    deployment = named(with_agent.objects, "Deployment", "crosscloud-agent")
    assert (
        topics(
            with_agent, Review(resource="deployments.apps", operation="CREATE", user=ADMIN, new=deployment)
        )
        == set()
    )
    replicas = replica_set(deployment)
    owner = f"{CONTROLLERS}:deployment-controller"
    assert (
        topics(with_agent, Review(resource="replicasets.apps", operation="CREATE", user=owner, new=replicas))
        == set()
    )
    template = deployment["spec"]["template"]
    pod = {
        "metadata": {"labels": template["metadata"]["labels"], "ownerReferences": OWNED_BY_REPLICAS},
        "spec": template["spec"],
    }
    assert topics(with_agent, Review(resource="pods", operation="CREATE", user=REPLICAS, new=pod)) == set()
    assert topics(with_agent, Review(resource="pods", operation="CREATE", user=JOBS, new=pod)) == {
        "pod creator"
    }
    pod["spec"] = template["spec"] | {"serviceAccountName": "crosscloud-step"}
    assert topics(with_agent, Review(resource="pods", operation="CREATE", user=REPLICAS, new=pod)) == {
        "pod account"
    }


@pytest.mark.parametrize(
    ("field", "value", "topic"),
    [
        ("serviceAccountName", "crosscloud-step", "agent account"),
        ("initContainers", [{"name": "x", "image": "busybox"}], "agent image"),
        ("image", "busybox", "agent image"),
        ("command", ["sh"], "agent image"),
    ],
)
def test_the_agent_is_the_pinned_one(with_agent: Cluster, field: str, value: object, topic: str) -> None:
    deployment = copy.deepcopy(named(with_agent.objects, "Deployment", "crosscloud-agent"))
    spec = deployment["spec"]["template"]["spec"]
    part = spec["containers"][0] if field in {"image", "command"} else spec
    part[field] = value
    review = Review(resource="deployments.apps", operation="CREATE", user=ADMIN, new=deployment)
    assert topics(with_agent, review) == {topic}
    review = Review(resource="replicasets.apps", operation="CREATE", user=ADMIN, new=replica_set(deployment))
    assert topics(with_agent, review) == {topic}


def test_an_agent_of_an_earlier_image_is_scaled_down(with_agent: Cluster) -> None:
    old = replica_set(named(with_agent.objects, "Deployment", "crosscloud-agent"))
    old["spec"]["template"]["spec"]["containers"][0]["image"] = AGENT_IMAGE.replace("2", "3")
    new = copy.deepcopy(old)
    new["spec"]["replicas"] = 0
    user = f"{CONTROLLERS}:deployment-controller"
    review = Review(resource="replicasets.apps", operation="UPDATE", user=user, new=new, old=old)
    assert topics(with_agent, review) == set()


@pytest.mark.parametrize("account", ["crosscloud-dispatcher", "crosscloud-agent", "crosscloud-step"])
def test_the_accounts_change_nothing_but_jobs(eks: Cluster, account: str) -> None:
    user = f"system:serviceaccount:{NAMESPACE}:{account}"
    deleted = Review(resource="jobs.batch", operation="DELETE", user=user, old=eks.job())
    created = Review(resource="jobs.batch", operation="CREATE", user=user, new=eks.job())
    for review in (deleted, created):
        assert topics(eks, review) == ({"step account"} if account == "crosscloud-step" else set())
    for resource, operation in (
        ("jobs.batch", "UPDATE"),
        ("jobs.batch/status", "UPDATE"),
        ("configmaps", "UPDATE"),
        ("configmaps", "CREATE"),
        ("secrets", "CREATE"),
        ("secrets", "DELETE"),
        ("pods", "DELETE"),
        ("serviceaccounts/token", "CREATE"),
        ("rolebindings.rbac.authorization.k8s.io", "CREATE"),
        ("workflows.argoproj.io", "CREATE"),
    ):
        review = Review(resource=resource, operation=operation, user=user, new=eks.job(), old=eks.job())
        assert "account" in topics(eks, review)


@pytest.mark.parametrize(
    ("account", "user", "refused"),
    [
        ("crosscloud-step", ADMIN, {"tokens"}),
        ("crosscloud-step", "security@hospital.example", {"tokens"}),
        ("crosscloud-step", "system:serviceaccount:default:somebody", {"tokens"}),
        ("crosscloud-step", f"system:serviceaccount:{NAMESPACE}:crosscloud-agent", {"tokens", "account"}),
        ("crosscloud-step", "system:node:n1", set()),
        ("crosscloud-step", f"{CONTROLLERS}:metadata-service", set()),
        ("crosscloud-dispatcher", ADMIN, set()),
    ],
)
def test_only_the_cluster_fetches_tokens_of_the_step(
    eks: Cluster, account: str, user: str, refused: set[str]
) -> None:
    review = Review(
        resource="serviceaccounts/token",
        operation="CREATE",
        user=user,
        name=account,
        new={"spec": {"audiences": ["sts.amazonaws.com"]}},
    )
    assert topics(eks, review) == refused


def test_accounts_of_other_names_and_namespaces_are_rbac_s_affair(eks: Cluster) -> None:
    for user in (ADMIN, "system:serviceaccount:elsewhere:crosscloud-dispatcher"):
        review = Review(resource="configmaps", operation="UPDATE", user=user, new={}, old={})
        assert topics(eks, review) == set()
