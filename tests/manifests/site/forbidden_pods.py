"""Jobs whose pod is not the template's; see `variants`."""

from __future__ import annotations

from typing import Any

from tests.manifests.site.variants import GONE, Variant, pod

SIDECAR = {"name": "second", "image": "busybox"}
TOKEN = {
    "serviceAccountToken": {
        "path": "api",
        "audience": "https://kubernetes.default.svc",
        "expirationSeconds": 3600,
    }
}
ADDED = (
    {"name": "extra", "hostPath": {"path": "/"}},
    {"name": "extra", "secret": {"secretName": "other"}},
    {"name": "extra", "configMap": {"name": "other"}},
    {"name": "extra", "persistentVolumeClaim": {"claimName": "other"}},
    {"name": "extra", "projected": {"sources": [TOKEN]}},
    {"name": "extra", "downwardAPI": {"items": []}},
    {"name": "extra", "csi": {"driver": "secrets-store.csi.k8s.io"}},
    {"name": "extra", "ephemeral": {"volumeClaimTemplate": {}}},
    {"name": "extra", "nfs": {"server": "x", "path": "/"}},
    {"name": "extra", "image": {"reference": "busybox"}},
    {"name": "extra", "emptyDir": {}},
)
PARTY, WORK, TMP, IDENTITY = (f"volumes.{number}" for number in range(4))


def security(field: str, value: Any) -> Variant:
    """A change of the pod's security context."""
    return pod("pod security", f"securityContext.{field}", value)


