"""torch, set so that the same arguments give the same bytes on the same kind of machine."""

from __future__ import annotations

import os

from components.execution.devices import devices_named

SMALL_STEP = 1 << 26
"""Multiplications a step below which a second thread costs more than it brings, most of all on a busy
machine: threads that wait for each other between two tiny products spin."""


def make_reproducible(device: str, multiplications: int) -> None:
    """Sets torch for this process; `multiplications` is about what one step needs."""
    import torch

    if device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As torch.use_deterministic_algorithms(True), which would load the compiler for 1.4 s.
    torch.set_deterministic_debug_mode("error")
    if multiplications < SMALL_STEP:
        torch.set_num_threads(1)


def chosen(device: str) -> str:
    """The one device that a step trains on: the first that the name stands for.

    Raises:
        SiteError: CUDA was asked for and there is none.
    """
    return devices_named(device)[0]
