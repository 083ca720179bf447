"""The sample data of a federation: the same rows that its sites ingest, all together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.console import Console

from components.errors import UsageError
from pipelines.baseline_comparison.federation_texts import federation_texts
from pipelines.federation import load_federation
from tests.conftest import CLASSES, WORDS, SmallFederation


def test_rows_of_all_sites_stand_in_the_order_of_the_sites_split_as_each_splits_them(
    small_federation: Callable[..., SmallFederation],
) -> None:
    made = small_federation([41, 66, 102], sample_data="hospitals")
    found = federation_texts(load_federation(made.path), Console())
    assert (found.name, found.classes, found.public) == ("small", CLASSES, ())
    assert len(found.train) + len(found.test) == 41 + 66 + 102
    # A third of 41 fingerprints is test, about: 0.3 with a deviation of 0.07 of the categories.
    assert 0.1 < len(found.test) / 209 < 0.5
    for text, label in zip(found.train, found.train_labels, strict=True):
        assert any(word in WORDS[CLASSES[label]] for word in text.split())


def test_rows_of_sites_do_not_come_together_where_they_are_no_sample(
    small_federation: Callable[..., SmallFederation],
) -> None:
    made = small_federation()
    with pytest.raises(UsageError, match="rows of its sites may not come together"):
        federation_texts(load_federation(made.path), Console())
