"""The `train` step: once a ticket, committed to, and kept at the site."""

from __future__ import annotations

import base64
import hashlib
import json
import resource
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from components.agreement.commitment import Commitment, commitment_key
from components.agreement.receipt import receipt_key
from components.agreement.round_secrets import read_secrets
from components.agreement.site_update import read_update, update_key
from components.agreement.workplace import Workplace
from components.artifacts.stores import key_of, reference
from components.artifacts.tensors import encode
from components.errors import BadDataError, ObjectMissingError, RefusedError, SiteError
from components.execution.outcome import Outcome, disclosed_reason
from components.execution.site_step import SiteStep
from components.training.features import read_features
from components.training.local_training.federated_averaging import local_update, site_seed
from components.training.local_training.training import train
from tests.components.aggregation.three_sites import CLASSES, FEATURES, NOISE, ThreeSites
from tests.components.rounds.walks import content, walk

protections = pytest.mark.parametrize("protection", ["none", "he", "sealed"])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)


@pytest.fixture
def three(home: None) -> ThreeSites:
    return walk("open", "none", hidden_units=3).three


def salt_of(place: Workplace) -> bytes:
    return read_secrets(place.store, place.key, place.ticket.digest).salt


def write_features(
    place: Workplace, name: str, *, train_rows: int, test_rows: int = 2, size: float = 1.0
) -> str:
    generator = np.random.default_rng(train_rows)
    count = train_rows + test_rows
    arrays: dict[str, NDArray[np.generic]] = {
        "features": generator.normal(0, size, (count, FEATURES)).astype(np.float32),
        "labels": generator.integers(CLASSES, size=count),
        "is_test": (np.arange(count) >= train_rows).astype(np.uint8),
    }
    place.store.create(f"features/{name}.safetensors", encode(arrays))
    return reference(place.store, f"features/{name}.safetensors")


def test_the_update_is_that_of_the_training_rows_under_the_tickets_numbers(three: ThreeSites) -> None:
    place, features = three.accepted("alpha"), three.features("alpha")
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
    assert stored[-1] == len(examples.labels) == 26  # 40 rows, every third a test row
    flat = np.concatenate([expected[name].ravel() for name in sorted(expected)])
    assert np.array_equal(stored[:-1], 26 * flat.astype(np.float64))


@protections
@pytest.mark.parametrize("largest_value", [10.0, 0.01])
def test_an_update_beyond_the_charters_bounds_is_scaled_down(protection: str, largest_value: float) -> None:
    """Its direction is kept; what is committed to is the whole vector that will be sealed."""
    three = ThreeSites.start(protection=protection, clipping_norm=20.0, largest_value=largest_value)
    place, features = three.accepted("alpha"), three.features("alpha")
    train(place, features=features, device="cpu")
    update = local_update(
        place.model(),
        read_features(place.store, features).train,
        local_epochs=2,
        learning_rate=0.1,
        batch_size=16,
        seed=site_seed(3, 1, "alpha"),
        device="cpu",
    )
    flat = np.concatenate([update[name].ravel() for name in sorted(update)]).astype(np.float64)
    scaled = 26 * flat * min(1.0, 20.0 / np.linalg.norm(flat), largest_value / np.abs(flat).max())
    # Under `sealed` a step of 1000 examples times the largest value by (2^22 - 1) // 3.
    step = 1000 * largest_value / 1398101 if protection == "sealed" else 1e-12
    np.testing.assert_allclose(three.weighted("alpha")[:-1], scaled, rtol=1e-9, atol=step / 2 * 1.001)
    assert three.weighted("alpha")[-1] == 26
    assert (np.abs(flat).max() > largest_value) == (largest_value == 0.01)


@protections
def test_more_rows_than_the_charter_admits_are_bad_data_and_leave_nothing(protection: str) -> None:
    three = ThreeSites.start(protection=protection, max_examples=25)
    place = three.accepted("alpha")
    with pytest.raises(BadDataError) as caught:
        train(place, features=three.features("alpha"), device="cpu")
    assert caught.value.disclosed == "the number of examples is not from 1 to 25, the charter's limit"
    assert_nothing_was_made(three, place)


