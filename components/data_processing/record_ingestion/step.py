"""The `ingest` step as it is asked for: with plain arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.agreement.workplace import Workplace
from components.data_processing.record_ingestion import ingestion
from components.execution.outcome import Outcome


def ingest(
    place: Workplace,
    *,
    source_kind: str,
    source_uri: str,
    sql: str,
    template: str,
    label_column: str,
    split_column: str,
    test_fraction: float,
    classes: Sequence[str],
    columns: Sequence[Mapping[str, object]],
    deadline_s: float,
) -> Outcome:
    """See `ingestion.RecordSpec` for the arguments and `ingestion.ingest` for what is done and raised."""
    spec = ingestion.RecordSpec(
        source_kind=source_kind,
        source_uri=source_uri,
        sql=sql,
        template=template,
        classes=classes,
        label_column=label_column,
        split_column=split_column,
        test_fraction=test_fraction,
        columns=ingestion.declared_columns(columns),
    )
    return ingestion.ingest(place, spec, deadline_s=deadline_s)
