"""What a site's policy says of reading, and that nothing but the policy says it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from components.agreement.data_policy import (
    BigQueryPolicy,
    DataResidencyPolicy,
    DriftRules,
    MaskingRules,
    QueryParameter,
)
from components.agreement.site_policy import SitePolicy
from components.data_processing.bigquery.residency import DataResidency
from components.data_processing.bigquery.terms import BigQueryTerms, Parameter
from components.data_processing.drift import DriftPolicy
from components.data_processing.record_ingestion.ingestion import RecordSpec, ingest
from components.data_processing.record_ingestion.site_terms import (
    bigquery_terms,
    drift_policy,
    masked_kinds,
)
from components.errors import BadDataError, RefusedError
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.data_processing.bigquery.server.local_bigquery import LocalBigQuery
from tests.components.data_processing.record_ingestion.visits import CLASSES, SPEC, admit, rows_of

SQL = "SELECT * FROM visits WHERE id >= @first"
POLICY = BigQueryPolicy(
    project="payer-1",
    dataset="owner-2.clinic",
    location="EU",
    maximum_bytes_billed=10**9,
    parameters={"first": QueryParameter(type="INT64", value="7")},
    endpoint="https://private.example",
    storage_endpoint="storage.example:443",
    data_residency=DataResidencyPolicy(warehouse="EU", reader="aws:eu-central-1", may_leave=True),
    allowed_tagged_columns=("visits.note",),
)


def table(rows: int) -> pa.Table:
    return pa.table(
        {
            "id": range(rows),
            "category": [f"category-{k % 37}" for k in range(rows)],
            "note": [f"note {k} of a visit" for k in range(rows)],
            "organ": [CLASSES[k % 2] for k in range(rows)],
        }
    )


class TestTerms:
    def test_are_the_policys_own_and_of_this_ticket(self, three: ThreeSites) -> None:
        admit(three, SQL, bigquery=POLICY)
        place = three.place("alpha")
        assert bigquery_terms(place, deadline_s=100.0) == BigQueryTerms(
            project="payer-1",
            location="EU",
            maximum_bytes_billed=10**9,
            default_dataset="owner-2.clinic",
            parameters={"first": Parameter(kind="INT64", value="7")},
            labels={"federation": "small", "round": "1", "site": "alpha", "step": "ingest"},
            snapshot=datetime.fromisoformat(place.ticket.snapshot),
            deadline_s=80.0,
            data_residency=DataResidency(warehouse="EU", reader="aws:eu-central-1", may_leave=True),
            allowed_tagged_columns=frozenset({"visits.note"}),
            endpoint="https://private.example",
            storage_endpoint="storage.example:443",
        )

    def test_there_are_none_where_the_policy_has_none(self, three: ThreeSites) -> None:
        assert bigquery_terms(three.place("alpha"), deadline_s=100.0) is None

    def test_a_long_step_does_not_wait_longer_for_a_query(self, three: ThreeSites) -> None:
        admit(three, SQL, bigquery=POLICY)
        terms = bigquery_terms(three.place("alpha"), deadline_s=24 * 3600.0)
        assert terms is not None
        assert terms.deadline_s == 600.0

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"parameters": {"first": QueryParameter(type="DATE", value="7")}}, "'7' is no DATE"),
            ({"endpoint": "http://elsewhere.example", "storage_endpoint": ""}, "is not on this machine"),
        ],
    )
    def test_rules_that_cannot_be_followed_refuse_before_anything_is_accepted(
        self, three: ThreeSites, change: dict[str, Any], told: str
    ) -> None:
        admit(three, SQL, bigquery=POLICY.model_copy(update=change))
        place = three.place("alpha")
        spec = replace(SPEC, source_kind="bigquery", source_uri=POLICY.uri, sql=SQL)
        with pytest.raises(RefusedError, match=told) as caught:
            ingest(place, spec)
        assert caught.value.disclosed == "the site's policy for BigQuery cannot be followed"
        assert "\n" not in str(caught.value)
        assert place.store.keys() == []


def test_drift_is_judged_as_the_policy_says() -> None:
    assert drift_policy(SitePolicy(charter="c4" * 32)) == DriftPolicy()
    rules = DriftRules(action="stop", null_rate_band=0.1, least_row_ratio=0.9, most_row_ratio=1.1)
    judged = drift_policy(SitePolicy(charter="c4" * 32, drift=rules))
    assert judged == DriftPolicy(action="stop", null_rate_band=0.1, least_row_ratio=0.9, most_row_ratio=1.1)


class TestMasking:
    def test_all_kinds_are_masked_unless_the_site_says_otherwise(self) -> None:
        from components.data_processing.masking.kinds import DEFAULT_KINDS

        assert masked_kinds(SitePolicy(charter="c4" * 32)) == DEFAULT_KINDS
        few = MaskingRules(kinds=("card", "ssn"))
        assert masked_kinds(SitePolicy(charter="c4" * 32, masking=few)) == ("card", "ssn")
        assert masked_kinds(SitePolicy(charter="c4" * 32, masking=MaskingRules(kinds=()))) == ()

    def test_without_its_package_a_site_that_masks_takes_no_part(
        self, three: ThreeSites, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whether a text needs it or not: a row must not decide whether the site is there."""
        monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
        place = three.place("alpha")
        with pytest.raises(RefusedError, match=r"pip install 'crosscloud\[masking\]'") as caught:
            ingest(place, SPEC)
        assert caught.value.disclosed == "the site's policy asks for masking, which is not installed there"
        assert place.store.keys() == []
        admit(three, SPEC.sql, masking=MaskingRules(kinds=()))
        outcome = ingest(three.place("alpha"), SPEC)
        assert "masked" not in outcome.manifest

    def test_counts_are_exact_at_the_site_alone(self, three: ThreeSites) -> None:
        sql = "SELECT id, category, organ, CONCAT(note, ' a@clinic.org') AS note FROM visits"
        admit(three, sql)
        outcome = ingest(three.place("alpha"), replace(SPEC, sql=sql))
        assert outcome.manifest["masked"] == {
            "iban": 1, "card": 1, "email": 128, "ip": 1, "ssn": 1, "phone": 1
        }  # fmt: skip
        (path,) = three.store_folder("alpha").glob("ingested/*/masked-*.json")
        assert json.loads(path.read_text())["email"] == 100
        notes = rows_of(three.place("alpha"), outcome).column("note").to_pylist()
        assert len(notes) == 100
        assert all(note.endswith(" of a visit <EMAIL>") for note in notes)


