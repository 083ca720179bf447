"""A federation's recurring runs at an endpoint: which are ours, and the terms they were made with.

A recurring run cannot be changed once it is made, only enabled, disabled and deleted. So its description,
in the form written here, says for good whose it is and on what terms.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipelines.federation import Federation
from pipelines.kubeflow.connection import Endpoint, equals, required
from pipelines.kubeflow.refusals import MissingError
from pipelines.kubeflow.submission import RunTerms
from pipelines.kubeflow.versions import Version
from pipelines.kubernetes_manifests import pipeline_name

BY_FILE = "suspended by the federation file"
BY_HAND = "suspended by hand"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a recurring run is to be.

    Attributes:
        cron: when a round starts.
        version: that is run.
        experiment_id: that runs are shown under.
        run: what each run is given.
        enabled: whether the federation file has it enabled.
    """

    cron: str
    version: Version
    experiment_id: str
    run: RunTerms
    enabled: bool

    @property
    def digest(self) -> str:
        """SHA-256 of all of them: a server fills in what was left open, so its answer is no proof."""
        told: Mapping[str, Any] = {
            "cron": self.cron,
            "version": self.version.version_id,
            "experiment": self.experiment_id,
            "parameters": dict(self.run.parameters),
            "service_account": self.run.service_account,
            "pipeline_root": self.run.pipeline_root,
            "enabled": self.enabled,
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Recurring:
    """One recurring run of this federation.

    Attributes:
        recurring_run_id: its id.
        enabled: whether it starts runs.
        cron: when.
        version_id: of what it runs.
        terms: digest of what it was made with.
        mark: why it was made suspended; empty if it was not.
        created_at: when it was made.
        one_at_a_time: whether it neither runs twice at once nor catches up.
    """

    recurring_run_id: str
    enabled: bool
    cron: str
    version_id: str
    terms: str
    mark: str
    created_at: datetime
    one_at_a_time: bool

    @property
    def age(self) -> tuple[datetime, str]:
        """By which everybody who sorts them comes to the same order, the oldest first."""
        return self.created_at, self.recurring_run_id

    def has(self, terms: Terms) -> bool:
        """Whether it is what these terms ask for."""
        told = (self.terms, self.cron, self.version_id)
        return told == (terms.digest, terms.cron, terms.version.version_id) and self.one_at_a_time


def recurring_runs(endpoint: Endpoint, federation: Federation) -> list[Recurring]:
    """Those of this federation, the oldest first; others of the same name are not touched.

    Raises:
        EndpointError: they cannot be had.
    """
    terms = {"namespace": endpoint.namespace} if endpoint.namespace else {}
    name, first_line = pipeline_name(federation), _first_line(federation)
    listed = endpoint.pages(
        endpoint.client.list_recurring_runs, "recurring_runs", filter=equals(display_name=name), **terms
    )
    ours = [
        _recurring(each)
        for each in listed
        if each.display_name == name and (each.description or "").splitlines()[:1] == [first_line]
    ]
    return sorted(ours, key=lambda each: each.age)


def create(endpoint: Endpoint, federation: Federation, terms: Terms, *, enabled: bool, mark: str = "") -> str:
    """Makes a recurring run; gives its id.

    Raises:
        EndpointError: it cannot be made.
    """
    lines = [_first_line(federation), f"terms sha256:{terms.digest}", *([mark] if mark else [])]
    made = endpoint.ask(
        lambda: endpoint.client.create_recurring_run(
            terms.experiment_id,
            pipeline_name(federation),
            description="\n".join(lines),
            cron_expression=terms.cron,
            max_concurrency=1,
            no_catchup=True,
            params=dict(terms.run.parameters),
            pipeline_id=terms.version.pipeline_id,
            version_id=terms.version.version_id,
            enabled=enabled,
            pipeline_root=terms.run.pipeline_root or None,
            service_account=terms.run.service_account or None,
        )
    )
    return required(made, "recurring_run_id")


def enable(endpoint: Endpoint, recurring_run_id: str) -> None:
    """Lets it start runs.

    Raises:
        EndpointError: it cannot be enabled.
    """
    endpoint.ask(lambda: endpoint.client.enable_recurring_run(recurring_run_id))


def disable(endpoint: Endpoint, recurring_run_id: str) -> None:
    """Keeps it from starting runs; those that run go on.

    Raises:
        EndpointError: it cannot be disabled.
    """
    endpoint.ask(lambda: endpoint.client.disable_recurring_run(recurring_run_id))


def delete(endpoint: Endpoint, recurring_run_id: str) -> None:
    """Deletes it, if it is still there; its runs stay.

    Raises:
        EndpointError: it cannot be deleted.
    """
    try:
        endpoint.ask(lambda: endpoint.client.delete_recurring_run(recurring_run_id))
    except MissingError:
        return


def _first_line(federation: Federation) -> str:
    return f"crosscloud schedule of {federation.federation}"


def _recurring(found: Any) -> Recurring:
    lines = [*(found.description or "").splitlines(), "", ""]
    created = found.created_at or datetime.fromtimestamp(0, UTC)
    schedule = found.trigger.cron_schedule if found.trigger else None
    reference = found.pipeline_version_reference
    return Recurring(
        recurring_run_id=required(found, "recurring_run_id"),
        enabled=found.mode == "ENABLE",
        cron=(schedule.cron if schedule else "") or "",
        version_id=(reference.pipeline_version_id if reference else "") or "",
        terms=lines[1].removeprefix("terms sha256:"),
        mark=lines[2],
        created_at=created if created.tzinfo else created.replace(tzinfo=UTC),
        one_at_a_time=str(found.max_concurrency) == "1" and bool(found.no_catchup),
    )
