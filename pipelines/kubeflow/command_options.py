"""Options of the commands that ask a Kubeflow endpoint. kfp is imported when one is asked, not before."""

from __future__ import annotations

from datetime import UTC, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from components.errors import UsageError

if TYPE_CHECKING:
    from pipelines.kubeflow.address import Address
    from pipelines.kubeflow.connection import Endpoint

EndpointUrl = Annotated[
    str, typer.Option("--endpoint", metavar="URL", help="Of the API; KF_PIPELINES_ENDPOINT by default.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Holds a bearer token, read anew for each request; KF_PIPELINES_SA_TOKEN_PATH by default.",
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option("--ca-file", metavar="FILE", help="Authorities trusted instead of the usual ones, as PEM."),
]
Namespace = Annotated[
    str, typer.Option("--namespace", help="Of your profile, in installations for many users.")
]
Experiment = Annotated[
    str, typer.Option("--experiment", help="That the run is shown under; the federation's name by default.")
]
ServiceAccount = Annotated[
    str, typer.Option("--service-account", help="That the pods run as; the installation's by default.")
]
PipelineRoot = Annotated[
    str,
    typer.Option(
        "--pipeline-root", metavar="URI", help="Of manifests and reports; the installation's by default."
    ),
]
TimeZone = Annotated[
    str,
    typer.Option(
        "--time-zone", metavar="NAME", help="Of the endpoint's scheduler, its CRON_SCHEDULE_TIMEZONE."
    ),
]
LocalEpochs = Annotated[int | None, typer.Option(min=1, help="Passes over a site's rows.")]
LearningRate = Annotated[float | None, typer.Option(help="Of the local steps.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Rows a step.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.")]


def connected(address: Address | None) -> Endpoint:
    """The endpoint at an address, once it has answered.

    Raises:
        UsageError: none is named, it does not answer, or kfp is not installed.
    """
    from pipelines.kubeflow.address import require_address

    named = require_address(address)
    try:
        from pipelines.kubeflow.connection import connect
    except ImportError as error:
        raise UsageError(
            f"{error.name} is not installed: pip install 'crosscloud[kubeflow]' brings it"
        ) from None
    return connect(named)


def zone(name: str) -> tzinfo:
    """The time zone of this name.

    Raises:
        UsageError: there is none.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"--time-zone must be a name such as Europe/Rome or UTC, got {name!r}") from None


def run_parameters(
    local_epochs: int | None, learning_rate: float | None, batch_size: int | None, device: str | None
) -> dict[str, Any]:
    """Those that were chosen.

    Raises:
        UsageError: one is out of its range.
    """
    if device not in {None, "auto", "cpu", "cuda"}:
        raise UsageError(f"--device must be auto, cpu or cuda, got {device!r}")
    if learning_rate is not None and not 0 < learning_rate <= 1000:
        raise UsageError(f"--learning-rate must be above 0 and at most 1000, got {learning_rate:g}")
    chosen = {
        "local_epochs": local_epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "device": device,
    }
    return {name: value for name, value in chosen.items() if value is not None}
