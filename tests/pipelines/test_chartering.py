"""Charters of a federation file: their terms, what differs from them, and their editions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from components.agreement.charter import Charter
from components.agreement.charter_book import charter_in_force
from components.artifacts.stores import open_store
from components.errors import UsageError
from pipelines.charter_comparison import changes, differences, terms
from pipelines.chartering import (
    ensure_charter,
    newest_edition,
    propose_charter,
    sign_charter,
    unsigned,
)
from pipelines.federation import load_federation
from tests.conftest import SITES, SmallFederation
from tests.pipelines.chartered import KEYS, SIGNERS, Chartered, content

Make = Callable[..., SmallFederation]


def test_a_charter_is_the_files_terms_and_what_the_parties_bring(chartered: Chartered) -> None:
    fields = {field.name for field in dataclasses.fields(Charter)}
    brought = {"edition", "previous", "sites", "coordinator", "key_holder", "genesis", "restart", "format"}
    made = {"projection"}
    asked = terms(chartered.federation)
    assert set(asked) == fields - brought - made
    assert {name: getattr(chartered.charter, name) for name in asked} == asked
    assert (chartered.charter.edition, chartered.charter.previous) == (1, "")
    assert chartered.charter.site_names == SITES


def test_the_terms_are_those_of_the_file(small_federation: Make) -> None:
    made = small_federation(
        names=("a", "b", "c", "d", "e"),
        rows=0,
        quorum={"min_sites": 5, "colluding_sites": 2, "min_sum_sites": 4},
        limits={
            "clipping_norm": 7.5, "largest_value": 0.25, "max_examples": 900, "values_per_slot": 1,
            "local_epochs": 4, "learning_rate": 0.5, "batch_size": 32, "rounds": 11, "key_rotation_rounds": 6,
        },
    )  # fmt: skip
    assert terms(load_federation(made.path)) == {
        "federation": "small",
        "protection": "sealed",
        "values_per_slot": 1,
        "algorithm": "fedavg",
        "server_optimizer": "average",
        "server_learning_rate": 1.0,
        "proximal": 0.0,
        "cross_weight": 0.0,
        "ridge": 0.0,
        "public_corpus": "",
        "privacy": None,
        "encoder": made.document["encoder"]["digest"],
        "rotation_rounds": 6,
        "colluding_sites": 2,
        "min_sum_sites": 4,
        "min_sites": 5,
        "clipping_norm": 7.5,
        "largest_value": 0.25,
        "max_examples": 900,
        "local_epochs": 4,
        "learning_rate": 0.5,
        "batch_size": 32,
        "max_rounds": 11,
    }


CHANGED: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "federation": (("federation",), "other", "the federation file has other, the charter in force has small"),
    "values_per_slot": (("limits", "values_per_slot"), 1, "has 1, the charter in force has 2"),
    "encoder": (("encoder", "digest"), "f" * 64, f"has {'f' * 64}, the charter"),
    "rotation_rounds": (("limits", "key_rotation_rounds"), 7, "has 7, the charter in force has 1000"),
    "min_sum_sites": (("quorum", "min_sum_sites"), 2, "has 2, the charter in force has 3"),
    "clipping_norm": (("limits", "clipping_norm"), 3.5, "has 3.5, the charter in force has 100: "),
    "largest_value": (("limits", "largest_value"), 0.5, "has 0.5, the charter in force has 1: "),
    "max_examples": (("limits", "max_examples"), 999, "has 999, the charter in force has 1000"),
    "local_epochs": (("limits", "local_epochs"), 3, "has 3, the charter in force has 100"),
    "learning_rate": (("limits", "learning_rate"), 0.5, "has 0.5, the charter in force has 10: "),
    "batch_size": (("limits", "batch_size"), 64, "has 64, the charter in force has 1000000"),
    "max_rounds": (("limits", "rounds"), 5, "has 5, the charter in force has 10000"),
    "protection": (("protection",), "he", "has he, the charter in force has sealed"),
}


@pytest.mark.parametrize("term", CHANGED)
def test_a_term_that_was_changed_in_the_file_is_told_with_both_values(
    chartered: Chartered, term: str
) -> None:
    path, value, told = CHANGED[term]
    if term == "min_sum_sites":
        # The fewest that one colluding site of three allows is 3, and nobody may collude below that.
        chartered.made.document["quorum"] |= {"colluding_sites": 0}
    federation = chartered.changed(*path, to=value)
    found = {line.partition(":")[0]: line for line in differences(federation, chartered.charter)}
    expected = {term} | ({"colluding_sites"} if term == "min_sum_sites" else set())
    assert set(found) == expected
    assert told in found[term]
    assert "have a new charter signed" in found[term]


def test_another_quorum_is_told(small_federation: Make) -> None:
    made = small_federation(rows=0, names=("a", "b", "c", "d"))
    first = ensure_charter(load_federation(made.path))
    made.document["quorum"] = {"min_sites": 4}
    (line,) = differences(load_federation(made.save()), first)
    assert line.startswith("min_sites: the federation file has 4, the charter in force has 3: ")
    made.document["quorum"] = {"min_sites": 4, "colluding_sites": 2}
    found = [line.partition(":")[0] for line in differences(load_federation(made.save()), first)]
    assert sorted(found) == ["colluding_sites", "min_sites", "min_sum_sites"]


def test_sites_that_come_or_go_are_told(chartered: Chartered) -> None:
    section = json.loads(json.dumps(chartered.made.site("gamma")))
    section |= {"name": "delta", "store_uri": "small/sites/delta/store"}
    chartered.made.document["sites"].append(section)
    (line,) = differences(load_federation(chartered.made.save()), chartered.charter)
    assert line.startswith(
        "sites: the federation file has alpha, beta, delta, gamma, the charter in force has "
    )


def test_what_no_charter_says_may_change(chartered: Chartered) -> None:
    chartered.changed("title", to="Another title")
    chartered.changed("training", "learning_rate", to=0.07)
    chartered.changed("training", "local_epochs", to=1)
    federation = chartered.changed("sites", 0, "placement", to={"deadline_seconds": 60})
    assert differences(federation, chartered.charter) == []
    assert ensure_charter(federation) == chartered.charter


@pytest.mark.parametrize(
    ("path", "value"),
    [(("head",), {"hidden_units": 8}), (("task", "classes"), ["heart", "lung", "skin", "liver"])],
)
def test_a_file_that_starts_from_another_model_is_told_before_the_first_round(
    chartered: Chartered, path: tuple[str, ...], value: Any
) -> None:
    """Sites would refuse the model, and the round would stay open with it."""
    federation = chartered.changed(*path, to=value)
    before = content(chartered.made.home)
    with pytest.raises(UsageError, match="genesis"):
        ensure_charter(federation)
    assert content(chartered.made.home) == before


def test_all_that_differs_is_told_at_once_and_nothing_is_written(chartered: Chartered) -> None:
    chartered.changed("limits", "max_examples", to=500)
    chartered.changed("sites", 1, "data", "sql", to="SELECT note, organ, category FROM visits WHERE id > 3")
    federation = chartered.changed("limits", "rounds", to=9)
    before = content(chartered.made.home)
    with pytest.raises(UsageError) as raised:
        ensure_charter(federation)
    starts = [line.partition(":")[0] for line in str(raised.value).splitlines()]
    assert starts == ["max_examples", "max_rounds", "beta"]
    assert content(chartered.made.home) == before


def second_edition(chartered: Chartered, *path: Any, to: Any) -> Charter:
    return propose_charter(chartered.changed(*path, to=to))


def test_a_second_edition_names_the_first_and_keeps_keys_and_genesis(chartered: Chartered) -> None:
    first, second = chartered.charter, second_edition(chartered, "limits", "max_examples", to=500)
    assert (second.edition, second.previous) == (2, first.digest)
    assert changes(first, second) == ["max_examples: 1000 → 500"]
    same = {"sites", "coordinator", "key_holder", "genesis"}
    assert all(getattr(second, name) == getattr(first, name) for name in same)
    assert newest_edition(chartered.federation) == second
    assert charter_in_force(KEYS) == first, "until all have signed"
    assert unsigned(chartered.federation, second) == SIGNERS


def test_a_new_edition_is_in_force_once_the_last_has_signed(chartered: Chartered) -> None:
    second = second_edition(chartered, "limits", "max_examples", to=500)
    for number, signer in enumerate(SIGNERS):
        with pytest.raises(UsageError, match=r"max_examples: the federation file has 500"):
            ensure_charter(chartered.federation)
        assert unsigned(chartered.federation, second) == SIGNERS[number:]
        sign_charter(chartered.federation, second, signer)
    assert ensure_charter(chartered.federation) == charter_in_force(KEYS) == second


def test_terms_that_stand_already_are_no_new_edition(chartered: Chartered) -> None:
    before = content(chartered.made.home)
    with pytest.raises(UsageError, match=r"^edition 1 of the charter has these terms already: nothing"):
        propose_charter(chartered.federation)
    assert content(chartered.made.home) == before


def test_terms_that_leave_too_few_bits_are_refused_before_anything_is_published(chartered: Chartered) -> None:
    before = content(chartered.made.home)
    with pytest.raises(UsageError, match="max_examples is"):
        second_edition(chartered, "limits", "max_examples", to=2**53)
    assert content(chartered.made.home) == before


def test_the_charter_and_its_signatures_are_not_this_files_to_change(chartered: Chartered) -> None:
    path = chartered.made.home / KEYS / "charters/00001/charter.json"
    altered = json.loads(path.read_bytes()) | {"max_examples": 999}
    path.write_bytes(json.dumps(altered, separators=(",", ":"), sort_keys=True).encode())
    with pytest.raises(Exception, match="the signature of alpha is of another charter"):
        ensure_charter(chartered.federation)


def test_stores_hold_what_is_published_and_folders_what_is_not(chartered: Chartered) -> None:
    """Whoever reads the keys' store as a store finds charters, cards, certificates, contexts."""
    found = {key.partition("/")[0] for key in open_store(KEYS).keys("")}
    private = {*SIGNERS, "coordinator"}
    assert found - private == {"cards", "charters", "certificates", "contexts"}
