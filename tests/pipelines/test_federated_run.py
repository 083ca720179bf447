"""Whole rounds by the command, on a federation that is real in every part."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import farmhash
import numpy as np
import pytest

from components.agreement.charter_book import charter_in_force
from components.encryption.ckks.roles import ABSOLUTE_ERROR
from components.encryption.update_vector import fixed_point
from components.rounds.verification import verify_state
from tests.conftest import SITES, SmallFederation
from tests.pipelines.command_line import say_here
from tests.pipelines.conftest import ROWS, FinishedRun, RoundUnder, typed
from tests.pipelines.kept_updates import (
    assert_mean_of_updates,
    committed,
    kept,
    mean_of,
    model,
    record,
    steps,
)
from tests.pipelines.round_in_process import RoundInProcess

STEPS = {
    "open_round", "roster", "aggregate", "open", "commit",
    *(f"{step}-{site}" for step in ("ingest", "augment", "train") for site in SITES),
    *(f"{step}-{site}" for step in ("seal", "release", "adapt", "evaluate") for site in SITES),
}  # fmt: skip


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
    assert lines[0].split() == ["A", "small", "federation", "sealed,", "3", "sites"]
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
    """Eq. 6, from what lies in the sites' own stores: the sum of sealed updates is exact."""
    federation = one_round.federation
    counts = [kept(federation, 1, site)[1] for site in SITES]
    assert counts == [training_rows(federation, site) for site in SITES]
    assert_mean_of_updates(federation, 1, SITES)
    plain_mean = np.mean(
        [kept(federation, 1, site)[0] / n for site, n in zip(SITES, counts, strict=True)], axis=0
    )
    difference = np.abs(plain_mean - mean_of(federation, 1, SITES)).max()
    assert difference > 1e-3, "weighting must matter, or this test could not tell"


def test_later_rounds_go_on_from_the_last_committed_one(
    one_round: FinishedRun, three_rounds: FinishedRun
) -> None:
    command, federation = three_rounds.command, three_rounds.federation
    assert command.returncode == 0, command.stderr
    assert re.findall(r"round (\d) committed", command.stdout) == ["2", "3"]
    assert re.findall(r"^\s+(\d)\s+3 of 3", command.stdout, re.MULTILINE) == ["2", "3"]
    for number in (2, 3):
        assert record(federation, number)["parent"] == record(federation, number - 1)["model"]
        assert_mean_of_updates(federation, number, SITES)
    for path in sorted((one_round.federation.home / "small/state/rounds/00001").iterdir()):
        copy = federation.home / path.relative_to(one_round.federation.home)
        assert not path.is_file() or copy.read_bytes() == path.read_bytes()


