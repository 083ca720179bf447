"""Whether a schedule is in order, from what an endpoint tells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from pipelines.federation import Federation, load_federation
from pipelines.kubeflow.connection import Endpoint
from pipelines.kubeflow.recurring import Terms, create
from pipelines.kubeflow.scheduling import schedule, suspend
from pipelines.kubeflow.standing import Standing, standing
from pipelines.kubeflow.submission import RunTerms
from pipelines.kubeflow.versions import Version
from tests.pipelines.kubeflow.conftest import NIGHTLY, Submitter
from tests.pipelines.kubeflow.test_scheduling import SPEC

MADE = datetime(2026, 11, 20, 12, tzinfo=UTC)
NIGHTS = [datetime(2026, 11, day, 3, tzinfo=UTC) for day in range(21, 29)]


class Scene:
    """A nightly schedule at an endpoint since noon of the 20th of November."""

    def __init__(self, submitter: Submitter) -> None:
        self.kept = submitter.server.objects
        self.kept.clock = lambda: MADE
        self.submitter = submitter
        self.endpoint: Endpoint = submitter.connect()
        pipeline = self.kept.create_pipeline({"name": "small-round"})["pipeline_id"]
        version = self.kept.upload_version(SPEC, {"pipelineid": pipeline, "name": "first"})
        self.terms = Terms(
            cron=NIGHTLY,
            version=Version(pipeline_id=pipeline, version_id=version["pipeline_version_id"], name="first"),
            experiment_id=self.kept.create_experiment({"display_name": "small"})["experiment_id"],
            run=RunTerms(),
            enabled=True,
        )

    @property
    def federation(self) -> Federation:
        return load_federation(self.submitter.path)

    def scheduled(self) -> str:
        return schedule(self.endpoint, self.federation, self.terms).kept.recurring_run_id

    def seen(self, now: datetime) -> Standing:
        return standing(self.endpoint, self.federation, now=now)


@pytest.fixture
def scene(submitter: Submitter) -> Scene:
    return Scene(submitter)


def test_a_schedule_whose_first_round_is_to_come_is_in_order(scene: Scene) -> None:
    scene.scheduled()
    found = scene.seen(NIGHTS[0] - timedelta(hours=1))
    assert (found.faults, found.notes, found.runs) == ((), (), ())
    assert found.next_at == NIGHTS[0]
    assert found.schedule is not None
    assert (found.schedule.cron, found.schedule.enabled) == (NIGHTLY, True)


def test_runs_that_succeed_every_night_are_in_order(scene: Scene) -> None:
    recurring = scene.scheduled()
    for night in NIGHTS[:3]:
        scene.kept.fire(recurring, night, state="SUCCEEDED")
    found = scene.seen(NIGHTS[2] + timedelta(hours=5))
    assert (found.faults, found.notes) == ((), ())
    assert [run.due_at for run in found.runs] == NIGHTS[2::-1]
    assert found.next_at == NIGHTS[3]


@pytest.mark.parametrize("state", ["FAILED", "CANCELED", "SKIPPED"])
def test_the_newest_scheduled_run_that_came_to_nothing_is_a_fault(scene: Scene, state: str) -> None:
    recurring = scene.scheduled()
    scene.kept.fire(recurring, NIGHTS[0], state="SUCCEEDED")
    failed = scene.kept.fire(
        recurring, NIGHTS[1], state=state, error={"code": 13, "message": "roster\nfailed"}
    )
    # The one that runs now does not make it good.
    scene.kept.fire(recurring, NIGHTS[2])
    found = scene.seen(NIGHTS[2] + timedelta(hours=1))
    assert found.faults == (
        f"the newest scheduled run that has ended, due 2026-11-22 03:00 UTC, is {state} (roster failed): "
        f"{scene.submitter.server.url}/#/runs/details/{failed['run_id']}",
    )
    scene.kept.fire(recurring, NIGHTS[3], state="SUCCEEDED")
    assert scene.seen(NIGHTS[3] + timedelta(hours=1)).faults == ()


def test_a_run_of_a_person_that_fails_is_no_fault_of_the_schedule(scene: Scene) -> None:
    recurring = scene.scheduled()
    scene.kept.fire(recurring, NIGHTS[0], state="SUCCEEDED")
    scene.kept.fire(recurring, NIGHTS[0] + timedelta(hours=1), state="FAILED", recurring_run_id="")
    found = scene.seen(NIGHTS[0] + timedelta(hours=2))
    assert found.faults == ()
    assert found.runs[0].state == "FAILED"


def test_a_round_that_did_not_begin_is_a_note_and_after_a_period_a_fault(scene: Scene) -> None:
    recurring = scene.scheduled()
    scene.kept.fire(recurring, NIGHTS[0], state="SUCCEEDED")
    late = scene.seen(NIGHTS[1] + timedelta(hours=1))
    assert late.faults == ()
    assert late.notes == ("a round was due 2026-11-22 03:00 UTC: no run has begun",)
    overdue = scene.seen(NIGHTS[2] + timedelta(minutes=1))
    assert overdue.faults == (
        "the schedule is overdue since 2026-11-22 03:00 UTC, 2 times: no run has begun",
    )


def test_a_schedule_that_never_began_is_overdue(scene: Scene) -> None:
    scene.scheduled()
    assert scene.seen(NIGHTS[1]).faults == (
        "the schedule is overdue since 2026-11-21 03:00 UTC, 2 times: no run has begun",
    )


def test_rounds_left_out_because_one_runs_on_are_told(scene: Scene) -> None:
    recurring = scene.scheduled()
    run = scene.kept.fire(recurring, NIGHTS[0])["run_id"]
    assert scene.seen(NIGHTS[1] + timedelta(hours=1)).notes == (
        f"a round was due 2026-11-22 03:00 UTC: run {run} is still RUNNING",
    )
    scene.kept.runs[run]["state"] = "SUCCEEDED"
    scene.kept.fire(recurring, NIGHTS[3], state="SUCCEEDED")
    found = scene.seen(NIGHTS[3] + timedelta(hours=1))
    assert found.faults == ()
    assert found.notes == (
        "before the newest scheduled run, rounds were left out 2 times, first 2026-11-22 03:00 UTC: the one "
        "before ran on, or the scheduler stood still",
    )


def test_due_times_are_counted_in_the_schedulers_own_time_zone(scene: Scene) -> None:
    """Three o'clock in Rome is two in UTC."""
    recurring = scene.scheduled()
    for night in NIGHTS[:2]:
        scene.kept.fire(recurring, night - timedelta(hours=1), state="SUCCEEDED")
    now = NIGHTS[1] + timedelta(hours=1)
    assert scene.seen(now).notes != ()
    found = standing(scene.endpoint, scene.federation, now=now, zone=ZoneInfo("Europe/Rome"))
    assert (found.faults, found.notes) == ((), ())
    assert found.next_at == NIGHTS[2] - timedelta(hours=1)


