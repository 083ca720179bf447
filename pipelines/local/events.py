"""What a local run tells about itself: while it goes on, and when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["started", "succeeded", "failed", "progress"]


@dataclass(frozen=True, kw_only=True)
class StepEvent:
    """One thing that happened to one task.

    Attributes:
        task: The task's name in the compiled pipeline, such as `train-2`.
        title: Its display name, such as `train · aws`.
        status: A task that is retried starts again after it failed.
        seconds: Time since the task started; None when it starts.
        message: The text of a progress line; empty otherwise.
    """

    task: str
    title: str
    status: Status
    seconds: float | None = None
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        succeeded: Whether every task that had to succeed did.
        error: One line saying why not; empty when it succeeded.
        error_type: The class of `components.errors` that the failing step named; empty when it named none.
        seconds: Wall time of the run as the caller waited for it.
        steps: Seconds by the title of each task that ran, in the order in which they ended.
        parameters: Output parameters by title, of the tasks that have any.
    """

    succeeded: bool
    error: str
    error_type: str
    seconds: float
    steps: Mapping[str, float]
    parameters: Mapping[str, Mapping[str, Any]]
