"""The `train` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.SITE, install_kfp_package=False, packages_to_install=[])
def train(
    site: str,
    ticket: str,
    store_uri: str,
    exchange_uri: str,
    keys_uri: str,
    deadline_s: int,
    job: str,
    features: str,
    reason: str,
    device: str,
    manifest: dsl.Output[dsl.Model],
) -> NamedTuple("Trained", [("commitment", str), ("reason", str)]):
    """Trains on the features of a site and commits to the update (Eq. 4).

    Args:
        site: name of the site.
        ticket: reference of the round's ticket.
        store_uri: the site's own store.
        exchange_uri: the store all parties read.
        keys_uri: folder of the public keys.
        deadline_s: seconds the step may take.
        job: on what terms it runs as a Job of the site's own cluster; empty to run it in this pod.
        features: reference of the features.
        reason: why the site is left out already.
        device: auto, cpu or cuda.
        manifest: where the commitment is.
    """
    from components.site_steps.running import run_at_site

    outcome = run_at_site(
        "train",
        {"features": features, "device": device},
        site=site,
        store_uri=store_uri,
        exchange_uri=exchange_uri,
        keys_uri=keys_uri,
        ticket=ticket,
        deadline_s=deadline_s,
        reason=reason,
        job=job,
    )
    outcome.write_manifest(manifest.path)
    manifest.metadata.update(outcome.metrics)
    return outcome.reference, outcome.reason
