"""Clusters on which one suite runs: the local server with real processes, and what KUBECONFIG names."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml
from kubernetes import client as kubernetes
from kubernetes import config

from components.execution.jobs.order import Cluster
from tests.jobs_api.objects import Object
from tests.jobs_api.process_runner import ProcessRunner
from tests.jobs_api.server import JobsServer
from tests.jobs_api.templates import template

IMAGE = "CROSSCLOUD_TEST_IMAGE"
NAMESPACE = "CROSSCLOUD_TEST_NAMESPACE"
PROGRAM = """
import sys, time
ends = {"ingest": 0, "seal": 3}
if sys.argv[1] in ends:
    sys.exit(ends[sys.argv[1]])
time.sleep(600)
"""
"""Stands where a site's image has its steps: `ingest` is done, `seal` fails, any other takes ten minutes."""
_FOLDER = "/program"
_FILES = {
    "components/__init__.py": "init.py",
    "components/site_steps/__init__.py": "init.py",
    "components/site_steps/job.py": "job.py",
}
"""Files of the program below its folder, by the key of the ConfigMap that holds them."""
_TEXTS = {"init.py": "# A package.\n", "job.py": PROGRAM}
_RULES = [
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list", "watch", "delete"]},
    {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["crosscloud-step"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
]


class ClusterUnderTest(Protocol):
    """What the suite needs of a cluster."""

    terms: Cluster
    start_grace_s: float

    def uid(self, name: str) -> str:
        """Of the Job of that name; empty when there is none."""

    def delete(self, name: str) -> None:
        """A person of the site deletes a Job."""

    def runs(self, name: str) -> bool:
        """Whether a container of the Job runs."""


@dataclass
class LocalCluster:
    """The server of `tests.jobs_api`."""

    server: JobsServer
    terms: Cluster
    start_grace_s: float = 2.0

    def uid(self, name: str) -> str:
        found: dict[str, str] = {each["metadata"]["name"]: each["metadata"]["uid"] for each in self._jobs()}
        return found.get(name, "")

    def delete(self, name: str) -> None:
        self.server.controller.delete(self.server.job(self.terms.namespace, name))

    def runs(self, name: str) -> bool:
        return any(job["metadata"]["name"] == name and job["status"].get("ready") for job in self._jobs())

    def _jobs(self) -> list[Object]:
        return self.server.jobs(self.terms.namespace)


@contextlib.contextmanager
def local_cluster(folder: Path) -> Iterator[LocalCluster]:
    """A local server whose Jobs are processes of this machine."""
    program = folder / "program"
    for path, key in _FILES.items():
        (program / path).parent.mkdir(parents=True, exist_ok=True)
        (program / path).write_text(_TEXTS[key])
    with JobsServer() as server:
        server.add_namespace("crosscloud-test", _template())
        server.controller.runner = ProcessRunner(folder / "jobs", mounts={_FOLDER: program})
        kubeconfig = server.write_kubeconfig(folder / "kubeconfig")
        yield LocalCluster(
            server=server, terms=Cluster(namespace="crosscloud-test", kubeconfig=str(kubeconfig))
        )


@dataclass
class RealCluster:
    """The cluster that KUBECONFIG names, one namespace of it."""

    api: kubernetes.ApiClient
    terms: Cluster
    start_grace_s: float = 60.0

    def uid(self, name: str) -> str:
        job = self._job(name)
        # One that is being deleted is there no more for whoever asks.
        return str(job.metadata.uid) if job and not job.metadata.deletion_timestamp else ""

    def delete(self, name: str) -> None:
        kubernetes.BatchV1Api(self.api).delete_namespaced_job(
            name, self.terms.namespace, body={"propagationPolicy": "Background"}
        )

    def runs(self, name: str) -> bool:
        job = self._job(name)
        return bool(job and job.status.ready)

    @contextlib.contextmanager
    def image(self, name: str) -> Iterator[None]:
        """Within, the site's template names another image."""
        _write_template(self.api, self.terms.namespace, name)
        try:
            yield
        finally:
            _write_template(self.api, self.terms.namespace, os.environ.get(IMAGE, ""))

    @contextlib.contextmanager
    def quota(self, hard: dict[str, str]) -> Iterator[None]:
        """Within, the namespace has a quota that the quota controller has counted."""
        core, namespace = kubernetes.CoreV1Api(self.api), self.terms.namespace
        quota = {"metadata": {"name": "crosscloud-test"}, "spec": {"hard": hard}}
        core.create_namespaced_resource_quota(namespace, quota)
        try:
            deadline = time.monotonic() + 60
            while not core.read_namespaced_resource_quota("crosscloud-test", namespace).status.hard:
                assert time.monotonic() < deadline, "the quota is not counted"
                time.sleep(0.5)
            yield
        finally:
            core.delete_namespaced_resource_quota("crosscloud-test", namespace)

    def _job(self, name: str) -> Any:
        found = kubernetes.BatchV1Api(self.api).list_namespaced_job(
            self.terms.namespace, field_selector=f"metadata.name={name}"
        )
        return found.items[0] if found.items else None


@contextlib.contextmanager
def real_cluster(folder: Path) -> Iterator[RealCluster]:
    """The dispatcher gets an account of its own with the site's Role, and its token as a file.

    With CROSSCLOUD_TEST_NAMESPACE that namespace is used and its Jobs are deleted; else one is made, and
    deleted afterwards.
    """
    api = config.new_client_from_config(os.environ["KUBECONFIG"])
    core = kubernetes.CoreV1Api(api)
    given = os.environ.get(NAMESPACE, "")
    namespace = given or f"crosscloud-test-{secrets.token_hex(4)}"
    if not given:
        core.create_namespace({"metadata": {"name": namespace}})
    try:
        _furnish(api, namespace)
        kubeconfig = _kubeconfig_of_dispatcher(api, namespace, folder)
        yield RealCluster(api=api, terms=Cluster(namespace=namespace, kubeconfig=str(kubeconfig)))
    finally:
        kubernetes.BatchV1Api(api).delete_collection_namespaced_job(
            namespace, propagation_policy="Background"
        )
        if not given:
            core.delete_namespace(namespace)


def _furnish(api: kubernetes.ApiClient, namespace: str) -> None:
    """Accounts, Role, program and template; what is there of an earlier run stays."""
    core, rights = kubernetes.CoreV1Api(api), kubernetes.RbacAuthorizationV1Api(api)
    for account in ("crosscloud-step", "crosscloud-dispatcher"):
        with _present():
            core.create_namespaced_service_account(namespace, {"metadata": {"name": account}})
    named = {"metadata": {"name": "crosscloud-dispatcher"}}
    with _present():
        rights.create_namespaced_role(namespace, {**named, "rules": _RULES})
    group = "rbac.authorization.k8s.io"
    binding = {
        **named,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "crosscloud-dispatcher"},
        "subjects": [{"kind": "ServiceAccount", "name": "crosscloud-dispatcher", "namespace": namespace}],
    }
    with _present():
        rights.create_namespaced_role_binding(namespace, binding)
    _write(core, namespace, "crosscloud-test-program", _TEXTS)
    _write_template(api, namespace, os.environ.get(IMAGE, ""))


def _write_template(api: kubernetes.ApiClient, namespace: str, image: str) -> None:
    text = yaml.safe_dump(_template(image))
    _write(kubernetes.CoreV1Api(api), namespace, "crosscloud-step", {"job.yaml": text})


def _write(core: kubernetes.CoreV1Api, namespace: str, name: str, data: dict[str, str]) -> None:
    with _present():
        core.delete_namespaced_config_map(name, namespace)
    core.create_namespaced_config_map(namespace, {"metadata": {"name": name}, "data": data})


def _kubeconfig_of_dispatcher(api: kubernetes.ApiClient, namespace: str, folder: Path) -> Path:
    request = {"spec": {"expirationSeconds": 3600}}
    issued = kubernetes.CoreV1Api(api).create_namespaced_service_account_token(
        "crosscloud-dispatcher", namespace, request
    )
    (folder / "token").write_text(issued.status.token)
    (folder / "token").chmod(0o600)
    cluster = {"server": api.configuration.host}
    if api.configuration.ssl_ca_cert:
        cluster["certificate-authority"] = api.configuration.ssl_ca_cert
    document = {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "dispatcher"}}],
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "dispatcher", "user": {"tokenFile": "token"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


@contextlib.contextmanager
def _present() -> Iterator[None]:
    """Passes over what is there already, or not there."""
    try:
        yield
    except kubernetes.ApiException as error:
        if error.status not in {404, 409}:
            raise


def _template(image: str = "") -> dict[str, Any]:
    """The site's template, around the program instead of an image of ours; without secrets to mount."""
    made = template(image=image or "python:3.11-slim", env={"PYTHONPATH": _FOLDER})
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container["resources"] = {
        "limits": {"memory": "128Mi", "cpu": "200m"},
        "requests": {"memory": "64Mi", "cpu": "50m"},
    }
    # Quick to end: the program has nothing to put in order.
    pod["terminationGracePeriodSeconds"] = 2
    program = {
        "name": "crosscloud-test-program",
        "items": [{"key": key, "path": path} for path, key in _FILES.items()],
    }
    pod["volumes"] = [{"name": "program", "configMap": program}, {"name": "work", "emptyDir": {}}]
    container["volumeMounts"] = [
        {"name": "program", "mountPath": _FOLDER, "readOnly": True},
        {"name": "work", "mountPath": "/work"},
    ]
    return made
