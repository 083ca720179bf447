"""`ours` for its whole schedule, by the command: what is released, what it costs, and that it ends."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from components.agreement.charter_book import charter_in_force
from components.agreement.ledger_head import first_head
from components.artifacts.stores import open_store, reference
from components.errors import PrivacyBudgetExceededError
from components.privacy.zcdp import epsilon
from components.training.features import read_features
from components.training.local_training.clipped_gradients import clipped_gradient_sum
from tests.conftest import CLASSES, DIMENSIONS, SITES, SmallFederation
from tests.pipelines.byte_search import (
    Words,
    eights_of,
    files,
    holding,
    json_of,
    numbers_in,
    outside_the_sites,
    own,
    pairs,
    seven_decimals,
    written_out,
)
from tests.pipelines.chartered import content
from tests.pipelines.command_line import Say, say_here
from tests.pipelines.conftest import ROWS, FinishedRun, FinishedRuns, copied, moved, typed
from tests.pipelines.kept_updates import record
from tests.pipelines.noised import PRIVACY, ours
from tests.pipelines.round_in_process import RoundInProcess

Vector = NDArray[np.float64]
pytestmark = pytest.mark.slow

NORM = 1.5
"""C."""
STEP = NORM / 2**20
SENSITIVITY = math.sqrt(1 + 0.1**2) * 2**20 + math.sqrt(DIMENSIONS * len(CLASSES) + len(CLASSES)) + 1
"""Delta in integer steps, of one example and of the rounding."""
LEAST_HITS = 3


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_here(monkeypatch, capsys)


@pytest.fixture
def schedule(small_federation: Callable[..., SmallFederation], finished_runs: FinishedRuns) -> FinishedRun:
    """Both rounds of the schedule by one command. To be read only."""
    if "ours" not in finished_runs.found:
        made = moved(small_federation(list(ROWS.values()), **ours()), finished_runs.folder / "ours")
        command = typed("run", str(made.path), "--rounds", "2", home=made.home)
        finished_runs.found["ours"] = FinishedRun(federation=made, command=command)
    return finished_runs.found["ours"]


@pytest.fixture
def home(schedule: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(schedule.federation.home))
    return schedule.federation.home


def exact(schedule: FinishedRun, number: int, site: str) -> tuple[Vector, int]:
    """Sum of a site's clipped gradients and its examples, as they were before anything was added."""
    home = schedule.federation.home
    folder = home / f"small/exchange/rounds/{number:05d}-1"
    model = json.loads((folder / "ticket.json").read_text())["body"]["model"]
    tensors = load_file(home / f"small/exchange/models/{model}.safetensors")
    head = {name: values for name, values in tensors.items() if not name.startswith("optimizer.")}
    store = open_store(str(home / f"small/sites/{site}/store"))
    (key,) = store.keys("features")
    examples = read_features(store, reference(store, key)).train
    total = clipped_gradient_sum(head, examples, max_grad_norm=NORM, device="cpu")
    return total, len(examples.labels)


def committed_to(schedule: FinishedRun, number: int, site: str) -> NDArray[np.int64]:
    """The noisy integers that a site has kept."""
    ticket = record(schedule.federation, number)["ticket"]
    vector: NDArray[np.int64] = np.load(
        schedule.federation.home / f"small/sites/{site}/store/updates/{ticket}.npy"
    )
    assert vector.dtype == np.dtype(np.int64)
    assert vector.shape == (DIMENSIONS * len(CLASSES) + len(CLASSES) + 1,)
    return vector


def in_steps(total: Vector, num_examples: int) -> NDArray[np.int64]:
    """The same as integers, without noise."""
    values: NDArray[np.int64] = np.rint(np.append(total / STEP, 0.1 * 2**20 * num_examples)).astype(np.int64)
    return values


def tensors_of(home: Path, number: int) -> dict[str, NDArray[Any]]:
    (path,) = (home / f"small/state/rounds/{number:05d}").glob("checkpoint-*.safetensors")
    return dict(load_file(path))


def flat(tensors: dict[str, NDArray[Any]], kind: str = "") -> Vector:
    names = ("output.bias", "output.weight")
    return np.concatenate([tensors[f"{kind}{name}"].astype(np.float64).ravel() for name in names])


