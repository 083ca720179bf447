"""Whole rounds by the command whose sites read BigQuery, each on its own policy's terms.

Round 1 has three sites with records and one without its table. Before round 2 the people of one site lower
what a query may cost, those of another put a policy tag on a column, and a third one's table shrinks.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from components.agreement.ticket import ticket_digest
from components.artifacts.stores import open_store
from components.data_processing.declared_columns import DeclaredColumn
from components.data_processing.record_ingestion.extraction import extract
from components.data_processing.record_ingestion.row_shards import cut, read_shard, shards_of
from components.data_processing.sources import open_source
from tests.components.data_processing.bigquery.server.local_bigquery import LocalBigQuery
from tests.conftest import CLASSES, FILLER, SITES, WORDS, SmallFederation
from tests.pipelines.byte_search import files, own, texts_in
from tests.pipelines.conftest import FinishedRun, FinishedRuns, moved, typed

pytestmark = pytest.mark.slow
FOUR = (*SITES, "delta")
SQL = "SELECT note, organ, category, context, id FROM visits WHERE id >= @first"
LEAST_BILLED = 10 * 2**20
TAG = "projects/demo/locations/eu/taxonomies/1/policyTags/2"
EMAILS = tuple(f"gwendolyn.{number}@sprechstunde-nord.org" for number in range(7))
CARD, IBAN = "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00"
COLUMNS = [
    {"name": "note", "type": "STRING", "nullable": False},
    {"name": "context", "type": "STRUCT"},
    {"name": "organ", "type": "STRING", "nullable": False},
    {"name": "id", "type": "INT64"},
]
TERMS = {
    "location": "EU",
    "maximum_bytes_billed": LEAST_BILLED,
    "parameters": {"first": {"type": "INT64", "value": 2}},
}


def visits(site: str, rows: int, *, edition: str = "") -> pa.Table:
    """Seeded visits; those of alpha hold what is to be masked, in the note and in a part of the context."""
    chance = random.Random(f"{site}{edition}")
    records: list[dict[str, Any]] = []
    for number in range(rows):
        organ = chance.choice(CLASSES)
        note = " ".join([*chance.sample(WORDS[organ], 2), *chance.sample(FILLER, 2), edition]).strip()
        context: dict[str, Any] = {"ward": chance.choice(["north", "south"]), "contact": None}
        if site == "alpha" and number % 5 == 0:
            note += f", write to {EMAILS[number % 7]}"
            context["contact"] = f"card {CARD}" if number % 2 else f"IBAN {IBAN}"
        category = f"C{chance.randint(0, 40)}"
        records.append({"id": number, "category": category, "note": note, "organ": organ, "context": context})
    context = pa.struct([("ward", pa.string()), ("contact", pa.string())])
    return pa.Table.from_pylist(
        records,
        pa.schema(
            {
                "id": pa.int64(),
                "category": pa.string(),
                "note": pa.string(),
                "organ": pa.string(),
                "context": context,
            }
        ),
    )


@dataclass(frozen=True, kw_only=True)
class TwoRounds:
    """A federation after round 1 and after a round 2 that had too few sites, and what the server saw."""

    federation: SmallFederation
    first: FinishedRun
    second: FinishedRun
    endpoint: str
    jobs: Mapping[str, Any] = field(default_factory=dict)
    """Configuration of the one job of a site in round 1, by site."""

    def ticket(self, number: int) -> dict[str, Any]:
        path = self.federation.home / f"small/exchange/rounds/{number:05d}-1/ticket.json"
        body: dict[str, Any] = json.loads(path.read_bytes())["body"]
        return body

    def digest(self, number: int) -> str:
        return ticket_digest(
            (self.federation.home / f"small/exchange/rounds/{number:05d}-1/ticket.json").read_bytes()
        )

    def manifests(self) -> list[Path]:
        """What the coordinator has of the rows of the sites in round 1."""
        first = min((self.federation.home / "small/runs").iterdir())
        return sorted(first.glob("run-1/*/ingest*/manifest"))

    def store(self, site: str) -> Path:
        return self.federation.home / f"small/sites/{site}/store"


@pytest.fixture
def rounds(small_federation: Callable[..., SmallFederation], finished_runs: FinishedRuns) -> TwoRounds:
    """Run by the first test that asks for it. To be read only."""
    if not _RUN:
        made = small_federation(rows=0, names=FOUR)
        with LocalBigQuery() as service:
            _RUN.append(_two_rounds(made, service, finished_runs.folder / "bigquery"))
    return _RUN[0]


_RUN: list[TwoRounds] = []


def _two_rounds(made: SmallFederation, service: LocalBigQuery, folder: Path) -> TwoRounds:
    now = datetime.now(UTC)
    made.document["task"] |= {"template": "{note}, {context}", "columns": COLUMNS}
    endpoints = {"endpoint": service.endpoint, "storage_endpoint": service.storage_endpoint}
    for number, site in enumerate(FOUR):
        sql = SQL if site != "delta" else SQL.replace("visits", "lost")
        made.site(site)["data"] = {
            "source": "bigquery",
            "uri": f"bigquery://demo/clinic_{site}",
            "sql": sql,
            "bigquery": TERMS | endpoints,
        }
        if site != "delta":
            table = visits(site, 60 + 20 * number)
            service.warehouse.put(f"clinic_{site}", "visits", table, at=now - timedelta(hours=1))
            later = visits(site, 90, edition="left")
            # Whatever is written after a round was opened is not of that round.
            service.warehouse.put(f"clinic_{site}", "visits", later, at=now + timedelta(hours=1))
    made.save()
    first = typed("run", str(made.path), home=made.home)
    jobs = {job.configuration["labels"]["site"]: job.configuration for job in service.jobs.all()}
    assert len(service.jobs.all()) == len(jobs)
    _change(made, service)
    second = typed("run", str(made.path), home=made.home)
    kept = moved(made, folder)
    return TwoRounds(
        federation=kept,
        first=FinishedRun(federation=kept, command=first),
        second=FinishedRun(federation=kept, command=second),
        endpoint=service.endpoint,
        jobs=jobs,
    )


def _change(made: SmallFederation, service: LocalBigQuery) -> None:
    """Of the file alpha's terms alone; what binds is in the policies."""
    before = datetime.now(UTC) - timedelta(seconds=5)
    made.site("alpha")["data"]["bigquery"] = made.site("alpha")["data"]["bigquery"] | {
        "maximum_bytes_billed": 100
    }
    made.save()
    _edit(made, "alpha", "maximum_bytes_billed: 10485760", "maximum_bytes_billed: 100")
    _edit(made, "gamma", "action: keep", "action: stop")
    tables = service.warehouse.tables
    tagged: dict[str, tuple[int, dict[str, str]]] = {"beta": (80, {"note": TAG}), "gamma": (20, {})}
    for site, (rows, tags) in tagged.items():
        table = visits(site, rows)
        service.warehouse.put(f"clinic_{site}", "visits", table, at=before, policy_tags=tags)
        del tables[f"clinic_{site}", "visits"].versions[1]


