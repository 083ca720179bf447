"""`dp-sgd`, the rival: every site trains with local differential privacy and releases its update openly.

Abadi et al. 2016, "Deep Learning with Differential Privacy", CCS, Algorithm 1, with `opacus` (Yousefpour
et al. 2021); epsilon by numerical composition of privacy loss variables (PRV: Gopi, Lee and Wutschitz
2021). Each site's noise protects its update alone, so sites are averaged with equal weights: a count of
examples that is told beside it would have to be paid for.

Of the two engines the closed form is what a round uses: without a seed, rows are drawn and noise is made from
the operating system's randomness, byte by byte. opacus is what it is tested against: torch's generator keeps
32 bits of its seed on a processor, which is enough for a comparison and not for data that must be protected.
Either way the noise is a Gaussian in floating point, whose low bits may tell more than its law does (Mironov
2012); `fedsgd` under the seal draws exact integers instead.
"""

from __future__ import annotations

import functools
import math
import os
import secrets
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from components.errors import BadDataError, UsageError
from components.training.features import Examples
from components.training.local_training.clipped_gradients import clipped_sum

if TYPE_CHECKING:
    import torch

Engine = Literal["opacus", "closed_form"]
Shape = int | tuple[int, ...]

_PRECISION = 1 / 400  # of epsilon, relative: a rival that is priced carelessly is a weak one


