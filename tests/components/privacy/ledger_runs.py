"""Charges that the tests of the ledger make, here and in other processes."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from components.artifacts.stores import Store, open_store
from components.errors import PrivacyBudgetExceededError
from components.privacy.allowance import Budget, Period
from components.privacy.events import DiscreteGaussianSum
from components.privacy.ledger import Ledger
from components.privacy.ledger_entry import Charge

NOW = datetime(2026, 11, 22, 10, 0, 5, 250_000, tzinfo=UTC)
DATASET = "claims"


def budget(epsilon: float = 4.0, per: Period = "total") -> Budget:
    """At delta = 1e-5; 4.0 holds 74 releases of sigma = 10."""
    return Budget(epsilon=epsilon, delta=1e-5, per=per)


def release(sigma: float = 10.0) -> DiscreteGaussianSum:
    """Of a linear head at four sites."""
    return DiscreteGaussianSum(noise_multiplier=sigma, share_sigma=4e5, dimensions=29646, sites=4)


def charge_for(number: int, federation: str = "hearts") -> Charge:
    """Of a ticket that its number names."""
    return Charge(
        federation=federation,
        charter="cd" * 32,
        ticket=f"{number:064x}",
        round_number=number + 1,
        attempt=1,
        purpose="update",
    )


def opened(store: Store, allowed: Budget | None = None) -> Ledger:
    """The ledger of the tests' dataset."""
    return Ledger.open(store, dataset=DATASET, unit="row", budget=allowed or budget())


def charge_many(uri: str, sigma: float, first: int, count: int) -> list[int]:
    """The ticket numbers for which the budget sufficed."""
    ledger, held = opened(open_store(uri)), []
    for number in range(first, first + count):
        try:
            ledger.charge(charge_for(number), release(sigma), now=NOW)
        except PrivacyBudgetExceededError:
            continue
        held.append(number)
    return held


if __name__ == "__main__":
    print(charge_many(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))  # noqa: T201
