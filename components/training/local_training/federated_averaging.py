"""Federated averaging at the site: McMahan et al. 2017, Algorithm 1, ClientUpdate.

"Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017. With a
proximal term it is FedProx: Li et al. 2020, "Federated Optimization in Heterogeneous Networks",
MLSys 2020, Algorithm 2, which minimises F_k(w) + μ/2 ‖w − w_t‖² and so keeps sites that differ together.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.errors import UsageError
from components.training.features import Examples
from components.training.local_training.reproducible import make_reproducible

if TYPE_CHECKING:
    import torch


def local_update(
    model: Mapping[str, NDArray[np.float32]],
    examples: Examples,
    *,
    local_epochs: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    device: str,
    proximal: float = 0.0,
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
        proximal: μ of FedProx, from 0; with 0 the bytes are those of federated averaging.

    Raises:
        UsageError: `proximal` is out of range.
    """
    import torch

    if not (math.isfinite(proximal) and proximal >= 0):
        raise UsageError(f"proximal must be a finite number from 0, got {proximal!r}")

    make_reproducible(device, batch_size * sum(values.size for values in model.values()))
    weights = {
        name: torch.tensor(values, device=device, requires_grad=True) for name, values in model.items()
    }
    anchor = {name: weight.detach().clone() for name, weight in weights.items()} if proximal else {}
    features = torch.from_numpy(examples.features).to(device)
    labels = torch.from_numpy(examples.labels).to(device)
    generator = np.random.Generator(np.random.PCG64(seed))
    for _ in range(local_epochs):
        order = torch.from_numpy(generator.permutation(len(labels))).to(device)
        for rows in torch.split(order, batch_size):
            loss = torch.nn.functional.cross_entropy(_logits(weights, features[rows]), labels[rows])
            gradients = torch.autograd.grad(loss, list(weights.values()))
            with torch.no_grad():
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                    if proximal:
                        gradient.add_(weight - anchor[name], alpha=proximal)
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

    if "hidden.weight" not in weights:
        return linear(features, weights["output.weight"], weights["output.bias"])
    hidden = relu(linear(features, weights["hidden.weight"], weights["hidden.bias"]))
    scores = linear(hidden, weights["output.weight"], weights["output.bias"])
    return scores + features @ weights["skip.weight"].T if "skip.weight" in weights else scores
