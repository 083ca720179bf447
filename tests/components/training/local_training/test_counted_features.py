"""Features that `train` learns from where a unit of privacy has only so many rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.agreement.cache_uses import is_used, note_use
from components.agreement.site_update import update_key
from components.agreement.workplace import Workplace
from components.artifacts.stores import key_of, reference
from components.artifacts.tensors import decode_any, encode
from components.errors import RefusedError
from components.training.local_training.training import train
from tests.components.aggregation.three_sites import NOISE, ThreeSites, privacy_policy, set_policy


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThreeSites:
    """Everybody's policy protects patients, as the charter does."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    three = ThreeSites.start(protection="sealed", privacy=replace(NOISE, unit="patient", rows_per_unit=3))
    for site in three.sites:
        set_policy(
            "small",
            site,
            charter=three.charter.digest,
            protections=("sealed",),
            privacy=privacy_policy("small", site, unit="patient", rows_per_unit=3),
        )
    return three


def refused(place: Workplace, features: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as caught:
        train(place, features=features, device="cpu")
    assert caught.value.disclosed
    assert not place.store.exists(update_key(place.ticket))


def test_features_that_this_ticket_has_not_made_are_refused(three: ThreeSites) -> None:
    """A reference comes from the coordinator, and older features may be of rows counted otherwise."""
    place, features = three.accepted("alpha"), three.features("alpha")
    refused(place, features, "not features of the rows that the site has counted")


def test_features_that_tell_no_units_apart_are_refused(three: ThreeSites) -> None:
    place, features = three.accepted("alpha"), three.features("alpha")
    note_use(place.store, place.ticket, key_of(place.store, features))
    refused(place, features, "do not say which rows are of one")


def test_features_of_counted_rows_are_learned_from(three: ThreeSites) -> None:
    place, plain = three.accepted("alpha"), three.features("alpha")
    arrays = decode_any(place.store.read(key_of(place.store, plain)))
    key = "features/counted.safetensors"
    place.store.create(key, encode({**arrays, "units": np.arange(len(arrays["labels"])) // 3}))
    assert not is_used(place.store, place.ticket, key)
    note_use(place.store, place.ticket, key)
    assert is_used(place.store, place.ticket, key)
    train(place, features=reference(place.store, key), device="cpu")
    assert place.store.exists(update_key(place.ticket))