FORBIDDEN = [
    pod("containers", "containers.+", SIDECAR),
    pod("other containers", "initContainers", [SIDECAR]),
    pod("other containers", "initContainers", [SIDECAR | {"restartPolicy": "Always"}]),
    pod("other containers", "ephemeralContainers", [SIDECAR]),
    *(pod("volumes", "volumes.+", volume) for volume in ADDED),
    pod("volumes", "volumes", GONE),
    pod("volumes", PARTY, {"name": "party", "emptyDir": {}}),
    pod("volumes", f"{PARTY}.projected.defaultMode", 420),
    pod("volumes", f"{PARTY}.projected.sources.+", TOKEN),
    pod("volumes", f"{PARTY}.projected.sources.0.secret.name", "other"),
    pod("volumes", f"{PARTY}.projected.sources.0.secret.optional", True),
    pod("volumes", f"{PARTY}.projected.sources.0.secret.items.+", {"key": "other", "path": "other"}),
    pod("volumes", f"{PARTY}.projected.sources.1.configMap.name", "crosscloud-lax-policy"),
    pod("volumes", f"{WORK}.emptyDir.sizeLimit", "900Gi"),
    pod("volumes", f"{WORK}.emptyDir.medium", "Memory"),
    pod("volumes", f"{TMP}.emptyDir", {}),
    pod("volumes", IDENTITY, GONE),
    pod(
        "volumes",
        f"{IDENTITY}.projected.sources.0.serviceAccountToken.audience",
        "https://kubernetes.default.svc",
    ),
    pod("volumes", f"{IDENTITY}.projected.sources.0.serviceAccountToken.audience", GONE),
    pod("volumes", f"{IDENTITY}.projected.sources.0.serviceAccountToken.expirationSeconds", 86400),
    pod("volumes", f"{IDENTITY}.projected.sources.1.serviceAccountToken.path", "token2"),
    pod("volumes", f"{IDENTITY}.projected.sources.2.configMap.name", "other"),
    pod("volumes", f"{IDENTITY}.projected.sources.+", {"clusterTrustBundle": {"path": "x"}}),
    pod("service account", "serviceAccountName", "crosscloud-agent"),
    pod("service account", "serviceAccountName", GONE),
    pod("service account", "serviceAccount", "default"),
    pod("service account token", "automountServiceAccountToken", True),
    pod("service account token", "automountServiceAccountToken", GONE),
    pod("service links", "enableServiceLinks", True),
    pod("service links", "enableServiceLinks", GONE),
    pod("pull secrets", "imagePullSecrets", [{"name": "crosscloud-keys"}]),
    pod("pod security", "securityContext", GONE),
    pod("pod security", "securityContext", {}),
    security("runAsUser", 0),
    security("runAsUser", GONE),
    security("runAsNonRoot", False),
    security("runAsGroup", 0),
    security("fsGroup", 0),
    security("fsGroupChangePolicy", "OnRootMismatch"),
    security("supplementalGroups", [0]),
    security("supplementalGroupsPolicy", "Merge"),
    security("seccompProfile", {"type": "Unconfined"}),
    security("seccompProfile", {"type": "Localhost", "localhostProfile": "x"}),
    security("appArmorProfile", {"type": "Unconfined"}),
    security("seLinuxOptions", {"type": "spc_t"}),
    security("seLinuxChangePolicy", "Recursive"),
    security("sysctls", [{"name": "kernel.shm_rmid_forced", "value": "1"}]),
    security("windowsOptions", {"hostProcess": True}),
    pod("host namespaces", "hostNetwork", True),
    pod("host namespaces", "hostPID", True),
    pod("host namespaces", "hostIPC", True),
    pod("host namespaces", "hostUsers", True),
    pod("process namespace", "shareProcessNamespace", True),
    pod("runtime class", "runtimeClassName", "runc-privileged"),
    pod("operating system", "os", {"name": "linux"}),
    pod("host aliases", "hostAliases", [{"ip": "203.0.113.1", "hostnames": ["storage.googleapis.com"]}]),
    pod("host name", "hostname", "x"),
    pod("host name", "subdomain", "x"),
    pod("host name", "setHostnameAsFQDN", True),
    pod("DNS", "dnsPolicy", "None"),
    pod("DNS", "dnsPolicy", "Default"),
    pod("DNS", "dnsConfig", {"nameservers": ["203.0.113.1"]}),
    pod("scheduler", "schedulerName", "mine"),
    pod("scheduler", "schedulingGates", [{"name": "example.com/wait"}]),
    pod("node selector", "nodeSelector", GONE),
    pod("node selector", "nodeSelector", {}),
    pod("node selector", "nodeSelector[eks.amazonaws.com/nodegroup]", "default"),
    pod("node selector", "nodeSelector[kubernetes.io/hostname]", "node-1"),
    pod("tolerations", "tolerations", GONE),
    pod("tolerations", "tolerations.+", {"operator": "Exists"}),
    pod("tolerations", "tolerations.0", {"operator": "Exists"}),
    pod("tolerations", "tolerations.0.tolerationSeconds", 5),
    pod("tolerations", "tolerations.0.effect", "NoExecute"),
    pod("node", "nodeName", "node-1"),
    pod("node", "affinity", {"nodeAffinity": {}}),
    pod("node", "topologySpreadConstraints", [{"maxSkew": 1}]),
    pod("priority", "priorityClassName", "system-node-critical"),
    pod("priority", "priority", 2000000000),
    pod("priority", "preemptionPolicy", "Never"),
    pod("other resources", "resourceClaims", [{"name": "gpu", "resourceClaimName": "x"}]),
    pod("other resources", "overhead", {"cpu": "1"}),
    pod("pod deadline", "activeDeadlineSeconds", 60),
    pod("grace period", "terminationGracePeriodSeconds", 600),
    pod("grace period", "terminationGracePeriodSeconds", 0),
    pod("restarts", "restartPolicy", "OnFailure"),
    pod("restarts", "readinessGates", [{"conditionType": "x"}]),
    pod("pod fields", "hostnameOverride", "x"),
    pod("pod fields", "resources", {"limits": {"cpu": "64"}}),
    pod("pod fields", "schedulingGroup", {"podGroupName": "x"}),
    pod("pod fields", "evictionResponders", [{"name": "x"}]),
    pod("pod fields", "newField", True),
]
