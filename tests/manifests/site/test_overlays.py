"""Every overlay builds, has known fields only, and says one thing in template, pins and policies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from components.agreement.site_policy import SitePolicy
from tests.manifests.site.admission import Manifest
from tests.manifests.site.clusters import Cluster
from tests.manifests.site.overlays import CLOUDS, COMPONENTS, OVERLAYS, SITE, named, pins_of, template_of
from tests.manifests.site.stored import filled
from tests.manifests.site.variants import STEP, put

OF_THE_CLUSTER = {"Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
KUBERNETES = ("1.30", "1.33", "1.37")
AGENT_IMAGE = f"registry.example/crosscloud-python-aggregator@sha256:{'2' * 64}"
CANONICAL = re.compile(r"[1-9]\d*(Ki|Mi|Gi|Ti)?|[1-9]\d*m")

Build = Callable[[Path], list[Manifest]]


@pytest.fixture(scope="session")
def with_agent(
    tmp_path_factory: pytest.TempPathFactory, with_overlay: Callable[..., Path]
) -> Callable[[str, str], Path]:
    """The folder of an overlay with one of the agent's components, written once."""
    written: dict[tuple[str, str], Path] = {}

    def folder(overlay: str, component: str) -> Path:
        if (overlay, component) not in written:
            home = tmp_path_factory.mktemp("agent")
            written[overlay, component] = with_overlay(
                home, overlay=overlay, component=component, agent_image=AGENT_IMAGE
            )
        return written[overlay, component]

    return folder


@pytest.fixture(params=[*OVERLAYS, *((cloud, part) for cloud in CLOUDS for part in COMPONENTS)], ids=str)
def objects(
    request: pytest.FixtureRequest, kustomized: Build, with_agent: Callable[[str, str], Path]
) -> list[Manifest]:
    """What is applied: an overlay as it is shipped, or with the agent."""
    if isinstance(request.param, str):
        return kustomized(SITE / request.param)
    return kustomized(with_agent(*request.param))


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_of_an_overlay_has_known_fields_only(
    kustomized: Build, overlay: str, version: str
) -> None:
    _require_known_fields(kustomized(SITE / overlay), version)


def test_with_the_agent_too(objects: list[Manifest]) -> None:
    _require_known_fields(objects, KUBERNETES[-1])


def _require_known_fields(objects: list[Manifest], version: str) -> None:
    jobs = [filled(template_of(objects), step=step) for step in ("train", "seal")]
    for manifest in [*objects, *jobs]:
        _require_known_fields_of(json.dumps(manifest, sort_keys=True), version)


@cache
def _require_known_fields_of(manifest: str, version: str) -> None:
    """Overlays share most of their objects: each is validated once."""
    kubernetes_validate.validate(json.loads(manifest), version, strict=True)


def test_validation_refuses_a_field_that_does_not_exist(kustomized: Build) -> None:
    account = named(kustomized(SITE / "gke"), "ServiceAccount", "crosscloud-step")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(account | {"rules": []}, KUBERNETES[-1], strict=True)


def test_every_object_lies_where_it_belongs_and_stands_once(objects: list[Manifest]) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(set(names)) == len(names)
    for manifest in objects:
        namespace = manifest["metadata"].get("namespace")
        assert namespace == (None if manifest["kind"] in OF_THE_CLUSTER else "crosscloud")


def test_no_secret_is_shipped_and_no_object_grants_more_than_a_role(objects: list[Manifest]) -> None:
    kinds = {each["kind"] for each in objects}
    assert kinds.isdisjoint({"Secret", "ClusterRole", "ClusterRoleBinding", "Service", "Ingress"})


