from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from components.data_processing.bigquery.residency import DataResidency
from components.data_processing.bigquery.source import BigQuerySource, open_bigquery
from components.data_processing.bigquery.terms import Parameter
from components.data_processing.duckdb_source import open_duckdb
from components.data_processing.query import extraction_statement
from components.errors import BadDataError, RefusedError
from tests.components.data_processing.bigquery.server.local_bigquery import LocalBigQuery
from tests.components.data_processing.bigquery.server.planning import LEAST_BILLED_A_TABLE
from tests.components.data_processing.bigquery.visits import SECRET, TAG, ordered, read, visits

Opener = Callable[..., BigQuerySource]
VISITS = visits(40)


@pytest.fixture(params=["storage", "rest"])
def api(request: pytest.FixtureRequest, service: LocalBigQuery) -> dict[str, Any]:
    """Terms for each of the two ways to read rows."""
    service.warehouse.put("clinic", "visits", VISITS)
    return {} if request.param == "storage" else {"storage_endpoint": ""}


class TestRows:
    def test_every_type_comes_as_it_is_in_the_warehouse(self, opened: Opener, api: dict[str, Any]) -> None:
        source = opened(**api)
        assert read(source, "SELECT * FROM clinic.visits") == ordered(VISITS.to_pylist())
        assert source.account()["api"] == ("rest" if api else "storage")

    def test_the_schema_is_that_of_the_rows(self, opened: Opener, api: dict[str, Any]) -> None:
        source = opened(**api)
        schema = source.schema("SELECT * FROM clinic.visits")
        assert schema.names == VISITS.schema.names
        assert all(batch.schema == schema for batch in source.batches("SELECT * FROM clinic.visits"))
        assert schema.field("id").type == pa.int64()
        assert schema.field("seen").type == pa.timestamp("us", tz="UTC")
        assert schema.field("person").type == pa.struct([("name", pa.string()), ("age", pa.int64())])

    def test_no_row_is_one_empty_batch_with_the_schema(self, opened: Opener, api: dict[str, Any]) -> None:
        batches = list(opened(**api).batches("SELECT note, id FROM clinic.visits WHERE FALSE"))
        assert [batch.num_rows for batch in batches] == [0]
        assert batches[0].schema == pa.schema([("note", pa.string()), ("id", pa.int64())])

    def test_columns_come_in_the_querys_order(self, opened: Opener, api: dict[str, Any]) -> None:
        batches = opened(**api).batches("SELECT urgent, id AS b, id AS a FROM clinic.visits")
        assert next(iter(batches)).schema.names == ["urgent", "b", "a"]

    def test_parameters_of_every_type_are_values_and_never_sql(
        self, opened: Opener, api: dict[str, Any]
    ) -> None:
        parameters = {
            "text": Parameter(kind="STRING", value="4B' OR TRUE OR '"),
            "wards": Parameter(kind="STRING", value=("4B", "Ä")),
            "few": Parameter(kind="INT64", value="30"),
            "heavy": Parameter(kind="FLOAT64", value="-1e3"),
            "urgent": Parameter(kind="BOOL", value="true"),
            "born": Parameter(kind="DATE", value="1950-01-05"),
            "Seen": Parameter(kind="TIMESTAMP", value="2026-01-01T04:04:00+01:00"),
            "unused": Parameter(kind="INT64", value="1"),
        }
        sql = (
            "SELECT id FROM clinic.visits WHERE ward <> @text AND ward IN UNNEST(@wards) AND id < @few AND "
            "weight > @heavy AND urgent = @urgent AND born > @born AND seen < @seen"
        )
        expected = [
            {"id": row["id"]}
            for row in VISITS.to_pylist()
            if row["ward"] in {"4B", "Ä"}
            and row["id"] < 30
            and row["weight"] is not None
            and row["urgent"]
            and row["born"] is not None
            and row["born"].isoformat() > "1950-01-05"
            and row["seen"] is not None
            and row["seen"] < datetime(2026, 1, 1, 3, 4, tzinfo=UTC)
        ]
        assert expected
        assert read(opened(parameters=parameters, **api), sql) == ordered(expected)

    def test_a_large_result_comes_in_many_batches(self, service: LocalBigQuery, opened: Opener) -> None:
        service.warehouse.put("clinic", "many", pa.table({"id": range(25_000)}))
        for terms, sizes in (({}, {1000, 334, 333, 332}), ({"storage_endpoint": ""}, {10_000, 5_000})):
            batches = list(opened(**terms).batches("SELECT id FROM clinic.many"))
            assert {batch.num_rows for batch in batches} <= sizes
            assert sorted(pa.Table.from_batches(batches).column("id").to_pylist()) == list(range(25_000))
        pages = service.faults.calls("jobs.getQueryResults")
        assert [page["maxResults"] for page in pages if page["maxResults"] != "0"] == ["10000"] * 3
        (session,) = service.faults.calls("storage.createReadSession")
        assert (session["fields"], session["streams"]) == (["id"], 4)
        assert len({call["stream"] for call in service.faults.calls("storage.readRows")}) == 3


