"""A warehouse of visits with what must not leave it, and what `ingest` is asked to read of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from components.agreement.workplace import Workplace
from components.artifacts.stores import crosscloud_home, key_of
from components.data_processing.record_ingestion.ingestion import RecordSpec
from components.data_processing.record_ingestion.row_shards import read_shard, shards_of
from components.execution.outcome import Outcome
from tests.components.aggregation.three_sites import ThreeSites, set_policy

PATIENTS = ("Ottilie Quastenberg", "Balduin Zwirnhagen", "Roswitha Uhlenkrieg")
CLASSES = ("heart", "lung")
WAREHOUSE = "warehouses/visits.duckdb"
SPEC = RecordSpec(
    source_kind="duckdb",
    source_uri=WAREHOUSE,
    sql="SELECT * FROM visits",
    template="{note}",
    label_column="organ",
    split_column="category",
    test_fraction=0.3,
    classes=CLASSES,
)


def fill(rows: int) -> Path:
    """Visits with what must not leave the warehouse: patient, category, number."""
    path = crosscloud_home() / WAREHOUSE
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE visits (id BIGINT, patient VARCHAR, category VARCHAR, note VARCHAR, organ VARCHAR)"
        )
        connection.execute(
            "INSERT INTO visits SELECT k, ?[1 + k % 3], 'category-' || k % 37, "
            "'note ' || k || ' of a visit', ?[1 + k % 2] FROM range(?) AS numbers(k)",
            [list(PATIENTS), list(CLASSES), rows],
        )
    return path


def admit(three: ThreeSites, *queries: str, task: RecordSpec = SPEC, **rules: Any) -> None:
    """Writes policies that admit these queries, and this spec's task."""
    digests = tuple(hashlib.sha256(query.encode()).hexdigest() for query in queries)
    for site in three.sites:
        set_policy(
            "small",
            site,
            **{
                "charter": three.charter.digest,
                "protections": ("none",),
                "queries": digests,
                "tasks": (task.task,),
                **rules,
            },
        )


def rows_of(place: Workplace, outcome: Outcome) -> pa.Table:
    """What the outcome refers to."""
    shards = shards_of(place.store, key_of(place.store, outcome.reference))
    return pa.concat_tables(read_shard(place.store, shard) for shard in shards)


def shard_of(place: Workplace, outcome: Outcome) -> bytes:
    """The file of its only shard."""
    (shard,) = shards_of(place.store, key_of(place.store, outcome.reference))
    return place.store.read(shard.key)
