"""`results.json`: every number of a comparison, data set by data set.

`format` is 1. `datasets` has, by name, what the data set is (`about`), `machine`, `versions`, the `command`
that measures it, whether it is the reduced comparison (`quick`), `seeds`, wall `seconds` of all starts,
seconds of processes by figure (`figure_seconds`), `measured_at`, digests of what was `measured_on`, and
`records`: each a `configuration`, its `outcome` and the `seconds` of its process.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from components.errors import StoreError, UsageError
from components.evaluation.measurement_records.kept_outcomes import Record, code_digest
from components.evaluation.measurement_records.machine import machine, software
from components.evaluation.rehearsal.corpus import Corpus

FORMAT: Final = 1
Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class About:
    """The data set, and how it is dealt.

    Attributes:
        name: of the data set.
        train_rows: to train on.
        test_rows: to test on.
        classes: how many.
        sites: among which the rows are dealt.
        concentration: of the Dirichlet distribution they are dealt by, in the main figures.
        language_model: that makes features.
        words: dimensions of the features without it.
    """

    name: str
    train_rows: int
    test_rows: int
    classes: int
    sites: int
    concentration: float
    language_model: str
    words: int

    @classmethod
    def of(cls, corpus: Corpus, *, sites: int, concentration: float, language_model: str) -> About:
        """What a corpus tells, and what it does not."""
        return cls(
            name=corpus.name,
            train_rows=len(corpus.train.labels),
            test_rows=len(corpus.test.labels),
            classes=len(corpus.classes),
            sites=sites,
            concentration=concentration,
            language_model=language_model,
            words=int(corpus.train_words.shape[1]),
        )


def measured_dataset(
    about: About,
    records: Sequence[Record],
    *,
    corpus_digest: str,
    command: str,
    quick: bool,
    seeds: Sequence[int],
    seconds: float,
    serves: Callable[[Mapping[str, Any]], str],
    now: datetime,
) -> Document:
    """The entry of a data set.

    Args:
        about: the data set.
        records: of its measurements.
        corpus_digest: of the corpus they were made on.
        command: that makes them again.
        quick: whether this is the reduced comparison.
        seeds: of the repetitions.
        seconds: wall time of all starts together.
        serves: the figure that a configuration's time is told under.
        now: when the last of them was made, or asked for.
    """
    by_figure: defaultdict[str, float] = defaultdict(float)
    for record in records:
        by_figure[serves(record["configuration"])] += record["seconds"]
    return {
        "about": asdict(about),
        "machine": machine(),
        "versions": software(),
        "command": command,
        "quick": quick,
        "seeds": sorted(seeds),
        "seconds": round(seconds, 1),
        "figure_seconds": {figure: round(total, 1) for figure, total in sorted(by_figure.items())},
        "measured_at": now.isoformat(timespec="seconds"),
        "measured_on": {"corpus": corpus_digest, "code": code_digest(), "sites": about.sites},
        "records": list(records),
    }


def merged(document: Document | None, name: str, entry: Document) -> Document:
    """The document with a data set's entry in it; other data sets stay as they are.

    What an earlier entry of the same name holds and this one does not is kept where it was measured by the
    same code on the same corpus: figures may be asked for one by one.
    """
    before = dict((document or {}).get("datasets", {}))
    old = before.get(name)
    if old and old.get("measured_on") == entry["measured_on"] and old["quick"] == entry["quick"]:
        here = [record["configuration"] for record in entry["records"]]
        others = [record for record in old["records"] if record["configuration"] not in here]
        if others:
            entry = entry | {
                "records": [*others, *entry["records"]],
                "seeds": sorted({*old["seeds"], *entry["seeds"]}),
                "figure_seconds": old["figure_seconds"] | entry["figure_seconds"],
            }
    return {"format": FORMAT, "datasets": dict(sorted((before | {name: entry}).items()))}


def read_document(path: Path) -> Document | None:
    """What `write_document` wrote; None where there is nothing.

    Raises:
        UsageError: it is something else.
    """
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_bytes())
        if document["format"] == FORMAT and isinstance(document["datasets"], dict):
            return dict(document)
    except (ValueError, KeyError, TypeError):
        pass
    raise UsageError(f"{path} is no results.json of this version: move it away, or name another folder")


def write_document(path: Path, document: Document) -> None:
    """Writes it whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    content = json.dumps(document, indent=1, sort_keys=True, allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(content, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
