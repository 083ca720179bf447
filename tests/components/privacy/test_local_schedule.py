from __future__ import annotations

import pytest

from components.errors import UsageError
from components.privacy.accounting import ledger_epsilon
from components.privacy.events import LocalSgd
from components.privacy.local_schedule import local_noise_multiplier


@pytest.mark.parametrize(
    ("target", "rate", "steps"), [(0.5, 0.25, 12), (1.0, 0.25, 40), (8.0, 0.25, 12), (2.0, 1.0, 5)]
)
def test_all_steps_together_cost_the_target_and_with_a_little_less_noise_more(
    target: float, rate: float, steps: int
) -> None:
    sigma = local_noise_multiplier(target, delta=1e-5, sample_rate=rate, steps=steps)
    assert sigma == round(sigma, 4)

    def cost(noise: float) -> float:
        return ledger_epsilon([LocalSgd(noise_multiplier=noise, sample_rate=rate, steps=steps)], 1e-5)

    assert cost(sigma) <= target < cost(sigma * 0.999 - 1e-4)


def test_the_rival_of_the_benchmark_takes_the_same_noise() -> None:
    """There opacus' PRV accountant finds it; each is within half a per cent of the least."""
    from components.training.local_training.dp_sgd import noise_multiplier_for

    terms = {"delta": 1e-5, "sample_rate": 0.25, "steps": 20}
    found = local_noise_multiplier(2.0, **terms)
    assert found == pytest.approx(noise_multiplier_for(2.0, **terms), rel=8e-3)


def test_what_no_noise_can_keep_is_told() -> None:
    with pytest.raises(UsageError, match=r"no noise keeps 100000000 local steps at epsilon 0\.001"):
        local_noise_multiplier(0.001, delta=1e-5, sample_rate=1.0, steps=10**8)