@protections
def test_the_published_commitment_binds_and_hides_the_update(protection: str) -> None:
    three = walk("open", protection).three
    place = three.accepted("alpha")
    outcome = train(place, features=three.features("alpha"), device="cpu")
    document = json.loads(three.exchange.read(key_of(three.exchange, outcome.reference)))
    secrets = read_secrets(place.store, place.key, place.ticket.digest)
    kind = "<i4" if protection == "sealed" else "<f8"
    parts = [
        three.charter.digest.encode(),
        place.ticket.digest.encode(),
        b"alpha",
        secrets.salt,
        kind.encode(),
    ]
    content = read_update(place.store, place.ticket).astype(kind).tobytes()
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    # The vector is shorter than one piece of 2^20 bytes.
    length, piece = len(content).to_bytes(8, "big"), hashlib.sha256(content).digest()
    hashed = hashlib.sha256(framed + length + piece).hexdigest()
    ephemeral = secrets.ephemeral.public_key().public_bytes_raw()
    assert document["body"] == {
        "charter": three.charter.digest,
        "ticket": place.ticket.digest,
        "site": "alpha",
        "ephemeral": base64.b64encode(ephemeral).decode(),
        "commitment": hashed,
        "ledger": None,
        "sharing": "",
    }
    assert (len(secrets.salt), len(secrets.seed)) == (32, 32)

    public = three.charter.sites["alpha"].signing
    canonical = json.dumps(document["body"], sort_keys=True, separators=(",", ":")).encode()
    message = b"crosscloud commitment\0" + hashlib.sha256(canonical).digest()
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public))
    key.verify(base64.b64decode(document["signature"]), message)

    assert set(outcome.manifest) == {"commitment"}
    sent = outcome.bytes_sent
    assert sent == (three.exchange_folder / key_of(three.exchange, outcome.reference)).stat().st_size


def test_two_sites_with_equal_updates_commit_differently(three: ThreeSites) -> None:
    """The salt is random, so an update cannot be guessed and confirmed."""
    places = [three.accepted(site) for site in ("alpha", "beta")]
    for place in places:
        train(place, features=write_features(place, "same", train_rows=16), device="cpu")
    assert len({salt_of(place) for place in places}) == 2
    published = {
        json.loads(three.exchange.read(commitment_key(p.ticket, p.site)))["body"]["commitment"]
        for p in places
    }
    assert len(published) == 2


def test_trains_once_a_ticket_whatever_features_come_later(three: ThreeSites) -> None:
    place = three.accepted("alpha")
    first = train(place, features=three.features("alpha"), device="cpu")
    document = three.exchange.read(commitment_key(place.ticket, "alpha"))
    update = place.store.read(update_key(place.ticket))
    second = train(place, features=write_features(place, "others", train_rows=30), device="cpu")
    assert second == replace(first, metrics={})  # nothing was computed
    assert three.exchange.read(commitment_key(place.ticket, "alpha")) == document
    assert place.store.read(update_key(place.ticket)) == update


def test_one_that_was_killed_before_publishing_publishes_what_it_had_stored(three: ThreeSites) -> None:
    place = three.accepted("alpha")
    train(place, features=three.features("alpha"), device="cpu")
    published = three.exchange_folder / commitment_key(place.ticket, "alpha")
    document = published.read_bytes()
    published.unlink()
    train(place, features="", device="cpu")  # no features are read any more
    assert published.read_bytes() == document


def test_a_new_round_is_trained_anew(three: ThreeSites) -> None:
    three.committed()
    later = three.next_round()
    place = later.accepted("alpha")
    train(place, features=three.features("alpha"), device="cpu")
    before = read_update(place.store, three.opened.ticket)
    after = read_update(place.store, place.ticket)
    assert later.opened.ticket.round_number == 2
    assert not np.array_equal(before, after)


