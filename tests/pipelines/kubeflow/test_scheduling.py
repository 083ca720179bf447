"""One recurring run a federation, whatever was there before and whoever else schedules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from components.errors import UsageError
from pipelines.federation import Federation, load_federation
from pipelines.kubeflow.connection import Endpoint
from pipelines.kubeflow.recurring import Terms, create, recurring_runs
from pipelines.kubeflow.refusals import EndpointError
from pipelines.kubeflow.scheduling import schedule, suspend, unschedule
from pipelines.kubeflow.submission import RunTerms
from pipelines.kubeflow.versions import Version
from tests.pipelines.kubeflow.conftest import NIGHTLY, Submitter
from tests.pipelines.kubeflow.pipelines_api.faults import Fault

HOURLY = "0 0 * * * *"
SPEC = b"""
pipelineInfo: {name: small-round}
root:
  dag: {tasks: {a: {taskInfo: {name: a}, componentRef: {name: comp-a}}}}
  inputDefinitions: {parameters: {local_epochs: {parameterType: NUMBER_INTEGER, isOptional: true}}}
components: {comp-a: {executorLabel: exec-a}}
schemaVersion: 2.1.0
"""
LIST, CREATE = "GET /recurringruns", "POST /recurringruns"
ENABLE, DISABLE = "POST /recurringruns/ID:enable", "POST /recurringruns/ID:disable"
DELETE = "DELETE /recurringruns/ID"


@pytest.fixture
def federation(submitter: Submitter) -> Federation:
    return load_federation(submitter.path)


@pytest.fixture
def endpoint(submitter: Submitter) -> Endpoint:
    return submitter.connect()


@pytest.fixture
def terms(submitter: Submitter) -> Terms:
    kept = submitter.server.objects
    pipeline = kept.create_pipeline({"name": "small-round"})["pipeline_id"]
    versions = [
        kept.upload_version(SPEC, {"pipelineid": pipeline, "name": name})["pipeline_version_id"]
        for name in ("first", "second")
    ]
    experiment = kept.create_experiment({"display_name": "small"})["experiment_id"]
    version = Version(pipeline_id=pipeline, version_id=versions[0], name="first")
    return Terms(cron=NIGHTLY, version=version, experiment_id=experiment, run=RunTerms(), enabled=True)


def changes(submitter: Submitter) -> list[str]:
    """What was asked for beside reading, since the last look."""
    found = submitter.server.faults.changes()
    submitter.server.faults.requests.clear()
    return found


def watched(submitter: Submitter) -> list[int]:
    """Notes how many of ours are enabled after every change."""
    enabled: list[int] = []

    def look() -> None:
        enabled.append(sum(each["mode"] == "ENABLE" for each in submitter.recurring))
        for what in (CREATE, ENABLE, DISABLE, DELETE):
            submitter.server.faults.after[what] = look

    look()
    return enabled


def test_the_first_is_made_enabled_one_at_a_time_without_catching_up(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, terms: Terms
) -> None:
    done = schedule(endpoint, federation, terms)
    assert (done.change, done.enabled, done.deleted) == ("created", True, 0)
    (made,) = submitter.recurring
    assert made["trigger"] == {"cron_schedule": {"cron": NIGHTLY}}
    assert (made["mode"], made["max_concurrency"], made["no_catchup"]) == ("ENABLE", "1", True)
    assert made["pipeline_version_reference"]["pipeline_version_id"] == terms.version.version_id
    assert made["display_name"] == "small-round"
    assert made["description"].splitlines()[0] == "crosscloud schedule of small"
    assert changes(submitter) == [CREATE]


def test_unchanged_is_untouched(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, terms: Terms
) -> None:
    first = schedule(endpoint, federation, terms)
    changes(submitter)
    second = schedule(endpoint, federation, terms)
    assert (second.change, second.kept.recurring_run_id) == ("unchanged", first.kept.recurring_run_id)
    assert changes(submitter) == []


CHANGED: dict[str, Callable[[Terms, Submitter], Terms]] = {
    "cron": lambda terms, _: replace(terms, cron=HOURLY),
    "version": lambda terms, submitter: replace(
        terms,
        version=replace(terms.version, version_id=list(submitter.server.objects.versions)[1]),
    ),
    "parameters": lambda terms, _: replace(terms, run=RunTerms(parameters={"local_epochs": 2})),
    "service account": lambda terms, _: replace(terms, run=RunTerms(service_account="coordinator")),
    "pipeline root": lambda terms, _: replace(terms, run=RunTerms(pipeline_root="gs://bucket/root")),
    "experiment": lambda terms, submitter: replace(
        terms,
        experiment_id=submitter.server.objects.create_experiment({"display_name": "b"})["experiment_id"],
    ),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_has_changed_is_replaced_and_never_are_two_enabled(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, terms: Terms, what: str
) -> None:
    first = schedule(endpoint, federation, terms)
    changes(submitter)
    enabled = watched(submitter)
    done = schedule(endpoint, federation, CHANGED[what](terms, submitter))
    assert (done.change, done.enabled, done.deleted) == ("replaced", True, 1)
    (kept,) = submitter.recurring
    assert kept["recurring_run_id"] == done.kept.recurring_run_id != first.kept.recurring_run_id
    assert kept["mode"] == "ENABLE"
    assert changes(submitter) == [CREATE, DISABLE, ENABLE, DELETE]
    assert enabled == [1, 1, 0, 1, 1]


def test_a_cron_that_was_changed_by_hand_is_replaced(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, terms: Terms
) -> None:
    schedule(endpoint, federation, terms)
    submitter.recurring[0]["trigger"]["cron_schedule"]["cron"] = HOURLY
    assert schedule(endpoint, federation, terms).change == "replaced"
    assert submitter.recurring[0]["trigger"]["cron_schedule"]["cron"] == NIGHTLY


def test_others_of_the_same_name_are_not_touched(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, terms: Terms
) -> None:
    schedule(endpoint, federation, terms)
    (ours,) = submitter.recurring
    foreign = []
    for description in (
        "",
        "my own schedule of small",
        "crosscloud schedule of smaller",
        "see: " + ours["description"],
    ):
        copied = {key: ours[key] for key in ("experiment_id", "trigger", "mode", "max_concurrency")}
        copied |= {"pipeline_version_reference": ours["pipeline_version_reference"]}
        made = submitter.server.objects.create_recurring_run(
            copied | {"display_name": "small-round", "description": description}
        )
        foreign.append(made["recurring_run_id"])
    ours["display_name"] = "small-round"
    schedule(endpoint, federation, replace(terms, cron=HOURLY))
    suspend(endpoint, federation)
    unschedule(endpoint, federation)
    assert [each["recurring_run_id"] for each in submitter.recurring] == foreign
    assert {each["mode"] for each in submitter.recurring} == {"ENABLE"}


def test_a_schedule_that_was_suspended_stays_so_until_it_is_resumed(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, terms: Terms
) -> None:
    schedule(endpoint, federation, terms)
    assert suspend(endpoint, federation) == 1
    assert suspend(endpoint, federation) == 0
    changes(submitter)
    again = schedule(endpoint, federation, terms)
    assert (again.change, again.enabled) == ("unchanged", False)
    assert changes(submitter) == []
    resumed = schedule(endpoint, federation, terms, resume=True)
    assert (resumed.change, resumed.enabled) == ("resumed", True)
    assert submitter.recurring[0]["mode"] == "ENABLE"


def test_a_suspended_schedule_that_changes_stays_suspended(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, terms: Terms
) -> None:
    schedule(endpoint, federation, terms)
    suspend(endpoint, federation)
    for cron in (HOURLY, NIGHTLY):
        done = schedule(endpoint, federation, replace(terms, cron=cron))
        assert (done.change, done.enabled) == ("replaced", False)
        (kept,) = submitter.recurring
        assert (kept["mode"], kept["trigger"]["cron_schedule"]["cron"]) == ("DISABLE", cron)
    assert schedule(endpoint, federation, terms, resume=True).change == "resumed"


def test_the_file_may_suspend_and_resume(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, terms: Terms
) -> None:
    schedule(endpoint, federation, terms)
    off = schedule(endpoint, federation, replace(terms, enabled=False))
    assert (off.enabled, submitter.recurring[0]["mode"]) == (False, "DISABLE")
    assert schedule(endpoint, federation, replace(terms, enabled=False)).change == "unchanged"
    on = schedule(endpoint, federation, terms)
    assert (on.enabled, submitter.recurring[0]["mode"], len(submitter.recurring)) == (True, "ENABLE", 1)


def test_two_that_fit_become_the_older_one(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, terms: Terms
) -> None:
    older = create(endpoint, federation, terms, enabled=True)
    submitter.server.objects.recurring_runs[older]["created_at"] = "2026-11-01T00:00:00Z"
    create(endpoint, federation, terms, enabled=True)
    done = schedule(endpoint, federation, terms)
    assert (done.change, done.deleted, done.kept.recurring_run_id) == ("reconciled", 1, older)
    assert [each["recurring_run_id"] for each in submitter.recurring] == [older]


@pytest.mark.parametrize(
    "fault",
    [(what, done) for what in (CREATE, DISABLE, ENABLE, DELETE) for done in (True, False)],
    ids=lambda fault: f"{fault[0]} {'done' if fault[1] else 'not done'}",
)
def test_a_replacement_that_is_cut_off_is_finished_by_the_next(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, terms: Terms, fault: tuple[str, bool]
) -> None:
    lost, done = fault
    schedule(endpoint, federation, terms)
    wanted = replace(terms, cron=HOURLY)
    enabled = watched(submitter)
    submitter.server.faults.add(lost, Fault(done=done))
    with pytest.raises(EndpointError) as caught:
        schedule(endpoint, federation, wanted)
    assert ("no schedule is enabled now" in str(caught.value)) == (lost == ENABLE)
    assert schedule(endpoint, federation, wanted).enabled
    (kept,) = submitter.recurring
    assert (kept["mode"], kept["trigger"]["cron_schedule"]["cron"]) == ("ENABLE", HOURLY)
    assert max(enabled) == 1


def test_a_suspended_replacement_that_is_cut_off_stays_suspended(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, terms: Terms
) -> None:
    schedule(endpoint, federation, terms)
    suspend(endpoint, federation)
    # Both are made within the second that the server tells.
    submitter.recurring[0]["created_at"] = "2026-11-01T00:00:00Z"
    wanted = replace(terms, cron=HOURLY)
    submitter.server.faults.add(DELETE, Fault())
    with pytest.raises(EndpointError):
        schedule(endpoint, federation, wanted)
    assert not schedule(endpoint, federation, wanted).enabled
    assert [each["mode"] for each in submitter.recurring] == ["DISABLE"]


def test_two_who_schedule_at_once_leave_one(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, terms: Terms
) -> None:
    """The other has listed and made its own between our list and our creation."""
    other = submitter.connect()
    submitter.server.faults.before[CREATE] = lambda: schedule(other, federation, terms)
    done = schedule(endpoint, federation, terms)
    (kept,) = submitter.recurring
    assert done.kept.recurring_run_id == kept["recurring_run_id"]
    assert kept["mode"] == "ENABLE"


def test_what_another_deletes_under_our_hands_is_made_again(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, terms: Terms
) -> None:
    schedule(endpoint, federation, terms)
    suspend(endpoint, federation)
    submitter.server.faults.before[ENABLE] = submitter.server.objects.recurring_runs.clear
    done = schedule(endpoint, federation, terms, resume=True)
    assert done.enabled
    assert [each["mode"] for each in submitter.recurring] == ["ENABLE"]


def test_all_of_ours_are_deleted(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, terms: Terms
) -> None:
    for cron in (NIGHTLY, HOURLY):
        create(endpoint, federation, replace(terms, cron=cron), enabled=True)
    assert unschedule(endpoint, federation) == 2
    assert submitter.recurring == []
    assert unschedule(endpoint, federation) == 0
    with pytest.raises(UsageError, match="nothing of small is scheduled at http"):
        suspend(endpoint, federation)


def test_more_than_a_page_of_them_is_looked_through(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, terms: Terms
) -> None:
    schedule(endpoint, federation, terms)
    (ours,) = submitter.recurring
    template: dict[str, Any] = {
        key: ours[key] for key in ("experiment_id", "trigger", "mode", "max_concurrency")
    }
    template |= {
        "pipeline_version_reference": ours["pipeline_version_reference"],
        "display_name": "Small-Round",
    }
    for _ in range(130):
        submitter.server.objects.create_recurring_run(dict(template))["created_at"] = "2026-11-01T00:00:00Z"
    changes(submitter)
    assert [each.recurring_run_id for each in recurring_runs(endpoint, federation)] == [
        ours["recurring_run_id"]
    ]
    assert submitter.server.faults.count(LIST) == 2


def test_in_an_installation_for_many_users_a_namespace_is_asked(
    submitter: Submitter, federation: Federation, terms: Terms
) -> None:
    kept = submitter.server.objects
    kept.many_users = True
    for namespace in ("bank", "other"):
        kept.create_experiment({"display_name": "small", "namespace": namespace})
    mine, others = list(kept.experiments)[1:]
    bank, other = submitter.connect(namespace="bank"), submitter.connect(namespace="other")
    assert schedule(bank, federation, replace(terms, experiment_id=mine)).change == "created"
    assert schedule(other, federation, replace(terms, experiment_id=others)).change == "created"
    assert unschedule(bank, federation) == 1
    assert len(recurring_runs(other, federation)) == 1
