"""`crosscloud submit` against a local server that speaks the Kubeflow Pipelines API."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from typing import Any

import pytest

from pipelines.kubeflow import following
from tests.pipelines.command_line import Say
from tests.pipelines.kubeflow.conftest import (
    Submitter,
    compiled,
    compiled_once,
    server,
    submitter,
    usual_environment,
)
from tests.pipelines.kubeflow.pipelines_api.faults import Fault
from tests.pipelines.run_in_progress import COMMAND

__all__ = ["compiled", "compiled_once", "server", "submitter", "usual_environment"]
VERSION = re.compile(r"version  (small-round-[0-9a-f]{12})  (uploaded|is there already)")


def submitted(said_lines: list[str]) -> tuple[str, str, str]:
    """Version, what was done with it, and the run's id."""
    version = VERSION.fullmatch(said_lines[0])
    assert version
    return version[1], version[2], said_lines[1].rpartition("/")[2]


def task(name: str, state: str, *, seconds: int = 0, message: str = "") -> dict[str, Any]:
    details = {
        "display_name": name,
        "state": state,
        "start_time": "2026-11-28T03:00:00Z",
        "end_time": f"2026-11-28T03:00:{seconds:02}Z",
    }
    return details | ({"error": {"code": 13, "message": message}} if message else {})


def test_the_first_submit_uploads_and_runs(submitter: Submitter, say: Say) -> None:
    lines = say("submit", submitter.path).lines
    version, done, run_id = submitted(lines)
    assert done == "uploaded"
    assert lines[1] == f"run      {submitter.server.url}/#/runs/details/{run_id}"
    kept = submitter.server.objects
    (pipeline,), (held,) = kept.pipelines.values(), kept.versions.values()
    assert (pipeline["name"], held["name"]) == ("small-round", version)
    run = kept.runs[run_id]
    assert run["pipeline_version_reference"]["pipeline_version_id"] == held["pipeline_version_id"]
    assert run["runtime_config"] == {"parameters": {}}
    assert kept.experiments[run["experiment_id"]]["display_name"] == "small"


def test_an_unchanged_federation_uploads_nothing_again(submitter: Submitter, say: Say) -> None:
    first = submitted(say("submit", submitter.path).lines)
    second = submitted(say("submit", submitter.path).lines)
    assert second[:2] == (first[0], "is there already")
    assert submitter.server.faults.changes() == [
        "POST /pipelines",
        "POST /pipelines/upload_version",
        "POST /experiments",
        "POST /runs",
        "POST /runs",
    ]


def test_a_changed_federation_is_another_version_of_the_same_pipeline(submitter: Submitter, say: Say) -> None:
    first = submitted(say("submit", submitter.path).lines)
    submitter.change(title="A changed federation")
    second = submitted(say("submit", submitter.path).lines)
    assert second[0] != first[0]
    assert second[1] == "uploaded"
    kept = submitter.server.objects
    assert (len(kept.pipelines), len(kept.versions)) == (1, 2)


def test_run_parameters_and_terms_reach_the_run(submitter: Submitter, say: Say) -> None:
    words = ["--local-epochs", "3", "--learning-rate", "0.5", "--batch-size", "8", "--device", "cpu"]
    words += [
        "--experiment",
        "trials",
        "--service-account",
        "coordinator",
        "--pipeline-root",
        "gs://bucket/root",
    ]
    *_, run_id = submitted(say("submit", submitter.path, *words).lines)
    run = submitter.server.objects.runs[run_id]
    assert run["runtime_config"] == {
        "parameters": {"local_epochs": 3, "learning_rate": 0.5, "batch_size": 8, "device": "cpu"},
        "pipeline_root": "gs://bucket/root",
    }
    assert run["service_account"] == "coordinator"
    assert submitter.server.objects.experiments[run["experiment_id"]]["display_name"] == "trials"


def test_a_method_of_its_own_is_a_version_of_its_own(submitter: Submitter, say: Say) -> None:
    first = submitted(say("submit", submitter.path).lines)
    assert submitted(say("submit", submitter.path, "--method", "fedavg").lines)[0] != first[0]