def test_an_owner_may_choose_another_namespace(
    kustomized: Build, tmp_path: Path, with_overlay: Callable[..., Path]
) -> None:
    folder = with_overlay(
        tmp_path, overlay="gke", component="agent", agent_image=AGENT_IMAGE, namespace="hospital"
    )
    built = kustomized(folder)
    assert "crosscloud" not in {each["metadata"].get("namespace") for each in built}
    assert named(built, "Namespace", "hospital")["metadata"]["labels"]["crosscloud.dev/admission"] == "pinned"
    binding = named(built, "RoleBinding", "crosscloud-agent")
    assert [subject["namespace"] for subject in binding["subjects"]] == ["hospital"]


def test_the_namespace_holds_pods_to_the_restricted_standard(objects: list[Manifest]) -> None:
    labels = named(objects, "Namespace", "crosscloud")["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
        assert labels[f"pod-security.kubernetes.io/{mode}-version"] == "latest"


def test_pins_of_quantities_are_as_the_api_server_prints_them(cluster: Cluster) -> None:
    for name in ("cpu", "memory", "ephemeral-storage", "work-size", "tmp-size"):
        assert CANONICAL.fullmatch(cluster.pins[name])
    assert cluster.pins["image"].count("@sha256:") == 1


def test_an_overlay_changes_the_template_where_sites_differ_and_nowhere_else(cluster: Cluster) -> None:
    ours, base = (yaml.safe_load(text) for text in (cluster.template, (SITE / "base/job.yaml").read_text()))
    for job in (ours, base):
        pod = job["spec"]["template"]["spec"]
        for field in ("nodeSelector", "tolerations", "imagePullSecrets"):
            pod.pop(field, None)
        container = pod["containers"][0]
        container.pop("image")
        del container["env"][:4], container["env"][4:]
        container["volumeMounts"] = [each["name"] for each in container["volumeMounts"][:3]]
        del pod["volumes"][3:]
    assert ours == base


def test_a_template_that_differs_from_the_pins_is_refused(cluster: Cluster) -> None:
    for name, value in {
        "image": f"registry.example/other@sha256:{'3' * 64}",
        "site": "elsewhere",
        "store-uri": "s3://elsewhere/store",
        "exchange-uri": "s3://elsewhere/exchange",
        "keys-uri": "s3://elsewhere/keys",
        "memory": "8Gi",
        "work-size": "20Gi",
        "node-selector": "pool=other",
        "tolerations": "other:NoSchedule",
        "image-pull-secrets": "other",
        "priority-class": "low",
        "runtime-class": "gvisor",
        "identity-env": "OTHER=value",
        "identity-tokens": "token=other",
        "accelerator": "amd.com/gpu",
        "accelerator-most": "0",
        "deadline-most": "4199",
        "steps": "ingest",
    }.items():
        strict = Cluster(
            objects=cluster.objects, policies=cluster.policies, pins=cluster.pins | {name: value}
        )
        assert strict.on_create(cluster.job()), name


def test_pins_that_are_missing_or_empty_admit_nothing(cluster: Cluster) -> None:
    optional = {"agent-image", "accelerator", "accelerator-most"}
    for name in cluster.pins.keys() - optional:
        lacking = {key: value for key, value in cluster.pins.items() if key != name}
        broken = Cluster(objects=cluster.objects, policies=cluster.policies, pins=lacking)
        assert broken.on_create(cluster.job("seal")), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("identity-env", "NAME"),
        ("identity-tokens", "token"),
        ("tolerations", "key"),
        ("accelerator-most", "two"),
        ("deadline-most", ""),
    ],
)
def test_pins_that_cannot_be_read_admit_nothing(eks: Cluster, name: str, value: str) -> None:
    broken = Cluster(objects=eks.objects, policies=eks.policies, pins=eks.pins | {name: value})
    assert [denial for denial in broken.on_create(eks.job()) if denial.error]


