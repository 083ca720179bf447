"""Versions and experiments that others make meanwhile, or that older servers tell otherwise."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.errors import UsageError
from pipelines.federation import Federation, load_federation
from pipelines.kubeflow.connection import Endpoint
from pipelines.kubeflow.refusals import RefusedRequestError
from pipelines.kubeflow.submission import RunTerms, find_experiment, start_run
from pipelines.kubeflow.versions import publish
from tests.pipelines.kubeflow.conftest import Submitter
from tests.pipelines.kubeflow.test_scheduling import SPEC

NOW = datetime(2026, 11, 28, 3, tzinfo=UTC)


@pytest.fixture
def federation(submitter: Submitter) -> Federation:
    return load_federation(submitter.path)


@pytest.fixture
def endpoint(submitter: Submitter) -> Endpoint:
    return submitter.connect()


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "small-round.yaml"
    path.write_bytes(SPEC)
    return path


def test_a_pipeline_that_another_makes_meanwhile_is_used(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, spec: Path
) -> None:
    kept = submitter.server.objects
    submitter.server.faults.before["POST /pipelines"] = lambda: kept.create_pipeline({"name": "small-round"})
    made = publish(endpoint, federation, spec)
    assert list(kept.pipelines) == [made.pipeline_id]


def test_a_version_that_another_uploads_meanwhile_is_used(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, spec: Path
) -> None:
    other = submitter.connect()
    submitter.server.faults.before["POST /pipelines/upload_version"] = lambda: publish(
        other, federation, spec
    )
    found = publish(endpoint, federation, spec)
    assert list(submitter.server.objects.versions) == [found.version_id]
    assert not found.uploaded


def test_a_server_that_knows_display_names_only_is_understood(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, spec: Path
) -> None:
    first = publish(endpoint, federation, spec)
    del submitter.server.objects.versions[first.version_id]["name"]
    assert publish(endpoint, federation, spec).version_id == first.version_id


def test_what_is_no_spec_is_refused_by_the_server(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, spec: Path
) -> None:
    spec.write_bytes(SPEC.replace(b"schemaVersion:", b"schemaVersions:"))
    with pytest.raises(RefusedRequestError, match=r"\(400\): InvalidInputError: invalid v2 pipeline spec"):
        publish(endpoint, federation, spec)
    assert submitter.server.objects.versions == {}


def test_a_parameter_that_the_spec_does_not_take_is_refused_by_the_server(
    endpoint: Endpoint, federation: Federation, spec: Path
) -> None:
    version = publish(endpoint, federation, spec)
    terms = RunTerms(parameters={"rounds": 3})
    with pytest.raises(RefusedRequestError, match="parameter rounds is not found"):
        start_run(endpoint, federation, version, terms, now=NOW)


def test_a_run_is_named_after_its_time(
    submitter: Submitter, endpoint: Endpoint, federation: Federation, spec: Path
) -> None:
    run_id = start_run(endpoint, federation, publish(endpoint, federation, spec), RunTerms(), now=NOW)
    assert submitter.server.objects.runs[run_id]["display_name"] == "small-round 2026-11-28 03:00:00"


def test_an_experiment_that_another_makes_meanwhile_is_used(
    submitter: Submitter, endpoint: Endpoint, federation: Federation
) -> None:
    kept = submitter.server.objects
    submitter.server.faults.before["POST /experiments"] = lambda: kept.create_experiment(
        {"display_name": "small"}
    )
    assert find_experiment(endpoint, federation, RunTerms()) == next(iter(kept.experiments))


def test_an_archived_experiment_is_told(
    submitter: Submitter, endpoint: Endpoint, federation: Federation
) -> None:
    found = submitter.server.objects.create_experiment({"display_name": "small"})
    found["storage_state"] = "ARCHIVED"
    with pytest.raises(
        UsageError, match=r"^experiment small at http.* is archived: restore it there, or name"
    ):
        find_experiment(endpoint, federation, RunTerms())


def test_each_namespace_has_a_pipeline_and_an_experiment_of_its_own(
    submitter: Submitter, federation: Federation, spec: Path
) -> None:
    kept = submitter.server.objects
    kept.many_users = True
    for namespace in ("bank", "insurer"):
        asked = submitter.connect(namespace=namespace)
        version = publish(asked, federation, spec)
        assert publish(asked, federation, spec).version_id == version.version_id
        start_run(asked, federation, version, RunTerms(), now=NOW)
    assert [each["namespace"] for each in kept.pipelines.values()] == ["bank", "insurer"]
    assert [each["namespace"] for each in kept.experiments.values()] == ["bank", "insurer"]
    assert len(kept.runs) == 2