def _edit(made: SmallFederation, site: str, old: str, new: str) -> None:
    path = made.home / f"small/keys/{site}/policy.yaml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def elsewhere(home: Path) -> list[Path]:
    """All that is neither a site's own nor in a party's private folder."""
    private = [home / "small/sites", *(home / "small/keys" / owner for owner in FOUR)]
    found = [path for path in files(home) if not any(path.is_relative_to(folder) for folder in private)]
    assert {"runs", "exchange", "state", "keys"} <= {path.relative_to(home).parts[1] for path in found}
    return found


def in_store(folder: Path, index: str) -> pa.Table:
    store = open_store(str(folder))
    return pa.concat_tables(read_shard(store, shard) for shard in shards_of(store, index))


@contextlib.contextmanager
def in_duckdb(table: pa.Table, folder: Path) -> Iterator[str]:
    path = folder / "visits.duckdb"
    with duckdb.connect(path) as connection:
        connection.register("incoming", table)
        connection.execute("CREATE TABLE visits AS SELECT * FROM incoming")
    yield str(path)
    path.unlink()


def through_duckdb(table: pa.Table, folder: Path) -> pa.Table:
    """Rows of the same records and the same query as the other kind of source gives them."""
    kinds = ("iban", "card", "email", "ip", "ssn", "phone")
    with in_duckdb(table, folder) as path, contextlib.closing(open_source("duckdb", path)) as source:
        extraction = extract(
            source,
            SQL.replace("@first", "2"),
            template_columns=["note", "context"],
            label_column="organ",
            split_column="category",
            test_fraction=0.3,
            classes=CLASSES,
            declared=[DeclaredColumn(name="context", type="STRUCT")],
            kinds=kinds,
        )
    with contextlib.closing(extraction.rows) as rows:
        return pa.concat_tables(cut(rows.ordered()))


def test_rows_are_those_of_duckdb_as_of_the_snapshot(rounds: TwoRounds, tmp_path: Path) -> None:
    assert rounds.first.command.returncode == 0, rounds.first.command.stderr
    for number, site in enumerate(SITES):
        pointer = json.loads((rounds.store(site) / f"ingested/{rounds.digest(1)}.json").read_text())
        found = in_store(rounds.store(site), f"rows/{pointer['digest']}.json")
        expected = through_duckdb(visits(site, 60 + 20 * number), tmp_path)
        assert found.equals(expected)
        assert found.num_rows == 58 + 20 * number, "the parameter leaves out the first two"


def test_all_sites_read_as_of_the_tickets_snapshot_and_say_what_for(rounds: TwoRounds) -> None:
    snapshot = datetime.fromisoformat(rounds.ticket(1)["snapshot"])
    assert set(rounds.jobs) == set(SITES)
    for site, configuration in rounds.jobs.items():
        assert configuration["labels"] == {
            "federation": "small", "round": "1", "site": site, "step": "ingest"
        }  # fmt: skip
        query = configuration["query"]
        assert int(query["maximumBytesBilled"]) == LEAST_BILLED
        values = {each["name"]: each["parameterValue"]["value"] for each in query["queryParameters"]}
        assert values.keys() == {"first", "snapshot"}
        assert values["first"] == "2"
        assert datetime.fromisoformat(values["snapshot"]) == snapshot


