"""The private methods beside `ours`, and its start, from the federation file to the ledger."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from components.agreement.public_corpus import corpus_key
from components.artifacts.stores import open_store
from components.data_processing.feature_augmentation.encoder import Encoder
from components.errors import PrivacyBudgetExceededError
from components.privacy.zcdp import epsilon
from components.rounds.verification import verify_state
from pipelines.federation import load_federation
from pipelines.prediction import newest_labeller
from pipelines.readiness import encoder_spec
from tests.conftest import SmallFederation
from tests.pipelines.chartered import content
from tests.pipelines.command_line import Say, say_here
from tests.pipelines.noised import ours
from tests.pipelines.round_in_process import RoundInProcess

Make = Callable[..., SmallFederation]
TEXTS = "\n".join(f"an ordinary note about ward {number}" for number in range(20)) + "\n"


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_here(monkeypatch, capsys)


def with_corpus(made: SmallFederation, text: str = TEXTS, **changes: Any) -> SmallFederation:
    """The federation with public texts beside its file."""
    (made.path.parent / "public.txt").write_text(text)
    named = {"file": "public.txt", "digest": hashlib.sha256(text.encode()).hexdigest(), **changes}
    made.document["encoder"] = made.document["encoder"] | {"public_corpus": named}
    made.save()
    return made


def by_hand(made: SmallFederation, texts: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Features less the mean of the public ones, of norm √d again."""
    encoder = Encoder(encoder_spec(load_federation(made.path)))
    raw = encoder.encode(texts).astype(np.float64)
    shifted = raw - encoder.encode(TEXTS.splitlines()).astype(np.float64).mean(axis=0)
    scaled: np.ndarray[Any, np.dtype[np.float64]] = (
        shifted / np.linalg.norm(shifted, axis=1, keepdims=True) * np.linalg.norm(raw[0])
    )
    return scaled


def test_ours_starts_with_class_sums_of_features_about_a_public_mean(small_federation: Make) -> None:
    made = with_corpus(small_federation(60, **ours(start_fraction=0.25, rounds=2)))
    first = RoundInProcess(made)
    first.finish()
    RoundInProcess(made).finish()
    terms = first.charter.privacy
    assert terms is not None
    assert terms.class_sum_start
    start, rest = terms.noise_multipliers
    assert start**2 / rest**2 == pytest.approx(3, rel=1e-5), "a quarter of the budget, and the rest of it"
    assert 7.99 < epsilon(1 / (2 * start**2) + 1 / (2 * rest**2), 1e-5) <= 8
    assert verify_state("small/state", keys_uri="small/keys").problems == ()

    labeller = newest_labeller(load_federation(made.path), "beta", use_global=True)
    texts = ["cardiac murmur severe", "bronchial wheeze"]
    scores = by_hand(made, texts) @ labeller.head["output.weight"].T.astype(np.float64)
    scores += labeller.head["output.bias"]
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    found = [each.probability for each in labeller.label(texts)]
    np.testing.assert_allclose(found, shares.max(axis=1), rtol=1e-3)


def test_the_features_a_site_keeps_are_about_the_public_mean(small_federation: Make) -> None:
    made = with_corpus(small_federation(60))
    run = RoundInProcess(made)
    run.learn(["alpha"])
    (path,) = (made.home / "small/sites/alpha/store/features").glob("*.safetensors")
    kept = load_file(path)["features"].astype(np.float64)
    raw = small_federation_features(made)
    # Rows are sorted by text, so the first features are those of the first text.
    np.testing.assert_allclose(kept[: len(raw)], raw, rtol=1e-4, atol=1e-4)
    assert open_store("small/exchange").exists(corpus_key(run.charter.public_corpus))