@pytest.mark.parametrize("cloud", ["eks", "aks", "onprem"])
def test_the_federation_expects_the_token_that_the_template_mounts(
    cluster_of: Callable[[str], Cluster], cloud: str
) -> None:
    site = cluster_of(cloud)
    data = named(site.objects, "ConfigMap", "crosscloud-identity")["data"]
    tokens = dict(line.split("=", 1) for line in site.pins["identity-tokens"].splitlines())
    federation = json.loads(data["google.json"])
    assert federation["type"] == "external_account"
    assert federation["audience"] == tokens["google-token"]
    assert Path(federation["credential_source"]["file"]).name == "google-token"


def test_pins_must_name_the_image_by_its_digest(eks: Cluster) -> None:
    for image in ("registry.example/site:0.1.0", "registry.example/site@sha256:abc", ""):
        lax = Cluster(objects=eks.objects, policies=eks.policies, pins=eks.pins | {"image": image})
        job = lax.job()
        job["spec"]["template"]["spec"]["containers"][0]["image"] = image
        assert [denial.topic for denial in lax.on_create(job)] == ["pinned image"]


def test_without_steps_in_the_pins_none_is_admitted(eks: Cluster) -> None:
    stopped = Cluster(objects=eks.objects, policies=eks.policies, pins=eks.pins | {"steps": ""})
    job = eks.job("seal")
    assert [denial.topic for denial in stopped.on_create(job)] == ["arguments"]
    put(job, f"{STEP}.args.0", "")
    assert "arguments" in {denial.topic for denial in stopped.on_create(job)}


def test_priority_and_runtime_classes_may_be_pinned(eks: Cluster) -> None:
    pins = eks.pins | {"priority-class": "steps", "runtime-class": "gvisor"}
    chosen = Cluster(objects=eks.objects, policies=eks.policies, pins=pins)
    job = eks.job()
    pod = job["spec"]["template"]["spec"]
    assert {denial.topic for denial in chosen.on_create(job)} == {"priority", "runtime class"}
    pod |= {"priorityClassName": "steps", "runtimeClassName": "gvisor"}
    assert chosen.on_create(job) == []
    pod["runtimeClassName"] = "runc"
    assert [denial.topic for denial in chosen.on_create(job)] == ["runtime class"]


def test_the_policy_that_is_shipped_refuses_every_round(objects: list[Manifest]) -> None:
    text = named(objects, "ConfigMap", "crosscloud-policy")["data"]["policy.yaml"]
    policy = SitePolicy.model_validate(yaml.safe_load(text))
    assert policy.charter == "0" * 64
    assert (policy.protections, policy.queries, policy.tasks, policy.stores) == ((), (), (), ())


def test_the_agent_is_told_what_the_pins_say(
    kustomized: Build, tmp_path: Path, with_overlay: Callable[..., Path]
) -> None:
    folder = with_overlay(tmp_path, overlay="eks", component="agent-federated", agent_image=AGENT_IMAGE)
    built = kustomized(folder)
    pod = named(built, "Deployment", "crosscloud-agent")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    pins, env = pins_of(built), {each["name"]: each.get("value") for each in container["env"]}
    assert container["image"] == AGENT_IMAGE
    assert env["CROSSCLOUD_SITE"] == pins["site"]
    assert env["CROSSCLOUD_EXCHANGE_URI"] == pins["exchange-uri"]
    assert env["CROSSCLOUD_KEYS_URI"] == pins["keys-uri"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounts["party"] == f"/var/run/secrets/crosscloud/{pins['site']}"
    assert "secret" not in yaml.safe_dump(pod["volumes"]).replace("/var/run/secrets", "")


def test_yamllint_finds_nothing() -> None:
    config = YamlLintConfig(file="manifests/.yamllint.yaml")
    for path in sorted(SITE.rglob("*.yaml")):
        assert list(linter.run(path.read_text(), config)) == [], path


def test_every_kustomization_of_the_folder_is_tested() -> None:
    folders = {path.parent.name for path in SITE.glob("*/kustomization.yaml")}
    assert folders == {*OVERLAYS, *COMPONENTS}
