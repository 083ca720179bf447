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
    assert examined(a_round) == []


def test_all_containers_that_may_run_as_root_are_told_at_once(a_round: Documents) -> None:
    changed = copy.deepcopy(a_round)
    settings(changed)["exec-open-round"]["securityContext"].pop("runAsNonRoot")
    (left,) = examined(changed)
    assert left.message.startswith(
        f"1 of {len(settings(changed))} executors may run as root: exec-open-round; "
    )
    for each in settings(changed).values():
        each.pop("securityContext")
    assert [each.rule for each in examined(changed)] == ["security-context"]


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
    elsewhere = {"duplicate-key", "component-recursive", "security-context", "job-terms"}
    assert {rule for _, _, rule in ALL} | elsewhere == set(RULES)
