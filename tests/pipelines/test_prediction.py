"""Labelling texts with what was trained, by the command."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from components.data_processing.feature_augmentation.encoder import Encoder
from pipelines.cli import main
from pipelines.federation import load_federation
from pipelines.prediction import newest_labeller
from pipelines.readiness import encoder_spec
from tests.conftest import CLASSES, SmallFederation
from tests.pipelines.conftest import FinishedRun

TEXTS = ["cardiac murmur severe", "bronchial wheeze", "dermal blister left acute"]


@dataclass(frozen=True, kw_only=True)
class Said:
    """Exit code and output of a command."""

    code: int | str | None
    out: str
    err: str


Predict = Callable[..., Said]


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Predict:
    def call(federation: SmallFederation, *words: object, stdin: str = "") -> Said:
        monkeypatch.setenv("CROSSCLOUD_HOME", str(federation.home))
        monkeypatch.setattr(sys, "argv", ["crosscloud", "predict", str(federation.path), *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Said(code=ended.value.code, out=out, err=err)

    return call


def probabilities(
    federation: SmallFederation, site: str, *, adapts: bool
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The softmax of the committed head, plus the site's Δw, on the encoder's features."""
    (checkpoint,) = (federation.home / "small/state/rounds/00001").glob("checkpoint-*.safetensors")
    head = load_file(checkpoint)
    if adapts:
        (delta,) = (federation.home / f"small/sites/{site}/store/adaptations").iterdir()
        head = {name: head[name] + values for name, values in load_file(delta).items()}
    features = Encoder(encoder_spec(load_federation(federation.path))).encode(TEXTS).astype(np.float64)
    scores = np.exp(features @ head["output.weight"].T.astype(np.float64) + head["output.bias"])
    found: np.ndarray[tuple[int, int], np.dtype[np.float64]] = scores / scores.sum(axis=1, keepdims=True)
    return found


@pytest.mark.parametrize("adapts", [True, False])
def test_texts_from_standard_input_are_labelled_by_the_sites_model_or_the_global_one(
    one_round: FinishedRun, predict: Predict, adapts: bool
) -> None:
    words = ["--site", "beta", "--json", *([] if adapts else ["--global"])]
    said = predict(
        one_round.federation, *words, stdin="\n".join([TEXTS[0], "", f"  {TEXTS[1]} ", TEXTS[2], ""])
    )
    assert (said.code, said.err) == (0, "")
    found = [json.loads(line) for line in said.out.splitlines()]
    expected = probabilities(one_round.federation, "beta", adapts=adapts)
    assert [each["text"] for each in found] == TEXTS
    assert [each["label"] for each in found] == [CLASSES[column] for column in expected.argmax(axis=1)]
    np.testing.assert_allclose([each["probability"] for each in found], expected.max(axis=1), rtol=1e-4)
    if adapts:
        other = probabilities(one_round.federation, "beta", adapts=False)
        assert np.abs(other - expected).max() > 1e-2, (
            "the two models must differ, or this test could not tell"
        )


def test_texts_from_a_file_are_labelled_in_columns(
    one_round: FinishedRun, predict: Predict, tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    said = predict(one_round.federation, tmp_path / "texts.txt", "--site", "gamma")
    assert said.code == 0
    rows = [line.split("\t") for line in said.out.splitlines()]
    expected = probabilities(one_round.federation, "gamma", adapts=True)
    assert [row[2] for row in rows] == TEXTS
    assert [row[0] for row in rows] == [CLASSES[column] for column in expected.argmax(axis=1)]
    assert [float(row[1]) for row in rows] == pytest.approx(expected.max(axis=1), abs=1e-3)


def test_what_the_site_masks_in_its_records_is_masked_in_texts_to_label(
    one_round: FinishedRun, predict: Predict
) -> None:
    written = [f"{TEXTS[0]}, card 4111 1111 1111 1111", f"{TEXTS[0]}, card <CARD>"]
    said = predict(one_round.federation, "--site", "beta", "--json", stdin="\n".join(written))
    first, second = (json.loads(line)["probability"] for line in said.out.splitlines())
    assert first == pytest.approx(second, rel=1e-5)
    other = predict(one_round.federation, "--site", "beta", "--json", stdin=TEXTS[0])
    assert json.loads(other.out)["probability"] != pytest.approx(first, rel=1e-5)


def test_no_texts_are_no_labels(one_round: FinishedRun, predict: Predict) -> None:
    said = predict(one_round.federation, "--site", "alpha", stdin="\n \n")
    assert (said.code, said.out, said.err) == (0, "", "")


def test_a_site_without_an_adapted_model_is_told_which_one_is_used(
    after_one_round: SmallFederation, predict: Predict
) -> None:
    for path in (after_one_round.home / "small/sites/alpha/store/adaptations").iterdir():
        path.unlink()
    said = predict(after_one_round, "--site", "alpha", "--json", stdin=TEXTS[0])
    assert said.code == 0
    assert said.err == "alpha has not adapted the model of round 1: the global one is used\n"
    best = probabilities(after_one_round, "alpha", adapts=False)[0].max()
    assert json.loads(said.out)["probability"] == pytest.approx(best, rel=1e-4)


def test_an_altered_checkpoint_is_not_used(after_one_round: SmallFederation, predict: Predict) -> None:
    (checkpoint,) = (after_one_round.home / "small/state/rounds/00001").glob("checkpoint-*.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-4] + bytes(4))
    said = predict(after_one_round, "--site", "alpha", stdin=TEXTS[0])
    assert said.code == 1
    assert said.err == "crosscloud: the checkpoint of round 1 is not the one it committed\n"


def test_an_unknown_site_is_named(one_round: FinishedRun, predict: Predict) -> None:
    said = predict(one_round.federation, "--site", "delta", stdin=TEXTS[0])
    assert (said.code, said.out) == (2, "")
    assert said.err == "crosscloud: unknown site 'delta': the federation has alpha, beta, gamma\n"


def test_before_any_round_there_is_nothing_to_predict_with(
    small_federation: Callable[..., SmallFederation], predict: Predict
) -> None:
    made = small_federation(rows=1)
    before = sorted(made.home.rglob("*"))
    said = predict(made, "--site", "alpha", stdin=TEXTS[0])
    assert said.code == 2
    assert said.err == "crosscloud: small has no committed round yet: run one with 'crosscloud run'\n"
    assert sorted(made.home.rglob("*")) == before


def test_a_file_that_is_no_text_is_told(one_round: FinishedRun, predict: Predict, tmp_path: Path) -> None:
    for name, content in (("latin", "Übelkeit".encode("latin-1")), ("gone", None)):
        if content:
            (tmp_path / name).write_bytes(content)
        said = predict(one_round.federation, tmp_path / name, "--site", "alpha")
        assert said.code == 2
        assert said.err.startswith(f"crosscloud: {tmp_path / name} cannot be read as UTF-8 text: ")
        assert len(said.err.splitlines()) == 1


def test_a_labeller_says_what_it_is(one_round: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(one_round.federation.home))
    federation = load_federation(one_round.federation.path)
    labeller = newest_labeller(federation, "alpha", use_global=False)
    assert (labeller.round_number, labeller.is_adapted) == (1, True)
    assert not newest_labeller(federation, "alpha", use_global=True).is_adapted
    assert labeller.label(TEXTS) == labeller.label(TEXTS)
