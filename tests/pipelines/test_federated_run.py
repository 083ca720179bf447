"""Whole rounds by the command, on a federation that is real in every part."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import farmhash
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tests.conftest import SmallFederation
from tests.pipelines.conftest import ROWS, FinishedRun, typed

SITES = ("alpha", "beta", "gamma")
STEPS = {
    "open_round", "roster", "aggregate", "open", "commit",
    *(f"{step}-{site}" for step in ("ingest", "augment", "train") for site in SITES),
    *(f"{step}-{site}" for step in ("seal", "adapt", "evaluate") for site in SITES),
}  # fmt: skip


def record(federation: SmallFederation, number: int) -> dict[str, Any]:
    document = json.loads((federation.home / f"small/state/rounds/{number:05d}/round.json").read_text())
    body: dict[str, Any] = document["body"]
    return body


def flat(model: dict[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    return np.concatenate([model[name].astype(np.float64).ravel() for name in sorted(model)])


def model(federation: SmallFederation, digest: str) -> NDArray[np.float64]:
    return flat(load_file(federation.home / f"small/exchange/models/{digest}.safetensors"))


def committed(federation: SmallFederation, number: int) -> NDArray[np.float64]:
    (path,) = (federation.home / f"small/state/rounds/{number:05d}").glob("checkpoint-*.safetensors")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == record(federation, number)["model"]
    return flat(load_file(path))


def updates(federation: SmallFederation, number: int) -> list[tuple[NDArray[np.float64], int]]:
    """Δwᵢ and nᵢ of a round as the sites keep them in their own stores."""
    ticket = record(federation, number)["ticket"]
    found = []
    for site in SITES:
        kept = load_file(federation.home / f"small/sites/{site}/store/updates/{ticket}.safetensors")
        found.append((kept["update"].astype(np.float64), int(kept["num_examples"][0])))
    return found


def training_rows(federation: SmallFederation, site: str) -> int:
    """Counted from the warehouse by FarmHash's own library."""
    with duckdb.connect(str(federation.warehouse(site)), read_only=True) as connection:
        categories = [row[0] for row in connection.execute("SELECT category FROM visits").fetchall()]
    signed = [int(np.uint64(farmhash.fingerprint64(each)).astype(np.int64)) for each in categories]
    return sum(1 for value in signed if abs(value) % 1000 >= 300)


def test_a_first_run_commits_a_round_and_says_so(one_round: FinishedRun) -> None:
    command, federation = one_round.command, one_round.federation
    assert command.returncode == 0, command.stderr
    lines = command.stdout.splitlines()
    assert lines[0].split() == ["A", "small", "federation", "he-fl,", "3", "sites"]
    assert any(line.startswith("round 1 committed in ") for line in lines)
    row = next(line for line in lines if re.match(r"\s+1\s+3 of 3", line))
    report = json.loads((federation.home / "small/state/rounds/00001/report.json").read_text())
    correct = dict.fromkeys(("global", "adapted"), 0)
    tested = 0
    for site in report["sites"]:
        tested += site["evaluation"]["global"]["num_examples"]
        for name in correct:
            correct[name] += int(np.trace(np.array(site["evaluation"][name]["confusion"])))
    figures = [f"{100 * correct[name] / tested:.1f} %" for name in ("global", "adapted")]
    sent = max(site["bytes_sent"] for site in report["sites"])
    assert [*re.findall(r"\d+\.\d %", row), *re.findall(r"\d+,\d{3}", row)] == [*figures, f"{sent:,}"]
    path = lines[-1].split(maxsplit=1)[1]
    assert (federation.home.parent / path).is_file()
    assert path.endswith("state/rounds/00001/report.html")
    assert "KFP" not in command.stdout
    assert "KFP" in next((federation.home / "small/runs").glob("*/log.txt")).read_text()


def test_the_report_tells_what_every_step_and_site_did(one_round: FinishedRun) -> None:
    report = json.loads((one_round.federation.home / "small/state/rounds/00001/report.json").read_text())
    told = {f"{step['step']}-{step['site']}" if step["site"] else step["step"] for step in report["steps"]}
    assert told == STEPS
    assert [site["name"] for site in report["sites"]] == list(SITES)
    assert all(site["took_part"] and not site["reason"] for site in report["sites"])
    assert all(site["evaluation"]["global"]["num_examples"] > 0 for site in report["sites"])


