"""`crosscloud check` as it is typed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from components.agreement.methods import METHODS
from pipelines.compile import compile_round
from pipelines.federation import load_federation
from tests.pipelines.command_line import Say
from tests.pipelines.golden.renew import kept

WORKFLOW = Path(".github/workflows/check.yaml")
GOLDEN = kept("complaints-bigquery").resolve()


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec that is whole, in the working folder."""
    shutil.copy(GOLDEN, tmp_path / "round.yaml")
    monkeypatch.chdir(tmp_path)
    return Path("round.yaml")


def break_(spec: Path) -> int:
    """Takes the pin off an image; the line it stands in."""
    lines = spec.read_text().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if "image: crosscloud-python-key-holder:" in line)
    lines[at] = lines[at].rpartition(":")[0] + ":latest\n"
    spec.write_text("".join(lines))
    return at + 1


def unname(spec: Path) -> None:
    """Takes a task's name in the UI away, which is a warning."""
    documents = list(yaml.safe_load_all(spec.read_text()))
    documents[0]["root"]["dag"]["tasks"]["report"].pop("taskInfo")
    spec.write_text(yaml.safe_dump_all(documents))


def test_a_whole_spec_passes_without_a_word(say: Say, spec: Path) -> None:
    said = say("check", "--strict", spec)
    assert (said.code, said.lines) == (0, ["1 spec: 0 errors, 0 warnings"])


def test_a_warning_is_told_and_passes(say: Say, spec: Path) -> None:
    unname(spec)
    warning, counts = say("check", spec).lines
    assert "  warning  " in warning
    assert counts == "1 spec: 0 errors, 1 warning"


def test_strict_takes_warnings_for_errors(say: Say, spec: Path) -> None:
    unname(spec)
    said = say("check", "--strict", spec)
    assert (said.code, said.err) == (1, "")
    assert said.out.splitlines()[-1] == "1 spec: 1 error, 0 warnings"


def test_an_error_is_told_with_its_line_and_exits_with_1(say: Say, spec: Path) -> None:
    line = break_(spec)
    said = say("check", spec)
    assert (said.code, said.err) == (1, "")
    told = said.out.splitlines()[0]
    assert told.startswith(f"round.yaml:{line}  ")
    assert "  error  image-unpinned  " in told
    assert "'crosscloud-python-key-holder:latest' can change under its name" in told


@pytest.mark.parametrize("form", ["json", "sarif"])
def test_formats_for_programs_are_json_alone(say: Say, spec: Path, form: str) -> None:
    break_(spec)
    said = say("check", spec, "--format", form)
    assert (said.code, said.err) == (1, "")
    assert "image-unpinned" in json.dumps(json.loads(said.out))


def test_annotations_for_github(say: Say, spec: Path) -> None:
    line = break_(spec)
    said = say("check", spec, "--format", "github")
    assert said.code == 1
    assert said.out.startswith(
        f"::error file=round.yaml,line={line},title=image-unpinned::'crosscloud-python-"
    )
    assert all(each.startswith(("::error ", "::warning ")) for each in said.out.splitlines())


def test_what_is_no_spec_exits_with_2_a_line_a_file(say: Say, spec: Path) -> None:
    Path("notes.yaml").write_text("a: 1\n")
    said = say("check", spec, "nowhere.yaml", "notes.yaml")
    assert (said.code, said.out) == (2, "")
    assert said.complaints == [
        "nowhere.yaml cannot be read: No such file or directory",
        "notes.yaml is not a compiled spec: document 1 has neither of components, deploymentSpec, "
        "pipelineInfo, root, schemaVersion nor platforms",
    ]


def test_a_spec_named_twice_is_checked_once(say: Say, spec: Path) -> None:
    assert say("check", spec, spec).lines[-1].startswith("1 spec: ")


def test_what_this_command_compiles_passes(say: Say, tmp_path: Path) -> None:
    federation = load_federation(Path("manifests/federations/quickstart.yaml"))
    compiled = compile_round(federation.with_method("fedavg"), tmp_path / "round.yaml")
    assert say("check", compiled).lines[-1].startswith("1 spec: 0 errors, ")


def test_the_workflow_checks_every_federation_under_every_method() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text())
    assert "pull_request" in workflow[True], "YAML reads the word 'on' as true"
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets" not in WORKFLOW.read_text()
    script = "\n".join(step.get("run", "") for step in workflow["jobs"]["check"]["steps"])
    assert f"for method in {' '.join(METHODS)}; do" in script
    assert "manifests/federations/*.yaml" in script
    assert "crosscloud check --format github" in script
    for step in workflow["jobs"]["check"]["steps"]:
        subprocess.run(["bash", "-n"], input=step.get("run", ""), text=True, check=True)
