"""What the `compare` step does: all records in, one report and one document of every number out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from components.evaluation.comparison_report.reporting import write_comparison
from components.evaluation.measurement_records.kept_outcomes import records_at
from components.evaluation.measurement_records.results_document import (
    About,
    measured_dataset,
    merged,
    write_document,
)
from components.evaluation.method_measurement.configurations import CONCENTRATIONS, figures_of
from components.evaluation.rehearsal.corpus import Corpus
from components.execution.outcome import Outcome


def write_report(
    records: Mapping[str, str],
    *,
    corpus: str,
    sites: int,
    quick: bool,
    language_model: str,
    command: str,
    store_uri: str,
    page: str,
    results: str,
) -> Outcome:
    """Writes the report and `results.json` of what the `measure` steps have measured.

    Args:
        records: references of their records.
        corpus: path of the corpus file.
        sites: among which the rows were dealt.
        quick: whether this is the reduced comparison.
        language_model: that made the features.
        command: that compiles the pipeline.
        store_uri: store of the comparison.
        page: where to write the report, one HTML file.
        results: where to write the document.

    Raises:
        CrosscloudError: the records cannot be read, or are none of a comparison.
    """
    data, found = Corpus.read(Path(corpus)), records_at(records, store_uri)
    about = About.of(data, sites=sites, concentration=CONCENTRATIONS[0], language_model=language_model)
    entry = measured_dataset(
        about,
        found,
        corpus_digest=data.digest,
        command=command,
        quick=quick,
        seeds=_seeds(found),
        seconds=sum(record["seconds"] for record in found),
        serves=lambda configuration: figures_of(dict(configuration))[0],
        now=datetime.now(UTC),
    )
    write_document(Path(results), merged(None, data.name, entry))
    with tempfile.TemporaryDirectory() as folder:
        report = write_comparison(Path(results), output=Path(folder))
        target = Path(page)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(report.page.read_bytes())
    return Outcome(manifest={"records": len(found), "data_set": data.name})


def _seeds(records: list[dict[str, object]]) -> list[int]:
    configurations = [record["configuration"] for record in records]
    return sorted({each["seed"] for each in configurations if isinstance(each, dict) and "seed" in each})
