"""A run whose sites are counted under the seal: what is known of their figures outside them, and what not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.agreement.charter_book import charter_in_force
from components.agreement.site_policy import load_policy
from components.artifacts.stores import open_store
from components.evaluation.metrics import Evaluation, pool
from components.privacy.charging import open_ledger
from components.privacy.zcdp import epsilon
from pipelines.explanation.account import site_account
from pipelines.explanation.comparison import compare
from pipelines.federation import load_federation
from tests.conftest import SITES, SmallFederation
from tests.pipelines.byte_search import files, json_of, outside_the_sites, own
from tests.pipelines.conftest import FinishedRun, FinishedRuns, moved, typed
from tests.pipelines.noised import PRIVACY, ours

pytestmark = pytest.mark.slow

ROWS = {"alpha": 410, "beta": 660, "gamma": 520}
SIGMAS = 5
"""Deviations of noise that a test lets it be away: once in 1.7 million of them."""


@pytest.fixture
def run(small_federation: Callable[..., SmallFederation], finished_runs: FinishedRuns) -> FinishedRun:
    """The one round of a schedule, of sites that say nothing of their figures. To be read only."""
    if "counted" not in finished_runs.found:
        made = small_federation(list(ROWS.values()), **ours(rounds=1))
        for site in made.document["sites"]:
            del site["evaluation"]
        made.save()
        made = moved(made, finished_runs.folder / "counted")
        command = typed("run", str(made.path), home=made.home)
        finished_runs.found["counted"] = FinishedRun(federation=made, command=command)
    return finished_runs.found["counted"]


@pytest.fixture
def home(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(run.federation.home))
    return run.federation.home


def report(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "small/state/rounds/00001/report.json").read_text())
    return found


def measured(home: Path, site: str) -> dict[str, Evaluation]:
    """Both models on a site's test rows, as `evaluate` has kept them at the site."""
    (path,) = own(home, site, "evaluations")
    kept = json.loads(path.read_text())
    return {name: Evaluation.from_dict(kept[name]) for name in ("global", "adapted")}


def counts(home: Path, site: str) -> list[int]:
    """What the site has added to the sum, without its noise."""
    before = measured(home, site)["global"]
    return [int(np.trace(before.confusion)), *map(int, before.confusion.ravel()), before.num_examples]


def needles(home: Path, site: str) -> set[bytes]:
    """A site's figures as bytes: its counts as vectors, its matrices as JSON, its shares as text."""
    found, vector = measured(home, site), np.array(counts(home, site))
    arrays = [vector, vector[:-1], vector[1:-1]]
    kinds = [f"{order}{kind}" for order in "<>" for kind in ("i4", "i8", "f4", "f8")]
    binary = {each.astype(kind).tobytes() for each in arrays for kind in kinds}
    written: set[str] = set()
    for each in found.values():
        for table in (each.confusion.tolist(), each.confusion.astype(float).tolist()):
            # Rows of the matrix, of which a row of one class might be anything.
            parts: list[Any] = [table, *(row for row in table if len([n for n in row if n]) > 1)]
            for part, separators in itertools.product(parts, ((",", ":"), (", ", ": "))):
                written.add(json.dumps(part, separators=separators))
        shares = (each.accuracy, each.macro_f1, each.log_loss)
        texts = (f"{share:.{digits}f}" for share in shares for digits in (6, 8, 12))
        written |= {text for text in texts if not text.endswith("000")} | {str(share) for share in shares}
    return binary | {text.encode() for text in written if len(text) > 6}


def showing(paths: Iterable[Path], sought: set[bytes]) -> set[bytes]:
    """Those of the needles that some file holds; a table that is indented is one all the same."""
    found: set[bytes] = set()
    for path in paths:
        content = path.read_bytes()
        body = json_of(path)
        plain = json.dumps(body, separators=(",", ":")).encode() if body is not None else b""
        found |= {needle for needle in sought if needle in content or needle in plain}
    return found


