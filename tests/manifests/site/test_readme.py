"""What the README tells an owner to do works as it stands there."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from components.execution.jobs.order import JobOrder
from components.execution.jobs.template import fill_template, read_template
from tests.manifests.site.admission import Manifest
from tests.manifests.site.overlays import CLOUDS, SITE, named, pins_of, template_of

README = (SITE / "README.md").read_text()


def test_the_owner_s_own_overlay_builds_and_replaces_what_it_should(
    kustomized: Callable[[Path], list[Manifest]], tmp_path: Path
) -> None:
    shutil.copytree(SITE, tmp_path / "site")
    own = tmp_path / "own"
    own.mkdir()
    (own / "kustomization.yaml").write_text(re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0])
    for file in ("job.yaml", "pins.yaml"):
        changed = (SITE / "gke" / file).read_text().replace("YOUR-BUCKET-north", "hospital")
        (own / file).write_text(changed)
    (own / "policy.yaml").write_text("charter: " + "a" * 64)
    built = kustomized(own)
    assert pins_of(built)["store-uri"] == "gs://hospital/store"
    assert "gs://hospital/store" in template_of(built)
    assert named(built, "ConfigMap", "crosscloud-policy")["data"]["policy.yaml"] == "charter: " + "a" * 64


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_sample_is_what_a_dispatcher_sends(cloud: str) -> None:
    command = [
        "kubectl",
        "patch",
        "--local",
        "--type=json",
        "-o",
        "yaml",
        "-f",
        str(SITE / cloud / "job.yaml"),
    ]
    done = subprocess.run(
        [*command, f"--patch-file={SITE / 'sample-job.json'}"], capture_output=True, text=True, check=True
    )
    order = JobOrder(step="ingest", request="0" * 64, deadline_s=3600)
    template = read_template((SITE / cloud / "job.yaml").read_text())
    assert yaml.safe_load(done.stdout) == fill_template(template, order, "crosscloud")


def test_every_policy_and_object_is_told_about(kustomized: Callable[[Path], list[Manifest]]) -> None:
    for manifest in kustomized(SITE / "base"):
        if manifest["kind"] == "NetworkPolicy":
            continue  # told about together
        name = manifest["metadata"]["name"].removeprefix("crosscloud-")
        assert name in README, manifest["metadata"]["name"]
