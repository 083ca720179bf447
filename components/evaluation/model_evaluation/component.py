"""The `evaluate` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.SITE, install_kfp_package=False, packages_to_install=[])
def evaluate(
    site: str,
    ticket: str,
    store_uri: str,
    exchange_uri: str,
    keys_uri: str,
    deadline_s: int,
    job: str,
    model: str,
    features: str,
    adaptation: str,
    reason: str,
    release: str,
    classes: list[str],
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
) -> NamedTuple("Evaluated", [("figures", str), ("reason", str)]):
    """Measures the committed and the adapted model on the test rows of a site.

    Args:
        site: name of the site.
        ticket: reference of the round's ticket.
        store_uri: the site's own store.
        exchange_uri: the store all parties read.
        keys_uri: folder of the public keys.
        deadline_s: seconds the step may take.
        job: on what terms it runs as a Job of the site's own cluster; empty to run it in this pod.
        model: SHA-256 of the committed model.
        features: reference of the features.
        adaptation: reference of the adaptation.
        reason: why the site has none.
        release: per_site publishes the figures, none keeps them at the site.
        classes: labels in the order of the outputs of the model.
        metrics: published figures.
        confusion: published confusion matrix of the committed model.
    """
    from components.site_steps.running import run_at_site

    asked = {"model": model, "features": features, "adaptation": adaptation, "release": release}
    outcome = run_at_site(
        "evaluate",
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
    for name, value in outcome.metrics.items():
        metrics.log_metric(name, value)
    table = outcome.manifest.get("global", {}).get("confusion", [])
    if len(table) == len(classes):
        confusion.log_confusion_matrix(classes, table)
    return outcome.reference, outcome.reason
