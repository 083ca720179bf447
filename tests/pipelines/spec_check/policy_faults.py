"""Faults that a spec has in this house: images, secrets, placement, and data that crosses."""

from __future__ import annotations

import copy

from components import images
from tests.pipelines.spec_check.specs import (
    Documents,
    Fault,
    constant,
    container,
    given,
    settings,
    takes_artifact,
    tasks,
)

LARGE = "x" * (128 << 10)
SECRET = "-----BEGIN " + "PRIVATE KEY-----"


def snake_case_secret(documents: Documents) -> None:
    """The field in protobuf's other spelling, which Kubeflow takes as well."""
    settings(documents)["exec-train"]["secret_as_env"] = [{"secret_name": "s", "key_to_env": []}]


POLICY: list[Fault] = [
    (
        "latest",
        lambda d: container(d, "train").update(image="crosscloud-python-site:latest"),
        "image-unpinned",
    ),
    ("no tag", lambda d: container(d, "train").update(image="crosscloud-python-site"), "image-unpinned"),
    (
        "half a version",
        lambda d: container(d, "train").update(image="crosscloud-python-site:1.2"),
        "image-unpinned",
    ),
    ("foreign image", lambda d: container(d, "train").update(image="python:3.11.9"), "image-foreign"),
    ("prefixed name", lambda d: container(d, "train").update(image="my-" + images.SITE), "image-foreign"),
    ("role mixed up", lambda d: container(d, "train").update(image=images.AGGREGATOR), "image-role"),
    (
        "pip in the command",
        lambda d: container(d, "train")["command"].insert(2, "python3 -m pip install --quiet x"),
        "install-at-run-time",
    ),
    (
        "pip as words",
        lambda d: container(d, "train").update(command=["pip3", "--quiet", "install", "x"]),
        "install-at-run-time",
    ),
    (
        "pip in code",
        lambda d: container(d, "train")["args"].append("run([sys.executable, '-m', 'pip', 'install', 'x'])"),
        "install-at-run-time",
    ),
    (
        "importer",
        lambda d: d[0]["deploymentSpec"]["executors"].update(
            {"exec-train": {"importer": {"artifactUri": {"constant": "gs://b/o"}}}}
        ),
        "executor-kind",
    ),
    ("cached", lambda d: tasks(d)["train"].update(cachingOptions={"enableCache": True}), "caching"),
    ("cached, snake", lambda d: tasks(d)["train"].update(cachingOptions={"enable_cache": True}), "caching"),
    ("large argument", lambda d: container(d, "train")["args"].append(LARGE), "argument-size"),
    ("large constants", lambda d: given(d, "train").update(site=constant(LARGE)), "argument-size"),
    (
        "secret in the environment",
        lambda d: settings(d)["exec-train"].update(secretAsEnv=[{"secretName": "s", "keyToEnv": []}]),
        "secret-env",
    ),
    ("the same, snake", snake_case_secret, "secret-env"),
    (
        "value in the environment",
        lambda d: container(d, "train").update(env=[{"name": "DB_PASSWORD", "value": "hunter2"}]),
        "secret-value",
    ),
    ("key as a constant", lambda d: given(d, "train").update(site=constant(SECRET)), "secret-value"),
    (
        "password in an address",
        lambda d: given(d, "train").update(store_uri=constant("s3://me:" + "hunter2@bucket/store")),
        "secret-value",
    ),
    (
        "another site's secret",
        lambda d: settings(d)["exec-train"]["secretAsVolume"].append(
            copy.deepcopy(settings(d)["exec-train-2"]["secretAsVolume"][0])
        ),
        "secret-owner",
    ),
    (
        "a site's secret at the aggregator",
        lambda d: settings(d)["exec-aggregate"].update(
            secretAsVolume=settings(d)["exec-train"]["secretAsVolume"]
        ),
        "secret-owner",
    ),
    (
        "secret chosen by the run",
        lambda d: settings(d)["exec-train"]["secretAsVolume"][0].update(
            secretNameParameter={"componentInputParameter": "device"}
        ),
        "secret-chosen",
    ),
    ("not placed", lambda d: settings(d)["exec-train"].pop("nodeSelector"), "placement-missing"),
    ("no settings", lambda d: settings(d).pop("exec-train"), "placement-missing"),
    ("no platform at all", lambda d: d.pop(), "placement-missing"),
    (
        "on another's nodes",
        lambda d: settings(d)["exec-train"].update(nodeSelector=settings(d)["exec-train-2"]["nodeSelector"]),
        "placement-shared",
    ),
    (
        "on the aggregator's nodes",
        lambda d: settings(d)["exec-train"].update(
            nodeSelector=settings(d)["exec-aggregate"]["nodeSelector"]
        ),
        "placement-shared",
    ),
    (
        "nodes chosen by the run",
        lambda d: settings(d)["exec-train"].update(
            nodeSelector={"nodeSelectorJson": {"componentInputParameter": "device"}}
        ),
        "placement-missing",
    ),
    (
        "nodes that are only preferred",
        lambda d: settings(d)["exec-train"].update(
            nodeSelector={},
            nodeAffinity=[{"weight": 1, "matchExpressions": [{"key": "a", "operator": "Exists"}]}],
        ),
        "placement-missing",
    ),
    (
        "a volume of two",
        lambda d: [
            settings(d)[f"exec-{name}"].update(pvcMount=[{"mountPath": f"/{name}", "constant": "scratch"}])
            for name in ("train", "aggregate")
        ],
        "volume-shared",
    ),
    (
        "a workspace",
        lambda d: d[1]["platforms"]["kubernetes"].update(pipelineConfig={"workspace": {"size": "1Gi"}}),
        "volume-shared",
    ),
    ("root", lambda d: settings(d)["exec-train"].update(securityContext={"runAsUser": 0}), "root-user"),
    (
        "no site",
        lambda d: given(d, "train").update(site={"componentInputParameter": "device"}),
        "site-unnamed",
    ),
    ("no deadline", lambda d: given(d, "train").update(deadline_s=constant(0)), "site-deadline"),
    ("pod dies first", lambda d: settings(d)["exec-train"].update(activeDeadlineSeconds=60), "site-deadline"),
    (
        "artifact to the aggregator",
        lambda d: takes_artifact(d, "aggregate", "train"),
        "site-artifact-crosses",
    ),
    ("artifact to another site", lambda d: takes_artifact(d, "train-2", "augment"), "site-artifact-crosses"),
    ("artifact to the same site", lambda d: takes_artifact(d, "train", "augment"), "site-artifact-read"),
    (
        "artifact out of the pipeline",
        lambda d: (
            d[0]["root"].update(
                outputDefinitions={"artifacts": {"out": {"artifactType": {"schemaTitle": "system.Model"}}}}
            ),
            d[0]["root"]["dag"].update(
                outputs={
                    "artifacts": {
                        "out": {
                            "artifactSelectors": [
                                {"producerSubtask": "train", "outputArtifactKey": "manifest"}
                            ]
                        }
                    }
                }
            ),
        ),
        "site-artifact-crosses",
    ),
]
