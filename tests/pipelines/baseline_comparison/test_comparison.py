"""The reduced comparison as people type it, and the compiled one as Kubeflow's local runner runs it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from components.agreement.methods import COMPARED
from components.evaluation.method_measurement.configurations import FIGURES, Scope, figures_of, stages
from pipelines.compile import compile_comparison
from pipelines.federation import load_federation
from pipelines.local import LocalRunner
from tests.conftest import FILLER, WORDS, SmallFederation
from tests.pipelines.command_line import Say, say_here
from tests.pipelines.run_in_progress import COMMAND, PATIENCE

WARM = (
    "kfp.dsl.executor_main",
    "torch",
    "components.evaluation.method_measurement.step",
    "components.evaluation.comparison_report.step",
)
SCOPE = Scope(quick=True, seeds=(1,))
KINDS = {"choice", "centralised", "protection", "likelihood-ratio", "convergence", "costs", "migration"}
ATTACKS = {"canaries", "likelihood-ratio", "class-presence", "inversion"}
TOLD_IN_SECONDS = {"seconds", "seconds_to_85", "seconds_to_95_of_central", "steps"}
SEALED = {"smc-fl", "he-fl", "ours"}


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_here(monkeypatch, capsys)


def write_data(folder: Path, *, train: int, test: int) -> Path:
    """Notes of three organs, which a few words give away."""
    chance = random.Random(8)
    folder.mkdir()
    for part, number in (("train", train), ("test", test)):
        lines = ["text,label"]
        for _ in range(number):
            organ = chance.choice(sorted(WORDS))
            lines.append(" ".join(chance.sample(WORDS[organ], 2) + chance.sample(FILLER, 3)) + f",{organ}")
        (folder / f"{part}.csv").write_text("\n".join(lines))
    return folder


def measured(results: Path, name: str = "ward") -> dict[str, dict[str, Any]]:
    """Outcomes by configuration."""
    records = json.loads(results.read_text())["datasets"][name]["records"]
    return {json.dumps(record["configuration"], sort_keys=True): record["outcome"] for record in records}


def repeatable(outcomes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What must be the same whenever it is measured.

    A clock tells seconds. Masks, keys and ciphertexts are drawn from the system: what attacks make of them is
    chance, and CKKS rounds a sum a little differently each time.
    """
    found: dict[str, dict[str, Any]] = {}
    for each, outcome in outcomes.items():
        configuration = json.loads(each)
        sealed = configuration.get("method") in SEALED
        drawn = {"attempts", "label_error", "reidentified"} if sealed else set()
        kept = {key: value for key, value in outcome.items() if key not in TOLD_IN_SECONDS | drawn}
        found[each] = {} if configuration.get("method") == "he-fl" else kept
    return found


def interrupted(words: Sequence[object], home: Path, outcomes: Path) -> dict[str, int]:
    """Types a command and Ctrl-C, once it has measured something; times of the outcomes by name."""
    command = [*COMMAND, *map(str, words)]
    environment = {**os.environ, "CROSSCLOUD_HOME": str(home)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + PATIENCE
    while not list(outcomes.glob("*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (130, b""), (out, errors)
    assert not [path for path in outcomes.iterdir() if path.suffix != ".json"]
    return {path.name: path.stat().st_mtime_ns for path in outcomes.glob("*.json")}


def one_of_every_kind(outcomes: Sequence[Path]) -> list[Path]:
    """Of the outcomes of each kind of configuration the one that took least."""
    records = {path: json.loads(path.read_text()) for path in outcomes}
    dearest_first = sorted(outcomes, key=lambda path: -records[path]["seconds"])
    return list({records[path]["configuration"]["kind"]: path for path in dearest_first}.values())


@pytest.mark.slow
def test_the_reduced_comparison_has_every_method_attack_and_figure_here_and_on_kubeflow(
    small_federation: Callable[..., SmallFederation], say: Say, tmp_path: Path
) -> None:
    federation = small_federation(rows=0)
    data = write_data(tmp_path / "ward", train=500, test=200)
    words = (
        "compare",
        federation.path,
        "--data",
        data,
        "--quick",
        "--output",
        tmp_path / "out",
        "--cores",
        2,
    )
    kept = interrupted(words, federation.home, tmp_path / "out/ward/outcomes")
    said = say(*words)
    assert said.code == 0, said
    results = tmp_path / "out/results.json"
    found = measured(results)
    asked = [configuration for stage in stages(SCOPE) for configuration in stage]
    assert set(found) == {json.dumps(configuration, sort_keys=True) for configuration in asked}
    assert {json.loads(each)["kind"] for each in found} == KINDS
    assert {json.loads(each).get("method") for each in found} == {*COMPARED, None}
    assert {figure for each in found for figure in figures_of(json.loads(each))} == set(FIGURES)
    attempts = [
        attempt
        for outcome in found.values()
        for tried in (outcome.get("attempts", []), *outcome.get("by_seed", {}).values())
        for attempt in tried
    ]
    assert {attempt["attack"] for attempt in attempts} == ATTACKS
    assert {attempt["view"] for attempt in attempts} == {"aggregator", "participant", "model"}
    assert (tmp_path / "out/report.html").stat().st_size > 10_000
    assert len(list((tmp_path / "out/figures").glob("ward-*.png"))) >= len(FIGURES)

    outcomes = sorted((tmp_path / "out/ward/outcomes").glob("*.json"))
    before = {path.name: path.stat().st_mtime_ns for path in outcomes}
    assert kept
    assert kept.items() <= before.items(), "what had been measured was measured again"

    compiled = compile_comparison(load_federation(federation.path), SCOPE, tmp_path / "comparison.yaml")
    for path in one_of_every_kind(outcomes):
        path.unlink()
    arguments = {"data_uri": str(data), "store_uri": str(tmp_path / "out/ward"), "device": "cpu"}
    with LocalRunner(home=federation.home, log_path=tmp_path / "log.txt", modules=WARM) as runner:
        outcome = runner.run(compiled, arguments, pipeline_root=tmp_path / "root")
    assert outcome.succeeded, (outcome.error, (tmp_path / "log.txt").read_text()[-3000:])
    (written,) = (tmp_path / "root").glob("*/compare/results")
    assert repeatable(measured(written)) == repeatable(found)
    (page,) = (tmp_path / "root").glob("*/compare/page")
    assert page.stat().st_size > 10_000
