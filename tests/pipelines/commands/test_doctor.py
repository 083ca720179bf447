"""`crosscloud doctor`, against real files, real stores and BigQuery on this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import yaml

from components.agreement.site_policy import query_digest
from components.data_processing.bigquery.source import open_bigquery
from components.data_processing.record_ingestion.extraction import extract
from components.errors import BadDataError
from pipelines.chartering import ensure_charter
from pipelines.diagnosis.bigquery_source import bigquery_findings
from pipelines.diagnosis.records import Wanted
from pipelines.diagnosis.stores import probe
from pipelines.federation import load_federation
from tests.components.artifacts.test_object_store import S3Server
from tests.components.data_processing.bigquery.server.local_bigquery import LocalBigQuery
from tests.conftest import CLASSES, PATIENTS, SITES, WORDS, SmallFederation
from tests.pipelines.noised import ours

if TYPE_CHECKING:
    from tests.pipelines.command_line import Said, Say

TAG = "projects/demo/locations/eu/taxonomies/1/policyTags/2"
SQL = "SELECT note, organ, category FROM visits WHERE id >= @first"
ROWS = 30
HOUR = timedelta(hours=1)


def visits(**columns: Any) -> pa.Table:
    numbers = range(ROWS)
    organs = [CLASSES[number % 3] for number in numbers]
    own = {
        "id": pa.array(numbers, pa.int64()),
        "patient": [PATIENTS[number % 3] for number in numbers],
        "category": [f"C{number % 7}" for number in numbers],
        "note": [" ".join(WORDS[organ][:3]) for organ in organs],
        "organ": organs,
    }
    return pa.table({name: values for name, values in (own | columns).items() if values is not None})


@dataclass(frozen=True, kw_only=True)
class InBigQuery:
    """Three sites with a dataset each in one BigQuery, under a charter that all have signed."""

    made: SmallFederation
    service: LocalBigQuery
    say: Say

    def put(self, rows: pa.Table, **options: Any) -> None:
        """A new version of beta's table."""
        at = options.pop("at", datetime.now(UTC) - HOUR / 2)
        self.service.warehouse.put("beta", "visits", rows, at=at, **options)

    def set_policy(self, **terms: Any) -> None:
        """Changes terms of beta's policy for BigQuery, as its people would."""
        path = self.made.home / "small/keys/beta/policy.yaml"
        policy = yaml.safe_load(path.read_text())
        policy["bigquery"] |= terms
        path.write_text(yaml.safe_dump(policy))

    def admit_task(self) -> None:
        """Adds the digest that the doctor tells to the policies, as their people would who read the task."""
        for site in SITES:
            (text,) = (text for _, check, text in findings(self.doctor("--as", site)) if check == "policy")
            path = self.made.home / f"small/keys/{site}/policy.yaml"
            policy = yaml.safe_load(path.read_text())
            (told,) = re.findall(r"the task with digest ([0-9a-f]{64}) ", text)
            policy["tasks"].append(told)
            path.write_text(yaml.safe_dump(policy))

    def admit_query(self, site: str, sql: str) -> None:
        """Adds a query to a site's policy."""
        path = self.made.home / f"small/keys/{site}/policy.yaml"
        policy = yaml.safe_load(path.read_text())
        policy["queries"].append(query_digest(sql))
        path.write_text(yaml.safe_dump(policy))

    def doctor(self, *words: str) -> Said:
        return self.say("doctor", self.made.path, *words)


@pytest.fixture
def service() -> Iterator[LocalBigQuery]:
    with LocalBigQuery() as running:
        yield running


