from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from components.errors import RefusedError, UsageError
from components.privacy.events import DiscreteGaussianSum
from components.privacy.round_noise import is_private, round_event, round_mechanism, shares_noise
from tests.components.agreement.signed_form import CHARTER, NOISE, NOISED

SHAPES = {"output.bias": (4,), "output.weight": (4, 24)}


def test_the_mechanism_of_a_round_is_the_charters() -> None:
    for number, sigma in ((3, 2.5), (4, 1.5), (5, 1.25)):
        found = round_mechanism(NOISED, number, SHAPES)
        assert (found.noise_multiplier, found.dimensions) == (sigma, 100)
        assert (found.sites, found.min_sum_sites, found.colluding_sites) == (3, 3, 1)
        assert (found.clipping_norm, found.count_weight) == (2.5, 0.125)


def test_the_event_is_what_the_mechanism_releases_about_a_unit_of_so_many_rows() -> None:
    event = round_event(NOISED, 4, SHAPES)
    assert isinstance(event, DiscreteGaussianSum)
    assert (event.noise_multiplier, event.dimensions, event.sites, event.rows_per_unit) == (1.5, 101, 3, 2)
    # sigma Delta / sqrt(u_min - t), Delta in steps of 2^-20 C.
    sensitivity = 2**20 * math.sqrt(1 + 0.125**2) + math.sqrt(100) + 1
    assert event.share_sigma == pytest.approx(1.5 * sensitivity / math.sqrt(2), rel=1e-6)
    assert event == round_mechanism(NOISED, 4, SHAPES).event(rows_per_unit=2)


@pytest.mark.parametrize("round_number", [-1, 0, 1, 2, 6, 1000])
def test_a_round_outside_the_schedule_has_no_noise_to_release_under(round_number: int) -> None:
    for ask in (round_mechanism, round_event):
        with pytest.raises(RefusedError) as caught:
            ask(NOISED, round_number, SHAPES)
        assert str(caught.value) == caught.value.disclosed
        assert str(caught.value) == (
            f"round {round_number} is outside the charter's schedule of noise, rounds 3 to 5: "
            "its privacy budget is used up"
        )


def test_a_charter_without_noise_has_no_mechanism() -> None:
    with pytest.raises(RefusedError, match=r"^round 3 is outside the charter's schedule of noise$"):
        round_mechanism(CHARTER, 3, SHAPES)
    assert not is_private(CHARTER)
    assert not shares_noise(CHARTER)
    assert is_private(NOISED)
    assert shares_noise(NOISED)


@pytest.mark.parametrize(
    "change",
    [
        {"privacy": replace(NOISE, noise_multipliers=(1e-9,))},
        {"privacy": replace(NOISE, noise_multipliers=(1e9,))},
        {"colluding_sites": 2},
        {"min_sum_sites": 4},
        {"clipping_norm": math.inf},
    ],
    ids=str,
)
def test_numbers_that_make_no_mechanism_are_told(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        round_mechanism(replace(NOISED, **change), 3, SHAPES)
