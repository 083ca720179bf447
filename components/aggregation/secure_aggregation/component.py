"""The `aggregate` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.AGGREGATOR, install_kfp_package=False, packages_to_install=[])
def aggregate(
    sealed: dict[str, str],
    reasons: dict[str, str],
    ticket: str,
    exchange_uri: str,
    keys_uri: str,
    manifest: dsl.Output[dsl.Artifact],
) -> NamedTuple("Aggregated", [("sealed_sum", str)]):
    """Adds the sealed updates of all sites whose manifest verifies; opens none of them.

    Args:
        sealed: reference of the manifest by site, empty for a site left out.
        reasons: why, by site.
        ticket: reference of the ticket.
        exchange_uri: the store all parties read.
        keys_uri: folder of the public keys.
        manifest: who is in the sum, and how many bytes came in.
    """
    from components.aggregation.secure_aggregation import summing
    from components.execution import central_step

    outcome = central_step.run(
        lambda: summing.aggregate_updates(
            sealed, reasons, ticket=ticket, exchange_uri=exchange_uri, keys_uri=keys_uri
        ),
        name="aggregate",
        exchange_uri=exchange_uri,
        ticket=ticket,
    )
    outcome.write_manifest(manifest.path)
    return (outcome.reference,)
