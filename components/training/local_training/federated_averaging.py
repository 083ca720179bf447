"""Federated averaging at the site: McMahan et al. 2017, Algorithm 1, ClientUpdate.

"Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.training.features import Examples

if TYPE_CHECKING:
    import torch

SMALL_STEP = 1 << 26
"""Multiplications a step below which a second thread costs more than it brings, most of all on a busy
machine: threads that wait for each other between two tiny products spin."""


def local_update(
    model: Mapping[str, NDArray[np.float32]],
    examples: Examples,
    *,
    local_epochs: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    device: str,
) -> dict[str, NDArray[np.float64]]:
    """Weights after local SGD on mean cross-entropy, minus the weights it started from.

    The same arguments give the same bytes on the same kind of machine.

    Args:
        model: the global head, see `heads`.
        examples: training rows, at least one.
        local_epochs: passes over them.
        learning_rate: of plain SGD.
        batch_size: rows a step; the last batch of a pass may be smaller.
        seed: of the order of rows.
        device: of torch.
    """
    import torch

    if device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As torch.use_deterministic_algorithms(True), which would load the compiler for 1.4 s.
    torch.set_deterministic_debug_mode("error")
    if batch_size * sum(values.size for values in model.values()) < SMALL_STEP:
        torch.set_num_threads(1)
    weights = {
        name: torch.tensor(values, device=device, requires_grad=True) for name, values in model.items()
    }
    features = torch.from_numpy(examples.features).to(device)
    labels = torch.from_numpy(examples.labels).to(device)
    generator = np.random.Generator(np.random.PCG64(seed))
    for _ in range(local_epochs):
        order = torch.from_numpy(generator.permutation(len(labels))).to(device)
        for rows in torch.split(order, batch_size):
            loss = torch.nn.functional.cross_entropy(_logits(weights, features[rows]), labels[rows])
            gradients = torch.autograd.grad(loss, list(weights.values()))
            with torch.no_grad():
                for weight, gradient in zip(weights.values(), gradients, strict=True):
                    weight.sub_(gradient, alpha=learning_rate)
    return {
        name: weight.detach().cpu().numpy().astype(np.float64) - model[name].astype(np.float64)
        for name, weight in weights.items()
    }


def site_seed(seed: int, round_number: int, site: str) -> int:
    """A seed of its own for every site and round, the same wherever it is computed."""
    named = f"{seed} {round_number} {site}".encode()
    return int.from_bytes(hashlib.sha256(named).digest()[:8], "big")


def _logits(weights: Mapping[str, torch.Tensor], features: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import linear, relu

    if "hidden.weight" in weights:
        features = relu(linear(features, weights["hidden.weight"], weights["hidden.bias"]))
    return linear(features, weights["output.weight"], weights["output.bias"])
