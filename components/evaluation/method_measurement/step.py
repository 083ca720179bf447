"""What the `measure` step does: some configurations, one after another, and what came of them in a store."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.artifacts.documents import digest
from components.artifacts.stores import create_or_read, open_store, reference
from components.errors import CrosscloudError
from components.evaluation.measurement_records.kept_outcomes import KeptOutcomes, Record, records_at
from components.evaluation.method_measurement.measurement import measure
from components.evaluation.rehearsal.corpus import Corpus
from components.execution import progress
from components.execution.outcome import Outcome


def measure_listed(
    configurations: str, *, earlier: Mapping[str, str], corpus: str, store_uri: str, path: str
) -> Outcome:
    """Measures what has no outcome in the store yet, and writes the records of all.

    Args:
        configurations: a JSON list of them.
        earlier: references of records of earlier stages.
        corpus: path of the corpus file.
        store_uri: store of the comparison, where outcomes are kept by what they follow from.
        path: where to write the records for people.

    Returns:
        The reference of the records in the store.

    Raises:
        CrosscloudError: some configurations failed; the others are kept for another try.
    """
    data, store = Corpus.read(Path(corpus)), open_store(store_uri)
    kept = KeptOutcomes(store, data.digest)
    known = records_at(earlier, store_uri)
    asked: list[dict[str, Any]] = json.loads(configurations)
    records: list[Record] = []
    failures = []
    for place, configuration in enumerate(asked, start=1):
        record = kept.find(configuration)
        if record is None:
            began = time.perf_counter()
            try:
                outcome = measure(configuration, data, known)
            except CrosscloudError as error:
                failures.append(f"{json.dumps(configuration)}: {error}")
                continue
            record = kept.keep(configuration, outcome, seconds=time.perf_counter() - began)
        records.append(record)
        progress.tell(f"measured {100 * place // len(asked)}%")
    if failures:
        raise CrosscloudError(f"{len(failures)} of {len(asked)} configurations failed: {failures[0]}")
    content = json.dumps(records, sort_keys=True).encode()
    key = f"records/{digest(content)}.json"
    create_or_read(store, key, content)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return Outcome(reference=reference(store, key), manifest={"configurations": len(records)})