@pytest.fixture
def in_bigquery(
    small_federation: Callable[..., SmallFederation], service: LocalBigQuery, say: Say
) -> Callable[..., InBigQuery]:
    def make(**changes: Any) -> InBigQuery:
        made = small_federation(rows=0, **({"protection": "none"} | changes))
        for name in SITES:
            made.site(name)["data"] = {
                "source": "bigquery",
                "uri": f"bigquery://demo/{name}",
                "dataset": f"visits of {name}",
                "ledger_uri": f"small/sites/{name}/ledger",
                "sql": SQL,
                "bigquery": {
                    "location": "EU",
                    "maximum_bytes_billed": 20_000_000,
                    "parameters": {"first": {"type": "INT64", "value": 0}},
                    "endpoint": service.endpoint,
                    "storage_endpoint": service.storage_endpoint,
                },
            }
            service.warehouse.put(name, "visits", visits(), at=datetime.now(UTC) - HOUR)
        made.save()
        ensure_charter(load_federation(made.path))
        return InBigQuery(made=made, service=service, say=say)

    return make


def findings(said: Said, state: str = "fault") -> list[tuple[str, str, str]]:
    """Party, check and text of all findings of a state."""
    rows = [re.split(r"  +", line, maxsplit=3) for line in said.out.splitlines()[:-1]]
    assert {row[2] for row in rows} <= {"ok", "fault", "not checked"}
    assert said.err == ""
    return [(row[0], row[1], row[3]) for row in rows if row[2] == state]


def only_fault(said: Said) -> tuple[str, str, str]:
    (fault,) = findings(said)
    assert said.code == 1
    assert said.out.splitlines()[-1].startswith("1 fault")
    return fault


def test_a_federation_that_can_run_has_no_fault(in_bigquery: Callable[..., InBigQuery]) -> None:
    ready = in_bigquery(
        task={
            "template": "{note}",
            "label_column": "organ",
            "split": {"column": "category", "test_fraction": 0.3},
            "classes": list(CLASSES),
            "columns": [{"name": "note", "type": "STRING"}, {"name": "category", "type": "STRING"}],
        },
        protection="sealed",
        **ours(),
    )
    said = ready.doctor()
    assert findings(said) == []
    assert said.code == 0
    told = {(party, check): text for party, check, text in findings(said, "ok")}
    for site in SITES:
        assert told[site, "query"] == f"one SELECT over demo.{site}.visits with @first"
        assert told[site, "tables"] == f"demo.{site}.visits with 5 columns"
        assert told[site, "columns"] == "note, category are as declared"
        assert (
            told[site, "cost"]
            == "at most 10,485,760 bytes would be billed, maximum_bytes_billed is 20,000,000"
        )
        assert told[site, "location"] == "all tables lie in EU"
        assert told[site, "privacy"] == "the ledger is whole, epsilon 0 of 8 is spent, 2 rounds are left"
    assert told["federation", "charter terms"] == (
        "ours, 3 of 3 sites on a roster, epsilon 8 at delta 1e-05 over 2 rounds, of one row"
    )


def test_it_reads_no_row_and_bills_nothing(in_bigquery: Callable[..., InBigQuery]) -> None:
    ready = in_bigquery()
    said = ready.doctor()
    asked = ready.service.faults.requests
    assert {name for name, _ in asked} == {"tables.get", "jobs.insert"}
    jobs = ready.service.faults.calls("jobs.insert")
    assert len(jobs) == 2 * len(SITES)
    assert all(job["configuration"]["dryRun"] for job in jobs)
    assert {job["configuration"]["labels"]["step"] for job in jobs} == {"doctor"}
    assert ready.service.jobs.all() == []
    for word in (*PATIENTS, *(word for words in WORDS.values() for word in words)):
        assert word not in said.out
    stores = ["small/exchange", *(f"small/sites/{site}/store" for site in SITES)]
    left = [path for store in stores for path in (ready.made.home / store).rglob("*") if path.is_file()]
    assert [path.name for path in left if "doctor" in path.name] == []