@pytest.mark.parametrize("site", SITES)
def test_no_figure_of_a_single_site_is_outside_it(run: FinishedRun, home: Path, site: str) -> None:
    assert run.command.returncode == 0, run.command.stderr
    sought = needles(home, site)
    searched = outside_the_sites(home)
    assert len(sought) > 40
    assert showing(searched, sought) == set()
    assert not any(needle in run.command.stdout.encode() for needle in sought)
    others = [path for other in SITES if other != site for path in own(home, other)]
    assert showing(others, sought) == set()
    # At the site itself its figures are, as text; the counts that it has kept carry its noise.
    assert showing(own(home, site, "evaluations"), sought)
    (updates, kept) = sorted(own(home, site, "updates"), key=lambda path: path.stat().st_size)[::-1]
    noisy = np.load(kept)
    assert noisy.size == len(counts(home, site)) < np.load(updates).size
    assert showing(searched, {noisy.tobytes(), noisy[1:-1].tobytes()}) == set()


def test_the_search_would_find_them(home: Path, tmp_path: Path) -> None:
    sought = needles(home, "beta")
    for number, needle in enumerate(sorted(sought)):
        path = tmp_path / f"planted-{number}"
        path.write_bytes(b"\x00x" + needle + b"y")
        assert showing([path], sought) >= {needle}
    indented = tmp_path / "indented.json"
    indented.write_text(json.dumps({"a": measured(home, "beta")["global"].confusion.tolist()}, indent=2))
    assert showing([indented], sought)
    vector = np.array(counts(home, "beta"), np.int64)
    for kind in ("<i8", ">i8", "<i4", "<f4"):
        path = tmp_path / f"vector-{kind[1:]}"
        path.write_bytes(b"head" + vector.astype(kind).tobytes())
        assert showing([path], sought)


def test_the_sum_says_what_pooling_would_within_its_stated_noise(home: Path) -> None:
    told = report(home)["aggregate"]
    before = pool([measured(home, site)["global"] for site in SITES])
    assert told["members"] == list(SITES)
    deviation = told["deviation"]
    assert abs(told["rows"] - before.num_examples) < SIGMAS * deviation
    assert np.abs(np.array(told["confusion"]) - before.confusion).max() < SIGMAS * deviation
    assert 0 < told["accuracy_half_width"] < 0.1
    assert abs(told["accuracy"] - before.accuracy) < SIGMAS / 1.96 * told["accuracy_half_width"]
    assert told["adapted_accuracy"] is None  # Δw has no epsilon


def test_the_noise_is_that_of_five_hundredths_of_the_budget(home: Path) -> None:
    terms = charter_in_force("small/keys").privacy
    assert terms
    assert terms.metrics
    assert terms.metrics.rounds == (1,)
    update, metrics = (
        1 / (2 * sigma**2) for sigma in (*terms.noise_multipliers, terms.metrics.noise_multiplier)
    )
    assert metrics / (update + metrics) == pytest.approx(0.05, abs=1e-6)
    # From scratch: both together cost no more than the target, and the ledger says the same.
    total = epsilon(update + metrics, PRIVACY["delta"])
    assert PRIVACY["target_epsilon"] * 0.999 < total <= PRIVACY["target_epsilon"]
    assert report(home)["privacy"]["epsilon_spent"] == pytest.approx(total, rel=1e-3)
    for site in SITES:
        policy = load_policy("small/keys", site).privacy
        assert policy
        entries = open_ledger(policy).entries()
        assert [each.charge.purpose for each in entries] == ["update", "metrics"]
        assert sum(each.rho for each in entries) == pytest.approx(update + metrics, rel=1e-6)


def test_all_that_has_left_a_site_is_in_its_account(run: FinishedRun, home: Path) -> None:
    federation = load_federation(run.federation.path)
    account = site_account(federation, "alpha", now=datetime.now(UTC))
    found = compare(account, open_store(str(home / "small/exchange")), "small/keys")
    assert found.differences == ()
    left = {each.key.partition("/")[0] for each in account.departures if each.key}
    assert left == {"rounds", "metrics"}
    assert not [each.key for each in account.departures if "figures" in each.key]


def test_kubeflow_and_the_terminal_show_it_like_open_figures(run: FinishedRun, home: Path) -> None:
    told = report(home)["aggregate"]
    percent = f"{100 * told['accuracy']:.1f} ± {100 * told['accuracy_half_width']:.1f} %"
    assert percent in " ".join(run.command.stdout.split())
    logged = [body for path in files(home / "small/runs") if (body := json_of(path)) is not None]
    shown = [path.read_text(errors="ignore") for path in files(home / "small/runs")]
    assert logged
    assert any(f'"accuracy": {told["accuracy"]}' in text for text in shown)
    assert any("confusionMatrix" in text for text in shown)