def test_the_whole_schedule_commits_and_verifies(schedule: FinishedRun, home: Path, say: Say) -> None:
    assert schedule.command.returncode == 0, schedule.command.stderr
    assert [record(schedule.federation, number)["round_number"] for number in (1, 2)] == [1, 2]
    (line,) = say("verify", "small/state", "--charter", charter_in_force("small/keys").digest).lines
    assert line.startswith("in order: 2 rounds committed, 0 void, newest model ")
    assert say("keys", "check", schedule.federation.path).code == 0
    assert say("charter", "check", schedule.federation.path).code == 0


def test_the_model_is_a_step_of_adam_down_the_noisy_mean_gradient(schedule: FinishedRun, home: Path) -> None:
    """Kingma and Ba 2015, Algorithm 1, on what the sites have committed to."""
    weights, first, second = np.zeros(51), np.zeros(51), np.zeros(51)
    for number in (1, 2):
        opened = np.sum([committed_to(schedule, number, site) for site in SITES], axis=0)
        gradient = opened[:-1] * STEP / (opened[-1] / (0.1 * 2**20))
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        corrected = first / (1 - 0.9**number), second / (1 - 0.99**number)
        weights = weights - 0.05 * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        made = tensors_of(home, number)
        np.testing.assert_allclose(flat(made), weights, rtol=0, atol=1e-6)
        np.testing.assert_allclose(flat(made, "optimizer.momentum."), first, rtol=1e-9, atol=1e-12)
        assert made["optimizer.steps"] == [number]
        weights = flat(made)
    assert np.abs(weights).max() > 0.02, "the model has moved, or this could not tell"


def test_every_site_has_added_its_share_of_the_noise(schedule: FinishedRun, home: Path) -> None:
    """Of variance sigma^2 Delta^2 / (u_min - t_sites) in each of 52 coordinates, drawn anew every round."""
    charter = charter_in_force("small/keys")
    assert charter.privacy is not None
    drawn = []
    for number, sigma in enumerate(charter.privacy.noise_multipliers, 1):
        share = sigma * SENSITIVITY / math.sqrt(3 - 1)
        for site in SITES:
            total, num_examples = exact(schedule, number, site)
            assert float(np.linalg.norm(total)) <= num_examples * NORM
            drawn.append((committed_to(schedule, number, site) - in_steps(total, num_examples)) / share)
    # 312 draws: six deviations of a mean of squares are 6 * sqrt(2 / 312).
    assert np.mean(np.square(drawn)) == pytest.approx(1, abs=0.48)
    assert np.abs(np.corrcoef(drawn) - np.eye(6)).max() < 0.75, "no two draws are the same"


@pytest.mark.parametrize("site", SITES)
def test_the_ledger_beside_the_warehouse_has_an_entry_a_round(
    schedule: FinishedRun, home: Path, site: str
) -> None:
    charter = charter_in_force("small/keys")
    assert charter.privacy is not None
    beside = home / f"small/sites/{site}/ledger"
    name = first_head(f"small/sites/{site}/warehouse.duckdb", "row")
    found = [str(path.relative_to(beside)) for path in files(beside)]
    assert found == [f"ledgers/{name}/0000000{number}.json" for number in (1, 2)]
    bodies = [json.loads((beside / path).read_text())["body"] for path in found]
    for number, body in enumerate(bodies, 1):
        assert body["charge"] == {
            "federation": "small",
            "charter": charter.digest,
            "ticket": record(schedule.federation, number)["ticket"],
            "round_number": number,
            "attempt": 1,
            "purpose": "update",
        }
        assert body["event"]["noise_multiplier"] == charter.privacy.noise_multipliers[number - 1]
        assert body["event"]["dimensions"] == 52
    spent = math.fsum(1 / (2 * body["event"]["noise_multiplier"] ** 2) for body in bodies)
    assert 0.999 * 8 < epsilon(spent, 1e-5) <= 8


def test_the_ledgers_head_is_signed_into_every_commitment(schedule: FinishedRun, home: Path) -> None:
    for site in SITES:
        for number in (1, 2):
            path = home / f"small/exchange/rounds/{number:05d}-1/commitments/{site}.json"
            shown = json.loads(path.read_text())["body"]["ledger"]
            assert (shown["length"], len(shown["entries"])) == (number, number)


