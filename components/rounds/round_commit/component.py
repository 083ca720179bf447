"""The `commit_round` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.AGGREGATOR, install_kfp_package=False, packages_to_install=[])
def commit_round(
    receipt: str,
    ticket: str,
    stage: str,
    state_uri: str,
    exchange_uri: str,
    keys_uri: str,
    manifest: dsl.Output[dsl.Model],
) -> NamedTuple("Committed", [("committed", str), ("model", str)]):
    """Makes the next global model from the opened sum and commits it, once.

    Args:
        receipt: reference of the receipt of the key holder.
        ticket: reference of the ticket.
        stage: as the round was found when it was opened.
        state_uri: store of the committed rounds.
        exchange_uri: the store all parties read.
        keys_uri: folder of the public keys.
        manifest: digest of the model and who is in it.
    """
    from components.execution import central_step
    from components.rounds.round_commit import committing

    outcome = central_step.run(
        lambda: committing.commit_round(
            receipt=receipt,
            ticket=ticket,
            stage=stage,
            state_uri=state_uri,
            exchange_uri=exchange_uri,
            keys_uri=keys_uri,
        ),
        name="commit",
        exchange_uri=exchange_uri,
        ticket=ticket,
    )
    outcome.write_manifest(manifest.path)
    return outcome.reference, outcome.manifest["model"]
