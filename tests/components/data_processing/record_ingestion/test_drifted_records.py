"""What the step does when a site's records are not those of the last round it accepted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.agreement.data_policy import DriftRules
from components.data_processing.declared_columns import DeclaredColumn
from components.data_processing.record_ingestion.ingestion import ingest
from components.errors import BadDataError
from tests.components.aggregation.three_sites import NOISE, ThreeSites, privacy_policy
from tests.components.data_processing.record_ingestion.visits import SPEC, admit, fill


def accept(three: ThreeSites, rows: int, **drift: Any) -> Any:
    """Ingests so many rows at alpha, under this policy on drift."""
    fill(rows)
    admit(three, SPEC.sql, drift=DriftRules(**drift))
    return ingest(three.place("alpha"), SPEC)


def next_round(three: ThreeSites) -> ThreeSites:
    three.committed()
    return three.next_round()


def kept(three: ThreeSites, part: str) -> list[Path]:
    return sorted(three.store_folder("alpha").glob(part))


def test_a_first_round_has_nothing_to_be_compared_with(three: ThreeSites) -> None:
    outcome = accept(three, 100, action="stop")
    assert "drift" not in outcome.manifest
    (statistics,) = kept(three, "statistics/*")
    document = json.loads(statistics.read_text())
    assert document["ticket"] == three.place("alpha").ticket.digest
    counts = document["statistics"]
    assert counts["training_rows"] + counts["test_rows"] == 100
    assert counts["rows_by_class"] == {"heart": 50, "lung": 50}


@pytest.mark.parametrize(("action", "told"), [("keep", None), ("tell", ["row_count"])])
def test_findings_stay_at_the_site_and_kinds_are_told_where_the_policy_says_so(
    three: ThreeSites, action: str, told: list[str] | None
) -> None:
    accept(three, 100)
    outcome = accept(next_round(three), 30, action=action)
    assert outcome.manifest.get("drift") == told
    assert "were 100" not in json.dumps(dict(outcome.manifest))
    (found,) = kept(three, "ingested/*/drift-*.json")
    (finding,) = json.loads(found.read_text())
    assert (finding["kind"], finding["disclosed"]) == ("row_count", "the number of rows has changed")
    assert finding["message"].startswith("there were 100 rows and there are 30")


def test_a_stop_leaves_nothing_half_written(three: ThreeSites) -> None:
    accept(three, 100)
    later = next_round(three)
    rows, statistics = kept(three, "rows/*"), kept(three, "statistics/*")
    with pytest.raises(BadDataError) as caught:
        accept(later, 30, action="stop")
    assert caught.value.disclosed == "the number of rows has changed"
    assert kept(three, "rows/*") == rows
    assert kept(three, "statistics/*") == statistics
    assert not (three.store_folder("alpha") / f"ingested/{later.place('alpha').ticket.digest}.json").exists()
    # Its people look at it and let it pass: the same ticket goes on.
    assert accept(later, 30, action="keep").reference
    assert len(kept(three, "statistics/*")) == 2


def test_what_was_stopped_is_not_what_the_next_round_is_compared_with(three: ThreeSites) -> None:
    accept(three, 100)
    second = next_round(three)
    with pytest.raises(BadDataError):
        accept(second, 30, action="stop")
    second.committed()
    with pytest.raises(BadDataError, match="there were 100 rows and there are 40"):
        accept(second.next_round(), 40, action="stop")


def test_a_declared_column_is_counted_and_named(three: ThreeSites) -> None:
    declared = (DeclaredColumn(name="note", type="STRING"),)
    sql = "SELECT id, category, organ, IF(id < {}, NULL, note) AS note FROM visits"
    for nulls, through in ((0, three), (50, None)):
        at = through or next_round(three)
        spec = replace(SPEC, sql=sql.format(nulls), columns=declared)
        admit(at, spec.sql, task=spec, drift=DriftRules(action="tell"))
        outcome = ingest(at.place("alpha"), spec)
    assert outcome.manifest["drift"] == ["null_rate"]
    (found,) = kept(three, "ingested/*/drift-*.json")
    (finding,) = json.loads(found.read_text())
    assert finding["disclosed"] == "the share of NULL in column 'note' has changed"


def test_under_differential_privacy_no_word_of_it_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row more or less can make a finding, and epsilon does not price it."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    noised = ThreeSites.start(protection="sealed", privacy=NOISE)
    policy = privacy_policy("small", "alpha")
    fill(100)
    rules: dict[str, Any] = {"protections": ("sealed",), "privacy": policy}
    rules |= {"drift": DriftRules(action="tell")}
    admit(noised, SPEC.sql, **rules)
    assert ingest(noised.place("alpha"), SPEC).manifest.keys() == {"uri", "digest", "schema"}
    noised.committed()
    second = noised.next_round()
    fill(30)
    admit(second, SPEC.sql, **(rules | {"drift": DriftRules(action="stop")}))
    with pytest.raises(BadDataError, match="there were 100 rows and there are 30") as caught:
        ingest(second.place("alpha"), SPEC)
    assert caught.value.disclosed == "the site's policy stops this round"
    admit(second, SPEC.sql, **rules)
    assert ingest(second.place("alpha"), SPEC).manifest.keys() == {"uri", "digest", "schema"}
    assert len(kept(second, "ingested/*/drift-*.json")) == 1
