"""Makes a run of one round: compiled, checked, published, started."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.errors import UsageError
from pipelines.compile import compile_round
from pipelines.federation import Federation
from pipelines.kubeflow.connection import Endpoint, equals, required
from pipelines.kubeflow.refusals import ConflictError
from pipelines.kubeflow.versions import Version, publish
from pipelines.kubernetes_manifests import pipeline_name
from pipelines.spec_check.documents import read_documents
from pipelines.spec_check.examination import examine_file

DEFAULT_EXPERIMENT = "KF_PIPELINES_DEFAULT_EXPERIMENT_NAME"
OVERRIDE_EXPERIMENT = "KF_PIPELINES_OVERRIDE_EXPERIMENT_NAME"


@dataclass(frozen=True, kw_only=True)
class RunTerms:
    """What a run is given beside its spec.

    Attributes:
        parameters: run parameters that differ from the file's.
        experiment: name of the experiment it is shown under; empty for the federation's own.
        service_account: that its pods run as; empty for the installation's.
        pipeline_root: where Kubeflow keeps manifests and reports; empty for the installation's.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    experiment: str = ""
    service_account: str = ""
    pipeline_root: str = ""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A round that the endpoint holds.

    Attributes:
        version: of the federation's pipeline.
        titles: of its tasks as people read them, by their names in the spec.
    """

    version: Version
    titles: Mapping[str, str]


def publish_round(endpoint: Endpoint, federation: Federation) -> Published:
    """Compiles and checks the round, and has the endpoint hold it.

    Raises:
        UsageError: the spec breaks a rule, each told in a line, or the endpoint does not take it.
    """
    with tempfile.TemporaryDirectory(prefix="crosscloud-") as folder:
        spec = compile_round(federation, Path(folder) / f"{pipeline_name(federation)}.yaml")
        require_sound(spec)
        tasks = read_documents(spec)[0].value["root"]["dag"]["tasks"]
        titles = {name: task["taskInfo"]["name"] for name, task in tasks.items()}
        return Published(version=publish(endpoint, federation, spec), titles=titles)


def require_sound(spec: Path) -> None:
    """Passes a spec that breaks no rule.

    Raises:
        UsageError: every rule it breaks, one a line.
    """
    errors = [each for each in examine_file(spec) if each.severity == "error"]
    if errors:
        raise UsageError(
            "\n".join(f"{spec.name}:{each.location.line}: {each.rule}: {each.message}" for each in errors)
        )


def start_run(
    endpoint: Endpoint, federation: Federation, version: Version, terms: RunTerms, *, now: datetime
) -> str:
    """Starts one round; gives the run's id.

    Raises:
        UsageError: it cannot be started.
    """
    experiment_id = find_experiment(endpoint, federation, terms)
    name = f"{pipeline_name(federation)} {now.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    run = endpoint.ask(
        lambda: endpoint.client.run_pipeline(
            experiment_id,
            name,
            params=dict(terms.parameters),
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
            pipeline_root=terms.pipeline_root or None,
            service_account=terms.service_account or None,
        )
    )
    return required(run, "run_id")


def find_experiment(endpoint: Endpoint, federation: Federation, terms: RunTerms) -> str:
    """Id of the experiment that runs are shown under, made if it is not there.

    Raises:
        EndpointError: it can neither be found nor made.
    """
    from kfp_server_api import V2beta1Experiment

    name = experiment_name(federation, terms)
    found = _experiment(endpoint, name)
    if found:
        return found
    body = V2beta1Experiment(
        display_name=name, description=f"{federation.title}.", namespace=endpoint.namespace or None
    )
    try:
        made = endpoint.ask(
            lambda: endpoint.client.experiments.experiment_service_create_experiment(experiment=body)
        )
    except ConflictError:
        found = _experiment(endpoint, name)
        if found is None:
            raise
        return found
    return required(made, "experiment_id")


def experiment_name(federation: Federation, terms: RunTerms) -> str:
    """As options, Kubeflow's usual environment or else the federation name it."""
    named = terms.experiment or os.environ.get(DEFAULT_EXPERIMENT, "")
    return os.environ.get(OVERRIDE_EXPERIMENT, "") or named or federation.federation


def _experiment(endpoint: Endpoint, name: str) -> str | None:
    terms = {"namespace": endpoint.namespace} if endpoint.namespace else {}
    found = endpoint.pages(
        endpoint.client.experiments.experiment_service_list_experiments,
        "experiments",
        filter=equals(display_name=name),
        **terms,
    )
    # An archived experiment takes no runs, but keeps its name.
    for each in found:
        if each.display_name == name:
            if each.storage_state == "ARCHIVED":
                raise UsageError(
                    f"experiment {name} at {endpoint.address.url} is archived: restore it there, or name "
                    "another with --experiment"
                )
            return required(each, "experiment_id")
    return None
