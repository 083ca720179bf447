"""The `ingest` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.SITE, install_kfp_package=False, packages_to_install=[])
def ingest(
    site: str,
    ticket: str,
    store_uri: str,
    exchange_uri: str,
    keys_uri: str,
    deadline_s: int,
    job: str,
    source_kind: str,
    source_uri: str,
    sql: str,
    template: str,
    label_column: str,
    split_column: str,
    test_fraction: float,
    classes: list[str],
    columns: list[dict[str, object]],
    manifest: dsl.Output[dsl.Dataset],
) -> NamedTuple("Ingested", [("rows", str), ("reason", str)]):
    """Reads a site's records inside its own cloud and keeps them in its own store.

    Args:
        site: name of the site.
        ticket: reference of the round's ticket.
        store_uri: the site's own store.
        exchange_uri: the store all parties read.
        keys_uri: folder of the public keys.
        deadline_s: seconds the step may take.
        job: on what terms it runs as a Job of the site's own cluster; empty to run it in this pod.
        source_kind: kind of warehouse.
        source_uri: where it is.
        sql: one SELECT in the dialect of BigQuery.
        template: text template over columns.
        label_column: with the class of a record.
        split_column: whose fingerprint splits training and test.
        test_fraction: share of test fingerprints.
        classes: allowed labels.
        columns: that the query must return: name, type, nullable, description, allowed_values.
        manifest: what the coordinator may know of the rows.
    """
    from components.execution.shown_manifest import artifact_metadata
    from components.site_steps.running import run_at_site

    asked = {
        "source_kind": source_kind,
        "source_uri": source_uri,
        "sql": sql,
        "template": template,
        "label_column": label_column,
        "split_column": split_column,
        "test_fraction": test_fraction,
        "classes": classes,
        "columns": columns,
        "deadline_s": deadline_s,
    }
    outcome = run_at_site(
        "ingest",
        asked,
        site=site,
        store_uri=store_uri,
        exchange_uri=exchange_uri,
        keys_uri=keys_uri,
        ticket=ticket,
        deadline_s=deadline_s,
        job=job,
    )
    outcome.write_manifest(manifest.path)
    manifest.metadata.update(artifact_metadata(outcome.manifest))
    return outcome.reference, outcome.reason
