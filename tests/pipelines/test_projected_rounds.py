"""A federation with `compression`: from its file to the matrix, the features, the rounds and the report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from safetensors.numpy import load_file

from components.agreement.public_corpus import corpus_key
from components.agreement.public_projection import Projection, projection_key, read_projection
from components.artifacts.stores import open_store
from components.data_processing.feature_augmentation.encoder import Encoder
from components.encryption.protection import sealed_size
from components.errors import DigestMismatchError, FederationFileError, UsageError
from components.rounds.verification import verify_state
from pipelines.chartering import ensure_charter, propose_charter
from pipelines.compile import compile_round
from pipelines.federation import load_federation
from pipelines.prediction import newest_labeller
from pipelines.readiness import encoder_spec, projection_texts
from tests.conftest import CLASSES, DIMENSIONS, SITES, WORDS, SmallFederation
from tests.pipelines.chartered import content
from tests.pipelines.command_line import Say, say_here
from tests.pipelines.noised import ours
from tests.pipelines.round_in_process import RoundInProcess

Make = Callable[..., SmallFederation]
KEPT = 6
TEXTS = [f"{word} {other}" for group in WORDS.values() for word in group for other in group]
TOLD = f"{KEPT} of {DIMENSIONS} directions of corpus "


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_here(monkeypatch, capsys)


def compressed(made: SmallFederation, texts: list[str] = TEXTS, **changes: Any) -> SmallFederation:
    """The federation with a projection, and its public texts beside its file."""
    text = "\n".join(texts) + "\n"
    (made.path.parent / "public.txt").write_text(text)
    corpus = {"file": "public.txt", "digest": hashlib.sha256(text.encode()).hexdigest()}
    made.document["compression"] = {
        "kind": "projection",
        "dimensions": KEPT,
        "corpus": corpus,
    } | changes
    made.save()
    return made


def kept_features(made: SmallFederation, site: str) -> NDArray[np.float32]:
    (path,) = (made.home / f"small/sites/{site}/store/features").glob("*.safetensors")
    found: NDArray[np.float32] = load_file(path)["features"]
    return found


def published(run: RoundInProcess) -> Projection:
    return read_projection(open_store("small/exchange"), run.charter.projection)


def test_two_rounds_of_ours_on_projected_features(small_federation: Make) -> None:
    made = compressed(small_federation(60, **ours(start_fraction=0.25, rounds=2)))
    first = RoundInProcess(made)
    first.finish()
    RoundInProcess(made).finish()
    assert verify_state("small/state", keys_uri="small/keys").problems == ()
    matrix = published(first).matrix
    assert matrix.shape == (KEPT, DIMENSIONS)
    assert open_store("small/exchange").exists(corpus_key(published(first).corpus))
    for site in SITES:
        lengths = np.linalg.norm(kept_features(made, site).astype(np.float64), axis=1)
        np.testing.assert_allclose(lengths, KEPT**0.5, rtol=1e-6)

    labeller = newest_labeller(load_federation(made.path), "beta", use_global=True)
    assert labeller.head["output.weight"].shape == (len(CLASSES), KEPT)
    texts = ["cardiac murmur severe", "bronchial wheeze"]
    straight = Encoder(encoder_spec(load_federation(made.path))).encode(texts).astype(np.float64) @ matrix.T
    straight *= KEPT**0.5 / np.linalg.norm(straight, axis=1, keepdims=True)
    scores = np.exp(straight @ labeller.head["output.weight"].T + labeller.head["output.bias"])
    shares = scores / scores.sum(axis=1, keepdims=True)
    found = labeller.label(texts)
    np.testing.assert_allclose([each.probability for each in found], shares.max(axis=1), rtol=1e-4)
    assert [each.label for each in found] == [CLASSES[column] for column in shares.argmax(axis=1)]

    for number in (1, 2):
        told = json.loads((made.home / f"small/state/rounds/{number:05d}/report.json").read_text())
        sealed = (made.home / f"small/exchange/rounds/{number:05d}-1/sealed").glob("*.bin")
        (sent,) = {path.stat().st_size for path in sealed}
        # Class sums have no biases; a count stands behind both.
        values = len(CLASSES) * (DIMENSIONS + number - 1) + 1
        before = sealed_size("sealed", values, values_per_slot=1)
        assert told["compression"] == {
            "features": KEPT,
            "encoder_features": DIMENSIONS,
            "sealed_bytes": sent,
            "sealed_bytes_before": before,
        }
        page = (made.home / f"small/state/rounds/{number:05d}/report.html").read_text()
        assert f"on all {DIMENSIONS} features and not {KEPT}" in page


def test_anybody_with_corpus_and_encoder_finds_the_same_space(small_federation: Make) -> None:
    made = compressed(small_federation(5))
    run = RoundInProcess(made)
    spec = encoder_spec(load_federation(made.path))
    features = Encoder(spec).encode(TEXTS).astype(np.float64)
    expected = np.linalg.svd(features - features.mean(axis=0))[2][:KEPT]
    cosines = np.linalg.svd(published(run).matrix @ expected.T, compute_uv=False)
    np.testing.assert_allclose(cosines, 1, atol=1e-5)
    assert published(run).encoder == spec.digest


def test_without_compression_nothing_is_published_named_or_reported(small_federation: Make) -> None:
    made = small_federation(60, protection="none")
    run = RoundInProcess(made)
    run.finish()
    assert b"projection" not in run.charter.to_json()
    assert list(open_store("small/exchange").keys("projections")) == []
    assert json.loads((made.home / "small/state/rounds/00001/report.json").read_text())["compression"] is None
    assert "features and not" not in (made.home / "small/state/rounds/00001/report.html").read_text()
    assert kept_features(made, "alpha").shape[1] == DIMENSIONS


def test_the_texts_that_features_centre_on_serve_where_no_others_are_named(small_federation: Make) -> None:
    made = compressed(small_federation(60, protection="none"))
    made.document["encoder"] |= {"public_corpus": made.document["compression"].pop("corpus")}
    made.save()
    run = RoundInProcess(made)
    run.learn(["alpha"])
    assert published(run).corpus == run.charter.public_corpus
    encoder = Encoder(encoder_spec(load_federation(made.path)))
    mean = encoder.encode(TEXTS).astype(np.float64).mean(axis=0)
    first = min(_notes(made))
    centred = (encoder.encode([first]).astype(np.float64) - mean) @ published(run).matrix.T
    found = kept_features(made, "alpha")[0]
    np.testing.assert_allclose(found, centred[0] * KEPT**0.5 / np.linalg.norm(centred), rtol=1e-4, atol=1e-4)


def _notes(made: SmallFederation) -> list[str]:
    import duckdb

    with duckdb.connect(str(made.warehouse("alpha")), read_only=True) as database:
        return [note for (note,) in database.execute("SELECT note FROM visits").fetchall()]


def test_the_compiled_round_opens_with_a_head_on_what_is_left(small_federation: Make, tmp_path: Path) -> None:
    federation = load_federation(compressed(small_federation(0)).path)
    spec = next(yaml.safe_load_all(compile_round(federation, tmp_path / "round.yaml").read_text()))
    given = spec["root"]["dag"]["tasks"]["open-round"]["inputs"]["parameters"]["features"]
    assert given["runtimeValue"]["constant"] == KEPT
    augment = next(task for name, task in spec["root"]["dag"]["tasks"].items() if name.startswith("augment"))
    encoder = augment["inputs"]["parameters"]["encoder_dimensions"]["runtimeValue"]["constant"]
    assert encoder == DIMENSIONS


class TestCharter:
    def test_the_next_edition_keeps_the_matrix_that_there_is(self, small_federation: Make) -> None:
        made = compressed(small_federation(5))
        before = RoundInProcess(made).charter
        made.document["limits"] |= {"rounds": 7}
        made.save()
        (made.path.parent / "public.txt").unlink()
        after = propose_charter(load_federation(made.path))
        assert (after.edition, after.projection) == (2, before.projection)
        assert len(list(open_store("small/exchange").keys("projections"))) == 1

    @pytest.mark.parametrize(
        "change",
        [{"dimensions": 5}, {"texts": [*TEXTS, "one more"]}, None],
        ids=["fewer", "texts", "none"],
    )
    def test_another_projection_is_another_federation(
        self, small_federation: Make, say: Say, change: dict[str, Any] | None
    ) -> None:
        made = compressed(small_federation(5))
        charter = RoundInProcess(made).charter
        if change is None:
            del made.document["compression"]
            made.save()
        else:
            compressed(made, **change)
        said = say("run", made.path)
        assert said.code == 2
        assert any(line.startswith("projection: the federation file has ") for line in said.complaints)
        with pytest.raises(
            UsageError, match=r"^compression: edition 1 has projection .* state_uri in a folder"
        ):
            propose_charter(load_federation(made.path))
        assert charter.edition == 1

    def test_who_is_to_sign_reads_what_the_matrix_is_made_of(self, small_federation: Make, say: Say) -> None:
        made = compressed(small_federation(5))
        charter = RoundInProcess(made).charter
        shown = say("charter", "show", made.path)
        assert charter.projection[:16] in shown.out
        (made.home / "small/exchange" / projection_key(charter.projection)).unlink()
        said = say("charter", "check", made.path)
        assert said.complaints[0].startswith(f"projection: the federation file has {TOLD}")
        assert "(and small/exchange lacks the charter's)" in said.complaints[0]

    def test_a_site_signs_no_other_matrix_than_its_file_asks_for(
        self, small_federation: Make, say: Say
    ) -> None:
        made = compressed(small_federation(5))
        charter = RoundInProcess(made).charter
        compressed(made, dimensions=KEPT - 1)
        said = say("charter", "sign", made.path, "--as", "alpha")
        told = (
            f"alpha does not sign: projection: the federation file has {KEPT - 1} of {DIMENSIONS} directions"
        )
        assert any(line.startswith(told) and f"has {charter.projection}" in line for line in said.complaints)


def test_an_altered_matrix_leaves_the_site_out(small_federation: Make) -> None:
    made = compressed(small_federation(20))
    run = RoundInProcess(made)
    path = made.home / "small/exchange" / projection_key(run.charter.projection)
    altered = bytearray(path.read_bytes())
    altered[-1] ^= 1
    path.write_bytes(altered)
    with pytest.raises(DigestMismatchError, match="public projection in the exchange has another digest"):
        run.learn(["alpha"])
    assert not (made.home / "small/sites/alpha/store/features").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"dimensions": DIMENSIONS},
            f"compression.dimensions: must be below encoder.dimensions, {DIMENSIONS}, got 16",
        ),
        ({"dimensions": 0}, "compression.dimensions: Input should be greater than or equal to 1, got 0"),
        ({"kind": "top-k"}, "compression.kind: Input should be 'projection', got 'top-k'"),
        (
            {"corpus": None},
            "compression.corpus: missing: name public texts whose features tell the directions",
        ),
        ({"share": 0.5}, "compression.share: Extra inputs are not permitted"),
    ],
    ids=["as many", "none", "top-k", "no corpus", "unknown"],
)
def test_a_rule_that_the_section_breaks_is_one_line(
    small_federation: Make, change: dict[str, Any], told: str
) -> None:
    made = compressed(small_federation(0), **change)
    with pytest.raises(FederationFileError) as caught:
        load_federation(made.path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{made.path}: {told}")


def test_a_matrix_of_too_many_values_is_told_before_it_is_made(small_federation: Make) -> None:
    made = compressed(small_federation(0), dimensions=6000)
    made.document["encoder"]["dimensions"] = 8192
    made.save()
    with pytest.raises(
        FederationFileError, match=r"at most 134,217,728 bytes, 6000 × 8192 values of 4 bytes"
    ):
        load_federation(made.path)


@pytest.mark.parametrize(
    ("texts", "change", "told"),
    [
        (TEXTS, {"corpus": {"file": "elsewhere.txt", "digest": "ab" * 32}}, "compression.corpus.file: "),
        (TEXTS, {"corpus": {"file": "public.txt", "digest": "ab" * 32}}, "compression.corpus.digest: "),
        (TEXTS[:5], {}, "compression.corpus.file: "),
    ],
    ids=["missing", "another", "short"],
)
def test_texts_that_cannot_be_used_are_one_line_and_nothing_is_written(
    small_federation: Make, say: Say, texts: list[str], change: dict[str, Any], told: str
) -> None:
    made = compressed(small_federation(5), texts, **change)
    before = content(made.home)
    said = say("run", made.path)
    (line,) = said.complaints
    assert line.startswith(told)
    assert (said.code, content(made.home)) == (2, before)


def test_as_many_texts_as_directions_are_too_few(small_federation: Make) -> None:
    made = compressed(small_federation(0), TEXTS[:20], dimensions=20)
    made.document["encoder"]["dimensions"] = 64
    made.save()
    with pytest.raises(
        UsageError, match=r"^compression.dimensions: must be below the number .*, 20, got 20$"
    ):
        projection_texts(load_federation(made.path))


def test_texts_that_do_not_differ_tell_no_directions(small_federation: Make) -> None:
    made = compressed(small_federation(0), ["valve"] * 20)
    with pytest.raises(
        UsageError, match=r"differ along 0 directions, fewer than 6: ask for fewer, or name more"
    ):
        ensure_charter(load_federation(made.path))


def test_a_comparison_says_that_it_leaves_features_as_they_are(
    small_federation: Make, say: Say, tmp_path: Path
) -> None:
    made = compressed(small_federation(0))
    said = say("compare", made.path, "--output", tmp_path / "out")
    assert f"compression: methods are compared without it, on all {DIMENSIONS} features" in said.out
    assert said.complaints[0].startswith("small has no sample_data")
