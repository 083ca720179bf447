"""The devices that a step is given, and what is said when one of them is missing or too small."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

from components.errors import SiteError, UsageError

# What torch's errors say where memory ran out and their type does not: those of the processor's allocator, of
# the driver, and of a library that asked the driver itself.
_HOST_OUT_OF_MEMORY = "can't allocate memory"
_GPU_OUT_OF_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def devices_named(device: str) -> tuple[str, ...]:
    """The devices that a name stands for, the first one first.

    `cuda` is every GPU that this process sees, so `CUDA_VISIBLE_DEVICES` is honoured, and `auto` is `cuda`
    where there is one and `cpu` elsewhere. GPUs of another kind than the first are left out: they round
    otherwise, and a text's feature would depend on which of them was free.

    Args:
        device: `auto`, `cpu`, `cuda`, or one device by its name in torch (`cuda:1`).

    Raises:
        SiteError: CUDA was asked for and there is none.
    """
    import torch

    present = torch.cuda.is_available()
    if device == "auto":
        device = "cuda" if present else "cpu"
    if device.startswith("cuda") and not present:
        text = f"device {device} was asked for, but this site has none: use auto or cpu"
        raise SiteError(f"{text} ({_why_none()})", disclosed=text)
    if device != "cuda":
        return (device,)
    every = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return tuple(name for name in every if kind_of(name) == kind_of(every[0]))


def kind_of(device: str) -> Hashable:
    """What two devices have in common that round alike: model, architecture and number of processors."""
    import torch

    if not device.startswith("cuda"):
        return device.partition(":")[0]
    found = torch.cuda.get_device_properties(device)
    return found.name, found.major, found.minor, found.multi_processor_count


def require_one_kind(devices: Sequence[str]) -> None:
    """Refuses devices that would round one text differently.

    Raises:
        UsageError: there are none, or they are of several kinds.
    """
    if len({kind_of(device) for device in devices}) != 1:
        named = ", ".join(devices) or "none"
        raise UsageError(f"devices must be one or more of one kind, which rounds alike, got {named}")


def has_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 natively; emulation is several times slower than float32."""
    if device.startswith("cuda"):
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.system() != "Linux":
        return False
    flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    return "avx512_bf16" in flags or "amx_bf16" in flags


@contextlib.contextmanager
def telling_the_mend(doing: str, *, mend: str) -> Iterator[None]:
    """Whatever torch and numpy raise where memory runs out becomes one line that says what helps.

    Nothing is tried again with less at a time: how much there is at a time decides how sums are rounded, and
    the rows of one record must not decide it for the others.

    Args:
        doing: what runs in this context, for the site's own people.
        mend: what may be changed, beside a larger device.

    Raises:
        MemoryError: memory ran out; a site tells it as `oom`, and keeps the line in its notes.
    """
    try:
        yield
    except Exception as error:
        if _is_out_of_gpu_memory(error):
            larger = "a GPU with more memory, or one that nothing else uses"
            text = f"the GPU ran out of memory {doing}: give the step {larger}, {mend}, or use device cpu"
            raise MemoryError(text) from error
        if _is_out_of_host_memory(error):
            raise MemoryError(f"memory ran out {doing}: give the step more memory, or {mend}") from error
        raise


def _is_out_of_gpu_memory(error: Exception) -> bool:
    # By its name, so that whoever has no torch need not load it.
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _GPU_OUT_OF_MEMORY)
    )


def _is_out_of_host_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _HOST_OUT_OF_MEMORY in str(error)
    )


def _why_none() -> str:
    """For the site's own people, who can mend it."""
    import torch

    if torch.version.cuda is None:
        return "torch is built without CUDA here: take an image that is built on CUDA"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return f"CUDA_VISIBLE_DEVICES is {visible!r}"
    return "no driver or no device is seen: is a GPU requested for this step?"
