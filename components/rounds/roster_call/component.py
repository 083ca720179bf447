"""The `roster` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.AGGREGATOR, install_kfp_package=False, packages_to_install=[])
def roster(
    commitments: dict[str, str],
    reasons: dict[str, str],
    ticket: str,
    exchange_uri: str,
    keys_uri: str,
    manifest: dsl.Output[dsl.Artifact],
) -> NamedTuple("Called", [("roster", str)]):
    """Applies the quorum once and fixes who takes part.

    Args:
        commitments: reference of the commitment by site, empty for a site left out.
        reasons: why, by site.
        ticket: reference of the ticket.
        exchange_uri: the store all parties read.
        keys_uri: folder of the public keys.
        manifest: who takes part and who does not.
    """
    from components.execution import central_step
    from components.rounds.roster_call import calling

    outcome = central_step.run(
        lambda: calling.call_roster(
            commitments,
            reasons,
            ticket=ticket,
            exchange_uri=exchange_uri,
            keys_uri=keys_uri,
        ),
        name="roster",
        exchange_uri=exchange_uri,
        ticket=ticket,
    )
    outcome.write_manifest(manifest.path)
    return (outcome.reference,)
