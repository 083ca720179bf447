from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any

import pytest
import requests  # type: ignore[import-untyped]
from google.api_core import exceptions
from google.auth.exceptions import RefreshError, TransportError

from components.data_processing.bigquery.failures import explained, site_error
from components.data_processing.bigquery.source import BigQuerySource
from components.errors import (
    BadDataError,
    DeadlineExceededError,
    RefusedError,
    SiteError,
    SourceUnreachableError,
)
from tests.components.data_processing.bigquery.server.local_bigquery import LocalBigQuery
from tests.components.data_processing.bigquery.visits import read, visits

Opener = Callable[..., BigQuerySource]
SQL = "SELECT note FROM clinic.visits"
PASSING = [
    (429, "rateLimitExceeded"),
    (403, "rateLimitExceeded"),
    (500, "internalError"),
    (500, "backendError"),
    (502, "badGateway"),
    (503, "backendError"),
]


@pytest.fixture(autouse=True)
def filled(service: LocalBigQuery) -> LocalBigQuery:
    service.warehouse.put("clinic", "visits", visits(10))
    return service


@pytest.mark.parametrize(
    ("method", "status", "reason"),
    [
        *(("jobs.insert", status, reason) for status, reason in PASSING),
        ("tables.get", 429, "rateLimitExceeded"),
        ("jobs.get", 500, "internalError"),
        ("jobs.getQueryResults", 503, "backendError"),
    ],
)
def test_what_passes_is_tried_again(
    filled: LocalBigQuery, opened: Opener, method: str, status: int, reason: str
) -> None:
    filled.faults.fail(method, status, reason, times=2)
    filled.faults.job_seconds, filled.faults.longest_wait_s = 0.01, 0.1
    assert len(read(opened(deadline_s=5.0), SQL)) == 10
    assert len(filled.jobs.all()) == 1


@pytest.mark.parametrize("method", ["tables.get", "jobs.insert", "jobs.getQueryResults"])
@pytest.mark.parametrize(("status", "reason"), [(429, "rateLimitExceeded"), (503, "backendError")])
def test_what_does_not_pass_by_the_deadline_is_unreachable(
    filled: LocalBigQuery, opened: Opener, method: str, status: int, reason: str
) -> None:
    filled.faults.fail(method, status, reason, "The service is busy", times=1000)
    with pytest.raises(SourceUnreachableError, match="The service is busy") as caught:
        read(opened(deadline_s=2.0), SQL)
    assert "\n" not in str(caught.value)
    assert caught.value.disclosed == "the warehouse cannot be reached"
    assert 2 <= len(filled.faults.calls(method)) <= 20


def test_a_job_that_fails_in_the_service_is_run_again(filled: LocalBigQuery, opened: Opener) -> None:
    filled.faults.fail_jobs("backendError", times=2)
    source = opened()
    assert len(read(source, SQL)) == 10
    assert len(filled.jobs.all()) == 3
    assert source.account()["job_id"] == filled.jobs.all()[-1].number


def test_a_service_that_is_not_there_is_unreachable(opened: Opener) -> None:
    with pytest.raises(SourceUnreachableError) as caught:
        opened(endpoint="http://127.0.0.1:9", deadline_s=0.4).schema(SQL)
    assert "\n" not in str(caught.value)


def test_a_query_that_does_not_end_is_cancelled(filled: LocalBigQuery, opened: Opener) -> None:
    filled.faults.job_seconds, filled.faults.longest_wait_s = 60.0, 0.1
    with pytest.raises(DeadlineExceededError, match="deadline_s and was cancelled") as caught:
        read(opened(deadline_s=1.5), SQL)
    assert caught.value.disclosed == "the warehouse did not answer in time"
    assert [job.cancelled for job in filled.jobs.all()] == [True]


