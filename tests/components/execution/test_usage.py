"""What the run's page is told: padded figures without an epsilon, and none with one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from components.execution.usage import peak_memory, usage

GIB = 1 << 30


class TestUsage:
    def test_without_an_epsilon_it_is_padded(self) -> None:
        """With the seconds that the journal tells, the exact rate would be the number of rows."""
        for rows in (257, 300, 512):
            found = usage({"host": 123_456_789}, rows=rows, seconds=2.0, is_private=False)
            assert found == {"peak_host_memory_bytes": float(1 << 27), "rows_per_second": 256.0}

    def test_several_gpus_are_told_apart_beside_the_fullest(self) -> None:
        found = usage({"0": 3 * GIB, "1": 7 * GIB}, rows=10, seconds=1.0, is_private=False)
        assert found == {
            "peak_gpu_memory_bytes": 8.0 * GIB,
            "peak_gpu_memory_bytes_0": 4.0 * GIB,
            "peak_gpu_memory_bytes_1": 8.0 * GIB,
            "rows_per_second": 16.0,
        }
        assert usage({"0": GIB}, rows=0, seconds=1.0, is_private=False) == {
            "peak_gpu_memory_bytes": 1.0 * GIB
        }

    def test_under_an_epsilon_nothing_is_told(self) -> None:
        for peaks in ({"host": 1}, {"host": 5 * GIB}, {"0": GIB, "1": 1}):
            assert usage(peaks, rows=7, seconds=3.0, is_private=True) == {}


class TestPeakMemory:
    def test_of_the_host_it_is_at_least_what_was_held(self) -> None:
        """In an interpreter of its own, without torch: 200 MB that were written to, and given back."""
        script = (
            "import sys\n"
            "from components.execution.usage import peak_memory\n"
            "before = peak_memory('cpu')['host']\n"
            "held = bytearray(b'x') * 200_000_000\n"
            "del held\n"
            "assert 'torch' not in sys.modules\n"
            "print(peak_memory('cpu')['host'] - before)\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        # The kernel counts pages in steps, and the interpreter touches some of its own.
        assert 190_000_000 < int(done.stdout) < 220_000_000

    def test_a_step_that_has_used_no_gpu_tells_of_the_host(self) -> None:
        import torch

        assert peak_memory("cpu").keys() == {"host"}
        if not torch.cuda.is_available():
            assert peak_memory("auto").keys() == {"host"}

    def test_of_a_gpu_it_is_what_tensors_took(self) -> None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs CUDA")
        torch.cuda.reset_peak_memory_stats(0)
        held = torch.zeros(50_000_000, dtype=torch.float32, device="cuda:0")
        assert peak_memory("cuda")["0"] >= held.numel() * 4
        assert "host" not in peak_memory("cuda")