def test_a_schedule_that_was_replaced_lately_is_not_overdue(scene: Scene) -> None:
    recurring = scene.scheduled()
    scene.kept.fire(recurring, NIGHTS[0], state="SUCCEEDED")
    scene.kept.clock = lambda: NIGHTS[4] + timedelta(hours=1)
    del scene.kept.recurring_runs[recurring]
    scene.scheduled()
    assert scene.seen(NIGHTS[4] + timedelta(hours=2)).faults == ()


def test_a_suspended_schedule_is_told_and_no_fault(scene: Scene) -> None:
    scene.scheduled()
    suspend(scene.endpoint, scene.federation)
    found = scene.seen(NIGHTS[5])
    assert (found.faults, found.notes, found.next_at) == ((), ("the schedule is suspended",), None)
    assert found.schedule is not None
    assert not found.schedule.enabled


def test_what_the_file_asks_for_and_is_not_there_is_a_fault(scene: Scene) -> None:
    assert scene.seen(NIGHTS[0]).faults == (
        "nothing is scheduled, the federation file asks for it: run 'crosscloud schedule'",
    )
    del scene.submitter.made.document["schedule"]
    scene.submitter.made.save()
    assert scene.seen(NIGHTS[0]).faults == ()


def test_a_replacement_that_was_cut_off_is_a_fault(scene: Scene) -> None:
    for _ in range(2):
        create(scene.endpoint, scene.federation, scene.terms, enabled=False)
    assert scene.seen(NIGHTS[0]).faults == (
        "no recurring run is enabled, replacing one was cut off: run 'crosscloud schedule' again",
    )


def test_two_that_are_enabled_are_a_fault_and_one_left_over_a_note(scene: Scene) -> None:
    for enabled in (True, False):
        create(scene.endpoint, scene.federation, scene.terms, enabled=enabled)
    early = NIGHTS[0] - timedelta(hours=1)
    assert scene.seen(early).notes == (
        "another recurring run is left over: schedule again, which deletes it",
    )
    create(scene.endpoint, scene.federation, scene.terms, enabled=True)
    assert scene.seen(early).faults == ("2 recurring runs start rounds: schedule again, which leaves one",)


def test_a_file_that_has_changed_since_is_told(scene: Scene) -> None:
    scene.scheduled()
    early = NIGHTS[0] - timedelta(hours=1)
    scene.submitter.change(schedule={"cron": "0 0 4 * * *"})
    assert scene.seen(early).notes == (
        "scheduled is '0 0 3 * * *', the federation file has '0 0 4 * * *': run 'crosscloud schedule'",
    )
    scene.submitter.change(schedule={"cron": NIGHTLY, "enabled": False})
    assert scene.seen(early).notes == (
        "rounds are scheduled that the federation file does not ask for: schedule --delete",
    )


def test_runs_of_other_pipelines_are_not_ours(scene: Scene) -> None:
    recurring = scene.scheduled()
    scene.kept.fire(recurring, NIGHTS[0], state="SUCCEEDED")
    other = scene.kept.create_pipeline({"name": "other"})["pipeline_id"]
    version = scene.kept.upload_version(SPEC, {"pipelineid": other, "name": "v"})["pipeline_version_id"]
    reference = {"pipeline_id": other, "pipeline_version_id": version}
    for number in range(120):
        at = NIGHTS[0] + timedelta(minutes=number)
        scene.kept.fire(recurring, at, state="FAILED", pipeline_version_reference=reference)
    found = scene.seen(NIGHTS[0] + timedelta(hours=5))
    assert found.faults == ()
    assert [run.state for run in found.runs] == ["SUCCEEDED"]
