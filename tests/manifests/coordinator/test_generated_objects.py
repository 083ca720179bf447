"""The objects that the overlay for Kubernetes-native pipelines ships are what the command writes."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from pipelines.federation import load_federation
from tests.manifests.coordinator.renew import COMMAND, FEDERATION, OBJECTS, compiled
from tests.manifests.coordinator.shipped_overlays import Overlay, of_kind


def test_they_are_written_anew_to_the_same_bytes(tmp_path: Path) -> None:
    written = compiled(load_federation(FEDERATION), tmp_path)
    assert written == OBJECTS.read_bytes(), f"write them anew: {COMMAND}"


def test_kustomize_keeps_the_spec_and_kubeflow_can_read_it(overlay: Overlay) -> None:
    (version,) = of_kind(overlay("kubernetes-native"), "PipelineVersion")
    (pipeline,) = of_kind(overlay("kubernetes-native"), "Pipeline")
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"] == "complaints-round"
    spec = json_format.ParseDict(version["spec"]["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict(
        json_format.MessageToDict(spec.deployment_spec), pipeline_spec_pb2.PipelineDeploymentConfig()
    )
    platform = json_format.ParseDict(version["spec"]["platformSpec"], pipeline_spec_pb2.PlatformSpec())
    executors = platform.platforms["kubernetes"].deployment_spec.executors
    assert len(executors) == len(version["spec"]["pipelineSpec"]["deploymentSpec"]["executors"])
    for executor in executors.values():
        json_format.ParseDict(
            json_format.MessageToDict(executor), kubernetes_executor_config_pb2.KubernetesExecutorConfig()
        )


def test_both_objects_fit_into_what_a_cluster_stores() -> None:
    # etcd takes 1.5 MiB a request; `kubectl apply` without --server-side keeps a copy of at most 256 KiB.
    assert OBJECTS.stat().st_size < 1_500_000


def test_no_version_is_pruned_that_schedules_refer_to(overlay: Overlay) -> None:
    (version,) = of_kind(overlay("kubernetes-native"), "PipelineVersion")
    assert version["metadata"]["annotations"] == {
        "argocd.argoproj.io/sync-options": "Prune=false",
        "kustomize.toolkit.fluxcd.io/prune": "disabled",
    }
