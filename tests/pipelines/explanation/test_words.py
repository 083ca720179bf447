"""What is claimed of a departure is no more than what holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.agreement.protections import TRAITS
from components.artifacts.stores import open_store
from components.execution.departures import Departure, Occasion, State
from pipelines.explanation.words import purpose, released_sums


def departure(key: str, *, protection: str = "sealed", state: State = "sent", sha256: str = "") -> Departure:
    occasion = Occasion(step="seal", reference="", protection=protection, least_sites=4)
    return Departure(time="", occasion=occasion, key=key, state=state, size=1, sha256=sha256)


@pytest.mark.parametrize("protection", TRAITS)
def test_only_where_sites_mask_each_other_an_update_is_said_to_be_safe_in_a_sum(protection: str) -> None:
    words = purpose(departure("rounds/00001-1/sealed/alpha.bin", protection=protection), {})
    assert ("only a sum of at least 4 sites" in words) == TRAITS[protection].masked
    assert "does not know" not in words


def test_of_a_protection_to_come_nothing_is_claimed() -> None:
    words = purpose(departure("rounds/00001-1/sealed/alpha.bin", protection="quantum"), {})
    assert words == "update under a protection that this version does not know"


@pytest.mark.parametrize(
    ("state", "ending"),
    [
        ("sent", "no contents"),
        ("met", "no contents (another time: something lay there already)"),
        ("begun", "no contents (may have left: the step ended before that was known)"),
    ],
)
def test_how_it_ended_is_said(state: State, ending: str) -> None:
    assert purpose(departure("rounds/00001-1/commitments/alpha.json", state=state), {}).endswith(ending)


@pytest.mark.parametrize("protection", [name for name, traits in TRAITS.items() if traits.masked])
def test_counts_are_said_to_be_counts(protection: str) -> None:
    words = purpose(departure("metrics/00001-1/sealed/alpha.bin", protection=protection), {})
    assert "counts of test rows: only a sum of at least 4 sites" in words
    for key in ("sealed/alpha.json", "commitments/alpha.json"):
        assert "of the counts" in purpose(departure(f"metrics/00001-1/{key}"), {})
        assert "of the update" in purpose(departure(f"rounds/00001-1/{key}"), {})


@pytest.mark.parametrize("key", ["somewhere", "rounds/00001-1/new-kind/alpha.json", "rounds/00001-1"])
def test_an_object_of_no_known_kind_is_named_by_its_step(key: str) -> None:
    assert purpose(departure(key), {}) == "object of the step seal"


def test_what_is_no_release_names_no_members(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    for number, content in enumerate((b"", b"[]", b"{}", b'{"body": {"shares": []}}')):
        store.create(f"releases/{number}.json", content)
    assert released_sums(store, "alpha") == {}
    words = purpose(departure("rounds/00001-1/released/alpha.json"), {})
    assert words == "release of its masks for the sum of one agreed set of sites"
