from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.agreement.parties import load_parties, load_signing_key
from components.agreement.receipt import aggregate_key
from components.agreement.workplace import model_key
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.errors import (
    DigestMismatchError,
    IntegrityError,
    ObjectMissingError,
    RoundAlreadyCommittedError,
    SignatureError,
)
from components.rounds.round_commit.committing import next_model
from components.rounds.state import newest_record, read_checkpoint, read_record

if TYPE_CHECKING:
    from tests.components.rounds.conftest import Update, WalkedFederation

    Updates = dict[str, Update]

PARENT: tensors.Tensors = {
    "output.weight": np.array([[1, 2], [3, 4], [5, 6]], np.float32),
    "output.bias": np.array([-1, -2, -3], np.float32),
}


def weighted_mean(updates: Mapping[str, Any]) -> list[float]:
    """Σ nᵢ·Δwᵢ / Σ nᵢ with every sum exact but for its last rounding."""
    total = sum(count for _, count in updates.values())
    length = len(next(iter(updates.values()))[0])
    return [math.fsum(count * values[k] for values, count in updates.values()) / total for k in range(length)]


class TestNextModel:
    def test_adds_the_mean_update_in_the_order_of_names(self) -> None:
        # Two examples: [output.bias (3), output.weight (3 × 2), count]
        found = next_model(PARENT, np.array([2, 4, 6, 20, 40, 60, 80, 100, 120, 2.0]))
        assert {name: values.tolist() for name, values in found.items()} == {
            "output.bias": [0, 0, 0],
            "output.weight": [[11, 22], [33, 44], [55, 66]],
        }
        assert all(values.dtype == np.float32 for values in found.values())
        assert PARENT["output.bias"].tolist() == [-1, -2, -3]

    @given(
        updates=st.dictionaries(
            st.sampled_from("abcdef"),
            st.tuples(st.lists(st.floats(-10, 10), min_size=9, max_size=9), st.integers(1, 10**6)),
            min_size=1,
        )
    )
    def test_is_equation_six(self, updates: dict[str, tuple[list[float], int]]) -> None:
        sealed = np.array([[*(n * np.array(w)), n] for w, n in updates.values()], np.float64)
        aggregate: NDArray[np.float64] = np.asarray(sealed.sum(axis=0))
        found = tensors.flatten(next_model(PARENT, aggregate))
        mean = weighted_mean(updates)
        # A float32 value is known to half a unit of its last place, 2^-24 of it; the sums are in float64.
        np.testing.assert_allclose(found, tensors.flatten(PARENT) + mean, rtol=2**-23, atol=1e-9)

    @given(count=st.integers(1, 2**40), error=st.floats(-0.49, 0.49))
    def test_the_count_is_whole_however_it_was_opened(self, count: int, error: float) -> None:
        aggregate = np.append(np.full(9, float(count)), count + error)
        np.testing.assert_array_equal(next_model(PARENT, aggregate)["output.bias"], [0, -1, -2])

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("position", [0, 8, 9])
    def test_what_is_not_finite_is_refused(self, value: float, position: int) -> None:
        aggregate = np.ones(10)
        aggregate[position] = value
        with pytest.raises(IntegrityError, match="not finite: nothing was committed"):
            next_model(PARENT, aggregate)

    @pytest.mark.parametrize("count", [0.0, -0.0, 0.4, -1.0, -1e9])
    def test_a_sum_of_nothing_is_refused(self, count: float) -> None:
        with pytest.raises(IntegrityError, match="must count at least one example, got"):
            next_model(PARENT, np.append(np.ones(9), count))

    @pytest.mark.parametrize("length", [2, 9, 11, 20])
    def test_another_length_is_refused(self, length: int) -> None:
        with pytest.raises(IntegrityError, match="must have 9 values"):
            next_model(PARENT, np.ones(length))

    @pytest.mark.parametrize("value", [1e39, -1e300])
    def test_a_model_that_float32_cannot_hold_is_refused(self, value: float) -> None:
        """Finite where it was opened, infinite in the model."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            with pytest.raises(IntegrityError):
                next_model(PARENT, np.array([value, *[0.0] * 8, 1.0]))


class TestACommit:
    def test_makes_the_next_model(self, federation: WalkedFederation, updates: Updates) -> None:
        opened = federation.open()
        federation.commit(opened, federation.walk(opened, updates))
        record = newest_record(federation.state, load_parties("keys"))
        assert record is not None
        content = read_checkpoint(federation.state, record)
        flat = tensors.flatten(tensors.decode(content))
        np.testing.assert_allclose(flat, weighted_mean(updates), rtol=2**-23)
        assert federation.exchange.read(f"models/{digest(content)}.safetensors") == content

    def test_a_second_round_adds_to_the_first(self, federation: WalkedFederation, updates: Updates) -> None:
        federation.round(updates)
        others = {site: (values[::-1], 7) for site, (values, _) in updates.items()}
        federation.round(others)
        record = newest_record(federation.state, load_parties("keys"))
        assert record is not None
        flat = tensors.flatten(tensors.decode(read_checkpoint(federation.state, record)))
        expected = np.add(weighted_mean(updates), weighted_mean(others))
        np.testing.assert_allclose(flat, expected, rtol=2**-22, atol=1e-9)

    def test_is_recorded(self, federation: WalkedFederation, updates: Updates) -> None:
        opened = federation.open()
        receipt = federation.walk(opened, updates, lost=["beta"])
        outcome = federation.commit(opened, receipt)
        record = newest_record(federation.state, load_parties("keys"))
        assert record is not None
        assert (record.federation, record.round_number, record.attempt) == ("walked", 1, 1)
        assert (record.ticket, record.parent) == (opened.ticket.digest, opened.ticket.model)
        assert record.folder == "rounds/00001-1"
        assert record.receipt == digest(federation.exchange.read("rounds/00001-1/receipt.json"))
        assert record.members == ("alpha", "gamma")
        assert record.left_out == {"beta": "failed: no sealed update"}
        assert outcome.reference == "exchange/rounds/00001-1/committed.json"
        assert outcome.manifest == {"round": 1, "model": record.model, "sites": ["alpha", "gamma"]}
        assert outcome.metrics == {"round": 1.0, "sites": 2.0}
        published = federation.exchange.read("rounds/00001-1/committed.json")
        assert published == federation.state.read("rounds/00001/round.json")

    def test_tells_of_every_site_that_is_not_in_it(
        self, federation: WalkedFederation, updates: Updates
    ) -> None:
        opened = federation.open()
        commitments = federation.commit_to(opened, {s: updates[s] for s in ("alpha", "beta")})
        roster = federation.call(opened, commitments, {"gamma": "oom"}).reference
        federation.aggregate(opened, federation.seal(opened, roster, ["alpha"]), min_sites=1)
        federation.commit(opened, federation.receipt_over(opened, np.ones(10), members=("alpha",)))
        record = newest_record(federation.state, load_parties("keys"))
        assert record is not None
        assert record.members == ("alpha",)
        assert record.left_out == {"gamma": "oom", "beta": "failed: no sealed update"}


def with_nan(position: int) -> NDArray[np.float64]:
    aggregate = np.ones(10)
    aggregate[position] = math.nan
    return aggregate


class TestARefusal:
    @pytest.mark.parametrize(
        "aggregate",
        [
            with_nan(0),
            with_nan(9),
            np.full(10, math.inf),
            np.append(np.ones(9), 0.0),
            np.append(np.ones(9), -3.0),
            np.ones(9),
            np.ones(11),
            np.append(np.full(9, 1e300), 1.0),
        ],
        ids=["nan", "nan-count", "infinite", "no-examples", "negative", "short", "long", "overflow"],
    )
    @pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
    def test_writes_nothing(
        self, federation: WalkedFederation, updates: Updates, aggregate: NDArray[np.float64]
    ) -> None:
        opened = federation.open()
        roster = federation.call(opened, federation.commit_to(opened, updates)).reference
        federation.aggregate(opened, federation.seal(opened, roster, list(updates)))
        receipt = federation.receipt_over(opened, aggregate)
        before = federation.content("exchange")
        with pytest.raises(IntegrityError):
            federation.commit(opened, receipt)
        assert federation.content("exchange") == before
        assert federation.content("state") == {}

    @pytest.mark.parametrize(
        "change", [{"previous": "00" * 32}, {"ticket": "00" * 32}, {"purpose": "metrics"}], ids=str
    )
    def test_of_a_receipt_of_another_chain(
        self, federation: WalkedFederation, updates: Updates, change: dict[str, str]
    ) -> None:
        opened = federation.open()
        roster = federation.call(opened, federation.commit_to(opened, updates)).reference
        federation.aggregate(opened, federation.seal(opened, roster, list(updates)))
        receipt = federation.receipt_over(opened, np.ones(10), **change)
        with pytest.raises(SignatureError, match="was given for another ticket"):
            federation.commit(opened, receipt)
        assert federation.content("state") == {}

    def test_of_the_receipt_of_the_round_before(self, federation: WalkedFederation, updates: Updates) -> None:
        federation.round(updates)
        second, before = federation.open(), federation.content("state")
        with pytest.raises(SignatureError, match="was given for another ticket"):
            federation.commit(second, "exchange/rounds/00001-1/receipt.json")
        assert federation.content("state") == before

    @pytest.mark.parametrize("name", ["receipt", "aggregate", "roster", "cutoff", "model"])
    def test_of_anything_that_was_altered(
        self, federation: WalkedFederation, updates: Updates, name: str
    ) -> None:
        opened = federation.open()
        receipt = federation.walk(opened, updates)
        key = {
            "receipt": "rounds/00001-1/receipt.json",
            "aggregate": aggregate_key(opened.ticket),
            "roster": "rounds/00001-1/roster.json",
            "cutoff": "rounds/00001-1/cutoff.json",
            "model": model_key(opened.ticket.model),
        }[name]
        path = federation.home / "exchange" / key
        content = bytearray(path.read_bytes())
        # In the tensors' last values, in the cut-off's roster, in a signed document's body.
        position = {"aggregate": -12, "model": -12, "cutoff": content.find(b"roster") + 12}.get(name, 60)
        content[position] ^= 1
        path.write_bytes(content)
        with pytest.raises(IntegrityError):
            federation.commit(opened, receipt)
        assert federation.content("state") == {}

    def test_of_a_receipt_that_is_not_there(self, federation: WalkedFederation) -> None:
        opened = federation.open()
        with pytest.raises(ObjectMissingError):
            federation.commit(opened, "exchange/rounds/00001-1/receipt.json")
        assert federation.content("state") == {}


class TestASecondCommit:
    def test_of_the_same_round_leaves_the_first(self, federation: WalkedFederation, updates: Updates) -> None:
        opened = federation.open()
        receipt = federation.walk(opened, updates)
        federation.commit(opened, receipt)
        before = federation.content("state"), federation.content("exchange")
        with pytest.raises(
            RoundAlreadyCommittedError, match="round 1 of walked was committed by another run"
        ):
            federation.commit(opened, receipt)
        assert (federation.content("state"), federation.content("exchange")) == before

    def test_from_another_attempt_leaves_the_first(
        self, federation: WalkedFederation, updates: Updates
    ) -> None:
        """Two runs worked at once: the one whose attempt was voided comes last."""
        slow = federation.open()
        slow_receipt = federation.walk(slow, updates)
        federation.exchange.create("rounds/00001-1/shortfall.json", b"{}")
        fast = federation.open()
        assert fast.ticket.attempt == 2
        others = {site: (-values, count) for site, (values, count) in updates.items()}
        federation.commit(fast, federation.walk(fast, others))
        standing = federation.state.read("rounds/00001/round.json")
        with pytest.raises(RoundAlreadyCommittedError, match="its model stands"):
            federation.commit(slow, slow_receipt)
        assert federation.state.read("rounds/00001/round.json") == standing
        record = read_record(standing, load_parties("keys"))
        assert newest_record(federation.state, load_parties("keys")) == record
        flat = tensors.flatten(tensors.decode(read_checkpoint(federation.state, record)))
        np.testing.assert_allclose(flat, weighted_mean(others), rtol=2**-23)


class TestACommittedRound:
    def test_is_passed_on(self, federation: WalkedFederation, updates: Updates) -> None:
        opened = federation.open()
        first = federation.commit(opened, federation.walk(opened, updates))
        before = federation.content("state"), federation.content("exchange")
        resumed = federation.open()
        assert federation.commit(resumed, "", stage=resumed.stage) == first
        assert (federation.content("state"), federation.content("exchange")) == before

    def test_is_published_if_the_run_was_killed_in_between(
        self, federation: WalkedFederation, updates: Updates
    ) -> None:
        opened = federation.open()
        first = federation.commit(opened, federation.walk(opened, updates))
        (federation.home / "exchange/rounds/00001-1/committed.json").unlink()
        assert federation.commit(opened, "", stage="committed") == first
        published = json.loads(federation.exchange.read("rounds/00001-1/committed.json"))
        assert published["body"]["model"] == first.manifest["model"]

    def test_that_was_altered_is_refused(self, federation: WalkedFederation, updates: Updates) -> None:
        opened = federation.open()
        federation.commit(opened, federation.walk(opened, updates))
        record = newest_record(federation.state, load_parties("keys"))
        assert record is not None
        forged = replace(record, model="00" * 32).signed(load_signing_key("keys", "alpha"))
        for name in ("state/rounds/00001/round.json", "exchange/rounds/00001-1/committed.json"):
            (federation.home / name).write_bytes(forged)
        with pytest.raises(SignatureError):
            federation.commit(opened, "", stage="committed")

    def test_whose_checkpoint_was_altered_opens_no_other(
        self, federation: WalkedFederation, updates: Updates
    ) -> None:
        federation.round(updates)
        record = newest_record(federation.state, load_parties("keys"))
        assert record is not None
        path = federation.home / f"state/rounds/00001/checkpoint-{record.model[:16]}.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
        with pytest.raises(DigestMismatchError):
            federation.open()
