"""The `augment` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.SITE, install_kfp_package=False, packages_to_install=[])
def augment(
    site: str,
    ticket: str,
    store_uri: str,
    exchange_uri: str,
    keys_uri: str,
    deadline_s: int,
    job: str,
    rows: str,
    reason: str,
    template: str,
    classes: list[str],
    encoder_name: str,
    encoder_revision: str,
    encoder_digest: str,
    encoder_max_length: int,
    encoder_dimensions: int,
    device: str,
    manifest: dsl.Output[dsl.Dataset],
) -> NamedTuple("Augmented", [("features", str), ("reason", str)]):
    """Turns rows into features with a frozen language model (Eq. 3).

    Args:
        site: name of the site.
        ticket: reference of the round's ticket.
        store_uri: the site's own store.
        exchange_uri: the store all parties read.
        keys_uri: folder of the public keys.
        deadline_s: seconds the step may take.
        job: on what terms it runs as a Job of the site's own cluster; empty to run it in this pod.
        rows: reference of the rows.
        reason: why the site is left out already.
        template: text template over columns.
        classes: labels in the order of the outputs of the model.
        encoder_name: folder, package:NAME or hub id.
        encoder_revision: of a hub id.
        encoder_digest: SHA-256 of its weights.
        encoder_max_length: tokens a text is cut to.
        encoder_dimensions: width of the features.
        device: auto, cpu or cuda.
        manifest: what the coordinator may know of the features.
    """
    from components.site_steps.running import run_at_site

    asked = {
        "rows": rows,
        "template": template,
        "classes": classes,
        "encoder_name": encoder_name,
        "encoder_revision": encoder_revision,
        "encoder_digest": encoder_digest,
        "encoder_max_length": encoder_max_length,
        "encoder_dimensions": encoder_dimensions,
        "device": device,
    }
    outcome = run_at_site(
        "augment",
        asked,
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
