"""The sections of a federation file that say where steps run."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from pipelines.data_sections import Section

NODE_POOL: Final = "node-pool"
JOB: Final = "kubernetes-job"
OBJECT_NAME = r"^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$"
"""Of Kubernetes' objects: RFC 1123 subdomains."""
NAMESPACE = r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"
OF_THE_TEMPLATE = ("node_selector", "tolerations", "memory", "image_pull_secrets", "keys_secret")
"""What the owner of a site's cluster writes into its own template of a Job, and nobody else."""

ObjectName = Annotated[str, Field(pattern=OBJECT_NAME)]


class Accelerator(Section):
    """A GPU request."""

    type: str = Field(
        default="nvidia.com/gpu", pattern=r"^[a-z0-9][a-z0-9.-]{0,200}/[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
    )
    """Name of an extended resource."""
    count: int = Field(default=1, ge=1, le=16)


class Toleration(Section):
    """A taint of the party's nodes that its steps put up with."""

    key: str = Field(min_length=1, max_length=317)
    operator: Literal["Equal", "Exists"] = "Exists"
    value: str | None = None
    """Of the taint, for `Equal`."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Of the taint; any where absent."""

    @model_validator(mode="after")
    def _value_belongs(self) -> Self:
        if (self.operator == "Equal") != (self.value is not None):
            rule = "Equal needs a value" if self.operator == "Equal" else "Exists takes no value"
            raise ValueError(f"{rule}, got operator {self.operator} and value {self.value!r}")
        return self


class NodePool(Section):
    """Nodes of a party in the pipeline's own cluster."""

    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes in the party's cloud."""
    tolerations: list[Toleration] = Field(default_factory=list)
    accelerator: Accelerator | None = None
    """For `augment` and `train`."""
    memory: str | None = Field(default=None, pattern=r"^[1-9][0-9]*(?:\.[0-9]+)?[KMGTP]i?$")
    """Such as 8Gi."""
    keys_secret: ObjectName | None = None
    """Secret with the party's private keys, mounted as files."""
    image_pull_secrets: list[ObjectName] = Field(default_factory=list)
    """Secrets that open the registry of the images."""


class Placement(NodePool):
    """Where a party's steps run in Kubernetes."""

    kind: Literal["node-pool"] = NODE_POOL


class SitePlacement(NodePool):
    """Where a site's steps run, and how long a step may take.

    `node-pool`: on nodes of the site that belong to the pipeline's own cluster. `kubernetes-job`: in a
    cluster of the site's own, as Jobs that its admission policy admits; nodes, memory, secrets and images are
    then the site's to choose, in its template of a Job.
    """

    kind: Literal["node-pool", "kubernetes-job"] = NODE_POOL
    door: Literal["dispatcher", "agent"] = "dispatcher"
    """Who creates the Jobs: the step's own pod, with `kubeconfig_secret`, or the site's agent, which fetches
    signed requests from the exchange so that nobody outside holds a right in the site's cluster."""
    namespace: str = Field(default="crosscloud", pattern=NAMESPACE)
    """Of the Jobs."""
    kubeconfig_secret: ObjectName | None = None
    """Secret of the pipeline's cluster with the file `kubeconfig`, for the dispatcher's door."""
    deadline_seconds: int = Field(default=3600, ge=1, le=7 * 24 * 3600)
    """A step of a site that takes longer leaves the site out of the round."""

    @model_validator(mode="after")
    def _belongs_to_its_kind(self) -> Self:
        given = {
            name
            for name, field in SitePlacement.model_fields.items()
            if getattr(self, name) != field.get_default(call_default_factory=True)
        }
        if self.kind == NODE_POOL:
            strange = sorted(given & {"door", "namespace", "kubeconfig_secret"})
            rule = f"belongs to kind {JOB}, got kind {NODE_POOL}"
        else:
            strange = [name for name in OF_THE_TEMPLATE if name in given]
            rule = f"is the site's to choose under kind {JOB}: it stands in its own template of a Job"
        problems = [f"{name} {rule}" for name in strange]
        if self.kind == JOB and self.door == "agent" and self.kubeconfig_secret:
            problems.append(
                "kubeconfig_secret is not needed by door agent: the site's agent creates the Jobs"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def as_job(self) -> bool:
        """Whether steps run as Jobs of the site's own cluster."""
        return self.kind == JOB


class Images(Section):
    """Where the images lie, and which builds of them run: in a registry that the clusters reach."""

    registry: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9.:-]*(?:/[a-z0-9._-]+)*)?$", max_length=200)
    """Such as europe-docker.pkg.dev/bank/ml; empty for names without one."""
    site: str = Field(default="", pattern=r"^(sha256:[0-9a-f]{64})?$")
    """Digest that pins the image; its version does where it is empty."""
    aggregator: str = Field(default="", pattern=r"^(sha256:[0-9a-f]{64})?$")
    key_holder: str = Field(default="", pattern=r"^(sha256:[0-9a-f]{64})?$")
    comparison: str = Field(default="", pattern=r"^(sha256:[0-9a-f]{64})?$")
