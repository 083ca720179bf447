"""Rounds whose clipping norm follows the gradients: every party takes it from the committed model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from components.agreement.adaptive_norm import CLIPPING_NORM, next_norm, norm_of
from components.agreement.charter import COORDINATOR
from components.agreement.model_store import model_key, read_committed
from components.agreement.noise_terms import AdaptiveClipping
from components.agreement.private_keys import load_signing_key
from components.agreement.receipt import aggregate_key
from components.agreement.server_steps import split
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import reference
from components.errors import RefusedError
from components.privacy.round_noise import round_mechanism
from components.rounds.verification import verify_state
from components.training.features import read_features
from components.training.local_training.clipped_gradients import summed_gradients
from tests.components.aggregation.three_sites import NOISE, ThreeSites

RULE = AdaptiveClipping(quantile=0.2, learning_rate=0.5, weight=0.25)


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThreeSites:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    return ThreeSites.start(protection="sealed", privacy=replace(NOISE, adaptive=RULE))


def norm_here(three: ThreeSites) -> float:
    return norm_of(three.charter, split(read_committed(three.exchange, three.opened.ticket.model))[1])


def test_rounds_at_the_norm_that_their_receipts_give(three: ThreeSites) -> None:
    norms = []
    for number in (1, 2):
        norms.append(norm := norm_here(three))
        place = three.place("alpha")
        model = place.model()
        parts = [
            summed_gradients(
                model,
                read_features(three.place(site).store, three.features(site)).train,
                max_grad_norm=norm,
                device="cpu",
            )
            for site in three.sites
        ]
        rows = sum(
            len(read_features(three.place(site).store, three.features(site)).train.labels)
            for site in three.sites
        )
        committed = three.committed()
        folder = three.opened.ticket.folder
        total = tensors.decode_any(three.exchange.read(aggregate_key(folder)))["aggregate"]
        shapes = {name: values.shape for name, values in model.items()}
        noise = 8 * round_mechanism(three.charter, number, shapes).sum_deviation(3)
        exact = np.sum([part.values for part in parts], axis=0) / norm
        within = RULE.weight * (sum(part.within for part in parts) - rows / 2)
        assert np.abs(total[:-2] - exact).max() < noise
        assert abs(total[-2] - within) < noise
        after = split(read_committed(three.exchange, committed.manifest["model"]))[1]
        expected = next_norm(RULE, norm, float(total[-2]), float(total[-1]), first=1.0)
        assert after[CLIPPING_NORM].tolist() == [expected]
        three = three.next_round()
    assert norms[0] == 1.0
    assert len(set(norms)) == 2
    assert verify_state("small/state", keys_uri=three.keys_uri).problems == ()


@contextmanager
def ticket_with_another_norm(three: ThreeSites, norm: float) -> Iterator[ThreeSites]:
    """A coordinator signs a ticket for the committed model with a norm of its own beside it."""
    ticket, exchange = three.opened.ticket, three.exchange
    committed = read_committed(exchange, ticket.model)
    content = tensors.encode({**committed, CLIPPING_NORM: np.array([norm])})
    exchange.create(model_key(digest(content)), content)
    forged = replace(ticket, model=digest(content))
    key = f"{ticket.folder}/ticket.json"
    (three.exchange_folder / key).unlink()
    exchange.create(key, forged.signed(load_signing_key(three.keys_uri, COORDINATOR)))
    yield replace(three, opened=replace(three.opened, ticket=forged, reference=reference(exchange, key)))


@pytest.mark.parametrize("number", [1, 2])
def test_no_site_takes_another_norm_from_a_coordinator(three: ThreeSites, number: int) -> None:
    if number == 2:
        three.committed()
        three = three.next_round()
    with ticket_with_another_norm(three, 1000.0) as forged:
        for site in forged.sites:
            with pytest.raises(RefusedError, match=rf"^the model of round {number} is not the one that the "):
                forged.place(site).accept(datetime.now(UTC))


def test_the_next_round_opens_whether_the_norm_adapts_any_longer_or_not(three: ThreeSites) -> None:
    """The shape of a head is asked of a file that knows nothing of norms."""
    three.committed()
    following = three.next_round()
    committed = read_committed(following.exchange, following.opened.ticket.model)
    assert CLIPPING_NORM in committed
    assert following.opened.ticket.round_number == 2
