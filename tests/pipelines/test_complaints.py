"""The worked example on BigQuery: what can be proved of it without the public table."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import yaml

from components.agreement.site_policy import load_policy
from components.data_processing.bigquery.source import open_bigquery
from components.data_processing.record_ingestion.extraction import extract
from components.data_processing.record_ingestion.ingestion import declared_columns
from components.errors import BadDataError
from pipelines.chartering import ensure_charter
from pipelines.compile import compile_round
from pipelines.diagnosis.bigquery_source import terms_of
from pipelines.federation import Federation, load_federation
from tests.components.data_processing.bigquery.server.local_bigquery import LocalBigQuery
from tests.pipelines.command_line import say_here

if TYPE_CHECKING:
    from tests.pipelines.command_line import Say

COMPLAINTS = Path("manifests/federations/complaints-bigquery.yaml")
SITES = ("east", "central", "west")
STATES = (
    "AK AL AR AZ CA CO CT DC DE FL GA HI IA ID IL IN KS KY LA MA MD ME MI MN MO MS MT NC ND NE NH NJ NM NV "
    "NY OH OK OR PA RI SC SD TN TX UT VA VT WA WI WV WY"
)
# What the CFPB has called its products since 2011, and what each is to this federation.
PRODUCTS = {
    "Bank account or service": "bank account",
    "Checking or savings account": "bank account",
    "Credit card": "card",
    "Credit card or prepaid card": "card",
    "Prepaid card": "card",
    "Consumer Loan": "consumer loan",
    "Payday loan": "consumer loan",
    "Payday loan, title loan, or personal loan": "consumer loan",
    "Payday loan, title loan, personal loan, or advance loan": "consumer loan",
    "Vehicle loan or lease": "consumer loan",
    "Credit reporting": "credit reporting",
    "Credit reporting or other personal consumer reports": "credit reporting",
    "Credit reporting, credit repair services, or other personal consumer reports": "credit reporting",
    "Debt collection": "debt collection",
    "Money transfer, virtual currency, or money service": "money transfer",
    "Money transfers": "money transfer",
    "Virtual currency": "money transfer",
    "Mortgage": "mortgage",
    "Student loan": "student loan",
    "Other financial service": None,
    "Debt or credit management": None,
}


@dataclass(frozen=True, kw_only=True)
class Example:
    """The federation with its stores and its BigQuery on this machine, and a charter that all have signed."""

    path: Path
    federation: Federation
    service: LocalBigQuery

    def put(self, complaints: list[dict[str, Any]]) -> None:
        """A table like the public one; a row is given what it is about."""
        usual = {
            "date_received": date(2022, 6, 1), "issue": "Fees", "company_name": "A BANK", "zip_code": "100XX",
        }  # fmt: skip
        rows = []
        for number, complaint in enumerate(complaints):
            own = {
                "complaint_id": f"{number:07d}",
                "consumer_complaint_narrative": f"XXXX told me {number}",
            }
            rows.append(usual | own | complaint)
        at = datetime.now(UTC) - timedelta(hours=1)
        table = pa.Table.from_pylist(rows)
        self.service.warehouse.put("cfpb_complaints", "complaint_database", table, at=at, location="US")

    def read(self, site: str) -> list[tuple[str, str]]:
        """Narrative and class of all rows that the site would learn from, on its policy's terms."""
        section, task = self.federation.site(site).data, self.federation.task
        policy = load_policy(self.federation.keys_uri, site).bigquery
        assert policy is not None
        terms = terms_of(policy, federation="complaints", site=site, snapshot=datetime.now(UTC))
        with contextlib.closing(open_bigquery(terms)) as source:
            extraction = extract(
                source,
                section.sql,
                template_columns=["consumer_complaint_narrative"],
                label_column=task.label_column,
                split_column=task.split.column,
                test_fraction=task.split.test_fraction,
                classes=task.classes,
                declared=declared_columns([column.model_dump() for column in task.columns]),
                parameters=tuple(terms.parameters),
            )
        with contextlib.closing(extraction.rows) as rows:
            read = pa.concat_tables(rows.ordered()).to_pylist()
        return [(row["consumer_complaint_narrative"], row["label"]) for row in read]


