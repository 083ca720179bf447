"""Puts a task where its party's part of the work belongs in Kubernetes."""

from __future__ import annotations

from kfp import dsl, kubernetes

from components.agreement.private_keys import MOUNTED_KEYS
from pipelines.federation_sections import Placement


def place(
    task: dsl.PipelineTask, placement: Placement, *, title: str, owner: str = "", computes: bool = False
) -> dsl.PipelineTask:
    """Names a task, turns Kubeflow's cache off, and sets nodes, resources and secret.

    Kubeflow's cache keys hold names and parameters and not the contents of stores, so no step may
    be answered from it.

    Args:
        task: to be placed.
        placement: of its party.
        title: name in the UI.
        owner: whose private keys it needs, empty for none.
        computes: whether it gets the party's accelerator.
    """
    task.set_display_name(title)
    task.set_caching_options(enable_caching=False)
    for label, value in sorted(placement.node_selector.items()):
        kubernetes.add_node_selector(task, label_key=label, label_value=value)
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
