"""The `open_round` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.AGGREGATOR, install_kfp_package=False, packages_to_install=[])
def open_round(
    federation: str,
    sites: list[str],
    protection: str,
    features: int,
    hidden_units: int,
    skip: bool,
    server_optimizer: str,
    classes: int,
    local_epochs: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    state_uri: str,
    exchange_uri: str,
    keys_uri: str,
) -> NamedTuple("Opened", [("ticket", str), ("stage", str), ("round_number", int)]):
    """Resumes the newest unfinished round or issues the ticket of the next one.

    Args:
        federation: its id.
        sites: names of all sites.
        protection: how updates are sealed.
        features: width of the features.
        hidden_units: of the head, 0 for a linear one.
        skip: whether the features pass by the hidden units as well.
        server_optimizer: whose state lies beside the weights.
        classes: number of classes.
        local_epochs: passes over the rows of a site.
        learning_rate: of the local steps.
        batch_size: rows a step.
        seed: of the genesis model and the order of rows.
        state_uri: store of the committed rounds.
        exchange_uri: the store all parties read.
        keys_uri: folder of the public keys.
    """
    from components.rounds.round_opening import opening

    shape = opening.ModelShape(
        features=features,
        hidden_units=hidden_units,
        classes=classes,
        seed=seed,
        skip=skip,
        server_optimizer=server_optimizer,
    )
    request = opening.RoundRequest(
        federation=federation,
        sites=tuple(sorted(sites)),
        protection=protection,
        local_epochs=local_epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
    )
    opened = opening.run(request, shape, state_uri=state_uri, exchange_uri=exchange_uri, keys_uri=keys_uri)
    return opened.reference, opened.stage, opened.ticket.round_number
