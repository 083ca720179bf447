"""Runs compiled pipelines on this machine, with Kubeflow's own local runner and no cluster.

`LocalRunner` is all that callers need. It keeps one process (`host`) that imports kfp once and runs every
round it is asked to; that process leads a session of its own, so that its steps can be ended with it, and it
ends as soon as the caller's process has.
"""

from __future__ import annotations

from pipelines.local.events import RunOutcome, StepEvent
from pipelines.local.runner import ENCODER_MODULES, WARM_MODULES, LocalRunner

__all__ = ["ENCODER_MODULES", "WARM_MODULES", "LocalRunner", "RunOutcome", "StepEvent"]
