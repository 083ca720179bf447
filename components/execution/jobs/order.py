"""What is to be done, where, and under which name: the same order gives the same Job."""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.errors import UsageError

START_GRACE_S = 600
"""Seconds a Job may wait for a node and its image on top of the step's own deadline: a node with an
accelerator that is made on request takes minutes."""

_STEP = re.compile(r"[a-z]{1,20}")
_REQUEST = re.compile(r"[0-9a-f]{64}")
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_RESOURCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,200}/[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LONGEST_DEADLINE_S = 7 * 24 * 3600
_MOST_ACCELERATORS = 16
_REQUEST_DIGITS = 20


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """Extended resource of a node, and how many of it.

    Attributes:
        type: its name, such as `nvidia.com/gpu`.
        count: 1 to 16.

    Raises:
        UsageError: the name is not one of an extended resource, or the count is out of range.
    """

    type: str
    count: int

    def __post_init__(self) -> None:
        if not _RESOURCE.fullmatch(self.type):
            raise UsageError(f"accelerator type must be like nvidia.com/gpu, got {self.type[:80]!r}")
        if not 1 <= self.count <= _MOST_ACCELERATORS:
            raise UsageError(f"accelerator count must be 1 to {_MOST_ACCELERATORS}, got {self.count}")


@dataclass(frozen=True, kw_only=True)
class JobOrder:
    """One step of one site, to be done as a Job.

    Attributes:
        step: its name, such as `train`.
        request: 64 hex digits, the digest of the signed request.
        deadline_s: seconds the step may take once it runs, 1 to 7 days.
        accelerator: that the step gets, if any.

    Raises:
        UsageError: a value is not of this form.
    """

    step: str
    request: str
    deadline_s: int
    accelerator: Accelerator | None = None

    def __post_init__(self) -> None:
        if not _STEP.fullmatch(self.step):
            raise UsageError(f"a step's name is 1 to 20 small letters, got {self.step[:40]!r}")
        if not _REQUEST.fullmatch(self.request):
            raise UsageError(f"a request is named by 64 hex digits, got {self.request[:80]!r}")
        if not 1 <= self.deadline_s <= _LONGEST_DEADLINE_S:
            raise UsageError(
                f"deadline_s must be 1 to {_LONGEST_DEADLINE_S} seconds (7 days), got {self.deadline_s}"
            )

    @property
    def job(self) -> str:
        """Name of its Job."""
        return job_name(self.step, self.request)

    @property
    def arguments(self) -> list[str]:
        """What the Job's container is called with."""
        return [self.step, self.request]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where Jobs are made.

    Attributes:
        namespace: of the Jobs.
        kubeconfig: path of the file that opens the cluster; empty for the cluster this process runs in.

    Raises:
        UsageError: no namespace has such a name.
    """

    namespace: str
    kubeconfig: str = ""

    def __post_init__(self) -> None:
        if not _NAMESPACE.fullmatch(self.namespace):
            raise UsageError(f"a namespace is a DNS label, got {self.namespace[:80]!r}")


def job_name(step: str, request: str) -> str:
    """Name of the one Job that does `request`; whoever asks again finds that Job."""
    return f"crosscloud-{step}-{request[:_REQUEST_DIGITS]}"