@protections
def test_secrets_are_drawn_once_a_ticket_and_anew_for_the_next(protection: str) -> None:
    three = walk("trained", protection).three
    place = three.place("alpha")
    first = place.store.read(f"secrets/{place.ticket.digest}.bin")
    train(place, features="", device="cpu")
    assert place.store.read(f"secrets/{place.ticket.digest}.bin") == first
    ephemeral = ephemeral_of(three, "alpha")
    three.seal(three.roster(dict.fromkeys(three.sites, "there")))
    total = three.summed(dict.fromkeys(three.sites, "there"))
    three.commit(three.open_sum(total).reference)
    later = three.next_round()
    assert salt_of(place)
    train(later.accepted("alpha"), features=three.features("alpha"), device="cpu")
    # The secrets of the round before were erased when its successor was accepted.
    assert place.store.keys("secrets") == [f"secrets/{later.opened.ticket.digest}.bin"]
    assert ephemeral_of(later, "alpha") != ephemeral


def ephemeral_of(three: ThreeSites, site: str) -> str:
    document = json.loads(three.exchange.read(commitment_key(three.opened.ticket, site)))
    found: str = document["body"]["ephemeral"]
    return found


@protections
def test_after_the_receipt_the_published_commitment_is_returned_without_a_secret(protection: str) -> None:
    """The tail of a committed round is run again: what was committed to stays as it is."""
    walked = walk("opened", protection)
    three = walked.three
    place, key = three.place("alpha"), commitment_key(three.opened.ticket, "alpha")
    document = three.exchange.read(key)
    for folder in ("secrets", "updates"):
        shutil.rmtree(three.store_folder("alpha") / folder)
    outcome = train(place, features="", device="cpu")
    assert outcome.reference == walked.commitments["alpha"]
    assert three.exchange.read(key) == document
    assert place.store.keys("secrets") == place.store.keys("updates") == []


@protections
def test_the_whole_tail_runs_again_once_secrets_are_erased(protection: str) -> None:
    walked = walk("committed", protection)
    three = walked.three
    for site in three.sites:
        shutil.rmtree(three.store_folder(site) / "secrets")
    before = content(three.exchange_uri)
    again = three.next_attempt()
    assert again.opened.stage == "committed"
    commitments = again.train()
    roster = again.roster(commitments)
    sealed = again.seal(roster)
    assert (commitments, roster, sealed) == (walked.commitments, walked.roster, walked.sealed)
    assert again.open_sum(again.summed(sealed)).reference == walked.receipt
    assert again.commit(walked.receipt).manifest["round"] == 1
    assert content(three.exchange_uri) == before


def test_a_receipt_without_a_commitment_of_its_own_does_not_stop_the_site(three: ThreeSites) -> None:
    place = three.accepted("alpha")
    three.exchange.create(receipt_key(place.ticket.folder), b"{}")
    train(place, features=three.features("alpha"), device="cpu")
    assert three.exchange.exists(commitment_key(place.ticket, "alpha"))


def test_a_ticket_that_was_not_accepted_is_not_trained_for(three: ThreeSites) -> None:
    place = three.place("alpha")
    with pytest.raises(RefusedError, match="has not accepted the ticket of round 1") as caught:
        train(place, features=three.features("alpha"), device="cpu")
    assert caught.value.disclosed
    assert_nothing_was_made(three, place)


@protections
def test_training_that_diverges_is_bad_data_and_leaves_nothing(protection: str) -> None:
    three = walk("open", protection, hidden_units=3).three
    place = three.accepted("alpha")
    with pytest.raises(BadDataError, match=r"diverged at learning rate 0\.1: lower it") as caught:
        train(place, features=write_features(place, "huge", train_rows=16, size=1e30), device="cpu")
    assert caught.value.disclosed == str(caught.value)
    assert_nothing_was_made(three, place)


def test_no_training_rows_are_bad_data_and_leave_nothing(three: ThreeSites) -> None:
    place = three.accepted("alpha")
    with pytest.raises(BadDataError, match="no training rows") as caught:
        train(place, features=write_features(place, "empty", train_rows=0), device="cpu")
    assert caught.value.disclosed == "there are no training rows"
    assert_nothing_was_made(three, place)