def wrapped(sql: str) -> str:
    return extraction_statement(
        sql, columns=["note", "ward"], label_column="id", split_column="born", test_fraction=0.3
    )


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM visits",
        wrapped("SELECT * FROM visits WHERE id > 3"),
        wrapped("WITH a AS (SELECT *, ROW_NUMBER() OVER (PARTITION BY ward ORDER BY id) AS r FROM visits) "
                "SELECT * FROM a WHERE r = 1"),
        "SELECT ward, COUNT(*) AS n, CAST(SUM(id) AS INT64) AS s, MAX(weight) AS w FROM visits GROUP BY ward",
        "SELECT v.id, code FROM visits AS v, UNNEST(v.codes) AS code",
        "SELECT SAFE_CAST(note AS INT64) AS x, IFNULL(ward, 'none') AS ward, person.age FROM visits",
    ],
)  # fmt: skip
def test_rows_are_those_that_duckdb_gives(
    service: LocalBigQuery, opened: Opener, api: dict[str, Any], tmp_path: Path, sql: str
) -> None:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(path) as connection:
        connection.register("incoming", VISITS)
        connection.execute("CREATE TABLE visits AS SELECT * FROM incoming")
    with contextlib.closing(open_duckdb(str(path))) as other:
        local = pa.Table.from_batches(list(other.batches(sql))).to_pylist()
    assert read(opened(default_dataset="clinic", **api), sql) == ordered(local)


class TestCost:
    SQL = "SELECT note, id FROM (SELECT * FROM clinic.visits) AS q"

    def bytes_of_the_query(self) -> int:
        notes = [note for note in VISITS.column("note").to_pylist() if note is not None]
        texts = sum(2 + len(note.encode()) for note in notes)
        return texts + 8 * len(VISITS)

    def test_what_a_query_cost_is_accounted_for(self, opened: Opener, api: dict[str, Any]) -> None:
        source = opened(**api)
        assert source.account() == {}
        read(source, self.SQL)
        account = dict(source.account())
        assert re.fullmatch(r"[0-9a-f-]{36}", str(account.pop("job_id")))
        assert account == {
            "location": "EU",
            "bytes_processed": self.bytes_of_the_query(),
            "bytes_billed": LEAST_BILLED_A_TABLE,
            "slot_milliseconds": 12,
            "snapshot": "",
            "api": "rest" if api else "storage",
        }

    def test_what_has_run_is_accounted_for_though_its_rows_are_not_read(
        self, service: LocalBigQuery, opened: Opener, api: dict[str, Any]
    ) -> None:
        source = opened(**api)
        next(source.batches(self.SQL))
        (job,) = service.jobs.all()
        assert (source.account()["job_id"], source.account()["bytes_billed"]) == (job.number, 10 << 20)
        with pytest.raises(BadDataError):
            read(source, "SELECT gone FROM clinic.visits")
        assert source.account() == {}

    def test_one_byte_too_many_is_refused_before_anything_is_run(
        self, service: LocalBigQuery, opened: Opener, api: dict[str, Any]
    ) -> None:
        most = self.bytes_of_the_query() - 1
        with pytest.raises(RefusedError, match="raise it in the site's terms") as caught:
            read(opened(maximum_bytes_billed=most, **api), self.SQL)
        assert f"would read {most + 1:,} bytes, and maximum_bytes_billed is {most:,}" in str(caught.value)
        assert not any(character.isdigit() for character in caught.value.disclosed)
        assert service.jobs.all() == []

    def test_the_service_holds_the_limit_as_well(
        self, service: LocalBigQuery, opened: Opener, api: dict[str, Any]
    ) -> None:
        with pytest.raises(RefusedError, match=f"{LEAST_BILLED_A_TABLE} or higher required") as caught:
            read(opened(maximum_bytes_billed=self.bytes_of_the_query(), **api), self.SQL)
        assert "\n" not in str(caught.value)
        assert [job.error["reason"] for job in service.jobs.all() if job.error] == [
            "bytesBilledLimitExceeded"
        ]

    def test_a_schema_costs_nothing_and_runs_nothing(
        self, service: LocalBigQuery, opened: Opener, api: dict[str, Any]
    ) -> None:
        opened(maximum_bytes_billed=1, **api).schema(self.SQL)
        assert service.jobs.all() == []

    def test_labels_and_limits_lie_with_the_job(self, service: LocalBigQuery, opened: Opener) -> None:
        service.warehouse.put("clinic", "visits", VISITS)
        labels = {"federation": "Hospitals EU", "round": "7", "site": "gcp", "step": "ingest"}
        read(opened(labels=labels, maximum_bytes_billed=10**9), self.SQL)
        (job,) = service.jobs.all()
        assert job.configuration["labels"] == {**labels, "federation": "hospitals_eu"}
        assert job.configuration["query"]["maximumBytesBilled"] == str(10**9)
        assert job.configuration["query"]["useLegacySql"] is False
        assert job.configuration["jobTimeoutMs"] == "20000"


