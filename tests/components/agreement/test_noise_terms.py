from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.agreement.noise_terms import (
    AdaptiveClipping,
    LocalTraining,
    MetricsNoise,
    NoiseTerms,
    read_noise_terms,
)
from components.errors import SignatureError
from tests.components.agreement.signed_form import NOISE


def test_a_round_has_the_noise_of_its_place_in_the_schedule() -> None:
    found = {number: NOISE.noise_multiplier(number) for number in range(-1, 9)}
    assert {number: sigma for number, sigma in found.items() if sigma} == {3: 2.5, 4: 1.5, 5: 1.25}
    assert (NOISE.first_round, NOISE.last_round) == (3, 5)


@given(first=st.integers(1, 1000), sigmas=st.lists(st.floats(0.1, 100), min_size=1, max_size=20))
def test_exactly_the_rounds_of_the_schedule_have_noise(first: int, sigmas: list[float]) -> None:
    terms = replace(NOISE, first_round=first, noise_multipliers=tuple(sigmas))
    around = range(first - 3, first + len(sigmas) + 3)
    found = [sigma for number in around if (sigma := terms.noise_multiplier(number)) is not None]
    assert found == sigmas
    assert terms.noise_multiplier(terms.last_round) == sigmas[-1]
    assert terms.noise_multiplier(terms.last_round + 1) is None


def test_terms_that_can_be_kept_have_no_problem() -> None:
    assert NOISE.problems() == []
    assert replace(NOISE, noise_multipliers=(1,), count_weight=1, target_epsilon=8).problems() == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"target_epsilon": 0}, "target_epsilon must be a finite number above 0"),
        ({"target_epsilon": -1.0}, "target_epsilon must be"),
        ({"target_epsilon": math.inf}, "target_epsilon must be"),
        ({"target_epsilon": math.nan}, "target_epsilon must be"),
        ({"target_epsilon": True}, "target_epsilon must be"),
        ({"target_epsilon": "8"}, "target_epsilon must be"),
        ({"delta": 0.0}, "delta must be a finite number above 0 and at most 1"),
        ({"delta": 1.5}, "delta must be a finite number above 0 and at most 1"),
        ({"delta": 1 / 9999}, "delta must be below 1/public_population"),
        ({"delta": 0.5}, "delta must be below 1/public_population, 0.0001, got 0.5"),
        ({"public_population": 10_000}, "delta must be below 1/public_population, 0.0001, got 0.0001"),
        ({"public_population": 0}, "public_population must be a whole number of at least 1"),
        ({"public_population": 50.0}, "public_population must be a whole number"),
        ({"first_round": 0}, "first_round must be a whole number of at least 1, got 0"),
        ({"first_round": True}, "first_round must be a whole number"),
        ({"rows_per_unit": 0}, "rows_per_unit must be a whole number of at least 1"),
        ({"count_weight": 0}, "count_weight must be a finite number above 0 and at most 1"),
        ({"count_weight": 1.5}, "count_weight must be a finite number above 0 and at most 1"),
        ({"noise_multipliers": ()}, "noise_multipliers must name the noise of one round at least"),
        ({"noise_multipliers": (1.0, 0.0)}, "noise_multipliers[2] must be a finite number above 0, got 0.0"),
        ({"noise_multipliers": (-1.0,)}, "noise_multipliers[1] must be"),
        ({"noise_multipliers": (math.inf,)}, "noise_multipliers[1] must be"),
        ({"noise_multipliers": (math.nan,)}, "noise_multipliers[1] must be"),
        ({"noise_multipliers": ("1",)}, "noise_multipliers[1] must be"),
        ({"noise_multipliers": (None, 1.0)}, "noise_multipliers[1] must be"),
        ({"unit": ""}, "unit must be row or the plain name of a column, got ''"),
        ({"unit": 3}, "unit must be row or the plain name of a column, got 3"),
        ({"unit": "patient; DROP"}, "unit must be row or the plain name of a column, got 'patient; DROP'"),
        ({"per": "year"}, "per must be total or month, got 'year'"),
        ({"metrics": MetricsNoise(noise_multiplier=0.0, rounds=(3,))}, "metrics.noise_multiplier must be a"),
        ({"metrics": MetricsNoise(noise_multiplier=9.0, rounds=())}, "metrics.rounds must be whole numbers"),
        ({"metrics": MetricsNoise(noise_multiplier=9.0, rounds=(4, 3))}, "metrics.rounds must be whole"),
        ({"metrics": MetricsNoise(noise_multiplier=9.0, rounds=(0, 3))}, "metrics.rounds must be whole"),
        ({"adaptive": AdaptiveClipping(quantile=1, learning_rate=0.2, weight=0.1)}, "adaptive.quantile must"),
        ({"adaptive": AdaptiveClipping(quantile=0.5, learning_rate=2, weight=0.1)}, "adaptive.learning_rate"),
        ({"adaptive": AdaptiveClipping(quantile=0.5, learning_rate=0.2, weight=0)}, "adaptive.weight must"),
    ],
    ids=str,
)
def test_a_broken_rule_is_told(change: dict[str, Any], problem: str) -> None:
    [found] = replace(NOISE, **change).problems()
    assert found.startswith(f"privacy.{problem}")
    assert len(found.splitlines()) == 1


