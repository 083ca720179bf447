"""Puts a task where its party's part of the work belongs in Kubernetes.

What every task is given is set on its container itself: kfp's setters look through the caller's whole stack
for their own name each time, which is most of the time that building a round takes.
"""

from __future__ import annotations

from kfp import dsl, kubernetes

from components import images
from components.agreement.charter import COORDINATOR
from components.agreement.private_keys import MOUNTED_KEYS
from components.execution import progress
from components.site_steps.job_terms import MOUNTED_CLUSTERS, JobTerms
from pipelines.federation import Federation
from pipelines.federation_sections import Site
from pipelines.placement_sections import Images, NodePool

_ROLES = {
    images.SITE: "site",
    images.AGGREGATOR: "aggregator",
    images.KEY_HOLDER: "key_holder",
    images.COMPARISON: "comparison",
}


def place(
    task: dsl.PipelineTask,
    placement: NodePool,
    *,
    federation: Federation,
    title: str,
    owner: str = "",
    computes: bool = False,
) -> dsl.PipelineTask:
    """Names a task, turns Kubeflow's cache off, and sets image, nodes, resources, secret and user.

    Kubeflow's cache keys hold names and parameters and not the contents of stores, so no step may
    be answered from it.

    Args:
        task: to be placed.
        placement: of its party.
        federation: whose round it is, and where its images lie.
        title: name in the UI.
        owner: whose private keys it needs, empty for none.
        computes: whether it gets the party's accelerator.
    """
    task.set_display_name(title)
    task.set_caching_options(enable_caching=False)
    task.container_spec.image = image_of(task.container_spec.image, federation.images)
    kubernetes.set_security_context(
        task, run_as_user=images.USER, run_as_group=images.USER, run_as_non_root=True
    )
    _name_in_logs(task, federation)
    for label, value in sorted(placement.node_selector.items()):
        kubernetes.add_node_selector(task, label_key=label, label_value=value)
    for taint in placement.tolerations:
        kubernetes.add_toleration(
            task, key=taint.key, operator=taint.operator, value=taint.value, effect=taint.effect
        )
    if placement.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(placement.image_pull_secrets))
    if placement.memory:
        task.set_memory_limit(placement.memory)
    if computes and placement.accelerator:
        task.set_accelerator_type(placement.accelerator.type)
        task.set_accelerator_limit(placement.accelerator.count)
    if owner and placement.keys_secret:
        kubernetes.use_secret_as_volume(
            task, secret_name=placement.keys_secret, mount_path=f"{MOUNTED_KEYS}/{owner}"
        )
    return task


def place_at_site(
    task: dsl.PipelineTask, federation: Federation, site: Site, *, title: str, computes: bool = False
) -> dsl.PipelineTask:
    """Puts a site's task on the site's nodes, or, where the site's steps run as Jobs, its dispatcher.

    A dispatcher is the coordinator's: it runs the aggregator's image on the coordinator's nodes, signs
    requests with the coordinator's key, and holds what opens the site's cluster, if anything does.
    """
    if not site.placement.as_job:
        return place(
            task, site.placement, federation=federation, title=title, owner=site.name, computes=computes
        )
    task.container_spec.image = images.AGGREGATOR
    place(task, federation.coordinator, federation=federation, title=title, owner=COORDINATOR)
    if site.placement.kubeconfig_secret:
        kubernetes.use_secret_as_volume(
            task,
            secret_name=site.placement.kubeconfig_secret,
            mount_path=f"{MOUNTED_CLUSTERS}/{site.name}",
        )
    return task


def _name_in_logs(task: dsl.PipelineTask, federation: Federation) -> None:
    """Has the step log lines of JSON that name the run, by a label that Kubeflow gives each of its pods."""
    task.container_spec.env = {progress.LOG: "json", progress.FEDERATION: federation.federation}
    kubernetes.use_field_path_as_env(
        task, env_name=progress.RUN_ID, field_path="metadata.labels['pipeline/runid']"
    )


def image_of(image: str, built: Images) -> str:
    """The image of a role where a federation's clusters find it: by digest, else by version."""
    pinned = str(getattr(built, _ROLES[image]))
    named = f"{image.partition(':')[0]}@{pinned}" if pinned else image
    return f"{built.registry}/{named}" if built.registry else named


def job_terms(site: Site) -> str:
    """The constant by which a site's tasks know that they run as Jobs; empty where they do not."""
    placement = site.placement
    if not placement.as_job:
        return ""
    accelerator = placement.accelerator
    return JobTerms(
        door=placement.door,
        namespace=placement.namespace,
        accelerator=accelerator.type if accelerator else "",
        accelerators=accelerator.count if accelerator else 0,
    ).to_text()
