"""The `unmask` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.SITE, install_kfp_package=False, packages_to_install=[])
def unmask(
    site: str,
    ticket: str,
    store_uri: str,
    exchange_uri: str,
    keys_uri: str,
    deadline_s: int,
    job: str,
    sealed_sum: str,
    reason: str,
    manifest: dsl.Output[dsl.Artifact],
) -> NamedTuple("Unmasked", [("unmasked", str), ("reason", str)]):
    """Reveals this site's part of what lifts all masks from the sum of the agreed set of sites.

    Args:
        site: name of the site.
        ticket: reference of the round's ticket.
        store_uri: the site's own store.
        exchange_uri: the store all parties read.
        keys_uri: folder of the charters.
        deadline_s: seconds the step may take.
        job: on what terms it runs as a Job of the site's own cluster; empty to run it in this pod.
        sealed_sum: reference of the sum: the set is fixed once it is there.
        reason: why the site is left out already.
        manifest: who is in the set.
    """
    from components.site_steps.running import run_at_site

    outcome = run_at_site(
        "unmask",
        {},
        site=site,
        store_uri=store_uri,
        exchange_uri=exchange_uri,
        keys_uri=keys_uri,
        ticket=ticket,
        deadline_s=deadline_s,
        reason=reason,
        job=job,
        works_on=sealed_sum,
    )
    outcome.write_manifest(manifest.path)
    return outcome.reference, outcome.reason
