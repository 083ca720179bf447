"""The `open_metrics` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.AGGREGATOR, install_kfp_package=False, packages_to_install=[])
def open_metrics(
    committed: str,
    ticket: str,
    exchange_uri: str,
    keys_uri: str,
    manifest: dsl.Output[dsl.Artifact],
) -> NamedTuple("MetricsOpened", [("ticket", str)]):
    """Issues the ticket for the metrics of a committed round, where the charter has some of it.

    Args:
        committed: reference of the committed round.
        ticket: reference of the ticket of its update.
        exchange_uri: the store all parties read.
        keys_uri: folder of the public keys.
        manifest: of which round.
    """
    from components.execution import central_step
    from components.rounds.metrics_opening import opening

    outcome = central_step.run(
        lambda: opening.open_metrics(
            committed=committed, ticket=ticket, exchange_uri=exchange_uri, keys_uri=keys_uri
        ),
        name="open_metrics",
        exchange_uri=exchange_uri,
        ticket=ticket,
    )
    outcome.write_manifest(manifest.path)
    return (outcome.reference,)
