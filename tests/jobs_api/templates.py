"""A site's Job template of the agreed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LABELS = {"app.kubernetes.io/name": "crosscloud-step", "app.kubernetes.io/managed-by": "crosscloud"}


def template(
    site: str = "alpha", *, image: str = "crosscloud-python-site:0.1.0", env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What the site's people write into ConfigMap `crosscloud-step`; `env` is added to or replaces theirs."""
    keys = f"/var/run/secrets/crosscloud/{site}"
    environment = {
        "CROSSCLOUD_SITE": site,
        "CROSSCLOUD_STORE_URI": "file:///work/store",
        "CROSSCLOUD_EXCHANGE_URI": "file:///work/exchange",
        "CROSSCLOUD_KEYS_URI": "file:///work/keys",
        "CROSSCLOUD_HOME": "/work",
        "HOME": "/work",
        "TMPDIR": "/tmp",
        "HF_HUB_OFFLINE": "1",
    } | dict(env or {})
    container = {
        "name": "step",
        "image": image,
        "command": ["python3", "-m", "components.site_steps.job"],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "terminationMessagePolicy": "File",
        "resources": {"limits": {"memory": "4Gi"}, "requests": {"cpu": "1", "memory": "2Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "party", "mountPath": keys, "readOnly": True},
            {"name": "work", "mountPath": "/work"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    party = [
        {
            "secret": {
                "name": "crosscloud-keys",
                "items": [
                    {"key": "signing.key", "path": "signing.key"},
                    {"key": "agreement.key", "path": "agreement.key"},
                ],
            }
        },
        {
            "configMap": {
                "name": "crosscloud-policy",
                "items": [{"key": "policy.yaml", "path": "policy.yaml"}],
            }
        },
    ]
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": "crosscloud-step",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "party", "projected": {"sources": party}},
            {"name": "work", "emptyDir": {"sizeLimit": "20Gi"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "2Gi"}},
        ],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"labels": dict(LABELS)},
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "ttlSecondsAfterFinished": 3600,
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
                ]
            },
            "template": {"metadata": {"labels": dict(LABELS)}, "spec": pod},
        },
    }