def test_all_problems_are_told_at_once() -> None:
    broken: Any = {"target_epsilon": 0, "delta": 0, "first_round": 0, "noise_multipliers": (0, 0)}
    assert [problem.split()[0] for problem in replace(NOISE, **broken).problems()] == [
        "privacy.first_round",
        "privacy.target_epsilon",
        "privacy.delta",
        "privacy.noise_multipliers[1]",
        "privacy.noise_multipliers[2]",
    ]


LOCAL = LocalTraining(steps=4, sample_rate=0.25, learning_rate=1.5, max_grad_norm=1.0)
METRICS = MetricsNoise(noise_multiplier=9.0, rounds=(3, 5))
ADAPTIVE = AdaptiveClipping(quantile=0.5, learning_rate=0.25, weight=0.125)
OTHERS: dict[str, tuple[Any, Any]] = {
    "class_sum_start": (True, True),
    "local": (asdict(LOCAL), LOCAL),
    "unit": ("patient", "patient"),
    "metrics": (asdict(METRICS) | {"rounds": [3, 5]}, METRICS),
    "adaptive": (asdict(ADAPTIVE), ADAPTIVE),
    "per": ("month", "month"),
}
"""Of fields that are no numbers: as they are written, and as they are read."""


class TestForm:
    def test_what_is_written_is_read(self) -> None:
        document = asdict(NOISE)
        assert read_noise_terms(document) == NOISE
        assert read_noise_terms(document | {"noise_multipliers": [2.5, 1.5, 1.25]}) == NOISE
        assert read_noise_terms(None) is None

    @pytest.mark.parametrize(
        "document",
        [
            {},
            [],
            7,
            "x",
            asdict(NOISE) | {"hint": "x"},
            asdict(NOISE) | {"noise_multipliers": 2.5},
            asdict(NOISE) | {"noise_multipliers": None},
            asdict(NOISE) | {"metrics": {"rounds": [3]}},
            asdict(NOISE) | {"adaptive": {"quantile": 0.5}},
            *(
                {key: value for key, value in NOISE.document().items() if key != name}
                for name in NOISE.document()
            ),
        ],
        ids=repr,
    )
    def test_another_form_is_refused(self, document: Any) -> None:
        with pytest.raises(SignatureError, match="not in the form this version knows"):
            read_noise_terms(document)

    def test_what_was_added_later_is_written_where_it_says_something(self) -> None:
        added = {"unit", "metrics", "adaptive", "per"}
        assert added.isdisjoint(NOISE.document())
        assert read_noise_terms(NOISE.document()) == NOISE
        for name in added:
            changed = replace(NOISE, **{name: OTHERS[name][1]})
            assert changed.document().keys() & added == {name}
            assert read_noise_terms(changed.document()) == changed

    def test_every_field_is_kept(self) -> None:
        for name, value in asdict(NOISE).items():
            written, other = OTHERS.get(name, (None, None))
            if other is None:
                written = other = (*value, 1.0) if isinstance(value, tuple) else value + 1
            changed = read_noise_terms(asdict(NOISE) | {name: written})
            assert isinstance(changed, NoiseTerms)
            assert (getattr(changed, name), changed == NOISE) == (other, False)
