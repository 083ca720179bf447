"""The `augment` step: features once for every content, and nothing about it that others could read."""

from __future__ import annotations

import hashlib
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.agreement.private_keys import keyed_digest
from components.agreement.public_projection import Projection, publish_projection, read_projection
from components.artifacts.stores import key_of, reference
from components.artifacts.tensors import decode_any
from components.data_processing.feature_augmentation.augmentation import augment
from components.data_processing.feature_augmentation.encoder import Encoder, EncoderSpec
from components.data_processing.feature_augmentation.projecting import projected
from components.data_processing.record_ingestion.ingestion import remember_text
from components.data_processing.record_ingestion.row_shards import keep_rows, shards_of
from components.errors import EncoderError, IntegrityError, ObjectMissingError, RefusedError, SiteError
from components.execution.outcome import Outcome, disclosed_reason
from components.training.features import read_features
from tests.components.aggregation.three_sites import ThreeSites, put_in_force, set_policy
from tests.components.agreement.signed_form import NOISED
from tests.components.rounds.walks import walk

TEMPLATE = "{note}"
CLASSES = ("heart", "lung", "skin")
NOTES = {"heart": "cardiac valve murmur", "lung": "cough wheeze", "skin": "rash itch lesion"}
COUNT = 487
SCHEMA = pa.schema({"note": pa.string(), "label": pa.string(), "is_test": pa.bool_()})


def rows(count: int = 20) -> list[dict[str, Any]]:
    chance = random.Random(4)
    labels = chance.choices(CLASSES, k=count)
    return [
        {
            "note": f"{NOTES[label]} {chance.choice(('acute', 'chronic'))}",
            "label": label,
            "is_test": k % 4 == 0,
        }
        for k, label in enumerate(labels)
    ]


class Site:
    """One site with rows, which augments them with an encoder of its own copy."""

    def __init__(self, three: ThreeSites, encoder: Path, name: str = "alpha") -> None:
        self.place = three.place(name)
        weights = (encoder / "model.safetensors").read_bytes()
        self.encoder = encoder
        self.digest = hashlib.sha256(weights).hexdigest()

    def put(self, records: list[dict[str, Any]], rows_a_shard: int = 1000) -> str:
        """Keeps rows in the order that they are in."""
        table = pa.Table.from_pylist(records, schema=SCHEMA)
        shards = [table.slice(start, rows_a_shard) for start in range(0, max(1, len(records)), rows_a_shard)]
        return reference(self.place.store, keep_rows(self.place.store, self.place.key, shards).key)

    def augment(self, records: list[dict[str, Any]], *, rows_a_shard: int = 1000, **changes: Any) -> Outcome:
        arguments: dict[str, Any] = {
            "template": TEMPLATE,
            "classes": CLASSES,
            "encoder": self.spec(),
            "device": "cpu",
        }
        arguments |= changes
        remember_text(self.place, template=arguments["template"], classes=arguments["classes"])
        return augment(self.place, rows=self.put(records, rows_a_shard), **arguments)

    def spec(self, **changes: Any) -> EncoderSpec:
        fields: dict[str, Any] = {
            "revision": "",
            "digest": self.digest,
            "max_length": 16,
            "dimensions": 16,
        } | changes
        return EncoderSpec(name=str(self.encoder), **fields)

    def read(self, outcome: Outcome) -> dict[str, Any]:
        return decode_any(self.place.store.read(key_of(self.place.store, outcome.reference)))


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThreeSites:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    return walk("open", "none").three


@pytest.fixture
def site(three: ThreeSites, tiny_encoder: Path, tmp_path: Path) -> Site:
    return Site(three, Path(shutil.copytree(tiny_encoder, tmp_path / "encoder")))


def test_the_file_holds_features_labels_and_split_in_the_order_of_the_rows(site: Site) -> None:
    records = rows()
    found = site.read(site.augment(records))
    assert found.keys() == {"features", "labels", "is_test"}
    assert [CLASSES[number] for number in found["labels"]] == [record["label"] for record in records]
    assert found["is_test"].tolist() == [int(record["is_test"]) for record in records]
    expected = Encoder(site.spec(), device="cpu").encode([record["note"] for record in records])
    assert found["features"].dtype == np.float32
    assert np.array_equal(found["features"], expected)


@pytest.mark.parametrize("rows_a_shard", [1, 7, 20])
def test_shard_by_shard_it_is_the_same_rows_in_the_same_order(site: Site, rows_a_shard: int) -> None:
    records = rows()
    outcome = site.augment(records, rows_a_shard=rows_a_shard)
    found = site.read(outcome)
    assert [CLASSES[number] for number in found["labels"]] == [record["label"] for record in records]
    assert found["is_test"].tolist() == [int(record["is_test"]) for record in records]
    expected = Encoder(site.spec(), device="cpu").encode([record["note"] for record in records])
    assert np.array_equal(found["features"], expected)


