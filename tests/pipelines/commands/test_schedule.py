"""`crosscloud schedule` against a local server that speaks the Kubeflow Pipelines API."""

from __future__ import annotations

import re

from tests.pipelines.command_line import Say
from tests.pipelines.kubeflow.conftest import (
    Submitter,
    compiled,
    compiled_once,
    server,
    submitter,
    usual_environment,
)

__all__ = ["compiled", "compiled_once", "server", "submitter", "usual_environment"]


def test_it_schedules_once_and_then_leaves_it_alone(submitter: Submitter, say: Say) -> None:
    first = say("schedule", submitter.path).lines
    (made,) = submitter.recurring
    (version,) = submitter.server.objects.versions.values()
    assert first[:3] == [
        f"version    {version['name']}  uploaded",
        "created    0 0 3 * * *",
        f"schedule   {submitter.server.url}/#/recurringrun/details/{made['recurring_run_id']}",
    ]
    assert re.fullmatch(r"next       20\d\d-\d\d-\d\d 03:00:00 UTC", first[3])
    reference = made["pipeline_version_reference"]
    assert reference["pipeline_version_id"] == version["pipeline_version_id"]
    asked = submitter.server.faults.changes()
    second = say("schedule", submitter.path).lines
    assert second[:2] == [f"version    {version['name']}  is there already", "unchanged  0 0 3 * * *"]
    assert submitter.server.faults.changes() == asked


def test_a_changed_file_and_other_parameters_replace_it(submitter: Submitter, say: Say) -> None:
    say("schedule", submitter.path)
    submitter.change(schedule={"cron": "0 30 4 * * SUN"})
    assert say("schedule", submitter.path).lines[1] == "replaced   0 30 4 * * SUN"
    words = ["--local-epochs", "2", "--service-account", "coordinator"]
    assert say("schedule", submitter.path, *words).lines[1] == "replaced   0 30 4 * * SUN"
    assert say("schedule", submitter.path, *words).lines[1] == "unchanged  0 30 4 * * SUN"
    submitter.change(title="A changed federation")
    assert say("schedule", submitter.path, *words).lines[:2][1] == "replaced   0 30 4 * * SUN"
    (kept,) = submitter.recurring
    assert kept["runtime_config"]["parameters"] == {"local_epochs": 2}
    assert kept["service_account"] == "coordinator"


def test_it_is_suspended_resumed_and_deleted(submitter: Submitter, say: Say) -> None:
    say("schedule", submitter.path)
    assert say("schedule", submitter.path, "--suspend").lines == ["suspended  no round starts until --resume"]
    assert say("schedule", submitter.path, "--suspend").lines == ["unchanged  suspended already"]
    assert submitter.recurring[0]["mode"] == "DISABLE"
    again = say("schedule", submitter.path).lines
    assert again[1] == "unchanged  0 0 3 * * *"
    assert again[3] == "next       none: it was suspended by hand, and --resume ends that"
    assert say("schedule", submitter.path, "--resume").lines[1] == "resumed    0 0 3 * * *"
    assert submitter.recurring[0]["mode"] == "ENABLE"
    # What is no longer in the file can still be deleted.
    del submitter.made.document["schedule"]
    submitter.made.save()
    assert say("schedule", submitter.path, "--delete").lines == ["deleted    1"]
    assert say("schedule", submitter.path, "--delete").lines == ["unchanged  nothing was scheduled"]
    assert submitter.recurring == []


def test_two_that_are_found_become_one(submitter: Submitter, say: Say) -> None:
    say("schedule", submitter.path)
    (made,) = submitter.recurring
    kept = {
        key: value for key, value in made.items() if key not in {"recurring_run_id", "created_at", "status"}
    }
    submitter.server.objects.create_recurring_run(kept)
    assert say("schedule", submitter.path).lines[1] == "reconciled  0 0 3 * * *, 1 other deleted"
    assert len(submitter.recurring) == 1


def test_a_file_that_has_it_disabled_schedules_it_suspended(submitter: Submitter, say: Say) -> None:
    submitter.change(schedule={"cron": "0 0 3 * * *", "enabled": False})
    assert say("schedule", submitter.path).lines[3] == "next       none: schedule.enabled is false"
    assert submitter.recurring[0]["mode"] == "DISABLE"
    said = say("schedule", submitter.path, "--resume")
    assert said.complaints == [
        f"{submitter.path}: schedule.enabled is false: change the file instead of naming --resume"
    ]


def test_the_schedulers_own_time_zone_can_be_named(submitter: Submitter, say: Say) -> None:
    upcoming = say("schedule", submitter.path, "--time-zone", "Asia/Kolkata").lines[3]
    assert re.fullmatch(r"next       20\d\d-\d\d-\d\d 03:00:00 IST", upcoming)
    assert " 21:30:00 UTC" in say("status", submitter.path, "--time-zone", "Asia/Kolkata").lines[3]
    assert say("schedule", submitter.path, "--time-zone", "Mars").complaints == [
        "--time-zone must be a name such as Europe/Rome or UTC, got 'Mars'"
    ]


def test_what_cannot_be_scheduled_is_told(submitter: Submitter, say: Say) -> None:
    said = say("schedule", submitter.path, "--suspend", "--delete")
    assert said.complaints == ["--suspend, --resume and --delete exclude one another: name one"]
    said = say("schedule", submitter.path, "--suspend")
    assert said.complaints == [f"nothing of small is scheduled at {submitter.server.url}"]
    del submitter.made.document["schedule"]
    submitter.made.save()
    said = say("schedule", submitter.path)
    assert said.code == 2
    assert said.complaints[0].startswith(f"{submitter.path} has no section 'schedule': add one, such as")
    submitter.change(schedule={"cron": "0 3 * * *"})
    assert "schedule.cron: must have six fields" in say("schedule", submitter.path).complaints[0]