def test_the_committed_model_is_the_mean_of_the_sites_updates(one_round: FinishedRun) -> None:
    """Eq. 6: w⁺ = w + Σ nᵢ·Δwᵢ / Σ nᵢ, from what lies in the sites' own stores."""
    federation = one_round.federation
    base = model(federation, record(federation, 1)["parent"])
    found = updates(federation, 1)
    counts = [count for _, count in found]
    assert counts == [training_rows(federation, site) for site in SITES]
    mean = sum(count * update for update, count in found) / sum(counts)
    np.testing.assert_allclose(committed(federation, 1), base + mean, rtol=0, atol=1e-5)
    plain_mean = np.mean([update for update, _ in found], axis=0)
    assert np.abs(plain_mean - mean).max() > 1e-3, "weighting must matter, or this test could not tell"
    assert np.abs(mean).max() > 1e-2


def test_later_rounds_go_on_from_the_last_committed_one(
    one_round: FinishedRun, three_rounds: FinishedRun
) -> None:
    command, federation = three_rounds.command, three_rounds.federation
    assert command.returncode == 0, command.stderr
    assert re.findall(r"round (\d) committed", command.stdout) == ["2", "3"]
    assert re.findall(r"^\s+(\d)\s+3 of 3", command.stdout, re.MULTILINE) == ["2", "3"]
    for number in (2, 3):
        assert record(federation, number)["parent"] == record(federation, number - 1)["model"]
        found = updates(federation, number)
        mean = sum(count * update for update, count in found) / sum(count for _, count in found)
        base = committed(federation, number - 1)
        # In clear, only the rounding to float32 of the weights is left.
        np.testing.assert_allclose(committed(federation, number), base + mean, rtol=1e-6, atol=1e-7)
    for path in sorted((one_round.federation.home / "small/state/rounds/00001").iterdir()):
        kept = federation.home / path.relative_to(one_round.federation.home)
        assert kept.read_bytes() == path.read_bytes()


def test_later_rounds_read_the_warehouse_again_and_the_features_from_the_store(
    one_round: FinishedRun, three_rounds: FinishedRun
) -> None:
    for site in SITES:
        store = Path("small/sites") / site / "store"
        before = {path.name for path in (one_round.federation.home / store / "features").iterdir()}
        after = {path.name for path in (three_rounds.federation.home / store / "features").iterdir()}
        assert len(before) == 1
        assert after == before
        assert len(list((three_rounds.federation.home / store / "ingested").iterdir())) == 3
    (log,) = (
        path
        for path in (three_rounds.federation.home / "small/runs").glob("*/log.txt")
        if not (one_round.federation.home / path.relative_to(three_rounds.federation.home)).exists()
    )
    first = next((one_round.federation.home / "small/runs").glob("*/log.txt"))
    assert len(re.findall(r"crosscloud-progress: \w+ 100%", first.read_text())) >= len(ROWS)
    assert "rows/s" not in log.read_text()


def test_the_newest_report_is_found_by_command(three_rounds: FinishedRun) -> None:
    command = typed("report", str(three_rounds.federation.path), home=three_rounds.federation.home)
    assert (command.returncode, command.stdout) == (0, "home/small/state/rounds/00003/report.html\n")


@pytest.mark.parametrize("site", SITES)
def test_only_the_columns_of_the_task_leave_the_warehouse(one_round: FinishedRun, site: str) -> None:
    (path,) = (one_round.federation.home / f"small/sites/{site}/store/rows").iterdir()
    with duckdb.connect() as connection:
        described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
        counted = connection.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone()
    assert [column[0] for column in described] == ["note", "label", "is_test"]
    assert counted == (ROWS[site],)


FAILING = {
    "missing": ("unreachable: the warehouse is not there", ""),
    "empty": ("bad_data: the query returned no rows", "look at its WHERE"),
    "strange": ("bad_data: a label is not in task.classes", "spleen"),
    "narrow": ("bad_data: the query failed: there is no table or column note", "note"),
    "slow": ("timeout: ingest did not end within 1 s", ""),
}
"""What others read of a failing site, and what is more for the site's own people."""