@pytest.mark.parametrize(
    ("method", "message", "mend"),
    [
        (
            "jobs.insert",
            "Access Denied: Project demo: User does not have bigquery.jobs.create permission there.",
            "roles/bigquery.jobUser on the project",
        ),
        (
            "jobs.insert",
            "Access Denied: Table demo:clinic.visits: User does not have permission to query table "
            "demo:clinic.visits, or perhaps it does not exist.",
            "roles/bigquery.dataViewer on the table",
        ),
        (
            "jobs.insert",
            "Access Denied: BigQuery BigQuery: User has neither fine-grained reader nor masked get "
            'permission to get data protected by policy tag "clinic : name" on column clinic.visits.note.',
            "roles/datacatalog.categoryFineGrainedReader on the policy tag",
        ),
        (
            "tables.get",
            "Access Denied: Permission bigquery.tables.get denied on table demo:clinic.visits",
            "roles/bigquery.metadataViewer on the dataset",
        ),
        ("tables.get", "Access Denied", "what it names"),
    ],
)
def test_what_is_denied_is_said_with_the_role_that_mends_it(
    filled: LocalBigQuery, opened: Opener, method: str, message: str, mend: str
) -> None:
    filled.faults.fail(method, 403, "accessDenied", message)
    with pytest.raises(SourceUnreachableError) as caught:
        read(opened(), SQL)
    assert str(caught.value).endswith(f"Mend: grant the site's identity {mend}")
    assert message.rstrip(".") in str(caught.value)
    assert caught.value.disclosed == "the warehouse denies the site's identity"
    assert len(filled.faults.calls(method)) == 1


def test_a_quota_is_no_matter_of_roles(filled: LocalBigQuery, opened: Opener) -> None:
    filled.faults.fail("jobs.insert", 403, "quotaExceeded", "Custom quota exceeded")
    with pytest.raises(SourceUnreachableError, match="raise the project's quota"):
        read(opened(), SQL)


def test_a_dataset_that_is_lost_is_named_where_the_query_names_it(
    filled: LocalBigQuery, opened: Opener
) -> None:
    for name, disclosed in (
        ("clinic", "the query failed: there is no table or column 'clinic'"),
        ("secret", "the query failed: something it names is not there"),
    ):
        filled.faults.fail("jobs.insert", 404, "notFound", f"Not found: Dataset demo:{name} was not found")
        with pytest.raises(BadDataError, match=f"Not found: Dataset demo:{name}") as caught:
            read(opened(), SQL)
        assert caught.value.disclosed == disclosed


# Google's exceptions take their arguments untyped.
BY_HTTP: Any = exceptions
BY_IDENTITY: Any = RefreshError
BY_TRANSPORT: Any = TransportError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BY_IDENTITY("the token was refused", {}), SourceUnreachableError),
        (BY_TRANSPORT("no route"), SourceUnreachableError),
        (requests.ConnectionError("reset"), SourceUnreachableError),
        (BY_HTTP.RetryError("given up", BY_HTTP.ServiceUnavailable("busy")), SourceUnreachableError),
        (BY_HTTP.RetryError("given up", BY_HTTP.Forbidden("denied")), SourceUnreachableError),
        (concurrent.futures.TimeoutError(), DeadlineExceededError),
        (BY_HTTP.InternalServerError("x", errors=[{"reason": "stopped"}]), DeadlineExceededError),
        (BY_HTTP.BadRequest("x\ny", errors=[]), BadDataError),
        (BY_HTTP.Conflict("x"), BadDataError),
        (BY_HTTP.InternalServerError("x", errors=[{"reason": "bytesBilledLimitExceeded"}]), RefusedError),
    ],
)
def test_every_failure_has_one_line_and_something_to_disclose(
    error: Exception, kind: type[SiteError]
) -> None:
    made = site_error(error, frozenset())
    assert type(made) is kind
    assert made.disclosed
    assert "\n" not in str(made) + made.disclosed


def test_what_is_no_failure_of_the_service_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), explained(frozenset()):
        raise ZeroDivisionError