NOW = datetime.now(UTC)


class TestSnapshot:
    @pytest.fixture
    def changing(self, service: LocalBigQuery, api: dict[str, Any]) -> dict[str, Any]:
        """A table that had 2 rows an hour ago and has 3 others now, and one that was the same all along."""
        old, new = pa.table({"id": [1, 2]}), pa.table({"id": [3, 4, 5]})
        service.warehouse.put("clinic", "changing", old, at=NOW - timedelta(hours=1))
        service.warehouse.put("clinic", "changing", new, at=NOW - timedelta(minutes=1))
        service.warehouse.put("clinic", "steady", pa.table({"id": range(9)}), at=NOW - timedelta(days=30))
        return api

    SQL = (
        "WITH c AS (SELECT id FROM clinic.changing) "
        "SELECT id FROM c WHERE id IN (SELECT id FROM clinic.steady)"
    )

    def test_rows_are_those_of_the_snapshot_whatever_came_since(
        self, service: LocalBigQuery, opened: Opener, changing: dict[str, Any]
    ) -> None:
        pinned = opened(snapshot=NOW - timedelta(minutes=30), **changing)
        before = read(pinned, self.SQL)
        service.warehouse.put("clinic", "changing", pa.table({"id": [8]}))
        assert before == read(pinned, self.SQL) == [{"id": 1}, {"id": 2}]
        assert read(opened(**changing), self.SQL) == [{"id": 8}]
        assert pinned.account()["snapshot"] == (NOW - timedelta(minutes=30)).isoformat()

    def test_a_snapshot_goes_with_the_querys_own_parameters(
        self, opened: Opener, changing: dict[str, Any]
    ) -> None:
        terms = {
            "snapshot": NOW - timedelta(minutes=30),
            "parameters": {"n": Parameter(kind="INT64", value="2")},
        }
        assert read(opened(**terms, **changing), f"{self.SQL} AND id = @n") == [{"id": 2}]

    def test_beyond_the_window_nothing_is_asked(self, service: LocalBigQuery) -> None:
        source = open_bigquery(service.terms(snapshot=NOW), clock=lambda: NOW + timedelta(days=7, seconds=1))
        with contextlib.closing(source):
            for ask in (source.schema, lambda sql: next(source.batches(sql))):
                with pytest.raises(BadDataError, match="restore a table snapshot") as caught:
                    ask(self.SQL)
        assert "\n" not in str(caught.value)
        assert service.faults.requests == []

    def test_a_shorter_window_of_the_dataset_is_told_alike(
        self, service: LocalBigQuery, opened: Opener, changing: dict[str, Any]
    ) -> None:
        service.warehouse.window = timedelta(days=2)
        with pytest.raises(BadDataError, match="restore a table snapshot") as caught:
            opened(snapshot=NOW - timedelta(days=3), **changing).schema("SELECT id FROM clinic.steady")
        assert caught.value.disclosed == "the snapshot lies outside the warehouse's time travel window"

    def test_the_future_is_refused(self, service: LocalBigQuery) -> None:
        source = open_bigquery(service.terms(snapshot=NOW), clock=lambda: NOW - timedelta(seconds=301))
        with contextlib.closing(source), pytest.raises(BadDataError, match="lies in the future"):
            source.schema(self.SQL)

    def test_a_snapshot_that_is_ahead_of_this_clock_is_waited_for(
        self, service: LocalBigQuery, changing: dict[str, Any]
    ) -> None:
        waited: list[float] = []
        ahead = NOW - timedelta(seconds=7)
        terms = service.terms(snapshot=NOW, **changing)
        source = open_bigquery(terms, clock=lambda: ahead, sleep=waited.append)
        with contextlib.closing(source):
            source.schema(self.SQL)
        assert waited == [7.0]

    def test_a_view_has_no_snapshot(
        self, service: LocalBigQuery, opened: Opener, changing: dict[str, Any]
    ) -> None:
        columns = [{"name": "id", "type": "INTEGER", "mode": "NULLABLE"}]
        service.warehouse.put_view("clinic", "seen", "SELECT id FROM demo.clinic.changing", columns)
        with pytest.raises(BadDataError, match=r"demo\.clinic\.seen is of kind view") as caught:
            read(opened(snapshot=NOW, **changing), "SELECT id FROM clinic.seen")
        assert "seen" not in caught.value.disclosed
        assert service.jobs.all() == []
        assert len(read(opened(**changing), "SELECT id FROM clinic.seen")) == 3

    def test_a_table_snapshot_is_refused_with_the_mend_that_a_round_can_follow(
        self, service: LocalBigQuery, opened: Opener, changing: dict[str, Any]
    ) -> None:
        kept = "SELECT id FROM clinic.kept"
        service.warehouse.put("clinic", "kept", pa.table({"id": [1, 2]}), at=NOW - timedelta(hours=1))
        stored = service.warehouse.find("clinic", "kept")
        stored.kind = "SNAPSHOT"
        with pytest.raises(BadDataError, match=r"kind snapshot .* \(CREATE TABLE … CLONE …\)"):
            read(opened(snapshot=NOW, **changing), kept)
        assert service.jobs.all() == []
        stored.kind = "TABLE"
        assert len(read(opened(snapshot=NOW, **changing), kept)) == 2


