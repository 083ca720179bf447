"""Whatever is taken out of a spec, renamed or put into it: findings or one line, never a trace."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.errors import UsageError
from pipelines.spec_check.findings import RULES
from tests.pipelines.spec_check.specs import Documents, examined

ODD: list[Any] = [
    None, True, 0, -1, 1.5, 10**400, "", "x", "{{$.inputs.parameters['x']}}", "\ud800", "a\nb\x1b[0m", [], {},
    ["x"], {"x": {}}, [[[]]], {"runtimeValue": {"constant": None}},
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything in a value."""
    found = [path] if path else []
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(each, (dict, list)):
            found += places(each, (*path, key))
        else:
            found.append((*path, key))
    return found


def change(documents: Documents, data: st.DataObject) -> None:
    """Takes something out, renames it, puts something odd in its place, or copies another part there."""
    path = data.draw(st.sampled_from(places(documents)))
    holder: Any = documents
    for key in path[:-1]:
        holder = holder[key]
    last = path[-1]
    kind = data.draw(st.sampled_from(["delete", "rename", "odd", "copy"]))
    if kind == "delete":
        del holder[last]
    elif kind == "rename" and isinstance(holder, dict):
        holder[data.draw(st.sampled_from([f"{last}x", "", "root", "name", "\u2028"]))] = holder.pop(last)
    elif kind == "copy":
        other: Any = documents
        for key in data.draw(st.sampled_from(places(documents))):
            other = other[key]
        holder[last] = copy.deepcopy(other)
    else:
        holder[last] = copy.deepcopy(data.draw(st.sampled_from(ODD)))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_no_change_of_a_spec_ends_in_a_trace(a_start: Documents, data: st.DataObject) -> None:
    changed = copy.deepcopy(a_start)
    for _ in range(data.draw(st.integers(1, 3))):
        if places(changed):
            change(changed, data)
    refusal, found = "", []
    try:
        found = examined(changed)
    except UsageError as error:
        refusal = str(error)
    assert refusal.isprintable(), "one line"
    for each in found:
        assert each.rule in RULES
        assert each.message.isprintable(), "one line"
        assert each.location.json_path.isprintable()
        assert each.location.line >= 1


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_site_that_loses_any_of_its_settings_is_found(a_start: Documents, data: st.DataObject) -> None:
    """Nothing of what places a site's step, and no task, can go without a finding."""
    changed = copy.deepcopy(a_start)
    executors = changed[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    tasks = changed[0]["root"]["dag"]["tasks"]
    lost: list[tuple[dict[str, Any], str]] = [
        (executors, label) for label in executors if label != "exec-open-round"
    ]
    lost += [(executors[label], "nodeSelector") for label in executors if label != "exec-open-round"]
    lost += [(tasks, "open-round"), (tasks, "ingest"), (tasks, "augment")]
    lost += [(changed[0]["components"], name) for name in changed[0]["components"]]
    lost += [(changed[0]["deploymentSpec"]["executors"], label) for label in executors]
    holder, key = data.draw(st.sampled_from(lost))
    del holder[key]
    assert [each for each in examined(changed) if each.severity == "error"]
