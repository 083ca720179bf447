"""What the house's rules take, and what they do not, beside the faults."""

from __future__ import annotations

from typing import Any

import pytest

from components import images
from pipelines.spec_check.secret_forms import SECRET_FORMS, secret_form
from tests.pipelines.spec_check.specs import Documents, broken, container, settings

DIGEST = "@sha256:" + "0a" * 32
SAMPLES = {
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "a key of AWS": "id AKIA" + "ABCDEFGH01234567",
    "a key of Google": "AIza" + "b" * 35,
    "a key of Azure": "https://a.blob/x?sv=1&sig=" + "c" * 43,
    "a token of GitHub": "ghp_" + "d" * 36,
    "a token of Hugging Face": "hf_" + "e" * 34,
    "a signed token": "eyJ" + "hbGciOiJI" + "x." + "eyJ" + "zdWIiOiIx" + "x." + "f" * 20,
    "a password in an address": "postgres://me:" + "pw@host/db",
}


@pytest.mark.parametrize("form", SECRET_FORMS)
def test_every_form_of_secret_is_known(form: str) -> None:
    assert secret_form(f"before {SAMPLES[form]} after") == form


@pytest.mark.parametrize(
    "text",
    [
        "gs://YOUR-BUCKET/complaints/exchange",
        "s3://bucket/me@example.org",
        "abfs://container@account.dfs.core.windows.net/path",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "{{$.inputs.parameters['pipelinechannel--train-commitment']}}",
        "-----BEGIN PUBLIC KEY-----",
    ],
)
def test_addresses_digests_and_public_keys_are_no_secrets(text: str) -> None:
    assert secret_form(text) == ""


def rules_with(a_start: Documents, **changes: Any) -> set[str]:
    return {each.rule for each in broken(a_start, lambda d: container(d, "train").update(changes))}


@pytest.mark.parametrize(
    "image",
    [
        f"registry.example:5000/team/{images.SITE}",
        f"registry.example/crosscloud-python-site{DIGEST}",
        f"registry.example/crosscloud-python-site:latest{DIGEST}",
        "crosscloud-python-site:v1.20.3-rc.1",
    ],
)
def test_our_images_may_come_from_any_registry(a_start: Documents, image: str) -> None:
    assert rules_with(a_start, image=image) == set()


@pytest.mark.parametrize(
    "image",
    ["crosscloud-python-site@sha256:0a", "crosscloud-python-site:main", "registry.example:5000/x", ""],
)
def test_others_may_not(a_start: Documents, image: str) -> None:
    assert rules_with(a_start, image=image) & {"image-unpinned", "image-foreign"}


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("TOKENIZERS_PARALLELISM", "false", False),
        ("MAX_TOKENS", "128", False),
        ("OMP_NUM_THREADS", "1", False),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/var/run/secrets/gcp/key.json", False),
        ("HF_TOKEN", "abc", True),
        ("AWS_SECRET_ACCESS_KEY", "abc", True),
        ("SIGNING_KEY", "abc", True),
        ("db_passphrase", "abc", True),
    ],
)
def test_variables_that_carry_secrets(a_start: Documents, name: str, value: str, found: bool) -> None:
    assert rules_with(a_start, env=[{"name": name, "value": value}]) == ({"secret-value"} if found else set())


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["sh", "-c", "apt-get update && apt-get install -y git"], True),
        (["python3", "-m", "pip", "install", "-r", "more.txt"], True),
        (["sh", "-c", "uv pip install x"], True),
        (["sh", "-c", "PIP_NO_INPUT=1 pip3.11 --no-cache-dir install x"], True),
        (["python3", "-c", "import pip; print('installed', pip.__version__)"], False),
        (["sh", "-c", "exec python3 -m kfp.dsl.executor_main"], False),
    ],
)
def test_commands_that_install(a_start: Documents, words: list[str], found: bool) -> None:
    assert rules_with(a_start, command=words) == ({"install-at-run-time"} if found else set())


def test_a_deadline_of_the_pod_above_the_steps_own_is_right(a_start: Documents) -> None:
    """The step then reports that it was late; a pod that is killed first fails the run."""

    def deadline(seconds: int) -> set[str]:
        changed = {"activeDeadlineSeconds": seconds}
        return {each.rule for each in broken(a_start, lambda d: settings(d)["exec-train"].update(changed))}

    assert deadline(3601) == set()
    assert deadline(3600) == {"site-deadline"}


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("/var/run/secrets/warehouse", set()),
        ("/var/run/secrets/crosscloud/west", {"secret-owner"}),
        ("/var/run/secrets/crosscloud", {"secret-owner"}),
        ("/var/run/secrets/crosscloud/east/more", {"secret-owner"}),
        ("/var/run/secrets/x/../crosscloud/west", {"secret-owner"}),
    ],
)
def test_below_the_folder_of_keys_a_step_has_its_own_only(
    a_start: Documents, place: str, found: set[str]
) -> None:
    mount = {"secretName": "of-the-warehouse", "mountPath": place}
    said = broken(a_start, lambda d: settings(d)["exec-train"]["secretAsVolume"].append(mount))
    assert {each.rule for each in said} == found


def test_required_affinity_places_a_step(a_start: Documents) -> None:
    expression = {"key": "crosscloud/party", "operator": "In", "values": ["east"]}

    def affine(documents: Documents) -> None:
        settings(documents)["exec-train"].update(
            nodeSelector={}, nodeAffinity=[{"matchExpressions": [expression]}]
        )

    assert broken(a_start, affine) == []
