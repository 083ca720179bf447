"""What a worker of the privacy benchmark does: it chooses on validation rows or measures on test rows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.privacy.analytic_gaussian import gaussian_sigma
from components.training import heads
from components.training.features import Examples
from tests.benchmarks import privacy_search as search
from tests.benchmarks.banking77 import Corpus, corpus, dealt, taken
from tests.benchmarks.privacy_methods import (
    DELTA,
    GramPlan,
    Plan,
    SealedSums,
    Setting,
    accuracy,
    analytic,
    rounds_of,
    start_of,
    sum_price,
)
from tests.benchmarks.privacy_rivals import (
    CentralPlan,
    LocalPlan,
    centralised,
    dp_fl,
    local_noise,
    local_price,
)
from tests.benchmarks.privacy_settings import SEEDS

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Of a head."""

    hidden_units: int
    skip: bool

    def genesis(self, seed: int) -> heads.Head:
        found = loaded()
        return heads.initial(found.train.features.shape[1], self.hidden_units, found.classes, seed, self.skip)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a worker was asked for: its rows, and the choice that they were measured with."""

    rows: list[Row]
    choice: dict[str, Any]


LINEAR = Shape(hidden_units=0, skip=False)


@functools.cache
def loaded() -> Corpus:
    """The corpus, once a process."""
    return corpus()


def ready() -> None:
    """A worker has one thread."""
    import torch

    torch.set_num_threads(1)
    loaded()


def ours(group: Sequence[Setting], epsilon: float) -> Outcome:
    """A linear head, chosen at the first setting of the group and measured at each of them."""
    plan = search.ours(loaded(), group[0], epsilon)
    rows = [measure_ours(plan, setting, epsilon, LINEAR, seed) for setting in group for seed in SEEDS]
    return _outcome("ours", group, epsilon, plan, rows=rows, price=sum_price(plan, epsilon))


def ours_soonest(group: Sequence[Setting], epsilon: float, shape: Shape) -> Outcome:
    """A head with hidden units, chosen for few rounds to 85 %."""
    plan = search.ours_soonest(loaded(), group[0], epsilon, shape.hidden_units, shape.skip)
    rows = [measure_ours(plan, setting, epsilon, shape, seed) for setting in group for seed in SEEDS]
    return _outcome("ours", group, epsilon, plan, rows=rows, price=sum_price(plan, epsilon) | asdict(shape))


def one_shot(group: Sequence[Setting], epsilon: float) -> Outcome:
    """Class sums alone: nothing is left to choose."""
    rows = [measure_one_shot(setting, epsilon, seed) for setting in group for seed in SEEDS]
    return _outcome("one-shot", group, epsilon, None, rows=rows, price={})


def gram(group: Sequence[Setting], epsilon: float) -> Outcome:
    """`analytic`, chosen at the first setting of the group."""
    plan = search.gram(loaded(), group[0], epsilon)
    rows = [measure_analytic(plan, setting, epsilon, seed) for setting in group for seed in SEEDS]
    return _outcome("analytic", group, epsilon, plan, rows=rows, price={})


def rival(group: Sequence[Setting], epsilon: float) -> Outcome:
    """DP-FL among so many sites."""
    plan = search.local(loaded(), group[0].sites, epsilon)
    rows = [measure_dp_fl(plan, group[0].sites, epsilon, seed) for seed in SEEDS]
    return _outcome("dp-fl", group, epsilon, plan, rows=rows, price=local_price(plan, epsilon))


def centre(shape: Shape) -> Outcome:
    """Neither federation nor privacy."""
    plan = search.central(loaded(), shape.hidden_units, shape.skip)
    rows = [measure_centralised(plan, shape, seed) for seed in SEEDS]
    return _outcome("centralised", (), None, plan, rows=rows, price=asdict(shape))


def _outcome(
    method: str,
    group: Sequence[Setting],
    epsilon: float | None,
    plan: Plan | GramPlan | LocalPlan | CentralPlan | None,
    *,
    rows: list[Row],
    price: dict[str, Any],
) -> Outcome:
    return Outcome(
        rows=rows,
        choice={
            "method": method,
            "settings": [asdict(setting) for setting in group],
            "epsilon": epsilon,
            "plan": None if plan is None else asdict(plan),
            "price": price,
        },
    )


def measure_ours(plan: Plan, setting: Setting, epsilon: float, shape: Shape, seed: int) -> Row:
    sums = SealedSums(setting, _dealt(setting.sites, seed), loaded().classes, seed)
    curve = _curve(rounds_of(plan, epsilon, shape.genesis(seed), sums))
    return _row("ours", setting.sites, epsilon, curve, shape=shape, seed=seed)


def measure_one_shot(setting: Setting, epsilon: float, seed: int) -> Row:
    sums = SealedSums(setting, _dealt(setting.sites, seed), loaded().classes, seed)
    model = start_of(LINEAR.genesis(seed), gaussian_sigma(epsilon, DELTA), Plan.logit_scale, sums)
    return _row("one-shot", setting.sites, epsilon, _curve([model]), shape=LINEAR, seed=seed)


def measure_analytic(plan: GramPlan, setting: Setting, epsilon: float, seed: int) -> Row:
    sums = SealedSums(setting, _dealt(setting.sites, seed), loaded().classes, seed)
    curve = _curve([analytic(epsilon, plan, sums, seed)])
    shape = Shape(hidden_units=plan.hidden_units, skip=plan.hidden_units > 0)
    return _row("analytic", setting.sites, epsilon, curve, shape=shape, seed=seed)


def measure_dp_fl(plan: LocalPlan, sites: int, epsilon: float, seed: int) -> Row:
    noise = local_noise(plan, epsilon)
    curve = _curve(dp_fl(plan, noise, LINEAR.genesis(seed), _dealt(sites, seed), seed))
    return _row("dp-fl", sites, epsilon, curve, shape=LINEAR, seed=seed)


def measure_centralised(plan: CentralPlan, shape: Shape, seed: int) -> Row:
    """One pool, no privacy: `sites` is 1 and `epsilon` null, and epochs are no rounds."""
    *_, model = centralised(plan, shape.genesis(seed), loaded().train, seed)
    row = _row("centralised", 1, None, _curve([model]), shape=shape, seed=seed)
    return row | {"rounds_to_85": None}


def _dealt(sites: int, seed: int) -> list[Examples]:
    train = loaded().train
    return [taken(train, part) for part in dealt(train.labels, sites, seed)]


def _curve(models: Any) -> list[float]:
    return [accuracy(model, loaded().test) for model in models]


def _row(
    method: str, sites: int, epsilon: float | None, curve: Sequence[float], *, shape: Shape, seed: int
) -> Row:
    return {
        "dataset": loaded().name,
        "method": method,
        "sites": sites,
        "epsilon": epsilon,
        "hidden_units": shape.hidden_units,
        "skip": shape.skip,
        "seed": seed,
        "accuracy": curve[-1],
        "rounds_to_85": search.rounds_to(curve),
    }
