from __future__ import annotations

import json

import pytest

from components.agreement.methods import COMPARED
from components.errors import UsageError
from components.evaluation.method_measurement.configurations import (
    CHOICE,
    EPSILONS,
    FIGURES,
    PROTECTION,
    Configuration,
    Scope,
    cost_of,
    figures_of,
    stages,
)


def flat(scope: Scope) -> list[Configuration]:
    return [configuration for stage in stages(scope) for configuration in stage]


@pytest.mark.parametrize("quick", [False, True])
def test_every_figure_has_configurations_of_every_method(quick: bool) -> None:
    found = flat(Scope(quick=quick, seeds=(1,)))
    for figure in FIGURES:
        methods = {
            each.get("method") for each in found if figure in figures_of(each) and each["kind"] != CHOICE
        }
        assert methods >= set(COMPARED), figure


def test_no_configuration_is_measured_twice_and_each_is_json() -> None:
    texts = [json.dumps(each, sort_keys=True) for each in flat(Scope())]
    assert len(set(texts)) == len(texts)
    assert [json.loads(text) for text in texts] == flat(Scope())


def test_choices_come_before_what_is_measured_with_them() -> None:
    first, second = stages(Scope())
    assert {each["kind"] for each in first} == {"choice", "centralised"}
    assert not {"choice", "centralised"} & {each["kind"] for each in second}


def test_protection_is_measured_at_every_epsilon_and_seed() -> None:
    found = [each for each in flat(Scope(seeds=(4, 5, 6))) if each["kind"] == PROTECTION]
    for method in ("ours", "dp-fl"):
        settings = {(each["epsilon"], each["seed"]) for each in found if each["method"] == method}
        assert settings == {(epsilon, seed) for epsilon in EPSILONS for seed in (4, 5, 6)}
    assert {each["epsilon"] for each in found if each["method"] in ("fedavg", "smc-fl", "he-fl")} == {None}
    # Half of them are in: 5,000 members a seed.
    assert all(each["canaries"] == 10_000 for each in found)


def test_one_figure_asks_for_no_more_than_it_needs() -> None:
    found = flat(Scope(figures=("migration",), methods=("ours",)))
    assert {each["kind"] for each in found} == {"choice", "migration"}
    assert all(each["method"] == "ours" for each in found)


def test_heavy_ones_come_first_and_all_take_time() -> None:
    for stage in stages(Scope()):
        costs = [cost_of(each) for each in stage]
        assert costs == sorted(costs, reverse=True)
        assert min(costs) > 0


@pytest.mark.parametrize(
    ("scope", "rule"),
    [
        (
            {"figures": ("protection", "beauty")},
            "unknown figure 'beauty': known are protection",
        ),
        ({"methods": ("ours", "theirs")}, "unknown method 'theirs': known are fedavg, dp-fl"),
        ({"figures": ()}, "no figure is asked for"),
        ({"sites": 1}, "at least 3 sites, of which one may collude, got 1"),
        ({"seeds": ()}, "at least one seed"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(scope: dict[str, object], rule: str) -> None:
    with pytest.raises(UsageError, match=rule) as refused:
        Scope(**scope)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
