"""The same Jobs, asked of a real API server: dry runs in a namespace of their own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests.site.admission import Manifest
from tests.manifests.site.forbidden import FORBIDDEN
from tests.manifests.site.overlays import template_of
from tests.manifests.site.stored import filled
from tests.manifests.site.variants import POD, STEP, Variant, put

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="KUBECONFIG names no cluster"),
]
REFUSALS = ("denied request", "is invalid", "strict decoding error", "is forbidden", "BadRequest")
SECONDS = 60


def kubectl(*arguments: str, manifest: Any = None) -> subprocess.CompletedProcess[str]:
    """Runs kubectl, with manifests on its standard input."""
    command = shutil.which("kubectl")
    assert command, "kubectl is needed"
    stdin = "" if manifest is None else yaml.safe_dump_all(manifest)
    return subprocess.run([command, *arguments], input=stdin, capture_output=True, text=True, check=False)


class Dry:
    """Asks an API server what it would do with a Job."""

    def __init__(self, namespace: str, template: str) -> None:
        self.namespace = namespace
        self.template = template

    def job(self) -> Manifest:
        """The permitted one, as a dispatcher sends it."""
        job = filled(self.template)
        job["metadata"]["namespace"] = self.namespace
        return job

    def create(self, job: Manifest) -> tuple[Manifest | None, str]:
        """What would be stored, or the refusal."""
        done = kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", manifest=[job])
        if done.returncode == 0:
            return stored(json.loads(done.stdout)), ""
        assert any(word in done.stderr for word in REFUSALS), done.stderr
        return None, done.stderr


def stored(job: Manifest) -> Manifest:
    """What is alike in any two runs."""
    uid = job["metadata"].pop("uid")
    for field in ("creationTimestamp", "managedFields"):
        job["metadata"].pop(field, None)
    alike: Manifest = json.loads(json.dumps(job).replace(uid, "UID"))
    return alike


@pytest.fixture(scope="module")
def dry(
    kustomized: Callable[[Path], list[Manifest]],
    with_overlay: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Dry]:
    """An overlay in a new namespace; waits until its policies are in force."""
    namespace = f"crosscloud-test-{secrets.token_hex(4)}"
    folder = with_overlay(tmp_path_factory.mktemp("site"), overlay="eks", namespace=namespace)
    objects = kustomized(folder)
    done = kubectl("apply", "--server-side", "-f", "-", manifest=objects)
    assert done.returncode == 0, done.stderr
    try:
        asked = Dry(namespace, template_of(objects))
        open_job = asked.job()
        put(open_job, f"{POD}.hostAliases", [{"ip": "203.0.113.1"}])
        end = time.monotonic() + SECONDS
        while asked.create(open_job)[0] is not None:
            assert time.monotonic() < end, f"the policies are not in force after {SECONDS} s"
            time.sleep(1)
        yield asked
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false")
        # Of the whole cluster, and another namespace's too: they stay where somebody else uses them.
        used = kubectl(
            "get", "namespaces", "-l", "crosscloud.dev/admission=pinned", "-o", "name"
        ).stdout.split()
        if used == [f"namespace/{namespace}"]:
            policies = [each for each in objects if each["kind"].startswith("ValidatingAdmissionPolicy")]
            kubectl("delete", "--ignore-not-found", "-f", "-", manifest=policies)


def test_the_site_s_job_is_admitted(dry: Dry) -> None:
    admitted, refusal = dry.create(dry.job())
    assert admitted is not None, refusal


def sendable(variant: Variant, job: Manifest) -> Manifest | None:
    """The Job, changed before it is sent; None where the change is one of what the server writes."""
    try:
        return variant.of(job)
    except (KeyError, IndexError):
        return None


@pytest.mark.parametrize("variant", FORBIDDEN, ids=str)
def test_a_job_that_differs_is_refused_or_stored_as_the_permitted_one(dry: Dry, variant: Variant) -> None:
    """A field that this server does not know or has switched off is dropped before admission."""
    changed = sendable(variant, dry.job())
    if changed is None:
        pytest.skip("the API server writes this field itself")
    would_be, refusal = dry.create(changed)
    if would_be is not None:
        permitted, _ = dry.create(dry.job())
        assert would_be == permitted, refusal


@pytest.mark.parametrize(
    ("path", "value", "topic"),
    [
        (f"{POD}.hostNetwork", True, "host namespaces"),
        (f"{STEP}.command", ["sh"], "command"),
        (f"{STEP}.env.+", {"name": "X", "value": "y"}, "env"),
        (f"{POD}.volumes.+", {"name": "x", "emptyDir": {}}, "volumes"),
        ("metadata.annotations", {"x": "y"}, "annotations"),
    ],
)
def test_the_refusal_names_the_rule(dry: Dry, path: str, value: Any, topic: str) -> None:
    job = dry.job()
    put(job, path, value)
    _, refusal = dry.create(job)
    assert f"denied request: {topic}: " in refusal


@pytest.mark.parametrize("kind", ["Pod", "CronJob", "Deployment"])
def test_no_other_workload_is_admitted(dry: Dry, kind: str) -> None:
    pod = dry.job()["spec"]["template"]
    specs = {
        "Pod": ("v1", pod["spec"]),
        "CronJob": ("batch/v1", {"schedule": "0 0 * * *", "jobTemplate": {"spec": dry.job()["spec"]}}),
        "Deployment": (
            "apps/v1",
            {
                "selector": {"matchLabels": pod["metadata"]["labels"]},
                "template": pod | {"spec": pod["spec"] | {"restartPolicy": "Always"}},
            },
        ),
    }
    version, spec = specs[kind]
    metadata = {"name": "other", "namespace": dry.namespace}
    workload = {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}
    done = kubectl("create", "--dry-run=server", "-f", "-", manifest=[workload])
    assert done.returncode != 0
    assert "denied request" in done.stderr
