"""`crosscloud schedule`: rounds that Kubeflow starts by itself."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Annotated

import typer

from components.errors import UsageError
from pipelines.commands.arguments import FederationFile, Method, load
from pipelines.kubeflow import command_options as options

if TYPE_CHECKING:
    from pipelines.federation import Federation
    from pipelines.kubeflow.connection import Endpoint
    from pipelines.kubeflow.submission import RunTerms
    from pipelines.schedule_section import Schedule


def schedule(
    federation: FederationFile,
    *,
    suspend: Annotated[bool, typer.Option("--suspend", help="Start no rounds until --resume.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Start rounds again.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the recurring run.")] = False,
    method: Method = None,
    local_epochs: options.LocalEpochs = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    device: options.Device = None,
    experiment: options.Experiment = "",
    service_account: options.ServiceAccount = "",
    pipeline_root: options.PipelineRoot = "",
    time_zone: options.TimeZone = "UTC",
    endpoint: options.EndpointUrl = "",
    namespace: options.Namespace = "",
    token_file: options.TokenFile = None,
    ca_file: options.CaFile = None,
) -> None:
    """Bring Kubeflow's recurring run of this federation to what its file says; nothing else is touched."""
    from pipelines.kubeflow.address import find_address

    if suspend + resume + delete > 1:
        raise UsageError("--suspend, --resume and --delete exclude one another: name one")
    chosen = load(federation, method)
    zone = options.zone(time_zone)
    parameters = options.run_parameters(local_epochs, learning_rate, batch_size, device)
    wanted = chosen.schedule
    if not (suspend or delete):
        wanted = _wanted(chosen, str(federation), resume=resume)
    address = find_address(endpoint=endpoint, token_file=token_file, ca_file=ca_file, namespace=namespace)
    asked = options.connected(address)
    if suspend or delete or wanted is None:
        _stop(asked, chosen, delete=delete)
        return

    from pipelines.kubeflow.submission import RunTerms

    terms = RunTerms(
        parameters=parameters,
        experiment=experiment,
        service_account=service_account,
        pipeline_root=pipeline_root,
    )
    _reconcile(asked, chosen, wanted, terms, resume=resume, zone=zone)


def _wanted(federation: Federation, file: str, *, resume: bool) -> Schedule:
    if federation.schedule is None:
        raise UsageError(
            f"{file} has no section 'schedule': add one, such as 'schedule: {{cron: \"0 0 3 * * *\"}}', or "
            "delete what is scheduled with --delete"
        )
    if resume and not federation.schedule.enabled:
        raise UsageError(f"{file}: schedule.enabled is false: change the file instead of naming --resume")
    return federation.schedule


def _stop(endpoint: Endpoint, federation: Federation, *, delete: bool) -> None:
    from pipelines.kubeflow.scheduling import suspend, unschedule

    if delete:
        deleted = unschedule(endpoint, federation)
        typer.echo(f"deleted    {deleted}" if deleted else "unchanged  nothing was scheduled")
        return
    changed = suspend(endpoint, federation)
    typer.echo("suspended  no round starts until --resume" if changed else "unchanged  suspended already")


def _reconcile(
    endpoint: Endpoint, federation: Federation, wanted: Schedule, run: RunTerms, *, resume: bool, zone: tzinfo
) -> None:
    from pipelines.kubeflow.cron import parse_cron
    from pipelines.kubeflow.recurring import Terms
    from pipelines.kubeflow.scheduling import schedule as bring_about
    from pipelines.kubeflow.submission import find_experiment, publish_round

    version = publish_round(endpoint, federation).version
    terms = Terms(
        cron=wanted.cron,
        version=version,
        experiment_id=find_experiment(endpoint, federation, run),
        run=run,
        enabled=wanted.enabled,
    )
    done = bring_about(endpoint, federation, terms, resume=resume)
    typer.echo(f"version    {version.name}  {'uploaded' if version.uploaded else 'is there already'}")
    others = f", {done.deleted} other deleted" if done.deleted and done.change == "reconciled" else ""
    typer.echo(f"{done.change:<9}  {terms.cron}{others}")
    typer.echo(f"schedule   {endpoint.address.recurring_run_page(done.kept.recurring_run_id)}")
    if federation.privacy is not None and federation.privacy.per == "month":
        most, month = parse_cron(terms.cron).most_in_a_month(datetime.now(zone))
        typer.echo(
            f"allowance  up to {most} rounds in a month ({month}): 'doctor' compares it with privacy's"
        )
    if done.enabled:
        upcoming = parse_cron(terms.cron).after(datetime.now(zone))
        typer.echo(f"next       {upcoming:%Y-%m-%d %H:%M:%S} {upcoming.tzname()}")
    elif terms.enabled:
        typer.echo("next       none: it was suspended by hand, and --resume ends that")
    else:
        typer.echo("next       none: schedule.enabled is false")
