from __future__ import annotations

from typing import Any

import pytest

from components.errors import UsageError
from components.execution.jobs.order import Accelerator, Cluster, JobOrder, job_name

REQUEST = "0123456789abcdef" * 4


def test_a_job_is_named_by_step_and_request() -> None:
    assert job_name("train", REQUEST) == "crosscloud-train-0123456789abcdef0123"
    order = JobOrder(step="evaluate", request=REQUEST, deadline_s=1)
    assert order.job == "crosscloud-evaluate-0123456789abcdef0123"
    assert order.arguments == ["evaluate", REQUEST]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"step": "Train"}, "a step's name"),
        ({"step": "train;rm"}, "a step's name"),
        ({"request": "abc"}, "64 hex digits"),
        ({"request": REQUEST.upper()}, "64 hex digits"),
        ({"request": REQUEST + "\n"}, "64 hex digits"),
        ({"deadline_s": 0}, "1 to 604800"),
        ({"deadline_s": 604801}, "got 604801"),
    ],
)
def test_orders_of_another_form_are_refused(changes: dict[str, Any], line: str) -> None:
    terms: dict[str, Any] = {"step": "train", "request": REQUEST, "deadline_s": 60} | changes
    with pytest.raises(UsageError, match=line):
        JobOrder(**terms)


@pytest.mark.parametrize("kind", ["cpu", "memory", "nvidia.com/", "/gpu", "nvidia.com/gpu\n", "a b/c"])
def test_an_accelerator_is_an_extended_resource(kind: str) -> None:
    with pytest.raises(UsageError, match=r"nvidia\.com/gpu"):
        Accelerator(type=kind, count=1)


@pytest.mark.parametrize("count", [0, 17, -1])
def test_accelerators_are_counted(count: int) -> None:
    with pytest.raises(UsageError, match=f"1 to 16, got {count}"):
        Accelerator(type="nvidia.com/gpu", count=count)


@pytest.mark.parametrize("name", ["", "Alpha", "a_b", "a/b", "-a", "a" * 64, "a\n"])
def test_a_namespace_is_a_dns_label(name: str) -> None:
    with pytest.raises(UsageError, match="DNS label"):
        Cluster(namespace=name)