def test_offline_nothing_is_asked_or_written(in_bigquery: Callable[..., InBigQuery]) -> None:
    ready = in_bigquery()
    before = {path: path.stat().st_mtime_ns for path in ready.made.home.rglob("*")}
    said = ready.doctor("--offline")
    assert (said.code, findings(said)) == (0, [])
    assert ready.service.faults.requests == []
    assert {path: path.stat().st_mtime_ns for path in ready.made.home.rglob("*")} == before
    assert {(party, check) for party, check, _ in findings(said, "not checked")} == {
        ("federation", "exchange"), *((site, check) for site in SITES for check in ("source", "store")),
    }  # fmt: skip


def test_a_missing_table_is_named(in_bigquery: Callable[..., InBigQuery]) -> None:
    ready = in_bigquery()
    del ready.service.warehouse.tables["beta", "visits"]
    said = ready.doctor("--as", "beta")
    party, check, text = only_fault(said)
    assert (party, check) == ("beta", "tables")
    assert text.startswith("the query failed: Not found: Table demo:beta.visits was not found in location EU")
    assert "roles/bigquery.dataViewer" in text
    assert [check for party, check, _ in findings(said, "not checked") if party == "beta"] == [
        "schema", "columns", "cost", "policy tags", "location", "streams",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "permission", "check", "role"),
    [
        ("tables.get", "bigquery.tables.get", "tables", "roles/bigquery.metadataViewer on the dataset"),
        ("jobs.insert", "bigquery.jobs.create", "schema", "roles/bigquery.jobUser on the project"),
        ("jobs.insert", "bigquery.tables.getData", "schema", "roles/bigquery.dataViewer on the table"),
    ],
)
def test_a_missing_permission_is_named_with_its_role(
    in_bigquery: Callable[..., InBigQuery], method: str, permission: str, check: str, role: str
) -> None:
    ready = in_bigquery()
    message = f"Access Denied: User does not have {permission} permission"
    ready.service.faults.fail(method, 403, "accessDenied", message)
    said = ready.doctor("--as", "beta")
    expected = f"BigQuery denies access: {message}. Mend: grant the site's identity {role}"
    assert only_fault(said) == ("beta", check, expected)


def test_an_unknown_column_is_named_from_the_text_and_by_bigquery(
    in_bigquery: Callable[..., InBigQuery],
) -> None:
    ready = in_bigquery()
    ready.put(visits(category=None, kategorie=["C1"] * ROWS))
    assert only_fault(ready.doctor("--as", "beta")) == (
        "beta", "schema", "the query failed: Unrecognized name: category at [1:8].",
    )  # fmt: skip
    ready.made.site("beta")["data"]["sql"] = "SELECT note, organ, kategorie FROM visits"
    ready.made.save()
    said = ready.doctor("--as", "beta", "--offline")
    assert ("beta", "selection") in {(party, check) for party, check, _ in findings(said)}
    (text,) = (text for _, check, text in findings(said) if check == "selection")
    assert text.startswith("the query selects no column 'category' (it selects note, organ, kategorie): ")
    # Another query than the one that the site's people have admitted.
    assert any(check == "policy" and "'queries'" in text for _, check, text in findings(said))


def test_a_star_is_the_warehouses_to_tell(in_bigquery: Callable[..., InBigQuery]) -> None:
    ready = in_bigquery()
    ready.made.site("beta")["data"]["sql"] = "SELECT * FROM visits"
    ready.made.save()
    told = findings(ready.doctor("--as", "beta", "--offline"), "not checked")
    assert ("beta", "selection", "the query selects *: its columns are the warehouse's to tell") in told


def test_a_column_of_another_type_than_declared(in_bigquery: Callable[..., InBigQuery]) -> None:
    ready = in_bigquery()
    task = ready.made.document["task"]
    task["columns"] = [{"name": "category", "type": "INT64"}, {"name": "note", "type": "STRING"}]
    ready.made.save()
    ready.admit_task()
    assert only_fault(ready.doctor("--as", "beta")) == (
        "beta",
        "columns",
        "column 'category' is STRING, and INT64 is declared: CAST it in the site's sql",
    )