def test_shares_of_several_shards_are_shares_of_all(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    site.augment(rows(40), rows_a_shard=1)
    shares = [int(share) for share in re.findall(r"alpha (\d+)%", capfd.readouterr().err)]
    assert shares == sorted(shares)
    assert shares.count(100) == 1


def test_a_site_without_rows_has_features_of_none(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = site.augment([])
    found = site.read(outcome)
    assert found["features"].shape == (0, 16)
    assert found["features"].dtype == np.float32
    assert (found["labels"].shape, found["is_test"].shape) == ((0,), (0,))
    examples = read_features(site.place.store, outcome.reference)
    assert examples.train.features.shape == examples.test.features.shape == (0, 16)
    assert capfd.readouterr().err == ""
    assert outcome.metrics.keys() == {"peak_host_memory_bytes"}
    assert site.augment([]) == replace(outcome, metrics={})
    with pytest.raises(EncoderError):
        site.augment([], encoder=site.spec(dimensions=8, max_length=4))


def test_rows_that_were_changed_are_not_encoded(site: Site) -> None:
    kept = site.put(rows())
    (shard,) = shards_of(site.place.store, key_of(site.place.store, kept))
    site.place.store.remove(shard.key)
    site.place.store.create(shard.key, b"PAR1 not whole")
    with pytest.raises(IntegrityError, match="ingest again"):
        site.augment(rows())
    assert site.place.store.keys("features") == []


def test_labels_are_numbered_in_the_order_of_the_classes(site: Site) -> None:
    one_way = site.read(site.augment(rows()))["labels"]
    other_way = site.read(site.augment(rows(), classes=CLASSES[::-1]))["labels"]
    assert np.array_equal(one_way, 2 - other_way)


def test_a_second_call_needs_no_encoder(site: Site) -> None:
    first = site.augment(rows())
    content = site.place.store.read(key_of(site.place.store, first.reference))
    shutil.rmtree(site.encoder)
    second = site.augment(rows())
    assert second.reference == first.reference
    assert second.manifest == first.manifest
    assert second.metrics == {}  # nothing was computed
    assert first.metrics["rows_per_second"] > 0
    # No encoder is loaded in less than 100 MB.
    assert first.metrics["peak_host_memory_bytes"] > 1e8
    assert site.place.store.read(key_of(site.place.store, second.reference)) == content
    with pytest.raises(EncoderError):
        site.augment(rows(21))


def test_under_an_epsilon_neither_memory_nor_rows_a_second_are_told(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site.place = replace(site.place, charter=replace(NOISED, encoder=""))
    assert [site.augment(rows(count)).metrics for count in (0, 20)] == [{}, {}]
    assert "rows/s" not in capfd.readouterr().err


@pytest.mark.parametrize("private", [True, False])
def test_a_device_that_rounds_by_place_is_refused_under_an_epsilon(site: Site, private: bool) -> None:
    """Noise is sized for what one record adds, not for what it does to the features of others."""
    from torch.nn.modules.module import register_module_forward_hook
    from transformers import BertModel

    def last_place_rounds_up(module: Any, arguments: Any, output: Any) -> None:
        if isinstance(module, BertModel):
            output.last_hidden_state[-1] *= 1 + 2**-7

    if private:
        site.place = replace(site.place, charter=replace(NOISED, encoder=""))
    hook = register_module_forward_hook(last_place_rounds_up)
    try:
        if not private:
            assert site.augment(rows()).reference
            return
        with pytest.raises(RefusedError, match="device cpu rounds a text by its place") as caught:
            site.augment(rows())
    finally:
        hook.remove()
    assert caught.value.disclosed == str(caught.value)
    assert site.place.store.keys("features") == []
    assert site.augment(rows()).reference


def test_cuda_that_is_not_there_is_one_clear_line(site: Site) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("CUDA is there")
    with pytest.raises(SiteError) as caught:
        site.augment(rows(), device="cuda")
    reason = "failed: device cuda was asked for, but this site has none: use auto or cpu"
    assert disclosed_reason(caught.value) == reason
    assert site.place.store.keys("features") == []


def test_on_gpus_it_tells_their_peak_memory(site: Site) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    outcome = site.augment(rows(COUNT), device="cuda")
    assert outcome.metrics["peak_gpu_memory_bytes"] > 0
    assert "peak_host_memory_bytes" not in outcome.metrics
    expected = Encoder(site.spec(), device="cuda:0").encode([record["note"] for record in rows(COUNT)])
    assert np.array_equal(site.read(outcome)["features"], expected)


def test_whatever_changes_the_features_makes_a_new_file(site: Site) -> None:
    renamed = [
        record | {"note": record["note"] + " left"} if k == 7 else record for k, record in enumerate(rows())
    ]
    moved = [record | {"is_test": True} if k == 7 else record for k, record in enumerate(rows())]
    outcomes = [
        site.augment(rows()),
        site.augment(renamed),
        site.augment(moved),
        site.augment(rows(), template="acute {note}"),
        site.augment(rows(), classes=CLASSES[::-1]),
        site.augment(rows(), encoder=site.spec(max_length=4)),
    ]
    assert len({outcome.reference for outcome in outcomes}) == len(outcomes)
    features = [site.read(outcome)["features"] for outcome in outcomes]
    assert np.flatnonzero((features[0] != features[1]).any(axis=1)).tolist() == [7]
    assert not np.allclose(features[0], features[3])
    assert not np.allclose(features[0], features[5])


def test_an_exchanged_encoder_makes_a_new_file_where_any_is_accepted(site: Site) -> None:
    from transformers import BertConfig, BertModel

    first = site.augment(rows(), encoder=site.spec(digest=""))
    assert first.reference == site.augment(rows()).reference  # what is found stands for what is agreed
    config = BertConfig.from_pretrained(site.encoder)
    BertModel(config).save_pretrained(site.encoder)
    second = site.augment(rows(), encoder=site.spec(digest=""))
    assert second.reference != first.reference
    assert not np.allclose(site.read(first)["features"], site.read(second)["features"])


def test_progress_tells_share_and_speed_and_neither_count_nor_text(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site.augment(rows(COUNT))
    printed = capfd.readouterr()
    lines = printed.err.splitlines()
    assert printed.out == ""
    assert lines[-1].startswith("crosscloud-progress: alpha 100%, ")
    for line in lines:
        assert re.fullmatch(r"crosscloud-progress: alpha \d{1,3}%, [\d,]+ rows/s", line)
        assert str(COUNT) not in line.split("%")[0]
        assert not any(word in line for note in NOTES.values() for word in note.split())


def test_others_see_an_address_a_keyed_digest_and_the_width(
    site: Site, three: ThreeSites, tiny_encoder: Path
) -> None:
    published = three.exchange.keys()
    outcome = site.augment(rows())
    assert outcome.manifest == {
        "uri": outcome.reference,
        "digest": Path(outcome.reference).stem,
        "dimensions": 16,
    }
    assert three.exchange.keys() == published
    assert outcome.bytes_sent == 0
    # The same rows at another site have another name, so that equal rows cannot be told.
    elsewhere = Site(three, tiny_encoder, "beta").augment(rows())
    assert elsewhere.manifest["digest"] != outcome.manifest["digest"]


def test_rows_outside_the_sites_own_store_are_not_read(site: Site, three: ThreeSites) -> None:
    other = three.place("beta").store
    kept = keep_rows(other, three.place("beta").key, [pa.Table.from_pylist(rows(), schema=SCHEMA)])
    with pytest.raises(RefusedError):
        augment(
            site.place,
            rows=reference(other, kept.key),
            template=TEMPLATE,
            classes=CLASSES,
            encoder=site.spec(),
        )


@pytest.mark.parametrize(
    "change", [{"template": "acute {note}"}, {"classes": CLASSES[::-1]}, {"classes": CLASSES[:2]}], ids=str
)
def test_a_text_that_the_ticket_did_not_read_is_refused_even_where_its_features_are_kept(
    site: Site, three: ThreeSites, change: dict[str, Any]
) -> None:
    """Template and classes arrive a second time: the policy has admitted those that `ingest` was given."""
    arguments: dict[str, Any] = {
        "template": TEMPLATE,
        "classes": CLASSES,
        "encoder": site.spec(),
        "device": "cpu",
    }
    kept = site.augment(rows())
    stored = site.put(rows())
    with pytest.raises(RefusedError, match="for this template and these classes") as caught:
        augment(site.place, rows=stored, **(arguments | change))
    assert caught.value.disclosed == str(caught.value)
    assert site.place.store.keys("features") == [key_of(site.place.store, kept.reference)]
    three.exchange.create(f"{three.opened.ticket.folder}/shortfall.json", b"{}")
    later = three.next_attempt().place("alpha")
    with pytest.raises(RefusedError, match="has read no records under this ticket"):
        augment(later, rows=stored, **arguments)


@pytest.mark.parametrize("fault", ["digest", "dimensions", "folder"])
def test_an_encoder_that_is_not_the_agreed_one_makes_no_file(site: Site, fault: str) -> None:
    spec = {
        "digest": site.spec(digest="0" * 64),
        "dimensions": site.spec(dimensions=8),
        "folder": EncoderSpec(name="/nowhere", revision="", digest=site.digest, max_length=16, dimensions=16),
    }[fault]
    with pytest.raises(EncoderError):
        site.augment(rows(), encoder=spec)
    assert site.place.store.keys("features") == []


class TestProjection:
    """Of charters that make features fewer."""

    def name(self, site: Site, seed: int = 5, **changes: str) -> str:
        """Publishes a projection to four features and has the charter name it."""
        drawn = np.linalg.qr(np.random.default_rng(seed).normal(size=(16, 4)))[0].T
        made = Projection(
            matrix=np.ascontiguousarray(drawn, np.float32),
            **({"corpus": "ab" * 32, "encoder": site.digest} | changes),
        )
        name = publish_projection(site.place.exchange, made)
        site.place = replace(site.place, charter=replace(site.place.charter, projection=name))
        return name

    def test_features_are_those_along_its_rows_and_the_manifest_tells_their_width(self, site: Site) -> None:
        name = self.name(site)
        outcome = site.augment(rows())
        raw = Encoder(site.spec(), device="cpu").encode([record["note"] for record in rows()])
        matrix = read_projection(site.place.exchange, name).matrix
        assert np.array_equal(site.read(outcome)["features"], projected(raw, matrix))
        assert outcome.manifest["dimensions"] == 4
        assert site.augment(rows()).manifest == outcome.manifest, "found, and not made again"
        assert site.read(site.augment([]))["features"].shape == (0, 4)

    def test_another_one_makes_a_new_file_and_none_leaves_names_as_they_were(self, site: Site) -> None:
        plain = site.augment(rows())
        parts = [key_of(site.place.store, site.put(rows())), TEMPLATE, "\n".join(CLASSES), site.digest, "16"]
        assert plain.manifest["digest"] == keyed_digest(site.place.key, [part.encode() for part in parts])
        made = [plain.reference]
        for seed in (5, 6):
            self.name(site, seed)
            made.append(site.augment(rows()).reference)
        assert len(set(made)) == 3

    def test_one_of_another_encoder_is_refused(self, site: Site) -> None:
        self.name(site, encoder="cd" * 32)
        with pytest.raises(
            RefusedError, match=f"projection is of encoder {'cd' * 6}, this site has "
        ) as caught:
            site.augment(rows())
        assert caught.value.disclosed == str(caught.value)
        assert site.place.store.keys("features") == []

    def test_one_that_nobody_has_published_makes_no_file(self, site: Site) -> None:
        site.place = replace(site.place, charter=replace(site.place.charter, projection="ab" * 32))
        with pytest.raises(ObjectMissingError):
            site.augment(rows())
        assert site.place.store.keys("features") == []


class TestWhichModelTheSiteRuns:
    def refused(self, site: Site, **changes: Any) -> None:
        with pytest.raises(
            RefusedError, match=f"language model with digest {site.digest[:12]} is not"
        ) as caught:
            site.augment(rows(), **changes)
        assert caught.value.disclosed == str(caught.value)
        assert site.place.store.keys("features") == []

    @pytest.mark.parametrize("named", [True, False])
    def test_one_that_its_policy_does_not_name_is_refused(
        self, site: Site, three: ThreeSites, named: bool
    ) -> None:
        """Whether the pipeline names a digest or takes what it finds."""
        rules = {"charter": three.charter.digest, "protections": ("none",)}
        set_policy("small", "alpha", encoder="0" * 64, **rules)
        site.place = three.place("alpha")
        self.refused(site, encoder=site.spec() if named else site.spec(digest=""))
        set_policy("small", "alpha", encoder=site.digest, **rules)
        site.place = three.place("alpha")
        assert site.augment(rows()).reference

    def test_one_that_the_charter_does_not_name_is_refused(self, site: Site, three: ThreeSites) -> None:
        for encoder, edition in (("0" * 64, 2), (site.digest, 3)):
            before = three.charter
            put_in_force("small", replace(before, edition=edition, previous=before.digest, encoder=encoder))
            site.place = three.next_attempt().place("alpha")
            if edition == 2:
                self.refused(site)
                self.refused(site, encoder=site.spec(digest=""))
        assert site.augment(rows()).reference
