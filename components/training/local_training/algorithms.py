"""The algorithms side by side: what each releases, and how its opened sum becomes a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from components.agreement.charter import ANALYTIC, GRADIENT_SUMS, LOCAL_PRIVACY, RIDGE
from components.agreement.server_steps import ADAM, MOMENTUM, SGD
from components.errors import UsageError

Release = Literal["weighted update", "clipped gradient sum", "gram sums", "private update"]
Step = Literal["weighted mean", "pseudo-gradient", "gradient", "ridge solve", "plain mean"]


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """One way to learn from sites.

    Attributes:
        name: as in a federation file and a charter.
        releases: what a site's vector holds before noise and fixed point.
            `weighted update`: n·Δw and n. `clipped gradient sum`: `clipped_gradients.clipped_gradient_sum`
            and a private count. `gram sums`: `gram_sums.gram_sums`. `private update`: Δw of local DP-SGD.
        example_sensitivity: whether one example changes the sum by a known amount at most. Noise on the
            sum prices nothing where this is false: ε is refused.
        local_privacy: whether each site's own noise already protects what it releases.
        step: how the opened sum becomes a model. `weighted mean`: w + ΣnΔw/Σn. `pseudo-gradient`: a
            server step on −ΣnΔw/Σn. `gradient`: one on Σg/n. `ridge solve`: `agreement.ridge_head`.
            `plain mean`: w + ΣΔw/|U|.
        server_optimizers: those that fit, the usual one first; empty where the step needs none.
        one_round: whether a second round would change nothing but the noise.
        paper: where it comes from.
    """

    name: str
    releases: Release
    example_sensitivity: bool
    local_privacy: bool
    step: Step
    server_optimizers: tuple[str, ...]
    one_round: bool
    paper: str


ALGORITHMS = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm(
            name="fedavg",
            releases="weighted update",
            example_sensitivity=False,
            local_privacy=False,
            step="weighted mean",
            server_optimizers=("average",),
            one_round=False,
            paper="McMahan et al. 2017, Communication-Efficient Learning of Deep Networks, Algorithm 1",
        ),
        Algorithm(
            name="fedprox",
            releases="weighted update",
            example_sensitivity=False,
            local_privacy=False,
            step="weighted mean",
            server_optimizers=("average",),
            one_round=False,
            paper="Li et al. 2020, Federated Optimization in Heterogeneous Networks, Algorithm 2",
        ),
        Algorithm(
            name="fedadam",
            releases="weighted update",
            example_sensitivity=False,
            local_privacy=False,
            step="pseudo-gradient",
            server_optimizers=(ADAM,),
            one_round=False,
            paper="Reddi et al. 2021, Adaptive Federated Optimization, Algorithm 2",
        ),
        Algorithm(
            name=GRADIENT_SUMS,
            releases="clipped gradient sum",
            example_sensitivity=True,
            local_privacy=False,
            step="gradient",
            server_optimizers=(ADAM, MOMENTUM, SGD),
            one_round=False,
            paper="McMahan et al. 2017, FedSGD; Abadi et al. 2016, Deep Learning with Differential Privacy",
        ),
        Algorithm(
            name=ANALYTIC,
            releases="gram sums",
            example_sensitivity=True,
            local_privacy=False,
            step="ridge solve",
            server_optimizers=(RIDGE,),
            one_round=True,
            paper="He et al. 2025, AFL; Vu and Slavkovic 2009, Differential Privacy for Clinical Trial Data",
        ),
        Algorithm(
            name=LOCAL_PRIVACY,
            releases="private update",
            example_sensitivity=False,
            local_privacy=True,
            step="plain mean",
            server_optimizers=("average",),
            one_round=False,
            paper="Abadi et al. 2016, Deep Learning with Differential Privacy, Algorithm 1, at every site",
        ),
    )
}


def algorithm_named(name: str) -> Algorithm:
    """The algorithm of a federation file.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in ALGORITHMS:
        raise UsageError(f"unknown algorithm {name!r}: choose one of {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name]