class TestPolicyTags:
    @pytest.fixture
    def tagged(self, service: LocalBigQuery) -> LocalBigQuery:
        service.warehouse.put("clinic", "visits", VISITS, policy_tags={"ward": TAG, "person.name": TAG})
        columns = [{"name": name, "type": "STRING", "mode": "NULLABLE"} for name in ("note", "ward")]
        service.warehouse.put_view("clinic", "seen", "SELECT note, ward FROM demo.clinic.visits", columns)
        return service

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT ward FROM clinic.visits",
            "SELECT * FROM clinic.visits",
            "SELECT person.age FROM clinic.visits",
            "SELECT note FROM clinic.visits WHERE ward = '4B'",
            "SELECT ward FROM clinic.seen",
            "SELECT * FROM clinic.seen",
        ],
    )
    def test_a_query_that_reads_one_is_refused_before_anything_is_run(
        self, tagged: LocalBigQuery, opened: Opener, sql: str
    ) -> None:
        with pytest.raises(
            RefusedError, match=r"reads columns with a policy tag: demo\.clinic\.visits"
        ) as caught:
            read(opened(), sql)
        assert TAG in str(caught.value)
        assert "visits." not in caught.value.disclosed
        assert tagged.jobs.all() == []

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT note FROM clinic.visits",
            "SELECT note FROM (SELECT * FROM clinic.visits) AS q",
            "SELECT * EXCEPT (ward, person) FROM clinic.visits",
            "SELECT note FROM clinic.seen",
        ],
    )
    def test_one_that_does_not_is_run(self, tagged: LocalBigQuery, opened: Opener, sql: str) -> None:
        assert len(read(opened(), sql)) == VISITS.num_rows
        assert len(tagged.jobs.all()) == 1

    @pytest.mark.parametrize("allowed", ["ward", "visits.ward"])
    def test_one_that_the_site_allows_is_run(
        self, tagged: LocalBigQuery, opened: Opener, allowed: str
    ) -> None:
        terms = {"allowed_tagged_columns": frozenset({allowed})}
        assert len(read(opened(**terms), "SELECT ward FROM clinic.visits")) == VISITS.num_rows

    def test_more_tables_than_bigquery_names_cannot_be_checked(
        self, tagged: LocalBigQuery, opened: Opener
    ) -> None:
        for number in range(51):
            tagged.warehouse.put("many", f"t{number}", pa.table({"id": [number]}))
        parts = [f"SELECT id FROM many.t{number}" for number in range(51)]
        assert len(read(opened(), " UNION ALL ".join(parts[:49]))) == 49
        with pytest.raises(RefusedError, match="50 tables or more"):
            read(opened(), " UNION ALL ".join(parts))
        assert len(tagged.jobs.all()) == 1

    def test_columns_are_named_without_being_read(self, tagged: LocalBigQuery, opened: Opener) -> None:
        assert opened().schema("SELECT * FROM clinic.visits").names == VISITS.column_names


