"""A frozen language model as a feature extractor (Eq. 3).

Mean pooling over the last hidden state, as in Sentence-BERT (Reimers and Gurevych 2019), scaled to
norm √d, so that a coordinate has unit mean square and ordinary learning rates fit.

A text's feature depends on the text and on nothing else that is encoded with it. How a matrix product rounds
follows from its shape, so a batch holds texts of one length and always as many of them, filled up with copies
where there are fewer: one record more or less at a site then leaves every other record's feature as it was,
bit for bit, which is what the sensitivity of its sums rests on. Devices of one kind share whole batches.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.data_processing.feature_augmentation.batching import batches, tokens_per_batch
from components.data_processing.feature_augmentation.work_sharing import share
from components.errors import EncoderError
from components.execution.devices import (
    devices_named,
    has_bfloat16,
    require_one_kind,
    telling_the_mend,
)

if TYPE_CHECKING:
    import torch

PACKAGE_SCHEME = "package:"
MEND = "take a smaller encoder or a lower encoder.max_length"


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
    """A loaded encoder, once on each of its devices.

    Attributes:
        spec: which language model.
        devices: by their names in torch, all of one kind; one may be named twice.
        dtype: of its weights, the same on all devices.
        rounds_by_place: whether a device has rounded the copies that fill a batch otherwise than the text
            they are copies of. Its kernels then do not keep what this module promises.
    """

    def __init__(self, spec: EncoderSpec, *, device: str | Sequence[str] = "auto") -> None:
        """Loads the weights.

        Args:
            spec: which language model.
            device: `auto`, `cpu` or `cuda`, of which the first is taken, or the names of one or more devices.

        Raises:
            EncoderError: the files are missing, another version, or of another width.
            SiteError: CUDA was asked for and there is none.
            UsageError: devices of several kinds were named.
            MemoryError: the weights do not fit a device.
        """
        folder = locate(spec)
        verify(folder, spec)
        import torch

        self.spec = spec
        self.devices = devices_named(device)[:1] if isinstance(device, str) else tuple(device)
        require_one_kind(self.devices)
        # Before the first product on a GPU: the library then takes one way for one shape.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self.dtype = torch.bfloat16 if has_bfloat16(self.devices[0]) else torch.float32
        self.rounds_by_place = False
        with telling_the_mend("as the encoder was loaded", mend=MEND):
            self._tokenizer, model = _loaded(folder, spec, self.dtype)
            others = [copy.deepcopy(model).to(device) for device in self.devices[1:]]
            self._models = [model.to(self.devices[0]), *others]

    def encode(
        self, texts: Sequence[str], *, on_progress: Callable[[int], None] = lambda done: None
    ) -> NDArray[np.float32]:
        """Features of shape (len(texts), dimensions), each row of norm √dimensions.

        A row is the same, bit for bit, whatever other texts there are and in whatever order, and on however
        many devices; see `rounds_by_place`.

        Args:
            texts: any lengths; longer ones are cut to `max_length` tokens.
            on_progress: is told the number of finished rows after every batch.

        Raises:
            MemoryError: a device is too small for a batch.
        """
        tokens = self._tokenizer(list(texts), truncation=True, max_length=self.spec.max_length)["input_ids"]
        lengths = np.array([len(ids) for ids in tokens])
        features = np.empty((len(tokens), self.spec.dimensions), np.float32)
        done = 0

        def on_device(model: Any, batch: tuple[NDArray[np.int64], int]) -> NDArray[np.float32]:
            rows, size = batch
            return self._forward(model, [tokens[row] for row in rows], size)

        workers = [functools.partial(on_device, model) for model in self._models]
        for (rows, _), found in share(batches(lengths, tokens_per_batch(self.devices[0])), workers):
            features[rows] = found
            done += len(rows)
            on_progress(done)
        return features

    def _forward(self, model: Any, tokens: Sequence[Sequence[int]], size: int) -> NDArray[np.float32]:
        """Features of texts of one length, in a batch of `size` whatever their number."""
        import torch

        filled = np.array([*tokens, *[tokens[0]] * (size - len(tokens))], np.int64)
        at = f"at {size} texts of {len(tokens[0])} tokens"
        with telling_the_mend(at, mend=MEND), torch.inference_mode():
            ids = torch.from_numpy(filled).to(model.device)
            hidden: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            pooled = hidden.float().mean(1)
            scaled = torch.nn.functional.normalize(pooled, dim=1) * self.spec.dimensions**0.5
            result: NDArray[np.float32] = scaled.cpu().numpy()
        if not _all_equal(result[[0, *range(len(tokens), size)]]):
            self.rounds_by_place = True
        return result[: len(tokens)]


def _loaded(folder: Path, spec: EncoderSpec, dtype: torch.dtype) -> tuple[Any, Any]:
    """The tokenizer and the model that a folder holds.

    Raises:
        EncoderError: they cannot be read, or are of another width.
    """
    import transformers.utils.logging as transformers_logging
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer

    quieten: Any = transformers_logging.disable_progress_bar
    quieten()
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModel.from_pretrained(folder, local_files_only=True, dtype=dtype)
    except (OSError, ValueError, SafetensorError) as error:
        raise _missing(spec.name, f"its files cannot be loaded ({type(error).__name__})") from error
    width = int(model.config.hidden_size)
    if width != spec.dimensions:
        text = f"encoder {spec.name} has {width} dimensions, the federation file says {spec.dimensions}"
        raise EncoderError(text, disclosed=text)
    return tokenizer, model.eval().requires_grad_(False)


def _all_equal(rows: NDArray[np.float32]) -> bool:
    """Whether all rows have the same bits."""
    bits = rows.view(np.uint32)
    return bool((bits == bits[0]).all())


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
