"""The `seal` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.SITE, install_kfp_package=False, packages_to_install=[])
def seal(
    site: str,
    ticket: str,
    store_uri: str,
    exchange_uri: str,
    keys_uri: str,
    deadline_s: int,
    job: str,
    roster: str,
    commitment: str,
    reason: str,
    manifest: dsl.Output[dsl.Artifact],
) -> NamedTuple("Sealed", [("sealed", str), ("reason", str)]):
    """Seals the update a site has committed to and uploads it (Eq. 5).

    Args:
        site: name of the site.
        ticket: reference of the round's ticket.
        store_uri: the site's own store.
        exchange_uri: the store all parties read.
        keys_uri: folder of the public keys.
        deadline_s: seconds the step may take.
        job: on what terms it runs as a Job of the site's own cluster; empty to run it in this pod.
        roster: reference of the roster.
        commitment: reference of the commitment, empty for a site left out.
        reason: why the site is left out already.
        manifest: digest and size of the sealed update.
    """
    from components.site_steps.running import run_at_site

    outcome = run_at_site(
        "seal",
        {"roster": roster},
        site=site,
        store_uri=store_uri,
        exchange_uri=exchange_uri,
        keys_uri=keys_uri,
        ticket=ticket,
        deadline_s=deadline_s,
        reason=reason,
        job=job,
        works_on=roster,
    )
    outcome.write_manifest(manifest.path)
    return outcome.reference, outcome.reason
