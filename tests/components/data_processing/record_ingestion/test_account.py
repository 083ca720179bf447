"""What a warehouse says that a read has cost: for the site as it is, for others padded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pyarrow as pa
import pytest

from components.data_processing import sources
from components.data_processing.record_ingestion.ingestion import ingest
from components.data_processing.sources import Source
from components.errors import BadDataError
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.data_processing.record_ingestion.visits import SPEC, admit


class TestAccount:
    ACCOUNT: Mapping[str, str | int] = {
        "api": "storage",
        "job": "job_x-1",
        "bytes": 1_234_567,
        "rows": 100,
        "cached": 0,
    }

    @pytest.fixture
    def priced(self, three: ThreeSites, monkeypatch: pytest.MonkeyPatch) -> ThreeSites:
        """Sites whose DuckDB files are read at a price."""
        opened = sources.open_source

        class Priced:
            name = "priced"

            def __init__(self, source: Source, account: Mapping[str, str | int]) -> None:
                self.source, self.price = source, account
                self.paid: Mapping[str, str | int] = {}

            def schema(self, statement: str) -> pa.Schema:
                return self.source.schema(statement)

            def batches(self, statement: str) -> Iterator[pa.RecordBatch]:
                self.paid = self.price
                yield from self.source.batches(statement)

            def account(self) -> Mapping[str, str | int]:
                return self.paid

            def close(self) -> None:
                self.source.close()

        monkeypatch.setattr(sources, "open_source", lambda kind, uri: Priced(opened(kind, uri), self.ACCOUNT))
        return three

    def kept(self, three: ThreeSites) -> list[dict[str, str | int]]:
        folder = three.store_folder("alpha") / "ingested" / three.place("alpha").ticket.digest
        return [json.loads(path.read_text()) for path in folder.glob("account-*.json")]

    def test_the_site_keeps_it_and_others_see_powers_of_two(self, priced: ThreeSites) -> None:
        place = priced.place("alpha")
        outcome = ingest(place, SPEC)
        assert outcome.manifest["account"] == {
            "api": "storage", "job": "job_x-1", "bytes": 2**21, "rows": 128, "cached": 1
        }  # fmt: skip
        assert self.kept(priced) == [dict(self.ACCOUNT)]
        assert ingest(place, SPEC) == outcome
        assert self.kept(priced) == [dict(self.ACCOUNT)]
        pointer = json.loads(place.store.read(f"ingested/{place.ticket.digest}.json"))
        assert pointer == outcome.manifest

    def test_what_is_read_in_vain_is_paid_for_too(self, priced: ThreeSites) -> None:
        spec = replace(SPEC, classes=("heart", "skin"))
        admit(priced, SPEC.sql, task=spec)
        with pytest.raises(BadDataError):
            ingest(priced.place("alpha"), spec)
        assert self.kept(priced) == [dict(self.ACCOUNT)]
        assert priced.place("alpha").store.keys("rows") == []

    def test_a_read_that_did_not_begin_costs_nothing(self, priced: ThreeSites) -> None:
        spec = replace(SPEC, label_column="nothing")
        admit(priced, SPEC.sql, task=spec)
        with pytest.raises(BadDataError):
            ingest(priced.place("alpha"), spec)
        assert not (priced.store_folder("alpha") / "ingested").exists()