def test_anybody_can_check_the_rounds_afterwards(
    three_rounds: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = three_rounds.federation
    monkeypatch.setenv("CROSSCLOUD_HOME", str(federation.home))
    found = verify_state("small/state", keys_uri="small/keys", charter=charter_in_force("small/keys").digest)
    assert (found.problems, found.rounds, found.voided) == ((), 3, 0)
    assert found.newest_model == record(federation, 3)["model"]


@pytest.mark.parametrize(("protection", "noise"), [("none", 0.0), ("he", ABSOLUTE_ERROR)])
def test_every_protection_commits_the_same_model_within_its_stated_error(
    one_round: FinishedRun,
    round_under: RoundUnder,
    monkeypatch: pytest.MonkeyPatch,
    protection: str,
    noise: float,
) -> None:
    """Against the sites' updates in clear, which the round without a seal keeps; `sealed` ran by command."""
    sealed = one_round.federation
    made = round_under(protection)
    monkeypatch.setenv("CROSSCLOUD_HOME", str(made.home))
    base = model(made, record(made, 1)["parent"])
    mean = mean_of(made, 1, SITES)
    num_examples = sum(kept(made, 1, site)[1] for site in SITES)
    # Weights are rounded to float32: half a unit in the last place of numbers below 1.
    rounding = 2.0**-25
    assert np.abs(base + mean).max() < 1
    assert np.abs(committed(made, 1) - (base + mean)).max() <= noise / num_examples + rounding
    points = fixed_point(charter_in_force("small/keys"))
    assert points.absolute_error(3) == pytest.approx(3 * 0.5 / steps(sealed))
    difference = np.abs(committed(sealed, 1) - (base + mean)).max()
    assert 0 < difference <= points.absolute_error(3) / num_examples + rounding
    assert np.abs(mean).max() > 1000 * difference, "the error must be small against what was learned"


@pytest.mark.parametrize("protection", ["masked", "smc"])
def test_words_of_32_bits_commit_the_same_model_more_exactly(
    round_under: RoundUnder, monkeypatch: pytest.MonkeyPatch, protection: str
) -> None:
    """Against the sites' updates in clear, as above."""
    clear, made = round_under("none"), round_under(protection)
    monkeypatch.setenv("CROSSCLOUD_HOME", str(clear.home))
    expected = model(clear, record(clear, 1)["parent"]) + mean_of(clear, 1, SITES)
    num_examples = sum(kept(clear, 1, site)[1] for site in SITES)
    monkeypatch.setenv("CROSSCLOUD_HOME", str(made.home))
    error = fixed_point(charter_in_force("small/keys")).absolute_error(3)
    assert error == pytest.approx(3 * 0.5 / steps(made))
    assert np.abs(committed(made, 1) - expected).max() <= error / num_examples + 2.0**-25


def test_later_rounds_read_the_warehouse_again_and_the_features_from_the_store(
    one_round: FinishedRun, three_rounds: FinishedRun
) -> None:
    for site in SITES:
        store = Path("small/sites") / site / "store"
        before = {path.name for path in (one_round.federation.home / store / "features").iterdir()}
        after = {path.name for path in (three_rounds.federation.home / store / "features").iterdir()}
        assert len(before) == 1
        assert after == before
        assert len(list((three_rounds.federation.home / store / "ingested").glob("*.json"))) == 3
    (log,) = (
        path
        for path in (three_rounds.federation.home / "small/runs").glob("*/log.txt")
        if not (one_round.federation.home / path.relative_to(three_rounds.federation.home)).exists()
    )
    first = next((one_round.federation.home / "small/runs").glob("*/log.txt"))
    assert len(re.findall(r"crosscloud-progress: \w+ 100%", first.read_text())) >= len(ROWS)
    assert "rows/s" not in log.read_text()


def test_the_newest_report_is_found_by_command(
    three_rounds: FinishedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = three_rounds.federation.home
    monkeypatch.setenv("CROSSCLOUD_HOME", str(home))
    monkeypatch.chdir(home.parent)
    said = say_here(monkeypatch, capsys)("report", three_rounds.federation.path)
    assert said.lines == ["home/small/state/rounds/00003/report.html"]


@pytest.mark.parametrize("site", SITES)
def test_only_the_columns_of_the_task_leave_the_warehouse(one_round: FinishedRun, site: str) -> None:
    (path,) = (one_round.federation.home / f"small/sites/{site}/store/rows").glob("*.parquet")
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
    """Two sites in order, five that cannot take part; the first round was made by those in order alone."""
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
    first = RoundInProcess(federation)
    first.learn(["alpha", "beta"])
    first.go_on()


def change(warehouse: Path, statement: str) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(statement)


@pytest.mark.slow
def test_sites_that_fail_are_left_out_with_their_reasons_and_the_round_commits(
    small_federation: Callable[..., SmallFederation],
) -> None:
    """Under `he`, which opens a sum of two of seven; the seal would ask for five."""
    federation = small_federation(rows=30, protection="he", quorum={"min_sites": 2})
    with_failing_sites(federation)
    command = typed("run", str(federation.path), home=federation.home)
    assert command.returncode == 0, command.stderr
    assert re.search(r"^\s+2\s+2 of 7", command.stdout, re.MULTILINE)
    lines = command.stdout.splitlines()
    report = json.loads((federation.home / "small/state/rounds/00002/report.json").read_text())
    told = {site["name"]: site for site in report["sites"]}
    for name, (reason, note) in FAILING.items():
        assert f"round 2: {name} left out: {reason}" in lines
        assert (told[name]["reason"], told[name]["took_part"], told[name]["evaluation"]) == (
            reason,
            False,
            None,
        )
        assert any(line.startswith(f"  {name} ingest: ") and note in line for line in lines) or name == "slow"
        assert f"– {name}" in next(line for line in lines if line.startswith("  ingest"))
    assert all(told[name]["took_part"] and not told[name]["reason"] for name in ("alpha", "beta"))
    assert record(federation, 2)["members"] == ["alpha", "beta"]
    assert record(federation, 2)["left_out"] == {name: reason for name, (reason, _) in FAILING.items()}
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
    for site in ("beta", "gamma"):
        change(federation.warehouse(site), "UPDATE visits SET organ = 'spleen' WHERE id = 0")
    refused = typed("run", str(federation.path), home=home)
    assert refused.returncode == 2, "people can mend both"
    (line,) = refused.stderr.splitlines()
    assert line.startswith("crosscloud: round 2: 0 of 3 sites can take part, the quorum is 3. ")
    assert "alpha: unreachable: the warehouse is not there" in line
    named = (
        "label 'spleen' in column 'organ' (1 rows) is not in task.classes, which has 3: map it to one of them"
    )
    for site in ("beta", "gamma"):
        assert f"{site}: bad_data: a label is not in task.classes" in line
    assert refused.stdout.count(named) == 2, "the person who is all of the sites reads their notes"
    assert "spleen" not in line
    assert "Traceback" not in refused.stdout
    assert sorted(path.name for path in (home / "small/state/rounds").iterdir()) == ["00001"]
    assert not list((home / "small/exchange/rounds/00002-1").glob("roster.json"))

    (home / "away").rename(federation.warehouse("alpha"))
    for site in ("beta", "gamma"):
        change(federation.warehouse(site), "UPDATE visits SET organ = 'heart' WHERE id = 0")
    RoundInProcess(federation).finish()
    assert record(federation, 2)["members"] == list(SITES)
    assert (record(federation, 2)["attempt"], record(federation, 2)["left_out"]) == (1, {})
