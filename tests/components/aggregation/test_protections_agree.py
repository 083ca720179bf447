"""One round under `none` and under `he`: the same model, and the mean that numpy computes (Eq. 2 and 6)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.agreement.site_update import read_update
from tests.components.aggregation.three_sites import SITES, ThreeSites


@pytest.mark.parametrize("hidden_units", [0, 8])
def test_he_and_none_commit_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden_units: int
) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    models, moved = {}, {}
    for protection in ("none", "he"):
        three = ThreeSites.start(protection, protection=protection, hidden_units=hidden_units)
        for round_number in (1, 2):
            parent = three.model(three.opened.ticket.model)
            committed = three.committed()
            assert committed.manifest["round"] == round_number
            model = three.model(committed.manifest["model"])
            # `he` opens the sum to 1e-4, and it is divided by 82 examples; `none` rounds to float32.
            tolerance = 1e-5 if protection == "he" else 1e-7
            expected = mean_update(three)
            names = sorted(parent)
            flat = np.concatenate([(model[name].astype(np.float64) - parent[name]).ravel() for name in names])
            np.testing.assert_allclose(flat, expected, rtol=0, atol=tolerance)
            models[protection, round_number] = model
            moved[protection] = np.abs(flat).max()
            if round_number == 1:
                three = three.next_round()
    for round_number in (1, 2):
        one, other = models["none", round_number], models["he", round_number]
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_allclose(other[name], one[name], rtol=0, atol=1e-5)
    assert min(moved.values()) > 0.01  # a thousand times what they may differ by


def mean_update(three: ThreeSites) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Σ nᵢΔwᵢ / Σ nᵢ from what the sites keep in their own stores."""
    updates = [read_update(three.place(site).store, three.opened.ticket) for site in SITES]
    weights = [update.num_examples for update in updates]
    assert weights == [26, 16, 40]
    result: np.ndarray[tuple[int], np.dtype[np.float64]] = np.average(
        [update.values for update in updates], axis=0, weights=weights
    )
    return result