def test_a_round_beyond_the_schedule_is_refused_in_one_line(
    schedule: FinishedRun, home: Path, say: Say
) -> None:
    before = content(home)
    said = say("run", schedule.federation.path)
    assert (said.code, said.out) == (2, "")
    (line,) = said.complaints
    assert "the charter's schedule has 0 of 2 left" in line
    assert "epsilon 8 at delta 1e-05" in line
    assert content(home) == before


def test_no_ticket_is_issued_beyond_the_schedule(schedule: FinishedRun, home: Path) -> None:
    """Whoever leaves out the command's own courtesy is refused by the step."""
    before = content(home)
    with pytest.raises(
        PrivacyBudgetExceededError, match="round 3 is outside the charter's schedule of noise"
    ):
        RoundInProcess(schedule.federation)
    assert content(home) == before


def eights(*values: NDArray[Any]) -> Words:
    return np.concatenate([each.view("<u8") for each in values])


def needles_of_sum(total: Vector, num_examples: int) -> tuple[Words, Words]:
    """An exact gradient sum and its count: as floats and neighbours, and as the integers of single steps."""
    told = total[total != 0]
    integers = in_steps(told, num_examples)
    integers = integers[np.abs(integers) > 1024]
    counts = np.array([float(num_examples), 104857.6 * num_examples])
    floats = eights(told, told / num_examples, told / STEP, counts)
    narrow = [pairs(each) for each in (told.astype("<f4"), (told / num_examples).astype("<f4"))]
    return np.concatenate([floats, *narrow, pairs(integers.astype("<i4"))]), eights(integers)


def needles_of_noisy(vector: NDArray[np.int64]) -> tuple[Words, Words]:
    """What a site has committed to: as neighbours, and as integers and floats by themselves."""
    loud = vector[np.abs(vector) > 1024]
    assert len(loud) > 45
    return pairs(loud.astype("<i4")), eights(loud, loud.astype("<f8"), loud * STEP)


def telling(paths: Iterable[Path], needles: tuple[Words, Words]) -> list[Path]:
    """Files with one of the first needles, or several of the second.

    An integer of twenty bits is in some list of integers now and then; three are not.
    """
    certain, weak = needles
    single = np.unique(weak)
    return [
        path for path in paths if holding([path], certain) or _hits(eights_of(path), single) >= LEAST_HITS
    ]


def _hits(words: Words, needles: Words) -> int:
    """How many of the needles are among the words, which are sorted."""
    if not len(words):
        return 0
    found = words[np.minimum(np.searchsorted(words, needles), len(words) - 1)]
    return int((found == needles).sum())


def test_no_gradient_sum_and_no_count_leaves_its_site(schedule: FinishedRun, home: Path) -> None:
    """The exact sum is kept nowhere at all; the noisy one where the site keeps what it committed to."""
    elsewhere = [*outside_the_sites(home), *files(home / "small/keys")]
    for site in SITES:
        others = [path for other in SITES if other != site for path in own(home, other)]
        for number in (1, 2):
            total, num_examples = exact(schedule, number, site)
            hidden = needles_of_sum(total, num_examples)
            assert min(map(len, hidden)) > 45
            assert telling([*elsewhere, *others, *own(home, site)], hidden) == []
            assert telling(files(home / f"small/sites/{site}/ledger"), hidden) == []
            noisy = needles_of_noisy(committed_to(schedule, number, site))
            assert telling([*elsewhere, *others, *files(home / f"small/sites/{site}/ledger")], noisy) == []
            ticket = record(schedule.federation, number)["ticket"]
            assert telling(own(home, site), noisy) == [
                home / f"small/sites/{site}/store/updates/{ticket}.npy"
            ]


def test_the_same_search_finds_an_exact_sum_that_is_there(schedule: FinishedRun, tmp_path: Path) -> None:
    total, num_examples = exact(schedule, 1, "beta")
    forms: dict[str, NDArray[Any]] = {
        "float64": total,
        "float32": total.astype(np.float32),
        "mean": total / num_examples,
        "count": np.array([float(num_examples)]),
        "integers": in_steps(total, num_examples),
        "count in steps": np.array([104857.6 * num_examples]),
        "of four bytes": in_steps(total, num_examples).astype(np.int32),
    }
    for name, values in forms.items():
        path = tmp_path / name
        path.write_bytes(b"abc" + values.tobytes())
        assert telling([path], needles_of_sum(total, num_examples)) == [path], name


