"""One process a configuration, outcomes written whole, nothing measured twice, nobody left behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.artifacts.stores import open_store
from components.errors import UsageError
from components.evaluation.measurement_records.kept_outcomes import KeptOutcomes
from components.evaluation.rehearsal.corpus import Corpus
from pipelines.baseline_comparison.pool import Finished, Pool
from pipelines.baseline_comparison.room import telling_no_room
from tests.pipelines.baseline_comparison.measuring import measure

MEASURE = "tests.pipelines.baseline_comparison.measuring:measure"
PATIENCE = 30.0

_DRIVER = """
import json, sys
from pathlib import Path
from components.artifacts.stores import open_store
from components.evaluation.measurement_records.kept_outcomes import KeptOutcomes
from components.evaluation.rehearsal.corpus import Corpus
from pipelines.baseline_comparison.pool import Pool

corpus, folder, configurations = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
kept = KeptOutcomes(open_store(folder), Corpus.read(corpus).digest)
waiting = [each for each in configurations if kept.find(each) is None]
log = Path(folder, "log.txt")
with Pool(corpus=corpus, kept=kept, cores=2, log=log, measure=sys.argv[4], modules=()) as pool:
    pool.measure_all(waiting, [], on_finished=lambda finished: print(finished.configuration, flush=True))
"""


@pytest.fixture
def kept(corpus_file: Path, tmp_path: Path) -> KeptOutcomes:
    return KeptOutcomes(open_store(str(tmp_path / "kept")), Corpus.read(corpus_file).digest)


@pytest.fixture
def measured(corpus_file: Path, kept: KeptOutcomes, tmp_path: Path) -> Callable[..., list[Finished]]:
    def measure_all(*configurations: dict[str, Any], cores: int = 2, named: str = MEASURE) -> list[Finished]:
        found: list[Finished] = []
        with Pool(
            corpus=corpus_file,
            kept=kept,
            cores=cores,
            log=tmp_path / "log.txt",
            measure=named,
            modules=(),
        ) as pool:
            pool.measure_all(configurations, [{"before": 1}], on_finished=found.append)
        return found

    return measure_all


def configurations(number: int, **others: Any) -> list[dict[str, Any]]:
    return [{"kind": "mean", "label": place % 4, "place": place, **others} for place in range(number)]


def trace(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_measures_each_in_a_process_of_its_own(
    measured: Callable[..., list[Finished]], kept: KeptOutcomes, corpus_file: Path, tmp_path: Path
) -> None:
    asked = configurations(5, trace=str(tmp_path / "trace"))
    found = measured(*asked)
    assert not any(finished.error for finished in found)
    train = Corpus.read(corpus_file).train
    for configuration in asked:
        record = kept.find(configuration)
        assert record is not None
        rows = train.features[train.labels == configuration["label"]]
        assert record["outcome"] == {"mean": float(np.mean(rows, dtype=np.float64)), "earlier": 1}
    assert len({process for _, process, _ in trace(tmp_path / "trace")}) == len(asked)


def test_one_that_fails_is_told_with_its_cause_and_the_others_go_on(
    measured: Callable[..., list[Finished]], kept: KeptOutcomes
) -> None:
    wrong = {"label": 0, "goes_wrong": True}
    killed = {"label": 0, "is_killed": True}
    infinite = {"label": 0, "is_infinite": True}
    found = measured(wrong, killed, infinite, *configurations(3), cores=1)
    errors = [finished.error for finished in found]
    assert errors[0] == "class 1 has gone wrong"
    assert errors[1] == "its process ended by signal 9: the machine may be short of memory"
    assert errors[2].startswith("ValueError: Out of range float values are not JSON compliant")
    assert errors[3:] == ["", "", ""]
    assert [kept.find(each) for each in (wrong, killed, infinite)] == [None, None, None]


def test_what_cannot_start_is_told_once(measured: Callable[..., list[Finished]]) -> None:
    with pytest.raises(UsageError, match=r"cannot start: AttributeError: module .* 'unmeasured'"):
        measured(*configurations(5), named=f"{MEASURE.partition(':')[0]}:unmeasured")


def start(corpus: Path, folder: Path, asked: list[dict[str, Any]]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _DRIVER, str(corpus), str(folder), json.dumps(asked), MEASURE]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def await_outcomes(folder: Path, number: int) -> dict[str, int]:
    """Times of the outcomes by name, once there are so many."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = {path.name: path.stat().st_mtime_ns for path in folder.glob("outcomes/*.json")}
        if len(found) >= number:
            return found
        time.sleep(0.01)
    raise AssertionError(f"fewer than {number} outcomes in {folder}")


def gone(processes: set[int]) -> bool:
    """Whether none of the processes runs any more."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{process}/cmdline").exists() and running(process) for process in processes):
            return True
        time.sleep(0.02)
    return False


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_a_killed_comparison_leaves_nobody_behind_and_goes_on_with_the_same_numbers(
    corpus_file: Path, tmp_path: Path
) -> None:
    traced, folder = tmp_path / "trace", tmp_path / "kept"
    folder.mkdir()
    quick = configurations(4, trace=str(traced))
    slow = configurations(2, trace=str(traced), seconds=0.4)
    asked = [*quick, *slow, *configurations(3, more=1)]
    process = start(corpus_file, folder, asked)
    before = await_outcomes(folder, len(quick))
    deadline = time.monotonic() + PATIENCE
    while len(trace(traced)) < len(quick) + 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL, errors
    assert gone({int(each) for line in trace(traced) for each in line[1:]})
    assert not list(folder.glob("outcomes/.*"))
    assert {path.name for path in folder.glob("outcomes/*.json")} == set(before)

    again = start(corpus_file, folder, asked)
    _, errors = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, errors
    after = await_outcomes(folder, 9)
    assert {name: after[name] for name in before} == before
    assert len(trace(traced)) == len(quick) + 2 * len(slow)
    corpus = Corpus.read(corpus_file)
    kept = KeptOutcomes(open_store(str(folder)), corpus.digest)
    for configuration in asked:
        record = kept.find(configuration)
        assert record is not None
        assert record["outcome"] == measure(configuration, corpus, [])


def test_no_room_is_told_and_leaves_no_half_an_outcome(
    measured: Callable[..., list[Finished]], tmp_path: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def within_a_hundred_bytes() -> None:
        with telling_no_room(Path("kept")):
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
            measured({"label": 1, "note": "x" * 300}, cores=1)

    try:
        with pytest.raises(UsageError, match=r"^no room is left in kept: make room"):
            within_a_hundred_bytes()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "kept").rglob("*.json")) == []
    assert [path.name for path in (tmp_path / "kept").rglob(".*") if path.is_file()] == []


def test_the_environment_has_one_thread_a_process(
    measured: Callable[..., list[Finished]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    (found,) = measured({"label": 0}, named="tests.pipelines.baseline_comparison.measuring:threads")
    assert found.record is not None
    assert found.record["outcome"] == {"threads": "1"}
    assert os.environ["OMP_NUM_THREADS"] == "7"
