"""`crosscloud compare` and `crosscloud compile --comparison` as they are typed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pipelines.spec_check.examination import examine_file
from tests.pipelines.command_line import Say
from tests.pipelines.commands.conftest import FederationFile
from tests.pipelines.golden.renew import COMPARISON, compiled_comparison

CLASSES = ("cash", "card", "fees")


def data(folder: Path, *classes: str) -> Path:
    folder.mkdir()
    for part in ("train", "test"):
        lines = [f"what about my {label} {number},{label}" for number in range(20) for label in classes]
        (folder / f"{part}.csv").write_text("\n".join(["text,category", *lines]))
    return folder


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--figures", "costs,volume"), r"unknown figure 'volume': known are protection, .*"),
        (("--methods", "fedprox"), r"unknown method 'fedprox': known are fedavg, dp-fl, smc-fl, he-fl, ours"),
        (("--sites", "1"), r"a comparison needs at least \d sites.*, got 1"),
        (
            ("--data", "nowhere"),
            r".*/nowhere/train.csv is not there: a data set is a folder with train.csv .*",
        ),
        (("--data", "one"), r"one has 1 class to train on: a classifier needs at least 2"),
        ((), r"small has no sample_data, and rows of its sites may not come together: .* --data FOLDER"),
        (("--data", "three"), r"encoder package:none cannot be used: the package is not installed here"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    words: tuple[str, ...], complaint: str, say: Say, file: FederationFile
) -> None:
    data(file.folder / "one", "cash")
    data(file.folder / "three", *CLASSES)
    said = say("compare", "small.yaml", *words)
    (told,) = said.complaints
    assert re.fullmatch(complaint, told), told
    assert said.code == 2
    assert not (file.folder / "build").exists()


def test_what_is_no_results_file_is_not_written_over(say: Say, file: FederationFile) -> None:
    data(file.folder / "three", *CLASSES)
    (file.folder / "kept").mkdir()
    (file.folder / "kept/results.json").write_text("mine")
    said = say("compare", "small.yaml", "--data", "three", "--output", "kept", "--figures", "costs")
    assert said.code == 2
    assert (file.folder / "kept/results.json").read_text() == "mine"


def test_a_comparison_compiles_to_a_spec_that_passes_the_check(say: Say, file: FederationFile) -> None:
    (path,) = say("compile", "small.yaml", "--comparison").lines
    assert path == "build/small-comparison.yaml"
    assert examine_file(file.folder / path) == []
    spec, platform = yaml.safe_load_all((file.folder / path).read_text())
    titles = [task["taskInfo"]["name"] for task in spec["root"]["dag"]["tasks"].values()]
    assert {"prepare corpus", "compare", "measure · ours · stage 2"} <= set(titles)
    assert platform["platforms"]["kubernetes"]
    images = {each["container"]["image"] for each in spec["deploymentSpec"]["executors"].values()}
    assert len(images) == 1
    assert images.pop().startswith("crosscloud-python-comparison:")


def test_it_has_all_methods(say: Say, file: FederationFile) -> None:
    said = say("compile", "small.yaml", "--comparison", "--method", "ours")
    assert (said.code, said.complaints) == (
        2,
        ["--comparison has all methods: leave --method and --kubernetes-manifests out"],
    )


def test_the_quick_start_s_comparison_is_the_golden_one(tmp_path: Path) -> None:
    compiled = compiled_comparison(tmp_path)
    assert compiled.read_text() == COMPARISON.read_text(), "if it should be so, type make golden"
    assert examine_file(compiled) == []
