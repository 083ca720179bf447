"""The `count` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.SITE, install_kfp_package=False, packages_to_install=[])
def count(
    site: str,
    ticket: str,
    store_uri: str,
    exchange_uri: str,
    keys_uri: str,
    deadline_s: int,
    job: str,
    features: str,
    adaptation: str,
    reason: str,
    manifest: dsl.Output[dsl.Artifact],
) -> NamedTuple("Counted", [("commitment", str), ("reason", str)]):
    """Counts at a site what both models say of its test rows, and commits to the counts.

    Args:
        site: name of the site.
        ticket: reference of the ticket for metrics, empty in a round without.
        store_uri: the site's own store.
        exchange_uri: the store all parties read.
        keys_uri: folder of the public keys.
        deadline_s: seconds the step may take.
        job: on what terms it runs as a Job of the site's own cluster; empty to run it in this pod.
        features: reference of the features.
        adaptation: reference of the adaptation; empty where it is not counted.
        reason: why the site is left out already.
        manifest: where the commitment is.
    """
    from components.site_steps.running import run_at_site

    outcome = run_at_site(
        "count",
        {"features": features, "adaptation": adaptation},
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
    return outcome.reference, outcome.reason
