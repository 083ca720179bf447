"""One round under each protection: the same model, and the mean that numpy computes (Eq. 2 and 6)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from components.artifacts import tensors
from tests.components.aggregation.three_sites import SITES, ThreeSites

PROTECTIONS = ("none", "he", "smc", "masked", "sealed")
# Integers: half a step a site, a step being max_examples times largest_value by (2^22 - 1) // 3 under
# `sealed` and by (2^31 - 1) // 3 in words of 32 bits, over 82 examples. `he` opens the sum to 1e-4, and it
# is divided by the examples; `none` rounds to float32.
TOLERANCE = {
    "none": 1e-7,
    "he": 1e-5,
    "smc": 3 / 2 * (1000 * 10.0 / 715827882) / 82 + 1e-7,
    "masked": 3 / 2 * (1000 * 10.0 / 715827882) / 82 + 1e-7,
    "sealed": 3 / 2 * (1000 * 10.0 / 1398101) / 82 + 1e-7,
}


@pytest.mark.parametrize("hidden_units", [0, 8])
def test_all_commit_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden_units: int
) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    models = {protection: committed(protection, hidden_units) for protection in PROTECTIONS}
    for protection in ("he", "smc", "masked", "sealed"):
        for name, values in models["none"].items():
            np.testing.assert_allclose(
                models[protection][name], values, rtol=0, atol=TOLERANCE[protection] + 1e-6
            )


def committed(protection: str, hidden_units: int) -> tensors.Tensors:
    """The model after one round, which is the mean of what the sites keep in their own stores."""
    three = ThreeSites.start(protection, protection=protection, hidden_units=hidden_units)
    parent = three.model(three.opened.ticket.model)
    model = three.model(three.committed().manifest["model"])
    moved: NDArray[np.float64] = flat(model) - flat(parent)
    vectors = [three.weighted(site) for site in SITES]
    assert [vector[-1] for vector in vectors] == [26, 16, 40]
    updates, counts = [v[:-1] / v[-1] for v in vectors], [v[-1] for v in vectors]
    expected = np.average(updates, axis=0, weights=counts)
    # What a site keeps as integers is in whole steps already: their mean is exact but for float32.
    tolerance = 2e-7 if protection in {"smc", "masked", "sealed"} else TOLERANCE[protection]
    np.testing.assert_allclose(moved, expected, rtol=0, atol=tolerance)
    assert np.abs(moved).max() > 0.01  # a hundred times what they may differ by
    return model


def flat(model: tensors.Tensors) -> NDArray[np.float64]:
    return np.concatenate([model[name].ravel().astype(np.float64) for name in sorted(model)])
