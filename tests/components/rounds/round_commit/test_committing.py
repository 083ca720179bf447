from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.cutoff import end_attempt
from components.agreement.model_store import model_key
from components.agreement.private_keys import load_signing_key
from components.agreement.receipt import aggregate_key, read_receipt, receipt_key
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import open_store, reference
from components.errors import (
    DigestMismatchError,
    IntegrityError,
    ObjectMissingError,
    RoundAlreadyCommittedError,
    SignatureError,
)
from components.execution.outcome import Outcome
from components.rounds.round_commit.committing import commit_round
from components.rounds.state import RoundRecord, newest_record, read_checkpoint, read_record
from tests.components.aggregation.three_sites import SITES, ThreeSites, put_in_force
from tests.components.rounds.walks import FOUR, content, round_of, seeded_updates, walk

Update = tuple[NDArray[np.float64], int]
LENGTH = 28  # 4 classes of 6 weights and a bias
STEP = {
    sites: 1000 * 10.0 / (4194303 // sites) for sites in (3, 4)
}  # max_examples times largest_value by bound
protections = pytest.mark.parametrize("protection", ["none", "he", "sealed"])


def state_of(three: ThreeSites) -> dict[str, bytes]:
    return content(three.state_uri)


def record_of(three: ThreeSites) -> RoundRecord:
    record = newest_record(open_store(three.state_uri), three.keys_uri, three.charter)
    assert record is not None
    return record


def committed_model(three: ThreeSites) -> NDArray[np.float32]:
    return flat(tensors.decode(read_checkpoint(open_store(three.state_uri), record_of(three))))


def flat(model: tensors.Tensors) -> NDArray[np.float32]:
    return np.concatenate([model[name].ravel() for name in sorted(model)])


def weighted_mean(updates: Mapping[str, Any]) -> list[float]:
    """Σ nᵢ·Δwᵢ / Σ nᵢ with every sum exact but for its last rounding."""
    total = sum(count for _, count in updates.values())
    length = len(next(iter(updates.values()))[0])
    return [math.fsum(count * values[k] for values, count in updates.values()) / total for k in range(length)]


def commit(three: ThreeSites, receipt: str, *, stage: str = "open") -> Outcome:
    return commit_round(
        receipt=receipt,
        ticket=three.opened.reference,
        stage=stage,
        state_uri=three.state_uri,
        exchange_uri=three.exchange_uri,
        keys_uri=three.keys_uri,
    )


def receipt_over(three: ThreeSites, aggregate: NDArray[np.float64], **changes: object) -> str:
    """What a key holder signs who does not care what it opened, in the place of the true receipt."""
    folder, values = three.opened.ticket.folder, tensors.encode({"aggregate": aggregate})
    path = three.exchange_folder / receipt_key(folder)
    true = read_receipt(path.read_bytes(), three.opened.ticket, three.charter)
    forged = replace(true, **{"aggregate": digest(values), **changes})  # type: ignore[arg-type]
    path.write_bytes(forged.signed(load_signing_key(three.keys_uri, "key-holder")))
    (three.exchange_folder / aggregate_key(folder)).write_bytes(values)
    return reference(three.exchange, receipt_key(folder))


class TestACommit:
    @protections
    def test_makes_the_next_model(self, protection: str) -> None:
        three, updates = walk("open", protection).three, seeded_updates()
        three.commit(round_of(three, updates))
        # `sealed`: half a step a site of n times the update, over all examples; `he`: 1e-4 over them.
        examples = sum(count for _, count in updates.values())
        tolerance = {"none": 0.0, "he": 1e-4 / examples, "sealed": 3 * STEP[3] / 2 / examples * 1.001}[
            protection
        ]
        found = committed_model(three)
        np.testing.assert_allclose(found, weighted_mean(updates), rtol=2**-23, atol=tolerance)
        assert np.abs(found).max() > 100 * tolerance
        model = read_checkpoint(open_store(three.state_uri), record_of(three))
        assert three.exchange.read(f"models/{digest(model)}.safetensors") == model

    @protections
    def test_is_the_mean_of_what_the_sites_trained(self, protection: str) -> None:
        """Against numpy's average of what lies in the sites' own stores (Eq. 6)."""
        three = walk("committed", protection).three
        vectors = [three.weighted(site) for site in SITES]
        expected = np.average([v[:-1] / v[-1] for v in vectors], axis=0, weights=[v[-1] for v in vectors])
        parent = flat(three.model(three.opened.ticket.model))
        np.testing.assert_allclose(committed_model(three) - parent, expected, rtol=1e-6, atol=2e-6)
        assert np.abs(expected).max() > 0.01

    @protections
    def test_a_second_round_adds_to_the_first(self, protection: str) -> None:
        three, updates = walk("open", protection).three, seeded_updates()
        three.commit(round_of(three, updates))
        later, others = three.next_round(), seeded_updates(seed=8)
        later.commit(round_of(later, others))
        expected = np.add(weighted_mean(updates), weighted_mean(others))
        tolerance = {"none": 1e-9, "he": 1e-5, "sealed": 6 * STEP[3] / 2 / 63}[protection]
        np.testing.assert_allclose(committed_model(later), expected, rtol=2**-22, atol=tolerance)

    @protections
    def test_is_recorded(self, protection: str) -> None:
        walked = walk("opened", protection, sites=FOUR, lost="delta")
        three = walked.three
        outcome = three.commit(walked.receipt)
        record = record_of(three)
        assert (record.federation, record.round_number, record.attempt) == ("small", 1, 1)
        assert (record.charter, record.ticket) == (three.charter.digest, three.opened.ticket.digest)
        assert (record.parent, record.folder) == (three.opened.ticket.model, "rounds/00001-1")
        assert record.receipt == digest(three.exchange.read("rounds/00001-1/receipt.json"))
        assert record.members == SITES
        assert record.left_out == {"delta": "failed: no sealed update"}
        assert outcome.reference == "small/exchange/rounds/00001-1/committed.json"
        assert outcome.manifest == {"round": 1, "model": record.model, "sites": list(SITES)}
        assert outcome.metrics == {"round": 1.0, "sites": 3.0}
        published = three.exchange.read("rounds/00001-1/committed.json")
        assert published == open_store(three.state_uri).read("rounds/00001/round.json")

    def test_tells_of_every_site_that_is_not_in_it(self) -> None:
        walked = walk("trained", "none", sites=FOUR)
        three = walked.three
        roster = three.roster(walked.commitments | {"gamma": ""}, {"gamma": "oom"})
        sealed = three.seal(roster, ("alpha", "delta"))
        three.commit(three.open_sum(three.summed(sealed)).reference)
        record = record_of(three)
        assert record.members == ("alpha", "delta")
        assert record.left_out == {"gamma": "oom", "beta": "failed: no sealed update"}


def with_nan(position: int) -> NDArray[np.float64]:
    aggregate = np.ones(LENGTH + 1)
    aggregate[position] = math.nan
    return aggregate


class TestARefusal:
    @pytest.mark.parametrize(
        "aggregate",
        [
            with_nan(0),
            with_nan(-1),
            np.full(LENGTH + 1, math.inf),
            np.append(np.ones(LENGTH), 0.0),
            np.append(np.ones(LENGTH), -3.0),
            np.ones(LENGTH),
            np.ones(LENGTH + 2),
            np.append(np.full(LENGTH, 1e300), 1.0),
            np.append(np.full(LENGTH, 19.0 * 82), 82.0),  # a mean of norm 19 √28 = 100.5, C = 100
        ],
        ids=[
            "nan",
            "nan-count",
            "infinite",
            "no-examples",
            "negative",
            "short",
            "long",
            "overflow",
            "beyond C",
        ],
    )
    @pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
    def test_commits_nothing_and_ends_the_attempt(self, aggregate: NDArray[np.float64]) -> None:
        three = walk("opened", "none").three
        receipt = receipt_over(three, aggregate)
        before = content(three.exchange_uri)
        with pytest.raises(IntegrityError):
            three.commit(receipt)
        # It would be refused each time: the next round goes on with the model this one started from.
        assert content(three.exchange_uri).keys() - before.keys() == {"rounds/00001-1/shortfall.json"}
        assert before.items() <= content(three.exchange_uri).items()
        assert state_of(three) == {}
        following = three.next_attempt().opened.ticket
        assert (following.round_number, following.model) == (2, three.opened.ticket.model)

    def test_none_of_a_mean_just_within_the_charters_norm(self) -> None:
        three = walk("opened", "none").three
        three.commit(receipt_over(three, np.append(np.full(LENGTH, 18.89 * 82), 82.0)))
        assert math.isclose(float(np.linalg.norm(committed_model(three))), 99.96, rel_tol=1e-3)

    @pytest.mark.parametrize(
        "change",
        [{"previous": "00" * 32}, {"ticket": "00" * 32}, {"charter": "00" * 32}, {"purpose": "metrics"}],
        ids=str,
    )
    def test_of_a_receipt_of_another_chain(self, change: dict[str, str]) -> None:
        three = walk("opened", "none").three
        with pytest.raises(SignatureError, match="was given for another ticket"):
            three.commit(receipt_over(three, np.ones(LENGTH + 1), **change))
        assert state_of(three) == {}

    @pytest.mark.parametrize("field", ["roster", "cutoff", "ciphertexts"])
    def test_of_a_receipt_of_another_set(self, field: str) -> None:
        three = walk("opened", "sealed").three
        changed = {"ciphertexts": {"alpha": "00" * 32, "beta": "00" * 32}}.get(field, "00" * 32)
        with pytest.raises(IntegrityError, match="is not of the sites of its cut-off"):
            three.commit(receipt_over(three, np.ones(LENGTH + 1), **{field: changed}))
        assert state_of(three) == {}

    def test_of_the_receipt_of_the_round_before(self) -> None:
        first = walk("committed", "none").three
        second, before = first.next_round(), state_of(first)
        with pytest.raises(SignatureError, match="was given for another ticket"):
            second.commit("small/exchange/rounds/00001-1/receipt.json")
        assert {k: v for k, v in state_of(second).items() if "report" not in k} == {
            k: v for k, v in before.items() if "report" not in k
        }

    @pytest.mark.parametrize("name", ["receipt", "aggregate", "roster", "cutoff", "model"])
    def test_of_anything_that_was_altered(self, name: str) -> None:
        walked = walk("opened", "none")
        three, ticket = walked.three, walked.three.opened.ticket
        key = {
            "receipt": "rounds/00001-1/receipt.json",
            "aggregate": aggregate_key(ticket.folder),
            "roster": "rounds/00001-1/roster.json",
            "cutoff": "rounds/00001-1/cutoff.json",
            "model": model_key(ticket.model),
        }[name]
        path = three.exchange_folder / key
        altered = bytearray(path.read_bytes())
        # In the tensors' last values, in the cut-off's roster, in a signed document's body.
        position = {"aggregate": -12, "model": -12, "cutoff": altered.find(b"roster") + 12}.get(name, 60)
        altered[position] ^= 1
        path.write_bytes(altered)
        with pytest.raises(IntegrityError):
            three.commit(walked.receipt)
        assert state_of(three) == {}

    def test_of_a_receipt_that_is_not_there(self) -> None:
        three = walk("released", "none").three
        with pytest.raises(ObjectMissingError):
            three.commit("small/exchange/rounds/00001-1/receipt.json")
        assert state_of(three) == {}

    @protections
    def test_of_a_round_that_was_voided_meanwhile(self, protection: str) -> None:
        """Another run gave the attempt up while the sum was opened; the next round has begun without it."""
        walked = walk("opened", protection)
        three = walked.three
        end_attempt(three.exchange, three.opened.ticket, three.attempt().cutoff(three.attempt().roster()))
        second, before = three.next_attempt(), content(three.exchange_uri)
        assert second.opened.ticket.round_number == 2
        with pytest.raises(
            IntegrityError, match="round 1 was declared void while this run worked: run again"
        ):
            three.commit(walked.receipt)
        assert set(state_of(three)) == {"rounds/00001/void.json"}
        assert content(three.exchange_uri) == before
        assert second.next_attempt().opened == second.opened


class TestASecondCommit:
    def test_of_the_same_round_leaves_the_first(self) -> None:
        walked = walk("committed", "none")
        three = walked.three
        before = state_of(three), content(three.exchange_uri)
        with pytest.raises(RoundAlreadyCommittedError, match="round 1 of small was committed by another run"):
            three.commit(walked.receipt)
        assert (state_of(three), content(three.exchange_uri)) == before

    def test_from_another_attempt_leaves_the_first(self) -> None:
        """Two runs worked at once: the one whose attempt was voided comes last."""
        walked = walk("opened", "none")
        slow = walked.three
        # The slow run's cut-off was not there yet when the fast one looked.
        hidden = slow.exchange_folder / "rounds/00001-1/cutoff.json"
        fixed = hidden.read_bytes()
        hidden.unlink()
        slow.exchange.create("rounds/00001-1/shortfall.json", b"{}")
        fast = slow.next_attempt()
        hidden.write_bytes(fixed)
        assert (fast.opened.ticket.round_number, fast.opened.ticket.attempt) == (1, 2)
        others = seeded_updates(seed=9)
        fast.commit(round_of(fast, others))
        standing = state_of(fast)["rounds/00001/round.json"]
        with pytest.raises(RoundAlreadyCommittedError, match="its model stands"):
            slow.commit(walked.receipt)
        assert state_of(fast)["rounds/00001/round.json"] == standing
        assert record_of(fast) == read_record(standing, fast.charter)
        np.testing.assert_allclose(committed_model(fast), weighted_mean(others), rtol=2**-23)


class TestACommittedRound:
    @protections
    def test_is_passed_on(self, protection: str) -> None:
        walked = walk("opened", protection)
        three = walked.three
        first = three.commit(walked.receipt)
        before = state_of(three), content(three.exchange_uri)
        resumed = three.next_attempt()
        assert resumed.opened.stage == "committed"
        assert resumed.commit("") == first
        assert (state_of(three), content(three.exchange_uri)) == before

    def test_is_published_if_the_run_was_killed_in_between(self, home: Path) -> None:
        walked = walk("opened", "none")
        first = walked.three.commit(walked.receipt)
        (home / "small/exchange/rounds/00001-1/committed.json").unlink()
        assert commit(walked.three, "", stage="committed") == first
        published = json.loads(walked.three.exchange.read("rounds/00001-1/committed.json"))
        assert published["body"]["model"] == first.manifest["model"]

    def test_is_passed_on_under_the_charter_it_was_committed_under(self) -> None:
        three = walk("committed", "none").three
        edition = replace(three.charter, edition=2, previous=three.charter.digest, max_rounds=50)
        put_in_force("small", edition)
        resumed = three.next_attempt()
        assert (resumed.opened.stage, resumed.opened.ticket) == ("committed", three.opened.ticket)
        assert resumed.commit("").manifest["round"] == 1
        later = resumed.next_round()
        assert later.opened.ticket.charter == edition.digest
        assert later.committed().manifest["round"] == 2
        assert record_of(later).charter == edition.digest

    def test_that_was_altered_is_refused(self, home: Path) -> None:
        three = walk("committed", "none").three
        forged = replace(record_of(three), model="00" * 32).signed(load_signing_key(three.keys_uri, "alpha"))
        for name in ("state/rounds/00001/round.json", "exchange/rounds/00001-1/committed.json"):
            (home / "small" / name).write_bytes(forged)
        with pytest.raises(SignatureError):
            commit(three, "", stage="committed")

    def test_whose_checkpoint_was_altered_opens_no_other(self, home: Path) -> None:
        three = walk("committed", "none").three
        path = home / f"small/state/rounds/00001/checkpoint-{record_of(three).model[:16]}.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
        with pytest.raises(DigestMismatchError):
            three.next_round()