class TestBigQuery:
    """Against the real client and a small local server."""

    @pytest.fixture
    def service(self) -> Iterator[LocalBigQuery]:
        with LocalBigQuery() as running:
            now = datetime.now(UTC)
            running.warehouse.put("clinic", "visits", table(100), at=now - timedelta(hours=1))
            running.warehouse.put("clinic", "visits", table(300), at=now + timedelta(hours=1))
            yield running

    def policy(self, service: LocalBigQuery, **changes: Any) -> BigQueryPolicy:
        return POLICY.model_copy(
            update={
                "project": "demo",
                "dataset": "clinic",
                "endpoint": service.endpoint,
                "storage_endpoint": service.storage_endpoint,
                **changes,
            }
        )

    def spec(self, policy: BigQueryPolicy) -> RecordSpec:
        return replace(SPEC, source_kind="bigquery", source_uri=policy.uri, sql=SQL)

    def test_rows_are_those_of_the_snapshot(self, three: ThreeSites, service: LocalBigQuery) -> None:
        policy = self.policy(service)
        admit(three, SQL, bigquery=policy)
        place = three.place("alpha")
        found = rows_of(place, ingest(place, self.spec(policy)))
        assert set(found.column("note").to_pylist()) == {f"note {k} of a visit" for k in range(7, 100)}
        assert found.num_rows == 93
        (job,) = service.jobs.all()
        assert job.configuration["labels"]["site"] == "alpha"

    def test_a_run_cannot_lead_it_elsewhere(self, three: ThreeSites, service: LocalBigQuery) -> None:
        policy = self.policy(service)
        admit(three, SQL, SPEC.sql, bigquery=policy)
        place = three.place("alpha")
        asked = {
            "the warehouse bigquery://other/clinic is not the one": replace(
                self.spec(policy), source_uri="bigquery://other/clinic"
            ),
            "reads BigQuery alone, the run asks for a duckdb source": SPEC,
        }
        for text, spec in asked.items():
            with pytest.raises(RefusedError, match=text):
                ingest(place, spec)
        admit(three, SQL)
        with pytest.raises(RefusedError, match="has no section 'bigquery'"):
            ingest(three.place("alpha"), self.spec(policy))
        assert place.store.keys() == []
        assert service.faults.requests == []

    def test_a_column_that_drifted_is_told_before_anything_is_billed(
        self, three: ThreeSites, service: LocalBigQuery
    ) -> None:
        from components.data_processing.declared_columns import DeclaredColumn

        policy = self.policy(service)
        columns = (DeclaredColumn(name="id", type="STRING"), DeclaredColumn(name="ward", type="STRING"))
        admit(three, SQL, task=replace(SPEC, columns=columns), bigquery=policy)
        with pytest.raises(BadDataError, match="column 'id' is INT64, and STRING is declared") as caught:
            ingest(three.place("alpha"), replace(self.spec(policy), columns=columns))
        assert caught.value.disclosed == "column 'id' has the wrong type; column 'ward' is missing"
        assert service.jobs.all() == []
        assert service.faults.calls("jobs.insert") != [], "the dry run that told"

    def test_a_ticket_with_another_snapshot_than_the_rounds_is_refused(
        self, three: ThreeSites, service: LocalBigQuery
    ) -> None:
        policy = self.policy(service)
        admit(three, SQL, bigquery=policy)
        place = three.place("alpha")
        two_days = (datetime.now(UTC) - timedelta(days=2)).isoformat(timespec="seconds")
        for snapshot, text in ((two_days, "is older than a day"), ("2999-01-01T00:00:00Z", "in the future")):
            tampered = replace(place, ticket=replace(place.ticket, snapshot=snapshot))
            with pytest.raises(RefusedError, match=text):
                ingest(tampered, self.spec(policy))
        ingest(place, self.spec(policy))
        before = datetime.fromisoformat(place.ticket.snapshot) - timedelta(minutes=1)
        three.committed()
        second = three.next_round().place("alpha")
        back = replace(second.ticket, snapshot=before.isoformat())
        with pytest.raises(RefusedError, match="data never go back"):
            ingest(replace(second, ticket=back), self.spec(policy))
        assert len(service.jobs.all()) == 1
