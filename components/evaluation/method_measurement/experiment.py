"""One deal of a corpus: who trains on what, and what is measured where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from components.errors import BadDataError, IntegrityError
from components.evaluation.rehearsal.corpus import LANGUAGE_MODEL, Corpus
from components.evaluation.rehearsal.dealing import dealt, is_validation, taken
from components.evaluation.rehearsal.plans import Plan, site_names
from components.evaluation.rehearsal.rounds import Rehearsal, Round, accuracy
from components.training.features import Examples

VALIDATION = 0.1
"""Share of the training rows on which everything is chosen."""


@dataclass(frozen=True, kw_only=True)
class Deal:
    """A corpus in the hands of its sites.

    Attributes:
        train: training rows by site.
        test: test rows by site, in the proportions of its training rows.
        pooled_test: all test rows.
        classes: outputs of a head.
    """

    train: Mapping[str, Examples]
    test: Mapping[str, Examples]
    pooled_test: Examples
    classes: int

    def rehearsal(self, plan: Plan, *, seed: int) -> Rehearsal:
        """The plan among these sites."""
        return Rehearsal(plan, self.train, classes=self.classes, seed=seed)

    def curve(self, plan: Plan, *, seed: int, examples: Examples | None = None) -> list[float]:
        """Accuracy of the committed model after every round, on the pooled test rows unless told others.

        It ends where training diverges: nothing is committed then.
        """
        measured = self.pooled_test if examples is None else examples
        return [accuracy(each.after, measured) for each in converging(self.rehearsal(plan, seed=seed))]


def deal_of(
    corpus: Corpus, *, sites: int, concentration: float, seed: int, features: str = LANGUAGE_MODEL
) -> Deal:
    """Deals a corpus out.

    Raises:
        BadDataError: it has too few rows for so many sites.
    """
    train, test = corpus.examples(features)
    hands = dealt(train.labels, test.labels, sites=sites, concentration=concentration, seed=seed)
    names = site_names(sites)
    return Deal(
        train={name: taken(train, own) for name, (own, _) in zip(names, hands, strict=True)},
        test={name: taken(test, seen) for name, (_, seen) in zip(names, hands, strict=True)},
        pooled_test=test,
        classes=len(corpus.classes),
    )


def without_validation(
    corpus: Corpus, *, sites: int, concentration: float, seed: int
) -> tuple[Deal, Examples]:
    """The same deal less the validation rows, and those."""
    hands = dealt(
        corpus.train.labels, corpus.test.labels, sites=sites, concentration=concentration, seed=seed
    )
    held = is_validation(len(corpus.train.labels), share=VALIDATION, seed=seed)
    names = site_names(sites)
    deal = Deal(
        train={
            name: taken(corpus.train, own[~held[own]]) for name, (own, _) in zip(names, hands, strict=True)
        },
        test={},
        pooled_test=taken(corpus.train, np.zeros(0, np.int64)),
        classes=len(corpus.classes),
    )
    return deal, taken(corpus.train, held)


def converging(rehearsal: Rehearsal) -> Iterator[Round]:
    """Its rounds, up to the one in which training diverges."""
    for number in range(1, rehearsal.plan.rounds + 1):
        try:
            found = rehearsal.round(number)
        except (BadDataError, IntegrityError):
            return
        yield found


def rounds_to(curve: list[float], target: float) -> int | None:
    """First round, from 1, whose accuracy is at the target or above; None where there is none."""
    return next((number for number, value in enumerate(curve, 1) if value >= target), None)