def test_a_query_that_would_cost_too_much(in_bigquery: Callable[..., InBigQuery]) -> None:
    ready = in_bigquery()
    section = ready.made.site("beta")["data"]["bigquery"]
    for limit, text in {
        100: "bytes, and maximum_bytes_billed is 100: raise it in the site's terms",
        10_000_000: "BigQuery bills at least 10 MiB for each table of a query, 10,485,760 bytes here, and "
        "maximum_bytes_billed is 10,000,000: raise it in the site's policy",
    }.items():
        section["maximum_bytes_billed"] = limit
        ready.made.save()
        ready.set_policy(maximum_bytes_billed=limit)
        party, check, told = only_fault(ready.doctor("--as", "beta"))
        assert (party, check) == ("beta", "cost")
        assert text in told


@pytest.mark.parametrize(("tables", "refused"), [(49, False), (50, True), (51, True)])
def test_a_query_over_more_tables_than_bigquery_names(
    in_bigquery: Callable[..., InBigQuery], tables: int, refused: bool
) -> None:
    ready = in_bigquery()
    for number in range(tables):
        ready.service.warehouse.put("beta", f"t{number}", visits(), at=datetime.now(UTC) - HOUR)
    site = ready.made.site("beta")["data"]
    site["sql"] = " UNION ALL ".join(SQL.replace("visits", f"t{number}") for number in range(tables))
    site["bigquery"]["maximum_bytes_billed"] = 10**9
    ready.made.save()
    ready.set_policy(maximum_bytes_billed=10**9)
    said = ready.doctor("--as", "beta")
    # The policy pins another query, which is told beside it.
    faults = {check: text for _, check, text in findings(said) if check != "policy"}
    assert set(faults) == ({"cost"} if refused else set())
    checked = {check for _, check, _ in findings(said, "ok")}
    assert ({"policy tags", "location"} <= checked) is not refused
    if refused:
        assert faults["cost"].startswith("the query reads 50 tables or more, and BigQuery names no more")


def test_terms_bind_as_the_policy_has_them(in_bigquery: Callable[..., InBigQuery]) -> None:
    ready = in_bigquery()
    ready.set_policy(maximum_bytes_billed=30_000_000)
    said = ready.doctor("--as", "beta")
    party, check, text = only_fault(said)
    assert (party, check) == ("beta", "policy")
    assert "maximum_bytes_billed" in text
    assert (
        "beta",
        "cost",
        "at most 10,485,760 bytes would be billed, maximum_bytes_billed is 30,000,000",
    ) in (findings(said, "ok"))


def test_a_tagged_column_is_read_only_where_the_policy_names_it(
    in_bigquery: Callable[..., InBigQuery],
) -> None:
    ready = in_bigquery()
    ready.put(visits(), policy_tags={"note": TAG, "patient": TAG})
    party, check, text = only_fault(ready.doctor("--as", "beta"))
    assert (party, check) == ("beta", "policy tags")
    assert text.startswith(f"the query reads columns with a policy tag: demo.beta.visits.note ({TAG}); ")
    ready.set_policy(allowed_tagged_columns=["visits.note"])
    assert findings(ready.doctor("--as", "beta")) == []


def test_the_unit_of_privacy_is_a_column_like_others(in_bigquery: Callable[..., InBigQuery]) -> None:
    """It must be selected, of a type that names somebody, and allowed by its tag."""
    patients = ours(unit="patient", rows_per_unit=8)
    ready = in_bigquery(protection="sealed", **patients)
    faults = [each for each in findings(ready.doctor("--as", "beta")) if each[0] == "beta"]
    assert [check for _, check, _ in faults] == ["selection", "schema", "cost"]
    assert faults[0][2].startswith("the query selects no column 'patient' (it selects note, organ, category)")
    assert faults[1][2].startswith("the query returns no column 'patient', by which the site's policy counts")
    data = ready.made.site("beta")["data"]
    data["sql"] = SQL.replace("category", "category, patient")
    ready.made.save()
    ready.admit_query("beta", data["sql"])
    assert [each for each in findings(ready.doctor("--as", "beta")) if each[0] == "beta"] == []
    ready.put(visits(), policy_tags={"patient": TAG})
    party, check, text = only_fault(ready.doctor("--as", "beta"))
    assert (party, check) == ("beta", "policy tags")
    assert text.startswith(f"the query reads columns with a policy tag: demo.beta.visits.patient ({TAG}); ")