def with_failing_sites(federation: SmallFederation) -> None:
    sections = federation.document["sites"]
    template = sections.pop()
    for name in FAILING:
        section = copy.deepcopy(template) | {"name": name, "store_uri": f"small/sites/{name}/store"}
        section["data"]["uri"] = f"small/sites/{name}/warehouse.duckdb"
        sections.append(section)
        warehouse = federation.warehouse(name)
        warehouse.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(federation.warehouse("beta"), warehouse)
    federation.warehouse("missing").unlink()
    federation.site("empty")["data"]["sql"] += " WHERE organ = 'none'"
    change(federation.warehouse("strange"), "UPDATE visits SET organ = 'spleen' WHERE id = 0")
    change(federation.warehouse("narrow"), "ALTER TABLE visits DROP COLUMN note")
    federation.site("slow")["placement"] = {"deadline_seconds": 1}
    numbers = "UNNEST(GENERATE_ARRAY(1, 100000))"
    federation.site("slow")["data"]["sql"] += (
        f" CROSS JOIN {numbers} AS a CROSS JOIN {numbers} AS b WHERE MOD(a * b, 7) = 8"
    )
    federation.save()


def change(warehouse: Path, statement: str) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(statement)


@pytest.mark.slow
def test_sites_that_fail_are_left_out_with_their_reasons_and_the_round_commits(
    small_federation: Callable[..., SmallFederation],
) -> None:
    federation = small_federation(rows=30)
    with_failing_sites(federation)
    command = typed("run", str(federation.path), home=federation.home)
    assert command.returncode == 0, command.stderr
    assert re.search(r"^\s+1\s+2 of 7", command.stdout, re.MULTILINE)
    lines = command.stdout.splitlines()
    report = json.loads((federation.home / "small/state/rounds/00001/report.json").read_text())
    told = {site["name"]: site for site in report["sites"]}
    for name, (reason, note) in FAILING.items():
        assert f"round 1: {name} left out: {reason}" in lines
        assert (told[name]["reason"], told[name]["took_part"], told[name]["evaluation"]) == (
            reason,
            False,
            None,
        )
        assert any(line.startswith(f"  {name} ingest: ") and note in line for line in lines) or name == "slow"
        assert f"– {name}" in next(line for line in lines if line.startswith("  ingest"))
    assert all(told[name]["took_part"] and not told[name]["reason"] for name in ("alpha", "beta"))
    assert record(federation, 1)["members"] == ["alpha", "beta"]
    assert record(federation, 1)["left_out"] == {name: reason for name, (reason, _) in FAILING.items()}
    published = [
        path.read_bytes()
        for folder in ("state", "exchange")
        for path in (federation.home / "small" / folder).rglob("*")
        if path.is_file()
    ]
    assert not any(b"spleen" in content for content in published), "a label is for the site's own people"


@pytest.mark.slow
def test_a_round_without_its_quorum_is_refused_and_finished_once_the_data_are_mended(
    after_one_round: SmallFederation,
) -> None:
    federation, home = after_one_round, after_one_round.home
    federation.warehouse("alpha").rename(home / "away")
    change(federation.warehouse("beta"), "UPDATE visits SET organ = 'spleen' WHERE id = 0")
    refused = typed("run", str(federation.path), home=home)
    assert refused.returncode == 2, "people can mend both"
    (line,) = refused.stderr.splitlines()
    assert line.startswith("crosscloud: round 2: 1 of 3 sites can take part, the quorum is 2. ")
    assert "alpha: unreachable: the warehouse is not there" in line
    assert "beta: bad_data: a label is not in task.classes" in line
    assert "spleen" in refused.stdout, "the person who is all of the sites reads their notes"
    assert sorted(path.name for path in (home / "small/state/rounds").iterdir()) == ["00001"]
    assert not list((home / "small/exchange/rounds/00002-1").glob("roster.json"))

    (home / "away").rename(federation.warehouse("alpha"))
    change(federation.warehouse("beta"), "UPDATE visits SET organ = 'heart' WHERE id = 0")
    mended = typed("run", str(federation.path), home=home)
    assert mended.returncode == 0, mended.stderr
    assert re.findall(r"round (\d) committed", mended.stdout) == ["2"]
    assert record(federation, 2)["members"] == list(SITES)
    assert (record(federation, 2)["attempt"], record(federation, 2)["left_out"]) == (1, {})
