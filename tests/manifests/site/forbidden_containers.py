"""Jobs whose container is not the template's; see `variants`."""

from __future__ import annotations

from typing import Any

from tests.manifests.site.stored import REQUEST
from tests.manifests.site.variants import GONE, STEP, Variant, step

GPU = "nvidia.com/gpu"
SECRET = {"secretKeyRef": {"name": "crosscloud-keys", "key": "signing.key"}}
IMAGE = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/crosscloud-python-site"


def both(resource: str, quantity: Any) -> dict[str, Any]:
    """A quantity as limit and request alike."""
    return {f"{STEP}.resources.{side}[{resource}]": quantity for side in ("limits", "requests")}


def security(field: str, value: Any) -> Variant:
    """A change of the container's security context."""
    return step("container security", f"securityContext.{field}", value)


def env(entry: Any) -> Variant:
    """One variable more."""
    return step("env", "env.+", entry)


FORBIDDEN = [
    step("container name", "name", "main"),
    step("image", "image", f"{IMAGE}@sha256:{'1' * 64}"),
    step("image", "image", f"{IMAGE}:latest"),
    step("image", "image", f"docker.io/elsewhere/crosscloud-python-site@sha256:{'0' * 64}"),
    step("image", "image", GONE),
    step("image pull policy", "imagePullPolicy", "Never"),
    step("command", "command", ["sh", "-c", "cat /var/run/secrets/crosscloud/*/signing.key"]),
    step("command", "command", ["python3", "-m", "components.site_steps.agent"]),
    step("command", "command.+", "-v"),
    step("command", "command", GONE),
    step("arguments", "args", GONE),
    step("arguments", "args", ["train"]),
    step("arguments", "args", ["shell", REQUEST]),
    step("arguments", "args", ["train evaluate", REQUEST]),
    step("arguments", "args", ["", REQUEST]),
    step("arguments", "args", ["train", REQUEST.upper()]),
    step("arguments", "args", ["train", REQUEST[:-1]]),
    step("arguments", "args", ["train", f"{REQUEST}\n"]),
    step("arguments", "args", ["train", "$(CROSSCLOUD_KEYS_URI)"]),
    step("arguments", "args.+", "--debug"),
    step("working directory", "workingDir", "/work"),
    env({"name": "CROSSCLOUD_DEBUG", "value": "1"}),
    env({"name": "PYTHONPATH", "value": "/work"}),
    env({"name": "LD_PRELOAD", "value": "/work/x.so"}),
    env({"name": "HTTPS_PROXY", "value": "http://203.0.113.1"}),
    env({"name": "KEY", "valueFrom": SECRET}),
    env({"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}),
    step("env", "env", GONE),
    step("env", "env.0.value", "north"),
    step("env", "env.1.value", "s3://elsewhere/store"),
    step("env", "env.2.value", "gs://elsewhere/exchange"),
    step("env", "env.3.value", "gs://elsewhere/keys"),
    step("env", "env.4.name", "PATH"),
    step("env", "env.7", GONE),
    step("env", "env.7", {"name": "HF_HUB_OFFLINE", "valueFrom": SECRET}),
    step("env", "env.9.value", "arn:aws:iam::444455556666:role/other"),
    step("env from", "envFrom", [{"secretRef": {"name": "crosscloud-keys"}}]),
    step("lifecycle", "lifecycle", {"postStart": {"exec": {"command": ["id"]}}}),
    step("lifecycle", "lifecycle", {"stopSignal": "SIGUSR1"}),
    step("probes", "livenessProbe", {"exec": {"command": ["id"]}}),
    step("probes", "readinessProbe", {"httpGet": {"host": "203.0.113.1", "port": 80}}),
    step("probes", "startupProbe", {"exec": {"command": ["id"]}}),
    step("ports", "ports", [{"containerPort": 80, "hostPort": 80}]),
    step("terminal", "stdin", True),
    step("terminal", "stdinOnce", True),
    step("terminal", "tty", True),
    step("termination message", "terminationMessagePolicy", "FallbackToLogsOnError"),
    step("termination message", "terminationMessagePath", "/var/run/secrets/crosscloud/south/signing.key"),
    step("mounts", "volumeMounts", GONE),
    step("mounts", "volumeMounts.+", {"name": "party", "mountPath": "/usr/lib/python3"}),
    step("mounts", "volumeMounts.0.readOnly", GONE),
    step("mounts", "volumeMounts.0.mountPath", "/var/run/secrets/crosscloud/north"),
    step("mounts", "volumeMounts.0.subPath", "signing.key"),
    step("mounts", "volumeMounts.1.mountPath", "/opt"),
    step("mounts", "volumeMounts.1.mountPropagation", "Bidirectional"),
    step("mounts", "volumeMounts.1.subPathExpr", "$(HOME)"),
    step("mounts", "volumeMounts.3", GONE),
    step("block devices", "volumeDevices", [{"name": "x", "devicePath": "/dev/x"}]),
    step("container security", "securityContext", GONE),
    step("container security", "securityContext", {}),
    security("privileged", True),
    security("allowPrivilegeEscalation", True),
    security("readOnlyRootFilesystem", False),
    security("capabilities", {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}),
    security("capabilities", {"drop": []}),
    security("runAsUser", 0),
    security("runAsGroup", 0),
    security("runAsNonRoot", True),
    security("procMount", "Unmasked"),
    security("seccompProfile", {"type": "Unconfined"}),
    security("appArmorProfile", {"type": "Unconfined"}),
    security("seLinuxOptions", {"type": "spc_t"}),
    security("windowsOptions", {"hostProcess": True}),
    Variant("limits", both("memory", "17Gi")),
    Variant("limits", both("cpu", "64")),
    Variant("limits", both("cpu", "4000m")),
    Variant("limits", both("ephemeral-storage", "1Ti")),
    Variant("limits", {f"{STEP}.resources.limits.memory": GONE, f"{STEP}.resources.requests.memory": GONE}),
    step("limits", "resources", GONE),
    step("limits", "resources", {}),
    Variant("accelerator", both(GPU, "2")),
    Variant("accelerator", both(GPU, "0")),
    Variant("accelerator", both(GPU, "1k")),
    Variant("accelerator", both("amd.com/gpu", "1")),
    Variant("accelerator", both("hugepages-2Mi", "2Mi")),
    Variant("accelerator", both("example.com/secret-device", "1")),
    step("requests", "resources.requests", GONE),
    step("requests", "resources.requests.cpu", "1"),
    step("requests", f"resources.requests[{GPU}]", GONE),
    step("resource claims", "resources.claims", [{"name": "gpu"}]),
    step("container restarts", "restartPolicy", "Always"),
    step("container restarts", "resizePolicy", [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]),
    step("container fields", "restartPolicyRules", [{"action": "Restart"}]),
    step("container fields", "newField", "x"),
]
