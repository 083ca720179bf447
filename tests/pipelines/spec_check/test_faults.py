"""Faults put into a round that is whole, each found by the rule that it breaks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.spec_check.findings import RULES
from tests.pipelines.spec_check.policy_faults import POLICY, SECRET
from tests.pipelines.spec_check.specs import Documents, broken, examined, settings
from tests.pipelines.spec_check.structure_faults import FIELDS, REFERENCES, WIRES

ALL = [*REFERENCES, *WIRES, *FIELDS, *POLICY]


def test_the_round_is_whole(a_round: Documents) -> None:
    assert [each.rule for each in examined(a_round)] == ["security-context"]


def test_a_round_whose_containers_are_kept_from_root_has_no_finding(a_round: Documents) -> None:
    changed = copy.deepcopy(a_round)
    for each in settings(changed).values():
        each["securityContext"] = {"runAsNonRoot": True, "runAsUser": 1000}
    settings(changed)["exec-open-round"]["securityContext"].pop("runAsNonRoot")
    (left,) = examined(changed)
    assert left.message.startswith(
        f"1 of {len(settings(changed))} executors may run as root: exec-open-round; "
    )
    settings(changed)["exec-open-round"]["securityContext"]["runAsNonRoot"] = True
    assert examined(changed) == []


@pytest.mark.parametrize(("how", "rule"), [pytest.param(how, rule, id=name) for name, how, rule in ALL])
def test_a_fault_is_found(a_round: Documents, how: Callable[[Documents], Any], rule: str) -> None:
    found = broken(a_round, how)
    assert rule in {each.rule for each in found}
    for each in found:
        assert each.severity == RULES[each.rule].severity
        assert each.message.isprintable(), "one line"
        assert "hunter2" not in each.message
        assert SECRET not in each.message


def test_every_rule_is_broken_by_a_fault() -> None:
    elsewhere = {"duplicate-key", "component-recursive", "security-context"}
    assert {rule for _, _, rule in ALL} | elsewhere == set(RULES)