def small_federation_features(made: SmallFederation) -> np.ndarray[Any, np.dtype[np.float64]]:
    """By hand, of the five first texts of alpha in the order in which rows are kept."""
    import duckdb

    with duckdb.connect(str(made.home / "small/sites/alpha/warehouse.duckdb"), read_only=True) as database:
        notes = sorted(note for (note,) in database.execute("SELECT note FROM visits").fetchall())
    return by_hand(made, notes[:5])


def test_another_corpus_is_another_charter(small_federation: Make, say: Say) -> None:
    made = with_corpus(small_federation(60))
    RoundInProcess(made)
    with_corpus(made, TEXTS + "one more\n")
    said = say("run", made.path)
    assert said.code == 2
    assert said.complaints[0].startswith("public_corpus: the federation file has ")


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        (
            TEXTS,
            {"file": "elsewhere.txt"},
            "file: {folder}/elsewhere.txt cannot be read",
        ),
        (TEXTS, {"digest": "ab" * 32}, "digest: {folder}/public.txt has SHA-256 "),
        (
            "a\nb\n",
            {},
            "file: {folder}/public.txt: a public corpus has 16 texts at least",
        ),
    ],
    ids=["missing", "another", "short"],
)
def test_a_corpus_that_cannot_be_used_is_one_line_and_nothing_is_written(
    small_federation: Make, say: Say, text: str, changes: dict[str, Any], message: str
) -> None:
    made = with_corpus(small_federation(5), text, **changes)
    before = content(made.home)
    said = say("run", made.path)
    (line,) = said.complaints
    assert line.startswith(f"encoder.public_corpus.{message.format(folder=made.path.parent)}")
    assert (said.code, content(made.home)) == (2, before)


def test_dp_fl_averages_what_each_site_has_made_private_itself(small_federation: Make, say: Say) -> None:
    sections = ours(rounds=2, local={"steps": 3, "learning_rate": 0.5})
    sections["training"]["algorithm"] = "dp-sgd"
    made = small_federation(60, protection="none", **sections)
    assert load_federation(made.path).method == "dp-fl"
    RoundInProcess(made).finish()
    RoundInProcess(made).finish()
    assert verify_state("small/state", keys_uri="small/keys").problems == ()
    with pytest.raises(PrivacyBudgetExceededError, match="round 3 is outside the charter's schedule"):
        RoundInProcess(made)
    said = say("privacy", made.path)
    assert said.code == 0
    # All of epsilon 8 but what rounding the noise up leaves: the local price is numerical.
    spent = [float(cost) for cost in re.findall(r"total +2 +([0-9.]+) ", said.out)]
    assert len(spent) == 3
    assert all(7.98 < cost <= 8 for cost in spent)
    shown = say("charter", "show", made.path)
    assert "noise multiplier of every site's own steps" in shown.out


def test_analytic_is_solved_in_its_one_round(small_federation: Make) -> None:
    sections = ours(rounds=None)
    sections["training"]["algorithm"] = "analytic"
    made = small_federation(60, head={"hidden_units": 3, "skip": True}, **sections)
    run = RoundInProcess(made)
    run.finish()
    assert run.charter.privacy is not None
    assert len(run.charter.privacy.noise_multipliers) == 1
    assert verify_state("small/state", keys_uri="small/keys").problems == ()
    with pytest.raises(PrivacyBudgetExceededError, match="round 2 is outside the charter's schedule"):
        RoundInProcess(made)


def test_the_shipped_corpus_is_drawn_from_the_published_code_list() -> None:
    """By its digest, as the quick start's file names it; nothing in it is of a patient."""
    from pipelines.quickstart.corpus import diagnoses

    folder = Path("manifests/federations")
    texts = (folder / "icd-10-cm-texts.txt").read_text().splitlines()
    assert texts == [each.diagnosis_text for each in diagnoses(rows_per_class=13, seed=2026)]
    named = load_federation(folder / "quickstart.yaml").encoder.public_corpus
    assert named is not None
    assert named.digest == hashlib.sha256((folder / "icd-10-cm-texts.txt").read_bytes()).hexdigest()
