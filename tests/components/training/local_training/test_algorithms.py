"""The table of algorithms: what it promises must be what the modules do."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import get_args

import pytest

from components.agreement.charter import LOCAL_PRIVACY, SHARED_NOISE
from components.agreement.server_steps import SERVER_STEPS
from components.errors import UsageError
from components.training.local_training.algorithms import ALGORITHMS, Algorithm, algorithm_named
from pipelines.federation_sections import Training


def test_every_algorithm_is_found_by_its_name() -> None:
    assert list(ALGORITHMS) == ["fedavg", "fedprox", "fedadam", "fedsgd", "analytic", "dp-sgd"]
    assert all(algorithm_named(name).name == name for name in ALGORITHMS)


def test_an_unknown_one_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"^unknown algorithm 'sgd': choose one of fedavg, fedprox, fedadam"):
        algorithm_named("sgd")


def test_only_sums_of_clipped_contributions_have_an_example_sensitivity() -> None:
    priced = {name for name, algorithm in ALGORITHMS.items() if algorithm.example_sensitivity}
    assert priced == {"fedsgd", "analytic"}
    assert all(ALGORITHMS[name].releases in {"clipped gradient sum", "gram sums"} for name in priced)
    assert [name for name, algorithm in ALGORITHMS.items() if algorithm.local_privacy] == [LOCAL_PRIVACY]
    assert priced == set(SHARED_NOISE)


def test_a_federation_file_can_choose_every_one_of_them() -> None:
    assert list(get_args(Training.model_fields["algorithm"].annotation)) == list(ALGORITHMS)


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=str)
def test_server_optimisers_fit_the_step(algorithm: Algorithm) -> None:
    if algorithm.step in {"gradient", "pseudo-gradient"}:
        assert set(algorithm.server_optimizers) <= set(SERVER_STEPS)
        assert algorithm.server_optimizers
    elif algorithm.step == "ridge solve":
        assert algorithm.server_optimizers == ("ridge",)
    else:
        assert algorithm.server_optimizers == ("average",)
    assert algorithm.one_round == (algorithm.step == "ridge solve")
    assert len(algorithm.paper) > 20


def test_an_entry_cannot_be_changed() -> None:
    for field in fields(Algorithm):
        with pytest.raises(FrozenInstanceError):
            setattr(ALGORITHMS["fedsgd"], field.name, None)