def local_dp_update(
    model: Mapping[str, NDArray[np.float32]],
    examples: Examples,
    *,
    steps: int,
    sample_rate: float,
    learning_rate: float,
    max_grad_norm: float,
    noise_multiplier: float,
    device: str,
    seed: int | None = None,
    engine: Engine = "opacus",
    expected_batch: int | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Weights after local DP-SGD, minus the weights it started from; safe to publish as it is.

    A step draws every row with probability q (opacus with the next smaller 1 over the number of its batches),
    and moves along −η·(Σ clipped gradients +
    N(0, (σC)²))/b. Both engines take the same step; they draw in another order, so their bytes differ.

    Args:
        model: the global head, see `heads`.
        examples: training rows, at least 1/q.
        steps: of this update; `epsilon_spent` is told those of all rounds.
        sample_rate: q, 1 over a whole number, which is what opacus samples with and prices.
        learning_rate: η.
        max_grad_norm: C.
        noise_multiplier: σ, from `noise_multiplier_for`.
        device: of torch.
        seed: of a benchmark; None, for everything else, takes the operating system's randomness.
        engine: `opacus` (`PrivacyEngine.make_private`) or `closed_form`, the same step through
            `clipped_gradients`, some forty times as fast.
        expected_batch: b, from 1. None takes ⌊q·n⌋, which tells n to whoever sees the noise's scale: it is
            for benchmarks.

    Raises:
        UsageError: an argument is out of range.
        BadDataError: there are fewer than 1/q rows and no `expected_batch`, or a row is not finite.
    """
    _check(
        examples,
        steps=steps,
        sample_rate=sample_rate,
        learning_rate=learning_rate,
        max_grad_norm=max_grad_norm,
        noise_multiplier=noise_multiplier,
        expected_batch=expected_batch,
    )
    take = _with_opacus if engine == "opacus" else _with_closed_form
    trained = take(
        model,
        examples,
        steps=steps,
        sample_rate=sample_rate,
        learning_rate=learning_rate,
        max_grad_norm=max_grad_norm,
        noise_multiplier=noise_multiplier,
        device=device,
        seed=seed,
        expected_batch=expected_batch or int(len(examples.labels) * sample_rate),
    )
    return {name: trained[name].astype(np.float64) - model[name].astype(np.float64) for name in model}


def epsilon_spent(noise_multiplier: float, *, sample_rate: float, steps: int, delta: float) -> float:
    """The upper end of ε that the PRV accountant gives for that many steps, example level.

    Args:
        noise_multiplier: σ, above 0.
        sample_rate: q in (0, 1].
        steps: of all rounds together, at one site.
        delta: δ in (0, 1).
    """
    rough = _epsilon(noise_multiplier, sample_rate, steps, delta, 0.05)
    return _epsilon(noise_multiplier, sample_rate, steps, delta, min(0.05, rough * _PRECISION))


@functools.lru_cache(maxsize=1024)
def noise_multiplier_for(target_epsilon: float, *, delta: float, sample_rate: float, steps: int) -> float:
    """The smallest σ, to half a percent, whose ε under the PRV accountant stays at or below the target.

    Args:
        target_epsilon: ε above 0.
        delta: δ in (0, 1).
        sample_rate: q in (0, 1].
        steps: of all rounds together, at one site.

    Raises:
        UsageError: an argument is out of range, or no noise is enough.
    """
    if not (target_epsilon > 0 and 0 < delta < 1 and 0 < sample_rate <= 1 and steps >= 1):
        raise UsageError(
            f"epsilon above 0, delta and sample_rate in (0, 1) and steps from 1 are needed, "
            f"got {target_epsilon:g}, {delta:g}, {sample_rate:g} and {steps}"
        )
    from opacus.accountants.utils import get_noise_multiplier

    error = target_epsilon * _PRECISION

    def too_little(sigma: float) -> bool:
        return _epsilon(sigma, sample_rate, steps, delta, error) > target_epsilon

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # Rényi accounting is quick and never below PRV: its σ is where the search starts.
            enough = float(
                get_noise_multiplier(
                    target_epsilon=target_epsilon,
                    target_delta=delta,
                    sample_rate=sample_rate,
                    steps=steps,
                    accountant="rdp",
                    epsilon_tolerance=target_epsilon / 20,
                )
            )
        except ValueError as error_of_opacus:
            raise UsageError(f"no noise keeps epsilon at {target_epsilon:g}: raise it") from error_of_opacus
    while too_little(enough):
        enough *= 1.1
    short = enough / 1.1
    while not too_little(short):
        enough, short = short, short / 1.1
    while enough / short > 1.005:
        middle = math.sqrt(enough * short)
        enough, short = (enough, middle) if too_little(middle) else (middle, short)
    return enough


def _epsilon(sigma: float, sample_rate: float, steps: int, delta: float, error: float) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(sigma, sample_rate, steps)]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta, eps_error=error))


def _with_opacus(
    model: Mapping[str, NDArray[np.float32]],
    examples: Examples,
    *,
    steps: int,
    sample_rate: float,
    learning_rate: float,
    max_grad_norm: float,
    noise_multiplier: float,
    device: str,
    seed: int | None,
    expected_batch: int,
) -> dict[str, NDArray[np.float32]]:
    import torch
    from opacus import PrivacyEngine
    from torch.utils.data import DataLoader, TensorDataset

    module = _module(model).to(device)
    rows = TensorDataset(torch.tensor(examples.features), torch.tensor(examples.labels))
    drawn, noisy = (secrets.randbits(63), secrets.randbits(63)) if seed is None else (2 * seed, 2 * seed + 1)
    with warnings.catch_warnings():
        # Of backward hooks on inputs without gradients, and of a generator that is not cryptographic.
        warnings.simplefilter("ignore")
        private, optimizer, loader = PrivacyEngine(accountant="prv").make_private(
            module=module,
            optimizer=torch.optim.SGD(module.parameters(), lr=learning_rate),
            data_loader=DataLoader(
                rows,
                batch_size=opacus_batch(len(rows), sample_rate),
                generator=torch.Generator().manual_seed(drawn),
            ),
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            poisson_sampling=True,
            noise_generator=torch.Generator(device).manual_seed(noisy),
        )
        optimizer.expected_batch_size = expected_batch
        for features, labels in _batches(loader, steps):
            optimizer.zero_grad()
            scores = private(features.to(device))
            torch.autograd.backward(torch.nn.functional.cross_entropy(scores, labels.to(device)))
            optimizer.step()
    return {name: weight.detach().cpu().numpy() for name, weight in module.named_parameters()}


def _with_closed_form(
    model: Mapping[str, NDArray[np.float32]],
    examples: Examples,
    *,
    steps: int,
    sample_rate: float,
    learning_rate: float,
    max_grad_norm: float,
    noise_multiplier: float,
    device: str,
    seed: int | None,
    expected_batch: int,
) -> dict[str, NDArray[np.float32]]:
    import torch

    chance: _Chance = _SystemChance() if seed is None else np.random.Generator(np.random.PCG64(seed))
    weights = {name: torch.tensor(values, device=device) for name, values in model.items()}
    features = torch.tensor(examples.features, device=device)
    labels = torch.tensor(examples.labels, device=device)
    deviation = np.float32(noise_multiplier * max_grad_norm)
    for _ in range(steps):
        rows = torch.from_numpy(np.flatnonzero(chance.random(len(labels)) < sample_rate)).to(device)
        summed = clipped_sum(weights, features[rows], labels[rows], max_grad_norm)
        for name in sorted(weights):
            noise = chance.standard_normal(model[name].shape, np.float32) * deviation
            noisy = summed[name] + torch.from_numpy(noise).to(device)
            weights[name] -= noisy * (learning_rate / expected_batch)
    return {name: weight.cpu().numpy() for name, weight in weights.items()}


def opacus_batch(rows: int, sample_rate: float) -> int:
    """Batch size with which opacus, which takes 1 over the number of batches, draws with q at most."""
    return max(1, int(rows * sample_rate))


class _Chance(Protocol):
    """Where rows and noise are drawn from; `numpy.random.Generator` is one."""

    def random(self, size: int) -> NDArray[np.float64]:
        """Uniform on [0, 1)."""

    def standard_normal(self, size: Shape, dtype: type[np.float32]) -> NDArray[np.float32]:
        """Gaussian, mean 0 and deviation 1."""


class _SystemChance:
    """The operating system's randomness."""

    def random(self, size: int) -> NDArray[np.float64]:
        """53 random bits each."""
        words = np.frombuffer(os.urandom(8 * size), np.uint64)
        uniform: NDArray[np.float64] = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return uniform

    def standard_normal(self, size: Shape, dtype: type[np.float32]) -> NDArray[np.float32]:
        """Box and Muller 1958, in float64, then rounded."""
        count = int(np.prod(size))
        radius = np.sqrt(-2 * np.log1p(-self.random(count)))
        found: NDArray[np.float32] = (radius * np.cos(2 * np.pi * self.random(count))).astype(np.float32)
        return found.reshape(size)


def _module(model: Mapping[str, NDArray[np.float32]]) -> torch.nn.Module:
    """The head as opacus wants it, its parameters under the names of the tensors."""
    import torch

    class HeadModule(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for layer in sorted({name.split(".")[0] for name in model}):
                weight = model[f"{layer}.weight"]
                linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=f"{layer}.bias" in model)
                self.add_module(layer, linear)
            self.load_state_dict({name: torch.tensor(values) for name, values in model.items()})

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            layers = dict(self.named_children())
            inputs = layers["hidden"](features).relu() if "hidden" in layers else features
            scores: torch.Tensor = layers["output"](inputs)
            return scores + layers["skip"](features) if "skip" in layers else scores

    return HeadModule()


def _batches(loader: Iterable[list[torch.Tensor]], steps: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """So many batches; a pass over the loader has as many as one over the rows would."""
    taken = 0
    while taken < steps:
        for features, labels in loader:
            if taken == steps:
                return
            taken += 1
            yield features, labels


def _check(
    examples: Examples,
    *,
    steps: int,
    sample_rate: float,
    learning_rate: float,
    max_grad_norm: float,
    noise_multiplier: float,
    expected_batch: int | None,
) -> None:
    if steps < 1:
        raise UsageError(f"steps must be at least 1, got {steps}")
    if not 0 < sample_rate <= 1 or abs(1 / sample_rate - round(1 / sample_rate)) > 1e-9:
        raise UsageError(f"sample_rate must be 1 over a whole number, got {sample_rate!r}")
    for name, value in (
        ("learning_rate", learning_rate),
        ("max_grad_norm", max_grad_norm),
        ("noise_multiplier", noise_multiplier),
    ):
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name} must be a finite number above 0, got {value!r}")
    if expected_batch is not None and expected_batch < 1:
        raise UsageError(f"expected_batch must be at least 1, got {expected_batch}")
    if expected_batch is None and len(examples.labels) * sample_rate < 1:
        text = f"at least {round(1 / sample_rate)} training rows are needed to sample 1 in as many"
        raise BadDataError(f"{text}, got {len(examples.labels)}", disclosed=text)
    if not np.isfinite(examples.features).all():
        text = "a feature is not a finite number: no gradient can be clipped"
        raise BadDataError(text, disclosed=text)