def test_the_experiment_is_kubeflows_usual_one_where_that_is_set(
    submitter: Submitter, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_DEFAULT_EXPERIMENT_NAME", "of the environment")
    *_, run_id = submitted(say("submit", submitter.path).lines)
    experiment_id = submitter.server.objects.runs[run_id]["experiment_id"]
    assert submitter.server.objects.experiments[experiment_id]["display_name"] == "of the environment"


def test_links_lead_to_the_pages_where_they_are_elsewhere(
    submitter: Submitter, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example.com/pipeline/")
    line = say("submit", submitter.path).lines[1]
    assert line.startswith("run      https://kubeflow.example.com/pipeline/#/runs/details/")


def test_waiting_tells_each_task_once_and_ends_with_the_run(
    submitter: Submitter, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "POLL_S", 0.0)
    opened = task("open-round", "SUCCEEDED", seconds=4)
    running = [opened, task("open-round-driver", "SUCCEEDED"), task("train", "RUNNING")]
    ended = [*running[:2], task("train", "SUCCEEDED", seconds=30), task("root", "SUCCEEDED")]
    for state, tasks in (("RUNNING", [opened]), ("RUNNING", running), ("SUCCEEDED", ended)):
        submitter.server.story.append({"state": state, "run_details": {"task_details": tasks}})
    lines = say("submit", submitter.path, "--wait").lines[2:]
    assert lines == [
        "succeeded  open round  4.0 s",
        "succeeded  train · alpha  30.0 s",
        "the round has succeeded",
    ]


def test_a_run_that_fails_is_told_with_its_task_and_exits_with_1(submitter: Submitter, say: Say) -> None:
    tasks = [task("roster", "FAILED", seconds=2, message="exit code 1"), task("root", "FAILED")]
    submitter.server.story.append({"state": "FAILED", "run_details": {"task_details": tasks}})
    said = say("submit", submitter.path, "--wait")
    assert said.code == 1
    (run_id,) = submitter.server.objects.runs
    assert said.complaints == [f"run {run_id} has ended as FAILED: roster FAILED: exit code 1"]
    assert "failed     roster  2.0 s" in said.out.splitlines()


@pytest.mark.parametrize("state", ["CANCELED", "SKIPPED"])
def test_a_run_that_comes_to_nothing_exits_with_1(submitter: Submitter, say: Say, state: str) -> None:
    submitter.server.story.append({"state": state})
    said = say("submit", submitter.path, "--wait")
    assert said.code == 1
    assert said.complaints[0].endswith(f"has ended as {state}")


def test_whoever_stops_waiting_hears_that_the_run_goes_on(submitter: Submitter) -> None:
    looked = threading.Event()
    submitter.server.faults.after["GET /runs/ID"] = looked.set
    command = [*COMMAND, "submit", str(submitter.path), "--wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        try:
            assert looked.wait(60)
            waiting.send_signal(signal.SIGINT)
            _, error = waiting.communicate(timeout=60)
        finally:
            waiting.kill()
    (run_id,) = submitter.server.objects.runs
    assert waiting.returncode == 130
    assert error == f"the run goes on: {submitter.server.url}/#/runs/details/{run_id}\n"


def test_a_spec_that_breaks_a_rule_is_not_uploaded(submitter: Submitter, say: Say) -> None:
    del submitter.made.site("beta")["placement"]
    submitter.made.save()
    said = say("submit", submitter.path)
    assert said.code == 2
    assert len(said.complaints) == 7
    for complaint in said.complaints:
        assert re.match(
            r"small-round\.yaml:\d+: placement-missing: '\w+ · beta' may run on any node", complaint
        )
    assert submitter.server.faults.changes() == []


def test_two_submitters_at_once_make_one_pipeline_and_one_version(submitter: Submitter) -> None:
    """Two processes that both have seen that nothing is there yet."""
    together = threading.Barrier(2)
    faults = submitter.server.faults

    def meet() -> None:
        faults.after["GET /pipelines/names/NAME"] = meet_again
        together.wait(30)

    def meet_again() -> None:
        together.wait(30)

    faults.after["GET /pipelines/names/NAME"] = meet
    command = [*COMMAND, "submit", str(submitter.path)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"
    ]
    said = [each.communicate(timeout=60) for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    kept = submitter.server.objects
    assert (len(kept.pipelines), len(kept.versions), len(kept.runs)) == (1, 1, 2)
    done = sorted(submitted(out.splitlines())[1] for out, _ in said)
    assert done == ["is there already", "uploaded"]
    assert faults.count("POST /pipelines") == 2


def test_a_version_that_another_uploads_meanwhile_is_used(submitter: Submitter, say: Say) -> None:
    submitter.server.faults.add("POST /pipelines/upload_version", Fault(done=True))
    *_, run_id = submitted(say("submit", submitter.path).lines)
    assert run_id in submitter.server.objects.runs
    assert len(submitter.server.objects.versions) == 1


def test_a_version_of_that_name_with_other_content_is_refused(submitter: Submitter, say: Say) -> None:
    say("submit", submitter.path)
    (held,) = submitter.server.objects.versions.values()
    held["description"] = f"spec sha256:{'0' * 64}"
    said = say("submit", submitter.path)
    assert said.code == 2
    assert said.complaints[0].startswith(
        f"version {held['name']} at {submitter.server.url} was made of another"
    )


def test_parameters_out_of_range_are_refused_before_anything_is_asked(submitter: Submitter, say: Say) -> None:
    assert say("submit", submitter.path, "--device", "tpu").complaints == [
        "--device must be auto, cpu or cuda, got 'tpu'"
    ]
    assert say("submit", submitter.path, "--learning-rate", "nan").complaints == [
        "--learning-rate must be above 0 and at most 1000, got nan"
    ]
    assert submitter.server.faults.requests == []
