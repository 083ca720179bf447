"""Pipelines, versions, experiments, runs and recurring runs as the API server keeps them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.pipelines.kubeflow.pipelines_api.messages import require_message
from tests.pipelines.kubeflow.pipelines_api.refusals import RefusedError, invalid, not_found
from tests.pipelines.kubeflow.pipelines_api.specs import read_spec, require_cron, require_parameters

Object = dict[str, Any]
EPOCH = "1970-01-01T00:00:00Z"


class Objects:
    """All that is kept; it outlives the server that is asked."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.many_users = False
        self.pipelines: dict[str, Object] = {}
        self.versions: dict[str, Object] = {}
        self.experiments: dict[str, Object] = {}
        self.runs: dict[str, Object] = {}
        self.recurring_runs: dict[str, Object] = {}

    def create_pipeline(self, body: Any) -> Object:
        made = dict(require_message(body, "V2beta1Pipeline"))
        self.require_namespace(made.get("namespace", ""))
        name = made.get("name") or made.get("display_name")
        if not name:
            raise invalid("pipeline's name cannot be empty")
        if self.pipeline_named(name, made.get("namespace", "")):
            raise RefusedError(
                409, f"AlreadyExistError: The name {name} already exist. Please specify a new name"
            )
        made |= {"name": name, "display_name": made.get("display_name") or name}
        return self._keep(self.pipelines, "pipeline_id", made)

    def pipeline_named(self, name: str, namespace: str) -> Object | None:
        for each in self.pipelines.values():
            if (each["name"], each.get("namespace", "")) == (name, namespace):
                return each
        return None

    def upload_version(self, content: bytes, query: dict[str, str]) -> Object:
        pipeline_id, name = query.get("pipelineid", ""), query.get("name", "")
        if pipeline_id not in self.pipelines:
            raise not_found("Pipeline", pipeline_id)
        if not name:
            raise invalid("pipeline version's name cannot be empty")
        if any((each["pipeline_id"], each["name"]) == (pipeline_id, name) for each in self.versions.values()):
            # As the upload's handler does, whatever the cause.
            raise RefusedError(500, f"Failed to create pipeline version: AlreadyExistError: {name}")
        spec = read_spec(content)
        made: Object = {
            "pipeline_id": pipeline_id,
            "name": name,
            "display_name": query.get("display_name") or name,
        }
        made |= {"description": query.get("description", ""), "pipeline_spec": spec}
        return self._keep(self.versions, "pipeline_version_id", made)

    def create_experiment(self, body: Any) -> Object:
        made = dict(require_message(body, "V2beta1Experiment"))
        self.require_namespace(made.get("namespace", ""))
        same = (made.get("display_name"), made.get("namespace", ""))
        if any(
            (each["display_name"], each.get("namespace", "")) == same for each in self.experiments.values()
        ):
            raise RefusedError(409, f"AlreadyExistError: experiment {same[0]}")
        return self._keep(self.experiments, "experiment_id", made | {"storage_state": "AVAILABLE"})

    def create_run(self, body: Any) -> Object:
        made = dict(require_message(body, "V2beta1Run"))
        self._require_runnable(made)
        made["service_account"] = made.get("service_account") or "pipeline-runner"
        made |= {"state": "PENDING", "storage_state": "AVAILABLE", "scheduled_at": self._now()}
        return self._keep(self.runs, "run_id", made | {"finished_at": EPOCH})

    def create_recurring_run(self, body: Any) -> Object:
        made = dict(require_message(body, "V2beta1RecurringRun"))
        self._require_runnable(made)
        cron = ((made.get("trigger") or {}).get("cron_schedule") or {}).get("cron")
        if not cron:
            raise invalid("recurring run must have a trigger")
        require_cron(cron)
        if not 1 <= int(made.get("max_concurrency") or 0) <= 10:
            raise invalid("The max concurrency of the recurring run must be at least 1 and at most 10")
        if made.get("mode") not in {"ENABLE", "DISABLE"}:
            raise invalid("recurring run's mode must be ENABLE or DISABLE")
        made["max_concurrency"] = str(made["max_concurrency"])
        made["service_account"] = made.get("service_account") or "pipeline-runner"
        made["status"] = f"{made['mode']}D"
        return self._keep(self.recurring_runs, "recurring_run_id", made)

    def switch(self, recurring_run_id: str, *, enabled: bool) -> Object:
        found = self.get(self.recurring_runs, "RecurringRun", recurring_run_id)
        found |= {"mode": "ENABLE" if enabled else "DISABLE", "status": "ENABLED" if enabled else "DISABLED"}
        return {}

    def fire(self, recurring_run_id: str, at: datetime, /, **changes: Any) -> Object:
        """Starts the run that is due at a time, as the scheduler does."""
        recurring = self.recurring_runs[recurring_run_id]
        taken = ("experiment_id", "pipeline_version_reference", "runtime_config", "service_account")
        made = {key: recurring[key] for key in taken if key in recurring}
        made |= {"display_name": f"{recurring['display_name']}-{at:%s}", "recurring_run_id": recurring_run_id}
        made |= {"state": "RUNNING", "finished_at": EPOCH, "scheduled_at": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
        run = self._keep(self.runs, "run_id", made | changes)
        run["created_at"] = run["scheduled_at"]
        return run

    def get(self, kept: dict[str, Object], kind: str, name: str) -> Object:
        if name not in kept:
            raise not_found(kind, name)
        return kept[name]

    def require_namespace(self, namespace: str) -> None:
        if self.many_users and not namespace:
            raise invalid("a namespace must be given in multi-user mode")
        if not self.many_users and namespace:
            raise invalid("In single-user mode, the namespace must be empty")

    def in_namespace(self, kept: dict[str, Object], namespace: str) -> list[Object]:
        self.require_namespace(namespace)
        return [each for each in kept.values() if self._namespace(each) == namespace]

    def _namespace(self, found: Object) -> str:
        holder = self.experiments.get(found["experiment_id"], {}) if "run_id" in found else found
        holder = self.experiments.get(found["experiment_id"], {}) if "recurring_run_id" in found else holder
        return str(holder.get("namespace", ""))

    def _require_runnable(self, made: Object) -> None:
        experiment = self.get(self.experiments, "Experiment", made.get("experiment_id", ""))
        if experiment["storage_state"] == "ARCHIVED":
            raise invalid("experiment is archived")
        reference = made.get("pipeline_version_reference") or {}
        version = self.get(self.versions, "PipelineVersion", reference.get("pipeline_version_id", ""))
        if version["pipeline_id"] != reference.get("pipeline_id"):
            raise invalid("the version is of another pipeline")
        if not made.get("display_name"):
            raise invalid("the run's name is empty")
        require_parameters(
            version["pipeline_spec"], (made.get("runtime_config") or {}).get("parameters") or {}
        )

    def _keep(self, kept: dict[str, Object], identity: str, made: Object) -> Object:
        made |= {identity: str(uuid.uuid4()), "created_at": self._now()}
        kept[made[identity]] = made
        return made

    def _now(self) -> str:
        return f"{self.clock():%Y-%m-%dT%H:%M:%SZ}"