def test_tables_that_lie_elsewhere_than_declared(in_bigquery: Callable[..., InBigQuery]) -> None:
    ready = in_bigquery()
    ready.set_policy(data_residency={"warehouse": "US", "reader": "gcp:us-east1", "may_leave": False})
    assert only_fault(ready.doctor("--as", "beta")) == (
        "beta",
        "location",
        "demo.beta.visits lies in EU, and data_residency declares US: correct the declaration, or name a "
        "table that lies there",
    )


def test_a_view_has_no_history(in_bigquery: Callable[..., InBigQuery]) -> None:
    ready = in_bigquery()
    stored = ready.service.warehouse.find("beta", "visits")
    ready.service.warehouse.put_view("beta", "seen", "SELECT * FROM beta.visits", stored.fields)
    site = ready.made.site("beta")["data"]
    site["sql"] = site["sql"].replace("visits", "seen")
    ready.made.save()
    (text,) = (text for _, check, text in findings(ready.doctor("--as", "beta")) if check == "tables")
    assert text == (
        "demo.beta.seen is of kind view and cannot be read as of a round's snapshot: read the tables behind "
        "it"
    )


def test_a_table_without_a_history_at_the_snapshot(in_bigquery: Callable[..., InBigQuery]) -> None:
    ready = in_bigquery()
    versions = ready.service.warehouse.find("beta", "visits").versions
    versions[0] = (datetime.now(UTC) + HOUR, versions[0][1])
    party, check, text = only_fault(ready.doctor("--as", "beta"))
    assert (party, check) == ("beta", "schema")
    assert text.startswith("the snapshot lies outside the table's time travel window (7 days at most): ")


