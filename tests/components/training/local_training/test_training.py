"""The `train` step: once a ticket, committed to, and kept at the site."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from components.agreement.commitment import Commitment, commitment_key
from components.agreement.site_update import read_update, update_key
from components.agreement.workplace import Workplace
from components.artifacts.stores import key_of, reference
from components.artifacts.tensors import encode
from components.errors import BadDataError, ObjectMissingError, RefusedError
from components.training.features import read_features
from components.training.local_training.federated_averaging import local_update, site_seed
from components.training.local_training.training import train
from tests.components.aggregation.three_sites import CLASSES, FEATURES, ThreeSites


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThreeSites:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    return ThreeSites.start(hidden_units=3)


def write_features(place: Workplace, name: str, *, train_rows: int, test_rows: int = 2) -> str:
    generator = np.random.default_rng(train_rows)
    count = train_rows + test_rows
    arrays: dict[str, NDArray[np.generic]] = {
        "features": generator.normal(size=(count, FEATURES)).astype(np.float32),
        "labels": generator.integers(CLASSES, size=count),
        "is_test": (np.arange(count) >= train_rows).astype(np.uint8),
    }
    place.store.create(f"features/{name}.safetensors", encode(arrays))
    return reference(place.store, f"features/{name}.safetensors")


def test_the_update_is_that_of_the_training_rows_under_the_tickets_numbers(three: ThreeSites) -> None:
    place, features = three.place("alpha"), three.features("alpha")
    train(place, features=features, device="cpu")
    stored = read_update(place.store, place.ticket)
    examples = read_features(place.store, features).train
    expected = local_update(
        place.model(),
        examples,
        local_epochs=2,
        learning_rate=0.1,
        batch_size=16,
        seed=site_seed(3, 1, "alpha"),
        device="cpu",
    )
    assert stored.num_examples == len(examples.labels) == 26  # 40 rows, every third a test row
    flat = np.concatenate([expected[name].ravel() for name in sorted(expected)])
    assert np.array_equal(stored.values, flat)


def test_the_published_commitment_binds_and_hides_the_update(three: ThreeSites) -> None:
    place = three.place("alpha")
    outcome = train(place, features=three.features("alpha"), device="cpu")
    document = json.loads(three.exchange.read(key_of(three.exchange, outcome.reference)))
    update = read_update(place.store, place.ticket)

    parts = [
        place.ticket.digest.encode(),
        b"alpha",
        update.salt,
        update.num_examples.to_bytes(8, "little") + update.values.astype("<f8").tobytes(),
    ]
    hashed = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()
    assert document["body"] == {"ticket": place.ticket.digest, "site": "alpha", "commitment": hashed}
    assert len(update.salt) == 32

    public = yaml.safe_load((three.keys_folder / "public.yaml").read_bytes())["keys"]["alpha"]
    canonical = json.dumps(document["body"], sort_keys=True, separators=(",", ":")).encode()
    message = b"crosscloud commitment\0" + hashlib.sha256(canonical).digest()
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public))
    key.verify(base64.b64decode(document["signature"]), message)

    assert set(outcome.manifest) == {"commitment"}
    assert outcome.metrics == {}
    sent = outcome.bytes_sent
    assert sent == (three.exchange_folder / key_of(three.exchange, outcome.reference)).stat().st_size


def test_two_sites_with_equal_updates_commit_differently(three: ThreeSites) -> None:
    """The salt is random, so an update cannot be guessed and confirmed."""
    places = [three.place(site) for site in ("alpha", "beta")]
    for place in places:
        train(place, features=write_features(place, "same", train_rows=16), device="cpu")
    salts = {read_update(place.store, place.ticket).salt for place in places}
    assert len(salts) == 2


def test_trains_once_a_ticket_whatever_features_come_later(three: ThreeSites) -> None:
    place = three.place("alpha")
    first = train(place, features=three.features("alpha"), device="cpu")
    document = three.exchange.read(commitment_key(place.ticket, "alpha"))
    update = place.store.read(update_key(place.ticket))
    second = train(place, features=write_features(place, "others", train_rows=30), device="cpu")
    assert second == first
    assert three.exchange.read(commitment_key(place.ticket, "alpha")) == document
    assert place.store.read(update_key(place.ticket)) == update


def test_one_that_was_killed_before_publishing_publishes_what_it_had_stored(three: ThreeSites) -> None:
    place = three.place("alpha")
    train(place, features=three.features("alpha"), device="cpu")
    published = three.exchange_folder / commitment_key(place.ticket, "alpha")
    document = published.read_bytes()
    published.unlink()
    train(place, features="", device="cpu")  # no features are read any more
    assert published.read_bytes() == document


def test_a_new_round_is_trained_anew(three: ThreeSites) -> None:
    three.committed()
    later = three.next_round()
    place = later.place("alpha")
    train(place, features=three.features("alpha"), device="cpu")
    before = read_update(place.store, three.opened.ticket)
    after = read_update(place.store, place.ticket)
    assert later.opened.ticket.round_number == 2
    assert not np.array_equal(before.values, after.values)
    assert before.salt != after.salt


def test_training_that_diverges_is_bad_data_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    three = ThreeSites.start(hidden_units=3, learning_rate=1e30)
    place = three.place("alpha")
    with pytest.raises(BadDataError, match=r"diverged at learning rate 1e\+30") as caught:
        train(place, features=three.features("alpha"), device="cpu")
    assert caught.value.disclosed == str(caught.value)
    assert_nothing_was_made(three, place)


def test_no_training_rows_are_bad_data_and_leave_nothing(three: ThreeSites) -> None:
    place = three.place("alpha")
    with pytest.raises(BadDataError, match="no training rows") as caught:
        train(place, features=write_features(place, "empty", train_rows=0), device="cpu")
    assert caught.value.disclosed == "there are no training rows"
    assert_nothing_was_made(three, place)


def assert_nothing_was_made(three: ThreeSites, place: Workplace) -> None:
    assert not place.store.exists(update_key(place.ticket))
    assert not three.exchange.exists(commitment_key(place.ticket, "alpha"))
    with pytest.raises(ObjectMissingError):
        read_update(place.store, place.ticket)


@pytest.mark.parametrize("signer", ["alpha", "beta"])
def test_another_commitment_in_its_place_is_refused(three: ThreeSites, signer: str) -> None:
    place = three.place("alpha")
    foreign = Commitment(ticket=place.ticket.digest, site=signer, commitment="0" * 64)
    document = foreign.signed(three.place(signer).key)
    three.exchange.create(commitment_key(place.ticket, "alpha"), document)
    with pytest.raises(RefusedError, match="another commitment") as caught:
        train(place, features=three.features("alpha"), device="cpu")
    assert caught.value.disclosed
    assert three.exchange.read(commitment_key(place.ticket, "alpha")) == document