class TestWhatItTook:
    def test_without_an_epsilon_peak_memory_and_rows_a_second_of_all_passes(self, three: ThreeSites) -> None:
        place, features = three.accepted("alpha"), three.features("alpha")
        start = time.perf_counter()
        metrics = train(place, features=features, device="cpu").metrics
        elapsed = time.perf_counter() - start
        assert metrics.keys() == {"peak_host_memory_bytes", "rows_per_second"}
        assert metrics["rows_per_second"] > 2 * 26 / elapsed  # two passes over 26 training rows
        # No process that has loaded torch holds less than 100 MB.
        assert metrics["peak_host_memory_bytes"] > 1e8

    def test_under_an_epsilon_nothing_is_told(self) -> None:
        three = ThreeSites.start(protection="sealed", privacy=NOISE)
        place = three.accepted("alpha")
        features = write_features(place, "some", train_rows=900)
        assert train(place, features=features, device="cpu").metrics == {}

    def test_on_a_gpu_it_is_the_gpus(self, three: ThreeSites) -> None:
        if not torch_has_cuda():
            pytest.skip("needs CUDA")
        metrics = train(three.accepted("alpha"), features=three.features("alpha"), device="cuda").metrics
        assert metrics.keys() >= {"peak_gpu_memory_bytes", "rows_per_second"}


class TestDevices:
    def test_cuda_that_is_not_there_is_one_clear_line(self, three: ThreeSites) -> None:
        if torch_has_cuda():
            pytest.skip("CUDA is there")
        place = three.accepted("alpha")
        with pytest.raises(SiteError) as caught:
            train(place, features=three.features("alpha"), device="cuda")
        reason = "failed: device cuda was asked for, but this site has none: use auto or cpu"
        assert disclosed_reason(caught.value) == reason
        assert_nothing_was_made(three, place)

    @pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
    def test_memory_that_runs_out_is_oom_and_a_note_names_the_mend(self, three: ThreeSites) -> None:
        """Really: the step's process may take 40 MB beyond what it has, for 100 MB of features.

        So much comes from the system in one piece, which is refused, while there is room for small ones.
        """
        place = three.accepted("alpha")
        rows = 100_000_000 // (4 * FEATURES)
        arrays: dict[str, NDArray[np.generic]] = {
            "features": np.zeros((rows, FEATURES), np.float32),
            "labels": np.zeros(rows, np.int64),
            "is_test": np.zeros(rows, np.uint8),
        }
        place.store.create("features/many.safetensors", encode(arrays))
        features = reference(place.store, "features/many.safetensors")

        def work() -> Outcome:
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            before = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (taken + 40_000_000, before[1]))
            try:
                return train(place, features=features, device="cpu")
            finally:
                resource.setrlimit(resource.RLIMIT_AS, before)

        step = SiteStep(
            name="train",
            site="alpha",
            store_uri=str(three.store_folder("alpha")),
            exchange_uri=three.exchange_uri,
            ticket="",
            deadline_s=60,
        )
        assert step.run(work) == Outcome(reason="oom")
        (note,) = (three.store_folder("alpha") / "notes").iterdir()
        told = json.loads(note.read_text())
        assert told["error"] == "MemoryError"
        assert told["message"] == (
            "memory ran out in training: give the step more memory, or lower training.batch_size or"
            " head.hidden_units"
        )
        assert_nothing_was_made(three, place)


def torch_has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def assert_nothing_was_made(three: ThreeSites, place: Workplace) -> None:
    assert not place.store.exists(update_key(place.ticket))
    assert not three.exchange.exists(commitment_key(place.ticket, "alpha"))
    assert place.store.keys("secrets") == []
    with pytest.raises(ObjectMissingError):
        read_update(place.store, place.ticket)


@pytest.mark.parametrize("signer", ["alpha", "beta"])
def test_another_commitment_in_its_place_is_refused(three: ThreeSites, signer: str) -> None:
    place = three.accepted("alpha")
    foreign = Commitment(
        charter=place.ticket.charter,
        ticket=place.ticket.digest,
        site=signer,
        ephemeral="",
        commitment="0" * 64,
    )
    document = foreign.signed(three.place(signer).key)
    three.exchange.create(commitment_key(place.ticket, "alpha"), document)
    with pytest.raises(RefusedError, match="another commitment") as caught:
        train(place, features=three.features("alpha"), device="cpu")
    assert caught.value.disclosed
    assert three.exchange.read(commitment_key(place.ticket, "alpha")) == document