def test_sensitive_values_are_nowhere_after_the_warehouse(rounds: TwoRounds) -> None:
    secrets = {*EMAILS, CARD, IBAN}
    home = rounds.federation.home
    assert texts_in(files(home), secrets) == set()
    printed = "".join(run.command.stdout + run.command.stderr for run in (rounds.first, rounds.second))
    assert not any(secret in printed for secret in secrets)
    tokens = {"<EMAIL>", "<CARD>", "<IBAN>"}
    assert texts_in(own(home, "alpha", "rows"), tokens) == tokens
    assert texts_in(elsewhere(home), tokens) == set()


def test_the_coordinator_sees_powers_of_two_and_the_site_the_truth(rounds: TwoRounds) -> None:
    folder = rounds.store("alpha") / f"ingested/{rounds.digest(1)}"
    (account,) = [json.loads(path.read_text()) for path in folder.glob("account-*.json")]
    (masked,) = [json.loads(path.read_text()) for path in folder.glob("masked-*.json")]
    # Of rows 2 to 59 every fifth: 5, 10, …, 55; the odd ones have a card, the others an IBAN.
    assert masked == {"iban": 5, "card": 6, "email": 11, "ip": 0, "ssn": 0, "phone": 0}
    assert account["bytes_billed"] == LEAST_BILLED
    manifests = [json.loads(path.read_text()) for path in rounds.manifests()]
    (told,) = [each for each in manifests if "/alpha/" in each["uri"]]
    assert told["masked"] == {"iban": 8, "card": 8, "email": 16, "ip": 1, "ssn": 1, "phone": 1}
    assert told["account"]["bytes_billed"] == 2**24
    report = json.loads((rounds.federation.home / "small/state/rounds/00001/report.json").read_bytes())
    (reported,) = [each for each in report["sites"] if each["name"] == "alpha"]
    assert reported["bytes_read"] == told["account"]["bytes_processed"]
    assert told["account"]["bytes_processed"] / 2 < account["bytes_processed"] < 2**14
    assert told["account"]["job_id"] == account["job_id"]
    assert told["account"]["snapshot"] == rounds.ticket(1)["snapshot"]
    shown = [path.with_name("executor_output.json").read_text() for path in rounds.manifests()]
    (metadata,) = [json.loads(text) for text in shown if account["job_id"] in text]
    (artifact,) = metadata["artifacts"]["manifest"]["artifacts"]
    assert artifact["metadata"]["account_bytes_billed"] == 2**24
    assert artifact["metadata"]["masked_email"] == 16


def test_a_site_without_its_table_is_left_out_of_round_1(rounds: TwoRounds) -> None:
    report = json.loads((rounds.federation.home / "small/state/rounds/00001/report.json").read_text())
    reasons = {site["name"]: site["reason"] for site in report["sites"]}
    assert reasons == {
        **dict.fromkeys(SITES, ""),
        "delta": "bad_data: the query failed: there is no table or column lost",
    }
    left = own(rounds.federation.home, "delta")
    assert {path.relative_to(rounds.store("delta")).parts[0] for path in left} == {"tickets", "notes", "left"}


@pytest.mark.parametrize(
    ("site", "reason"),
    [
        ("alpha", "refused: the query would be billed more than the site allows"),
        ("beta", "refused: the query reads a column with a policy tag: note"),
        ("gamma", "bad_data: the number of rows has changed"),
        ("delta", "bad_data: the query failed: there is no table or column lost"),
    ],
)
def test_what_stops_a_site_is_one_line_and_leaves_nothing_half_written(
    rounds: TwoRounds, site: str, reason: str
) -> None:
    run = rounds.second.command
    assert run.returncode == 2, "too few sites for a reason that people can mend"
    assert f"{site}: {reason}" in run.stderr
    store = rounds.store(site)
    assert not (store / f"ingested/{rounds.digest(2)}.json").exists()
    assert [path.name for path in (store / "statistics").glob("000000002-*")] == []
    first = json.loads((store / f"ingested/{rounds.digest(1)}.json").read_text()) if site != "delta" else {}
    assert {path.name for path in (store / "rows").glob("*.json")} == (
        {f"{first['digest']}.json"} if first else set()
    )


def test_terms_stay_at_the_site(rounds: TwoRounds) -> None:
    """What a site pays at most, and through which endpoint, is in no run parameter."""
    seen = {b"maximum_bytes", rounds.endpoint.encode(), b"storage_endpoint"}
    found = elsewhere(rounds.federation.home)
    assert len(found) > 50
    assert [path for path in found for text in seen if text in path.read_bytes()] == []
    spec = b"".join(path.read_bytes() for path in found if path.suffix == ".yaml")
    assert b"bigquery://demo/clinic_alpha" in spec
