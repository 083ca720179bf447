"""Devices by name, and one line where there is none or too little of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from components.errors import SiteError, UsageError
from components.execution.devices import (
    devices_named,
    kind_of,
    require_one_kind,
    telling_the_mend,
)
from components.execution.outcome import Outcome, disclosed_reason
from components.execution.site_step import SiteStep

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
# Four petabytes: no machine has them, whatever it overcommits.
TOO_MANY = 1 << 50


class TestNames:
    def test_a_processor_is_one_device(self) -> None:
        assert devices_named("cpu") == ("cpu",)

    @without_cuda
    def test_auto_takes_the_processor_where_there_is_nothing_else(self) -> None:
        assert devices_named("auto") == ("cpu",)

    @without_cuda
    @pytest.mark.parametrize("device", ["cuda", "cuda:1"])
    def test_cuda_that_is_not_there_is_one_clear_line(self, device: str) -> None:
        with pytest.raises(SiteError) as caught:
            devices_named(device)
        told = f"device {device} was asked for, but this site has none: use auto or cpu"
        assert disclosed_reason(caught.value) == f"failed: {told}"
        assert str(caught.value).startswith(f"{told} (")
        assert "\n" not in str(caught.value)

    @needs_cuda
    def test_cuda_is_every_gpu_like_the_first(self) -> None:
        found = devices_named("cuda")
        assert found == devices_named("auto")
        assert found[0] == "cuda:0"
        assert {kind_of(device) for device in found} == {kind_of("cuda:0")}

    @needs_cuda
    @pytest.mark.parametrize(("visible", "expected"), [("", "('cpu',)"), ("0", "('cuda:0',)")])
    def test_gpus_that_are_hidden_are_not_used(self, visible: str, expected: str) -> None:
        """In an interpreter of its own: the driver reads the variable once."""
        script = "from components.execution.devices import devices_named\nprint(devices_named('auto'))\n"
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": visible}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected

    def test_devices_of_several_kinds_are_refused(self) -> None:
        require_one_kind(["cpu", "cpu"])
        with pytest.raises(UsageError, match=r"one kind, which rounds alike, got cpu, meta$"):
            require_one_kind(["cpu", "meta"])
        with pytest.raises(UsageError, match=r"got none$"):
            require_one_kind([])


def too_large_tensor() -> object:
    return torch.empty(TOO_MANY)


def too_large_array() -> object:
    return np.empty(TOO_MANY, np.float32)


def gpu_that_is_full() -> object:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has …")


def library_without_workspace() -> object:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


class TestOutOfMemory:
    @pytest.mark.parametrize("work", [too_large_tensor, too_large_array])
    def test_of_the_host(self, work: Callable[[], object]) -> None:
        with pytest.raises(MemoryError) as caught, telling_the_mend("in training", mend="lower it"):
            work()
        assert str(caught.value) == "memory ran out in training: give the step more memory, or lower it"
        assert disclosed_reason(caught.value) == "oom"

    @pytest.mark.parametrize("work", [gpu_that_is_full, library_without_workspace])
    def test_of_a_gpu(self, work: Callable[[], object]) -> None:
        with pytest.raises(MemoryError) as caught, telling_the_mend("in training", mend="lower it"):
            work()
        assert str(caught.value) == (
            "the GPU ran out of memory in training: give the step a GPU with more memory, or one that nothing"
            " else uses, lower it, or use device cpu"
        )
        assert disclosed_reason(caught.value) == "oom"

    @needs_cuda
    def test_of_a_real_gpu(self) -> None:
        with pytest.raises(MemoryError, match=r"^the GPU ran out of memory"), telling_the_mend("", mend=""):
            torch.empty(TOO_MANY, device="cuda")

    @pytest.mark.parametrize(
        "error", [RuntimeError("shapes do not fit"), ValueError("out of memory"), KeyError()]
    )
    def test_other_errors_stay_as_they_are(self, error: Exception) -> None:
        with pytest.raises(type(error)) as caught, telling_the_mend("in training", mend="lower it"):
            raise error
        assert caught.value is error

    def test_a_site_tells_oom_and_keeps_the_mend_in_its_notes(self, tmp_path: Path) -> None:
        def work() -> Outcome:
            with telling_the_mend("in training", mend="lower it"):
                too_large_tensor()
            return Outcome(reference="never")

        for folder in ("store", "exchange"):
            (tmp_path / folder).mkdir()
        step = SiteStep(
            name="train",
            site="alpha",
            store_uri=str(tmp_path / "store"),
            exchange_uri=str(tmp_path / "exchange"),
            ticket="",
            deadline_s=60,
        )
        assert step.run(work) == Outcome(reason="oom")
        (note,) = (tmp_path / "store/notes").iterdir()
        assert "memory ran out in training: give the step more memory, or lower it" in note.read_text()
        assert "DefaultCPUAllocator" in note.read_text()  # the cause stands in the trace
