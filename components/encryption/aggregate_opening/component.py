"""The `open` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.KEY_HOLDER, install_kfp_package=False, packages_to_install=[])
def open_sum(
    sealed_sum: str,
    ticket: str,
    releases: dict[str, str],
    store_uri: str,
    exchange_uri: str,
    keys_uri: str,
    manifest: dsl.Output[dsl.Artifact],
) -> NamedTuple("OpenedSum", [("receipt", str)]):
    """Opens the sum of one agreed set of sites, re-added by the key holder (Eq. 6).

    Args:
        sealed_sum: reference of the sum of the aggregator, which must equal the one re-added here.
        ticket: reference of the ticket.
        releases: reference of each member's release; empty where nothing is masked.
        store_uri: the key holder's own store.
        exchange_uri: the store all parties read.
        keys_uri: folder of the public keys.
        manifest: whose sum was opened.
    """
    from components.encryption.aggregate_opening import opening
    from components.execution import central_step

    outcome = central_step.run(
        lambda: opening.open_aggregate(
            sealed_sum, ticket=ticket, store_uri=store_uri, exchange_uri=exchange_uri, keys_uri=keys_uri
        ),
        name="open",
        exchange_uri=exchange_uri,
        ticket=ticket,
    )
    outcome.write_manifest(manifest.path)
    return (outcome.reference,)