def test_a_key_in_a_file_is_no_identity(
    in_bigquery: Callable[..., InBigQuery], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = in_bigquery()
    key = ready.made.home / "key.json"
    key.write_text(json.dumps({"type": "service_account", "private_key": "x", "client_email": "a@b"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    section = ready.made.site("beta")["data"]["bigquery"]
    section |= {"endpoint": "", "storage_endpoint": ""}
    ready.made.save()
    ready.set_policy(endpoint="", storage_endpoint="")
    said = ready.doctor("--as", "beta")
    party, check, text = only_fault(said)
    assert (party, check) == ("beta", "identity")
    assert text.startswith(f"{key} holds the key of a service account, ")
    unchecked = [check for party, check, _ in findings(said, "not checked") if party == "beta"]
    assert unchecked[:3] == ["residency", "tables", "schema"]
    assert ready.service.faults.requests == []


def test_a_persons_credentials_move_rows_out(
    in_bigquery: Callable[..., InBigQuery], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = in_bigquery()
    own = ready.made.home / "own.json"
    secrets = {"client_id": "i", "client_secret": "s", "refresh_token": "t"}
    own.write_text(json.dumps({"type": "authorized_user", **secrets}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(own))
    section = ready.made.site("beta")["data"]["bigquery"]
    section |= {"endpoint": "", "storage_endpoint": ""}
    ready.made.save()
    ready.set_policy(endpoint="", storage_endpoint="")
    said = ready.doctor("--as", "beta")
    assert ("beta", "identity", "a person's own credentials") in findings(said, "ok")
    party, check, text = only_fault(said)
    assert (party, check) == ("beta", "residency")
    assert "declare data_residency with warehouse, reader and may_leave: true in the site's policy" in text


def test_a_service_that_does_not_answer_is_told_once(service: LocalBigQuery, chartered_task: Any) -> None:
    terms = service.terms(default_dataset="beta", endpoint="http://127.0.0.1:9", deadline_s=600.0)
    wanted = Wanted(sql="SELECT note, organ, category FROM visits", task=chartered_task, declared=())
    found = list(bigquery_findings("beta", wanted, terms, deadline_s=0.3))
    faults = [each for each in found if each.state == "fault"]
    assert [each.check for each in faults] == ["tables"]
    assert faults[0].text.startswith("BigQuery cannot be reached, or does not answer as it should: ")
    assert len(faults[0].text.splitlines()) == 1


@pytest.fixture
def chartered_task(small_federation: Callable[..., SmallFederation]) -> Any:
    return load_federation(small_federation(rows=0).path).task


@pytest.mark.parametrize(
    ("sql", "said_of_it"),
    [
        ("DELETE FROM visits", "line 1, column 1: 'DELETE' begins no SELECT: "),
        ("SELECT 1; SELECT 2", "line 1, column 11: a second statement begins with 'SELECT': "),
        ("SELECT note FROM visits WHERE id > @last", "a query parameter (@name or ?) has no value here"),
    ],
)
def test_a_query_that_cannot_be_used_is_a_fault_of_the_file(
    in_bigquery: Callable[..., InBigQuery], sql: str, said_of_it: str
) -> None:
    ready = in_bigquery()
    ready.made.site("gamma")["data"]["sql"] = sql
    ready.made.save()
    party, check, text = only_fault(ready.doctor())
    assert (party, check) == ("federation", "file")
    assert text.startswith(f"sites[2].data.sql: {said_of_it}")
    assert ready.service.faults.requests == []


def test_a_table_without_a_dataset(in_bigquery: Callable[..., InBigQuery]) -> None:
    ready = in_bigquery()
    ready.made.site("gamma")["data"]["uri"] = "bigquery://demo"
    ready.made.save()
    faults = findings(ready.doctor("--offline", "--as", "gamma"))
    assert faults[0][:2] == ("gamma", "query")
    assert faults[0][2].startswith("table 'visits' has no dataset: write dataset.visits, or ")


def read(service: LocalBigQuery, sql: str) -> None:
    source = open_bigquery(service.terms(default_dataset="beta"))
    extract(
        source,
        sql,
        template_columns=["note"],
        label_column="organ",
        split_column="category",
        test_fraction=0.3,
        classes=CLASSES[:2],
    )


def test_what_only_rows_show_is_left_to_ingestion_in_one_line(
    in_bigquery: Callable[..., InBigQuery],
) -> None:
    ready = in_bigquery()
    ready.made.document["task"]["classes"] = list(CLASSES[:2])
    ready.made.save()
    ready.admit_task()
    assert all(party == "federation" for party, _, _ in findings(ready.doctor()))
    query = "SELECT note, organ, category FROM visits"
    for where, text in {
        "": f"label 'skin' in column 'organ' ({ROWS // 3} rows) is not in task.classes, which has 2: map it",
        " WHERE id < 0": "the query returned no rows: look at its WHERE, and whether the table is filled",
    }.items():
        with pytest.raises(BadDataError) as caught:
            read(ready.service, query + where)
        assert str(caught.value).startswith(text)
        assert len(str(caught.value).splitlines()) == 1


def test_the_policy_of_another_machine_is_left_to_its_people(in_bigquery: Callable[..., InBigQuery]) -> None:
    ready = in_bigquery()
    (ready.made.home / "small/keys/beta/policy.yaml").rename(ready.made.home / "elsewhere.yaml")
    said = ready.doctor()
    assert said.code == 0
    assert ("beta", "policy") in {(party, check) for party, check, _ in findings(said, "not checked")}
    assert {check for party, check, _ in findings(said, "ok") if party == "beta"} == {"query", "selection"}
    faults = findings(ready.doctor("--as", "beta"))
    assert faults == [
        (
            "beta",
            "policy",
            "beta has no policy.yaml: it signs the charter first, with 'crosscloud charter sign'",
        )
    ]


def test_a_spent_budget_leaves_no_round(small_federation: Callable[..., SmallFederation], say: Say) -> None:
    made = small_federation(30, **ours())
    ensure_charter(load_federation(made.path))
    path = made.home / "small/keys/beta/policy.yaml"
    policy = yaml.safe_load(path.read_text())
    policy["privacy"]["epsilon"] = 0.5
    path.write_text(yaml.safe_dump(policy))
    party, check, text = only_fault(say("doctor", made.path))
    assert (party, check) == ("beta", "privacy")
    assert text.startswith("epsilon 0 of 0.5 is spent on small/sites/beta/warehouse.duckdb, or ")


def test_duckdb_sites_keys_charter_encoder_and_stores(
    small_federation: Callable[..., SmallFederation], say: Say
) -> None:
    made = small_federation(30)
    ensure_charter(load_federation(made.path))
    said = say("doctor", made.path)
    assert (said.code, findings(said), findings(said, "not checked")) == (0, [], [])
    keys = made.home / "small/keys"
    made.warehouse("alpha").unlink()
    (keys / "beta/signing.key").unlink()
    next(keys.glob("charters/00001/signatures/gamma.json")).unlink()
    store = made.home / "small/sites/gamma/store"
    store.rmdir()
    store.write_text("no folder")
    made.document["encoder"]["digest"] = "0" * 64
    made.save()
    said = say("doctor", made.path)
    assert said.code == 1
    faults = {(party, check): text for party, check, text in findings(said)}
    assert set(faults) == {
        ("federation", "charter"), ("federation", "encoder"),
        ("alpha", "source"), ("beta", "keys"), ("gamma", "store"),
    }  # fmt: skip
    assert faults["federation", "charter"] == (
        "edition 1 waits for gamma: 'crosscloud charter sign --as gamma'"
    )
    assert faults["federation", "encoder"].endswith("the federation file says 000000000000")
    assert "warehouse.duckdb is not there: put the site's DuckDB file there" in faults["alpha", "source"]
    assert faults["beta", "keys"].startswith("no private key at ")
    assert said.out.splitlines()[-1].startswith("5 faults, ")


def test_a_file_that_asks_for_other_terms_than_the_charter(
    small_federation: Callable[..., SmallFederation], say: Say
) -> None:
    made = small_federation(30)
    ensure_charter(load_federation(made.path))
    made.document["limits"]["max_examples"] = 900
    made.save()
    said = say("doctor", made.path)
    party, check, text = only_fault(said)
    assert (party, check) == ("federation", "charter")
    assert text.startswith("max_examples: the federation file has 900, the charter in force has 1000: ")
    agreeing = "it pins the charter and admits what the federation file asks"
    assert [text for _, check, text in findings(said, "ok") if check == "policy"] == [agreeing] * 3


def test_usage_is_told_apart_from_faults(small_federation: Callable[..., SmallFederation], say: Say) -> None:
    made = small_federation(rows=0)
    stranger = say("doctor", made.path, "--as", "mallory")
    assert stranger.code == 2
    assert stranger.complaints == ["unknown site 'mallory': the federation has alpha, beta, gamma"]
    missing = say("doctor", made.path.with_name("none.yaml"))
    assert missing.code == 2
    assert missing.complaints[0].endswith("none.yaml: there is no such file")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[S3Server, str]]:
    server = S3Server()
    for name, value in {
        "AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": "/dev/null",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    yield server, f"s3://{server.make_bucket()}/exchange"
    server.stop()


def test_a_bucket_is_probed_and_left_as_it_was(bucket: tuple[S3Server, str]) -> None:
    from components.artifacts.stores import open_store
    from components.errors import ConditionalCreateUnsupportedError

    server, uri = bucket
    assert probe(uri) == f"{uri} can be written and refuses to create an object twice"
    assert open_store(uri).keys() == []
    assert all(condition == "*" for _, condition in server.writes)
    server.ignores_condition = True
    with pytest.raises(ConditionalCreateUnsupportedError, match=uri):
        probe(uri)
