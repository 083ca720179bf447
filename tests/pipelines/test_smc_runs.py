"""A whole run under `smc-fl` by the command, in which one site is lost after it has sealed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.agreement.charter_book import charter_in_force
from components.encryption.update_vector import fixed_point
from components.rounds.verification import verify_state
from tests.conftest import SITES, SmallFederation
from tests.pipelines.byte_search import outside_the_sites
from tests.pipelines.conftest import ROWS, FinishedRun, typed
from tests.pipelines.kept_updates import assert_mean_of_updates, committed, kept, record
from tests.pipelines.run_in_progress import RunInProgress

pytestmark = pytest.mark.slow
LOST = SITES[-1]


@pytest.fixture(scope="module")
def runs() -> dict[str, FinishedRun]:
    return {}


@pytest.fixture
def smc(
    small_federation: Callable[..., SmallFederation],
    runs: dict[str, FinishedRun],
    tmp_path_factory: pytest.TempPathFactory,
) -> FinishedRun:
    """One round of three sites of which none may collude; the last one can unmask nothing. Run once."""
    if "smc" not in runs:
        made = small_federation(
            list(ROWS.values()), protection="smc", quorum={"min_sites": 3, "colluding_sites": 0}
        )
        folder = tmp_path_factory.mktemp("smc")
        shutil.copytree(made.home, folder / "home")
        federation = SmallFederation(
            home=folder / "home", path=folder / "small.yaml", document=dict(made.document)
        )
        federation.save()
        with RunInProgress(federation) as run:
            run.await_start("aggregate")
            with run.paused():
                shutil.rmtree(federation.home / f"small/sites/{LOST}/store/secrets")
            runs["smc"] = FinishedRun(federation=federation, command=run.ended())
    return runs["smc"]


def test_it_commits_without_the_lost_site_the_mean_of_all(smc: FinishedRun) -> None:
    """Its update was sealed before it was lost: the two others lift its masks."""
    assert smc.command.returncode == 0, smc.command.stderr
    federation = smc.federation
    assert record(federation, 1)["members"] == list(SITES)
    assert_mean_of_updates(federation, 1, SITES)
    assert "small/state/rounds/00001/report.html" in smc.command.stdout
    log = next((federation.home / "small/runs").glob("*/log.txt")).read_text()
    assert f"{LOST} has not unmasked: unreachable: a store (ObjectMissingError)" in log


def test_its_steps_are_those_of_smc(smc: FinishedRun) -> None:
    report = json.loads((smc.federation.home / "small/state/rounds/00001/report.json").read_text())
    told = {(step["step"], step["site"]) for step in report["steps"]}
    assert {("share", site) for site in SITES} <= told
    assert {site for step, site in told if step == "unmask"} == set(SITES) - {LOST}
    assert not [step for step, _ in told if step == "release"]


def test_it_commits_the_model_of_sealed_within_the_stated_errors(
    smc: FinishedRun, one_round: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = []
    for run in (smc, one_round):
        monkeypatch.setenv("CROSSCLOUD_HOME", str(run.federation.home))
        errors.append(fixed_point(charter_in_force("small/keys")).absolute_error(3))
    assert errors[0] < errors[1] / 400
    num_examples = sum(kept(smc.federation, 1, site)[1] for site in SITES)
    difference = np.abs(committed(smc.federation, 1) - committed(one_round.federation, 1)).max()
    assert 0 < difference <= sum(errors) / num_examples + 2.0**-24


def test_anybody_can_check_it(smc: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(smc.federation.home))
    found = verify_state("small/state", keys_uri="small/keys", charter=charter_in_force("small/keys").digest)
    assert (found.problems, found.rounds, found.voided) == ((), 1, 0)


def test_what_has_left_a_site_is_explained_in_words(smc: FinishedRun) -> None:
    federation = smc.federation
    said = typed("explain", str(federation.path), "--as", SITES[0], "--check", home=federation.home)
    assert said.returncode == 0, said.stdout + said.stderr
    for words in (
        "shares of the keys that mask the update, each encrypted to one site of the roster",
        "masked update: only a sum of at least 2 sites can be read, by whoever reads the exchange",
        "unmasking: one share of every site for one agreed sum, under a lock that a quorum opens",
    ):
        assert words in said.stdout


def test_nothing_of_an_update_lies_outside_its_site(smc: FinishedRun) -> None:
    """Four values of a site's vector in a row, wherever they begin, are nowhere but in its own store."""
    home = smc.federation.home
    ticket = record(smc.federation, 1)["ticket"]
    contents = {path: path.read_bytes() for path in outside_the_sites(home, keyed=False)}
    for site in SITES:
        vector = np.load(home / f"small/sites/{site}/store/updates/{ticket}.npy")
        assert vector.dtype == np.int32
        rows = [vector[start : start + 4] for start in range(0, vector.size - 4, 4)]
        wanted = [row.astype("<i4").tobytes() for row in rows if len(set(row.tolist())) == 4]
        assert len(wanted) > 4
        found = [path.name for path, content in contents.items() if any(each in content for each in wanted)]
        assert found == []
    sealed = {path for path in contents if re.search(r"sealed/\w+\.bin$", path.as_posix())}
    assert len(sealed) == 3
    assert all(path.stat().st_size == sealed_size(home, ticket) for path in sealed)
    assert list((home / "small/sites").glob("*/store/secrets/*")) == []


def sealed_size(home: Path, ticket: str) -> int:
    """A header of 80 bytes and four bytes a value."""
    return 80 + 4 * int(np.load(home / f"small/sites/{SITES[0]}/store/updates/{ticket}.npy").size)