class TestResidency:
    EU = DataResidency(warehouse="EU", reader="gcp:europe-west3")

    def test_a_table_elsewhere_is_refused_before_anything_is_run(
        self, service: LocalBigQuery, opened: Opener
    ) -> None:
        service.warehouse.put("clinic", "visits", VISITS, location="US")
        with pytest.raises(RefusedError, match="lies in US, and data_residency declares EU"):
            read(opened(location="US", data_residency=self.EU), "SELECT note FROM clinic.visits")
        assert service.jobs.all() == []

    def test_a_table_where_it_is_declared_to_lie_is_read(
        self, service: LocalBigQuery, opened: Opener
    ) -> None:
        service.warehouse.put("clinic", "visits", VISITS)
        assert len(read(opened(data_residency=self.EU), "SELECT note FROM clinic.visits")) == VISITS.num_rows

    def test_a_reader_whose_rows_may_not_leave_never_opens_the_warehouse(
        self, service: LocalBigQuery
    ) -> None:
        stays = DataResidency(warehouse="EU", reader="aws:eu-central-1")
        with pytest.raises(RefusedError, match="may_leave: false"):
            open_bigquery(service.terms(data_residency=stays))
        assert service.faults.requests == []


class TestRefusals:
    @pytest.fixture(autouse=True)
    def _filled(self, service: LocalBigQuery) -> None:
        service.warehouse.put("clinic", "visits", VISITS.append_column("name", [[SECRET] * VISITS.num_rows]))

    @pytest.mark.parametrize(
        ("sql", "disclosed"),
        [
            ("SELECT gone FROM clinic.visits", "the query failed: there is no table or column 'gone'"),
            ("SELECT v.gone FROM clinic.visits AS v", "the query failed: there is no table or column 'gone'"),
            ("SELECT note FROM clinic.lost", "the query failed: there is no table or column 'lost'"),
            ("SELECT CAST(name AS INT64) AS n FROM clinic.visits", "the query failed: invalidQuery"),
            ("SELECT ERROR(name) AS n FROM clinic.visits", "the query failed: invalidQuery"),
            ("SELECT note FROM clinic.visits; SELECT 1", "the query is not one SELECT"),
            ("DROP TABLE clinic.visits", "the query is not one SELECT"),
            ("SELECT note FROM visits", "table 'visits' has no dataset: write dataset.visits"),
        ],
    )
    def test_a_failed_query_tells_others_nothing_of_a_row(
        self, opened: Opener, sql: str, disclosed: str
    ) -> None:
        with pytest.raises(BadDataError) as caught:
            read(opened(), sql)
        assert caught.value.disclosed == disclosed
        assert "\n" not in str(caught.value)
        chained = caught.value.__cause__ or (
            not caught.value.__suppress_context__ and caught.value.__context__
        )
        assert not chained, "BigQuery's own error quotes rows and would be printed with the trace"

    def test_the_sites_own_people_read_what_bigquery_said(self, opened: Opener) -> None:
        with pytest.raises(BadDataError) as caught:
            read(opened(), "SELECT CAST(name AS INT64) AS n FROM clinic.visits")
        assert SECRET in str(caught.value)
        assert "Ada" not in caught.value.disclosed
