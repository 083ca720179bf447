"""`crosscloud submit`: one round, run by Kubeflow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from pipelines.commands.arguments import FederationFile, Method, load
from pipelines.kubeflow import command_options as options

INTERRUPTED = 130


def submit(
    federation: FederationFile,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run to its end.")] = False,
    method: Method = None,
    local_epochs: options.LocalEpochs = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    device: options.Device = None,
    experiment: options.Experiment = "",
    service_account: options.ServiceAccount = "",
    pipeline_root: options.PipelineRoot = "",
    endpoint: options.EndpointUrl = "",
    namespace: options.Namespace = "",
    token_file: options.TokenFile = None,
    ca_file: options.CaFile = None,
) -> None:
    """Compile, check and upload the round, and run it once. With --wait, exits with 1 if it fails."""
    from pipelines.kubeflow.address import find_address

    chosen = load(federation, method)
    parameters = options.run_parameters(local_epochs, learning_rate, batch_size, device)
    address = find_address(endpoint=endpoint, token_file=token_file, ca_file=ca_file, namespace=namespace)
    asked = options.connected(address)

    from pipelines.kubeflow import following
    from pipelines.kubeflow.submission import RunTerms, publish_round, start_run

    published = publish_round(asked, chosen)
    version = published.version
    typer.echo(f"version  {version.name}  {'uploaded' if version.uploaded else 'is there already'}")
    terms = RunTerms(
        parameters=parameters,
        experiment=experiment,
        service_account=service_account,
        pipeline_root=pipeline_root,
    )
    run_id = start_run(asked, chosen, version, terms, now=datetime.now(UTC))
    page = asked.address.run_page(run_id)
    typer.echo(f"run      {page}")
    if not wait:
        return
    try:
        following.follow(asked, run_id, published.titles, typer.echo, poll_s=following.POLL_S)
    except KeyboardInterrupt:
        typer.echo(f"the run goes on: {page}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo("the round has succeeded")
