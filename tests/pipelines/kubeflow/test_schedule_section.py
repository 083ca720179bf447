"""The section `schedule` of a federation file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from components.errors import FederationFileError
from pipelines.federation import load_federation
from tests.conftest import SmallFederation


def problems(made: SmallFederation, schedule: Any) -> list[str]:
    made.document["schedule"] = schedule
    with pytest.raises(FederationFileError) as caught:
        load_federation(made.save())
    return [line.removeprefix(f"{made.path}: ") for line in str(caught.value).splitlines()]


def test_a_file_without_one_is_not_scheduled(small_federation: Callable[..., SmallFederation]) -> None:
    assert load_federation(small_federation(rows=0).path).schedule is None


def test_it_is_enabled_unless_the_file_says_otherwise(
    small_federation: Callable[..., SmallFederation],
) -> None:
    made = small_federation(rows=0, schedule={"cron": "0 0  3 * * *"})
    found = load_federation(made.path).schedule
    assert found is not None
    assert (found.cron, found.enabled) == ("0 0 3 * * *", True)


def test_every_problem_is_told_with_its_path(small_federation: Callable[..., SmallFederation]) -> None:
    made = small_federation(rows=0)
    assert problems(made, {"cron": "0 61 25 * * *"}) == [
        "schedule.cron: minutes must be from 0 to 59, got '61'",
        "schedule.cron: hours must be from 0 to 23, got '25'",
    ]
    assert problems(made, {"cron": "0 0 3 * * *", "timezone": "UTC"}) == [
        "schedule.timezone: Extra inputs are not permitted, got 'UTC'"
    ]
    assert problems(made, {}) == ["schedule.cron: Field required"]
    assert problems(made, {"cron": "0 0 3 * * *", "enabled": "perhaps"})[0].startswith("schedule.enabled: ")