@pytest.fixture(scope="module")
def complaints() -> Federation:
    return load_federation(COMPLAINTS)


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_here(monkeypatch, capsys)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    document = yaml.safe_load(COMPLAINTS.read_text())
    with LocalBigQuery() as service:
        document |= {"state_uri": "complaints/state", "exchange_uri": "complaints/exchange"}
        for site in document["sites"]:
            site["store_uri"] = f"complaints/sites/{site['name']}/store"
            site["data"]["ledger_uri"] = f"complaints/sites/{site['name']}/ledger"
            addresses = {"endpoint": service.endpoint, "storage_endpoint": service.storage_endpoint}
            site["data"]["bigquery"] |= addresses
        path = tmp_path / "complaints.yaml"
        path.write_text(yaml.safe_dump(document))
        federation = load_federation(path)
        ensure_charter(federation)
        yield Example(path=path, federation=federation, service=service)


def test_nothing_but_its_policies_and_charter_is_missing_offline(say: Say) -> None:
    said = say("doctor", COMPLAINTS, "--offline")
    assert (said.code, said.err) == (0, "")
    rows = [(line[:12].strip(), line[14:27].strip(), line[29:40].strip()) for line in said.out.splitlines()]
    assert {row[2] for row in rows[:-1]} == {"ok", "not checked"}
    unchecked = [row[:2] for row in rows if row[2] == "not checked"]
    assert unchecked == [("federation", "charter"), *((site, "policy") for site in SITES)]


def test_every_state_is_in_one_site_and_all_sites_ask_alike(complaints: Federation) -> None:
    assert tuple(complaints.site_names) == SITES
    assert len({site.data.sql for site in complaints.sites}) == 1
    terms = [site.data.bigquery for site in complaints.sites]
    states = [state for each in terms if each is not None for state in each.parameters["states"].value]
    assert " ".join(sorted(states)) == STATES
    assert complaints.method == "ours"
    assert complaints.privacy is not None
    assert complaints.privacy.delta * complaints.privacy.public_population < 1


def test_another_process_compiles_the_same_bytes_and_no_terms_in_them(
    complaints: Federation, tmp_path: Path
) -> None:
    spec = compile_round(complaints, tmp_path / "round.yaml").read_bytes()
    program = [sys.executable, "-c", "from pipelines.cli import main; main()"]
    subprocess.run(
        [*program, "compile", str(COMPLAINTS), "--output", str(tmp_path / "again")],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert (tmp_path / "again/complaints-round.yaml").read_bytes() == spec
    for site in SITES:
        assert spec.count(f"bigquery://your-project-{site}".encode()) == 1
    for term in (b"maximum_bytes_billed", b"5000000000", b"2022-01-01", b"data_residency", b"WY"):
        assert term not in spec


def test_the_query_names_all_products_and_leaves_out_what_it_should(example: Example, say: Say) -> None:
    told = [{"product": product, "state": state} for product in PRODUCTS for state in ("NY", "TX", "CA")]
    out: list[dict[str, Any]] = [
        {"date_received": date(2021, 12, 31)}, {"date_received": date(2023, 1, 1)}, {"state": "PR"},
        {"consumer_complaint_narrative": None},
    ]  # fmt: skip
    example.put([*told, *({"product": "Mortgage", "state": "NY"} | each for each in out)])
    said = say("doctor", example.path)
    assert (said.code, said.out.count("  fault  ")) == (0, 0)
    for place, site in enumerate(SITES):
        expected = [
            (f"XXXX told me {number}", PRODUCTS[complaint["product"]])
            for number, complaint in enumerate(told)
            if number % 3 == place and PRODUCTS[complaint["product"]]
        ]
        assert sorted(example.read(site)) == sorted(expected)
    assert {label for label in PRODUCTS.values() if label} == set(example.federation.task.classes)


def test_a_product_that_is_new_stops_the_site(example: Example) -> None:
    example.put([{"product": "Mortgage", "state": "WA"}, {"product": "Carbon credits", "state": "WA"}])
    with pytest.raises(BadDataError) as caught:
        example.read("west")
    assert str(caught.value).startswith("column 'service' is NULL in 1 of 2 rows: ")
    assert "Carbon" not in str(caught.value)
