"""Reads a site's records inside its own cloud and keeps them in the site's own store."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from components.agreement.private_keys import keyed_digest
from components.agreement.workplace import Workplace
from components.artifacts.stores import create_or_read, reference
from components.data_processing.template import columns_of
from components.errors import ObjectExistsError
from components.execution.outcome import Outcome
from components.privacy.charging import charge_ticket


@dataclass(frozen=True, kw_only=True)
class RecordSpec:
    """What a site is asked to read.

    Attributes:
        source_kind: `duckdb` or `parquet`.
        source_uri: where the warehouse is.
        sql: one SELECT in BigQuery's dialect.
        template: text template; the columns it names are the only ones read beside label and split.
        label_column: with the class of a record.
        split_column: whose fingerprint decides between training and test; it does not leave the warehouse.
        test_fraction: share of fingerprints that are test, between 0 and 1.
        classes: allowed labels.
    """

    source_kind: str
    source_uri: str
    sql: str
    template: str
    label_column: str
    split_column: str
    test_fraction: float
    classes: Sequence[str]


def ingest(place: Workplace, spec: RecordSpec) -> Outcome:
    """Accepts the ticket and pays for it, runs the site's query and stores its rows, once a ticket.

    The manifest that the coordinator sees holds the address of the rows, a keyed digest of their
    contents, their schema and a size padded to a power of two.

    Raises:
        RefusedError: the site does not take part under this ticket, or has not admitted the query.
        PrivacyBudgetExceededError: its privacy budget does not hold the round.
        SourceUnreachableError: the warehouse is not there.
        BadDataError: the query fails, or the rows do not keep the contract.
    """
    place.policy.require_query(spec.sql)
    now = datetime.now(UTC)
    place.accept(now)
    charge_ticket(place, now=now)
    pointer = f"ingested/{place.ticket.digest}.json"
    if not place.store.exists(pointer):
        manifest = _extract(place, spec)
        document = create_or_read(place.store, pointer, json.dumps(manifest, sort_keys=True).encode())
    else:
        document = place.store.read(pointer)
    manifest = json.loads(document)
    return Outcome(reference=manifest["uri"], manifest=manifest)


def _extract(place: Workplace, spec: RecordSpec) -> dict[str, object]:
    from components.data_processing.record_ingestion.extraction import extract, rows_digest, to_parquet
    from components.data_processing.sources import open_source

    with contextlib.closing(open_source(spec.source_kind, spec.source_uri)) as source:
        table = extract(
            source,
            spec.sql,
            template_columns=columns_of(spec.template),
            label_column=spec.label_column,
            split_column=spec.split_column,
            test_fraction=spec.test_fraction,
            classes=spec.classes,
        )
    name = keyed_digest(place.key, [rows_digest(table).encode()])
    key, content = f"rows/{name}.parquet", to_parquet(table)
    with contextlib.suppress(ObjectExistsError):
        place.store.create(key, content)
    return {
        "uri": reference(place.store, key),
        "digest": name,
        "schema": {field.name: str(field.type) for field in table.schema},
        "padded_size": 1 << (len(content) - 1).bit_length(),
    }
