"""An adaptive clipping norm against the best fixed one, at equal ε: `make bench-clipping`.

On Banking77 and on the quick start's diagnosis texts, four sites, a linear head under Adam, three deals of
the rows. The fixed norm and the learning rate, which both sides share, are chosen on validation rows, a tenth
of the training rows, never on test rows. The adaptive norm begins at norms that nobody has tuned. Each
figure on test rows is the mean over several draws of the noise: one draw moves the accuracy by a hundredth.

Writes build/bench/clipping.json and prints a table. QUICK=1: one deal, one ε, one draw. Features are made by
the quick start's encoder and kept, see `banking77`.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from components.agreement.noise_terms import AdaptiveClipping
from components.agreement.server_steps import ADAM
from components.evaluation.rehearsal.dealing import dealt, is_validation, taken
from components.evaluation.rehearsal.plans import DELTA, Plan, site_names
from components.evaluation.rehearsal.rounds import Rehearsal, accuracy
from components.training.features import Examples
from tests.benchmarks.banking77 import Corpus, corpora

OUTPUT: Final = Path("build/bench/clipping.json")
QUICK: Final = bool(os.environ.get("QUICK"))
NORMS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
LEARNING_RATES: Final = (0.015, 0.03)
STARTS: Final = (0.1, 1.0, 10.0)
EPSILONS: Final = (2.0,) if QUICK else (1.0, 2.0, 4.0)
SEEDS: Final = (1,) if QUICK else (1, 2, 3)
DRAWS: Final = 1 if QUICK else 4
ROUNDS: Final = 15
SITES, CONCENTRATION, VALIDATION = 4, 0.1, 0.1
RULE: Final = AdaptiveClipping(quantile=0.2, learning_rate=0.5, weight=0.1)


@dataclass(frozen=True, kw_only=True)
class Deal:
    """One deal: rows to train on by site, to choose on and to test on."""

    sites: Mapping[str, Examples]
    validation: Examples
    test: Examples
    classes: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run: accuracy of its last model, and the norm of every round."""

    validation: float
    test: float
    norms: tuple[float, ...]


def main() -> None:
    """Measures all data sets, or those that are named."""
    console = Console()
    document: dict[str, Any] = {
        "delta": DELTA,
        "rounds": ROUNDS,
        "sites": SITES,
        "draws": DRAWS,
        "seeds": SEEDS,
        "norms": NORMS,
        "learning_rates": LEARNING_RATES,
        "rule": asdict(RULE),
        "data": {},
    }
    for corpus in corpora():
        if sys.argv[1:] and corpus.name not in sys.argv[1:]:
            continue
        deals = {seed: _deal(corpus, seed) for seed in SEEDS}
        document["data"][corpus.name] = [_measured(deals, epsilon, console) for epsilon in EPSILONS]
        OUTPUT.parent.mkdir(parents=True, exist_ok=True)
        OUTPUT.write_text(json.dumps(document, indent=1))
    console.print(_table(document))


def _deal(corpus: Corpus, seed: int) -> Deal:
    hands = dealt(
        corpus.train.labels, corpus.test.labels, sites=SITES, concentration=CONCENTRATION, seed=seed
    )
    held = is_validation(len(corpus.train.labels), share=VALIDATION, seed=seed)
    return Deal(
        sites={
            name: taken(corpus.train, own[~held[own]])
            for name, (own, _) in zip(site_names(SITES), hands, strict=True)
        },
        validation=taken(corpus.train, held),
        test=corpus.test,
        classes=corpus.classes,
    )


def _run(deal: Deal, plan: Plan, seed: int) -> Outcome:
    """One run; the seed draws its noise, a linear head has no other."""
    rehearsal = Rehearsal(plan, deal.sites, classes=deal.classes, seed=seed)
    norms = []
    for number in range(1, plan.rounds + 1):
        norms.append(rehearsal.clipping_norm)
        rehearsal.round(number)
    return Outcome(
        validation=accuracy(rehearsal.model, deal.validation),
        test=accuracy(rehearsal.model, deal.test),
        norms=tuple(norms),
    )


def _measured(deals: Mapping[int, Deal], epsilon: float, console: Console) -> dict[str, Any]:
    """The choice on validation rows, then both sides on test rows."""
    tried = []
    for rate, norm in itertools.product(LEARNING_RATES, NORMS):
        plan = _plan(epsilon, rate, norm)
        found = [_run(deal, plan, seed).validation for seed, deal in deals.items()]
        tried.append({"learning_rate": rate, "norm": norm, "validation": float(np.mean(found))})
        console.print(f"ε {epsilon:g}  rate {rate:g}  norm {norm:g}  validation {np.mean(found):.4f}")
    best = max(tried, key=lambda each: each["validation"])
    rate = best["learning_rate"]
    sides = {"fixed": _plan(epsilon, rate, best["norm"])}
    sides |= {f"adaptive from {start:g}": _plan(epsilon, rate, start, RULE) for start in STARTS}
    document: dict[str, Any] = {"epsilon": epsilon, "chosen": best, "tried": tried, "sides": {}}
    for name, plan in sides.items():
        outcomes = {
            seed: [_run(deal, plan, 1000 * draw + seed) for draw in range(1, DRAWS + 1)]
            for seed, deal in deals.items()
        }
        by_deal = {seed: float(np.mean([each.test for each in found])) for seed, found in outcomes.items()}
        every = [each.test for found in outcomes.values() for each in found]
        document["sides"][name] = {
            "test": float(np.mean(every)),
            "by_deal": by_deal,
            "standard_error": float(np.std(every, ddof=1) / len(every) ** 0.5) if len(every) > 1 else None,
            "norms": [round(norm, 4) for norm in next(iter(outcomes.values()))[0].norms],
        }
        console.print(f"ε {epsilon:g}  {name}: test {np.mean(every):.4f}")
    return document


def _plan(epsilon: float, rate: float, norm: float, rule: AdaptiveClipping | None = None) -> Plan:
    return Plan(
        method="ours",
        rounds=ROUNDS,
        epsilon=epsilon,
        learning_rate=rate,
        optimizer=ADAM,
        max_grad_norm=norm,
        adaptive=rule,
    )


def _table(document: dict[str, Any]) -> Table:
    table = Table("data", "ε", "best fixed norm", *(f"from {start:g}" for start in STARTS), box=None)
    for name, rows in document["data"].items():
        for row in rows:
            sides = row["sides"]
            fixed = sides["fixed"]["test"]
            shown = [sides[f"adaptive from {start:g}"]["test"] for start in STARTS]
            table.add_row(
                name,
                f"{row['epsilon']:g}",
                f"{row['chosen']['norm']:g}: {fixed:.4f}",
                *(f"{each:.4f} ({each - fixed:+.4f})" for each in shown),
            )
    return table


if __name__ == "__main__":
    main()
