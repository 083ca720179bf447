"""A frozen language model as a feature extractor (Eq. 3).

Mean pooling over the last hidden state, as in Sentence-BERT (Reimers and Gurevych 2019), scaled to
norm √d, so that a coordinate has unit mean square and ordinary learning rates fit.

A text's feature depends on the text and on nothing else that is encoded with it. How a matrix product rounds
follows from its shape, so a batch holds texts of one length and always as many of them, filled up with copies
where there are fewer: one record more or less at a site then leaves every other record's feature as it was,
bit for bit, which is what the sensitivity of its sums rests on.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.errors import EncoderError

if TYPE_CHECKING:
    import torch

PACKAGE_SCHEME = "package:"
# Above this many tokens a batch the activations of a small encoder leave a processor's cache and
# throughput halves; a GPU wants many times more.
CPU_TOKENS_PER_BATCH = 512
CUDA_TOKENS_PER_BATCH = 32_768


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """Which language model, exactly.

    Attributes:
        name: folder, `package:NAME` for one carried by a Python package, or a hub id.
        revision: of a hub id; a commit is best.
        digest: SHA-256 of `model.safetensors`; empty to accept any.
        max_length: tokens a text is cut to, special tokens included.
        dimensions: width of its hidden state.
    """

    name: str
    revision: str
    digest: str
    max_length: int
    dimensions: int


def locate(spec: EncoderSpec) -> Path:
    """The folder with the encoder's files; a hub id is fetched by the hub's client or its cache.

    Raises:
        EncoderError: there is no such folder, package or hub model.
    """
    if spec.name.startswith(PACKAGE_SCHEME):
        return _in_package(spec.name.removeprefix(PACKAGE_SCHEME))
    folder = Path(spec.name)
    if folder.is_dir():
        return folder
    if spec.name.startswith((".", "/")) or spec.name.count("/") > 1:
        raise _missing(spec.name, "there is no such folder")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                spec.name,
                revision=spec.revision or None,
                allow_patterns=["*.json", "*.txt", "*.model", "model.safetensors"],
            )
        )
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise _missing(spec.name, f"the hub does not give it ({type(error).__name__})") from error


def verify(folder: Path, spec: EncoderSpec) -> str:
    """SHA-256 of the weights, which must be the one that was agreed on.

    Raises:
        EncoderError: no `model.safetensors`, or another one.
    """
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise _missing(spec.name, "it has no model.safetensors")
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if spec.digest and found != spec.digest:
        text = f"encoder {spec.name} has digest {found[:12]}, the federation file says {spec.digest[:12]}"
        raise EncoderError(text, disclosed=text)
    return found


class Encoder:
    """A loaded encoder on one device."""

    def __init__(self, spec: EncoderSpec, *, device: str = "auto") -> None:
        """Loads the weights; `device` is `auto`, `cpu` or `cuda`.

        Raises:
            EncoderError: the files are missing, another version, or of another width.
        """
        folder = locate(spec)
        verify(folder, spec)
        import torch
        import transformers.utils.logging as transformers_logging
        from safetensors import SafetensorError
        from transformers import AutoModel, AutoTokenizer

        quieten: Any = transformers_logging.disable_progress_bar
        quieten()
        self.spec = spec
        self.device = resolve_device(device)
        self.dtype = torch.bfloat16 if has_bfloat16(self.device) else torch.float32
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModel.from_pretrained(folder, local_files_only=True, dtype=self.dtype)
        except (OSError, ValueError, SafetensorError) as error:
            raise _missing(spec.name, f"its files cannot be loaded ({type(error).__name__})") from error
        width = int(model.config.hidden_size)
        if width != spec.dimensions:
            text = f"encoder {spec.name} has {width} dimensions, the federation file says {spec.dimensions}"
            raise EncoderError(text, disclosed=text)
        self._model = model.eval().requires_grad_(False).to(self.device)

    def encode(
        self, texts: Sequence[str], *, on_progress: Callable[[int], None] = lambda done: None
    ) -> NDArray[np.float32]:
        """Features of shape (len(texts), dimensions), each row of norm √dimensions.

        A row is the same, bit for bit, whatever other texts there are and in whatever order.

        Args:
            texts: any lengths; longer ones are cut to `max_length` tokens.
            on_progress: is told the number of finished rows after every batch.
        """
        import torch

        tokens = self._tokenizer(list(texts), truncation=True, max_length=self.spec.max_length)["input_ids"]
        lengths = np.array([len(ids) for ids in tokens])
        features = np.empty((len(tokens), self.spec.dimensions), np.float32)
        done = 0
        with torch.inference_mode():
            for rows, size in batches(lengths, self._tokens_per_batch()):
                features[rows] = self._forward([tokens[row] for row in rows], size)
                done += len(rows)
                on_progress(done)
        return features

    def _tokens_per_batch(self) -> int:
        return CUDA_TOKENS_PER_BATCH if self.device.startswith("cuda") else CPU_TOKENS_PER_BATCH

    def _forward(self, tokens: Sequence[Sequence[int]], size: int) -> NDArray[np.float32]:
        """Features of texts of one length, in a batch of `size` whatever their number."""
        import torch

        filled = np.array([*tokens, *[tokens[0]] * (size - len(tokens))], np.int64)
        ids = torch.from_numpy(filled).to(self.device)
        hidden: torch.Tensor = self._model(
            input_ids=ids, attention_mask=torch.ones_like(ids)
        ).last_hidden_state
        pooled = hidden.float().mean(1)
        scaled = torch.nn.functional.normalize(pooled, dim=1) * self.spec.dimensions**0.5
        result: NDArray[np.float32] = scaled[: len(tokens)].cpu().numpy()
        return result


def batches(lengths: NDArray[np.int64], tokens_per_batch: int) -> list[tuple[NDArray[np.int64], int]]:
    """Row numbers in batches of one length, longest first, each with the size it is to be filled up to.

    The size follows from the length alone: as many rows as `tokens_per_batch` hold. Longest first, so that a
    device that is too small says so at once and not at the end.
    """
    found = []
    for length in np.unique(lengths)[::-1].tolist():
        rows = np.flatnonzero(lengths == length)
        size = max(1, tokens_per_batch // max(1, length))
        found += [(rows[start : start + size], size) for start in range(0, len(rows), size)]
    return found


def resolve_device(device: str) -> str:
    """`auto` is CUDA where there is one.

    Raises:
        EncoderError: CUDA was asked for and there is none.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        text = f"device {device} was asked for, but this site has none: use auto or cpu"
        raise EncoderError(text, disclosed=text)
    return device


def has_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 natively; emulation is several times slower than float32."""
    if device.startswith("cuda"):
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.system() != "Linux":
        return False
    flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _in_package(name: str) -> Path:
    """The folder inside an installed package that holds a model, found without running the package."""
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise _missing(f"{PACKAGE_SCHEME}{name}", "the package is not installed here")
    for root in map(Path, found.submodule_search_locations):
        for weights in sorted(root.rglob("model.safetensors")):
            return weights.parent
    raise _missing(f"{PACKAGE_SCHEME}{name}", "the package carries no model.safetensors")


def _missing(name: str, why: str) -> EncoderError:
    text = f"encoder {name} cannot be used: {why}"
    return EncoderError(text, disclosed=text)