def test_how_many_examples_a_site_has_is_in_no_document(schedule: FinishedRun, home: Path) -> None:
    counts = {exact(schedule, 1, site)[1] for site in SITES}
    counts |= {*ROWS.values(), sum(counts)}
    documents = [
        path
        for path in [*outside_the_sites(home), *(home / "small/sites").glob("*/ledger/ledgers/*/*")]
        if path.suffix == ".json" or path.name == "manifest"
        # Confusion counts of test rows, which the sites have released.
        if not path.parent.name.startswith("evaluate") and path.parent.name != "figures"
    ]
    published = {number for path in documents for number in numbers_in(json_of(path))}
    assert counts.isdisjoint(published)
    assert {52, 20000, 1.5} <= published, "the search sees numbers"


def test_no_gradient_sum_and_no_count_is_printed(schedule: FinishedRun, home: Path) -> None:
    texts = {path: seven_decimals(path.read_bytes()) for path in outside_the_sites(home)}
    assert sum(map(len, texts.values())) > 50, "the search sees numbers"
    fractions = written_out(np.array([a / b for b in range(1, 103) for a in range(1, b)]))
    printed = schedule.command.stdout + schedule.command.stderr
    for site in SITES:
        for number in (1, 2):
            total, num_examples = exact(schedule, number, site)
            noisy = committed_to(schedule, number, site)
            values = np.concatenate([total, total / num_examples, noisy * STEP])
            decimals = written_out(values) - fractions
            assert len(decimals) > 100
            assert [path for path, found in texts.items() if decimals & found] == []
            whole = [str(value) for value in np.abs(noisy).tolist() if value > 10**5]
            assert [each for each in whole if each in printed] == []


def afresh(schedule: FinishedRun, folder: Path, monkeypatch: pytest.MonkeyPatch) -> SmallFederation:
    """The quick start once more over data that are there: no state, exchange, keys, stores, runs."""
    made = copied(schedule.federation, folder)
    small = made.home / "small"
    for name in ("state", "exchange", "keys", "key-holder", "runs"):
        shutil.rmtree(small / name)
    for site in SITES:
        shutil.rmtree(small / f"sites/{site}/store")
    assert {path.name for path in small.rglob("*") if path.is_file()} == {
        "warehouse.duckdb", "00000001.json", "00000002.json"
    }  # fmt: skip
    monkeypatch.setenv("CROSSCLOUD_HOME", str(made.home))
    return made


def test_starting_over_on_the_same_data_is_refused_by_name(
    schedule: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    made = afresh(schedule, tmp_path / "again", monkeypatch)
    said = say("run", made.path, "--rounds", "2")
    assert said.code == 2
    assert len(said.complaints) == 3
    for site, line in zip(SITES, said.complaints, strict=True):
        assert line.startswith(f"{site}: its privacy ledger has spent epsilon 8 of 8 on small/sites/{site}/")
        assert "which does not hold another round" in line
        assert "'make clean'" in line, "it says how to start over"
    assert not (made.home / "small/runs").exists()
    assert not (made.home / "small/exchange/rounds").exists()


def test_a_site_itself_refuses_to_start_over_and_reads_no_row(
    schedule: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator is new and knows of nothing; under another name and a smaller epsilon too."""
    made = afresh(schedule, tmp_path / "again", monkeypatch)
    made.document["federation"] = "other"
    made.document["privacy"] = PRIVACY | {"target_epsilon": 4.0}
    made.save()
    run = RoundInProcess(made)
    for site in SITES:
        ledger = content(made.home / f"small/sites/{site}/ledger")
        with pytest.raises(
            PrivacyBudgetExceededError, match=r"would bring epsilon from 8 to .*, the budget is 4 "
        ):
            run.learn([site])
        assert content(made.home / f"small/sites/{site}/ledger") == ledger
        kept = {
            path.relative_to(made.home / f"small/sites/{site}/store").parts[0]
            for path in own(made.home, site)
        }
        assert not kept & {"rows", "features", "updates", "ingested"}
