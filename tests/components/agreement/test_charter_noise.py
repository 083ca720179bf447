"""What a charter may say of noise: for sums of clipped gradients alone, and never less than it looks."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.agreement.charter import Charter, read_charter
from components.agreement.noise_terms import AdaptiveClipping, LocalTraining, MetricsNoise
from components.artifacts.documents import canonical_json
from components.errors import SignatureError
from tests.components.agreement.signed_form import CHARTER, NOISE, NOISED


def broken(**changes: Any) -> list[str]:
    return replace(NOISED, **changes).problems()


def test_gradient_sums_with_noise_can_be_signed() -> None:
    assert NOISED.problems() == []
    assert read_charter(NOISED.to_json()) == NOISED
    assert read_charter(NOISED.to_json()).privacy == NOISE


@pytest.mark.parametrize("algorithm", ["fedavg", "fedadam", "FedSGD"])
def test_epsilon_is_refused_for_sums_without_a_sensitivity(algorithm: str) -> None:
    [problem] = broken(algorithm=algorithm)
    assert problem == (
        "privacy belongs to algorithms fedsgd, analytic, dp-sgd and to no other: a sum of weighted updates "
        f"has no sensitivity to one example, got {algorithm!r} with it"
    )


ANALYTIC = replace(NOISED, algorithm="analytic", server_optimizer="ridge", cross_weight=2.0, ridge=1.0)
LOCAL = LocalTraining(steps=4, sample_rate=0.25, learning_rate=1.5, max_grad_norm=1.0)
LOCALLY = replace(
    NOISED,
    algorithm="dp-sgd",
    server_optimizer="average",
    protection="none",
    privacy=replace(NOISE, rows_per_unit=1, local=LOCAL),
)


@pytest.mark.parametrize("charter", [ANALYTIC, LOCALLY], ids=["analytic", "dp-sgd"])
def test_the_other_private_algorithms_have_their_own_terms(charter: Charter) -> None:
    assert charter.problems() == []
    assert read_charter(charter.to_json()) == charter


@pytest.mark.parametrize(
    ("charter", "told"),
    [
        (replace(ANALYTIC, cross_weight=0), "cross_weight belongs to analytic alone, got 0 with 'analytic'"),
        (replace(ANALYTIC, ridge=0), "ridge belongs to analytic alone, got 0 with 'analytic'"),
        (replace(NOISED, cross_weight=2), "cross_weight belongs to analytic alone, got 2 with 'fedsgd'"),
        (replace(CHARTER, ridge=2), "ridge belongs to analytic alone, got 2 with 'fedavg'"),
        (replace(CHARTER, ridge=float("nan")), "ridge must be a finite number from 0, got nan"),
        (
            replace(ANALYTIC, server_optimizer="adam"),
            "server_optimizer must be one of ridge under analytic, got 'adam'",
        ),
        (
            replace(ANALYTIC, protection="none"),
            "noise that sites share needs protection sealed with one value a slot, got none with 1",
        ),
        (replace(LOCALLY, privacy=NOISE), "privacy.local belongs to dp-sgd alone, got it with 'dp-sgd'"),
        (
            replace(NOISED, privacy=replace(NOISE, rows_per_unit=1, local=LOCAL)),
            "privacy.local belongs to dp-sgd alone, got it with 'fedsgd'",
        ),
        (
            replace(LOCALLY, privacy=replace(NOISE, local=LOCAL)),
            "privacy.rows_per_unit must be 1 with local noise, which protects rows, got 2",
        ),
        (
            replace(ANALYTIC, privacy=replace(NOISE, first_round=1, class_sum_start=True)),
            "privacy.class_sum_start belongs to fedsgd, got 'analytic'",
        ),
        (
            replace(NOISED, privacy=replace(NOISE, class_sum_start=True)),
            "privacy.class_sum_start belongs to a schedule from round 1, got one from 3",
        ),
        (
            replace(LOCALLY, privacy=replace(NOISE, rows_per_unit=1, local=replace(LOCAL, sample_rate=0.3))),
            "privacy.local.sample_rate must be 1 over a whole number, got 0.3",
        ),
        (
            replace(LOCALLY, privacy=replace(NOISE, rows_per_unit=1, local=replace(LOCAL, steps=0))),
            "privacy.local.steps must be a whole number of at least 1, got 0",
        ),
    ],
)
def test_terms_of_another_algorithm_are_told(charter: Charter, told: str) -> None:
    assert charter.problems() == [told]


def test_class_sums_start_a_first_schedule() -> None:
    assert replace(NOISED, privacy=replace(NOISE, first_round=1, class_sum_start=True)).problems() == []


def test_gradient_sums_without_noise_are_refused() -> None:
    [problem] = broken(privacy=None)
    assert problem.startswith("privacy belongs to algorithms fedsgd, analytic, dp-sgd")
    assert problem.endswith("got 'fedsgd' without it")


@pytest.mark.parametrize(
    "change",
    [
        {"protection": "none"},
        {"protection": "he"},
        {"values_per_slot": 2},
        {"protection": "none", "values_per_slot": 2},
    ],
    ids=str,
)
def test_shared_noise_needs_the_seal_with_one_value_a_slot(change: dict[str, Any]) -> None:
    [problem] = broken(**change)
    assert problem.startswith("noise that sites share needs protection sealed with one value a slot, got ")


@pytest.mark.parametrize(("least", "colluding", "kept"), [(3, 1, True), (3, 2, False), (2, 1, False)])
def test_noise_of_one_site_alone_is_refused(least: int, colluding: int, kept: bool) -> None:
    told = [each for each in broken(min_sum_sites=least, colluding_sites=colluding) if "alone" in each]
    text = f"min_sum_sites less colluding_sites must be at least 2, got {least} - {colluding}: "
    assert told == ([] if kept else [f"{text}noise of one site would protect alone"])


@pytest.mark.parametrize("rate", [0, -1.0, float("inf"), float("nan"), True, "1", None], ids=repr)
def test_the_servers_learning_rate_is_a_positive_number(rate: Any) -> None:
    for charter in (CHARTER, NOISED):
        [problem] = replace(charter, server_learning_rate=rate).problems()
        assert problem == f"server_learning_rate must be a finite number above 0, got {rate!r}"


@pytest.mark.parametrize(
    ("algorithm", "proximal", "problem"),
    [
        ("fedprox", 0.1, ""),
        ("fedprox", 0.0, "proximal belongs to fedprox alone, got 0 with 'fedprox'"),
        ("fedavg", 0.1, "proximal belongs to fedprox alone, got 0.1 with 'fedavg'"),
        ("fedprox", -0.1, "proximal must be a finite number from 0, got -0.1"),
        ("fedprox", float("inf"), "proximal must be a finite number from 0, got inf"),
        ("fedavg", True, "proximal must be a finite number from 0, got True"),
        ("fedavg", None, "proximal must be a finite number from 0, got None"),
    ],
)
def test_the_proximal_weight_is_fedproxs(algorithm: str, proximal: Any, problem: str) -> None:
    charter = replace(CHARTER, algorithm=algorithm, proximal=proximal)
    assert charter.problems() == ([problem] if problem else [])


def test_problems_of_the_terms_are_the_charters() -> None:
    terms = replace(NOISE, delta=0.5, noise_multipliers=())
    assert broken(privacy=terms) == terms.problems()
    assert len(terms.problems()) == 2


def other_than(value: Any) -> Any:
    """Another value of a field of noise terms."""
    if value is None:
        return LOCAL
    if isinstance(value, bool):
        return not value
    return (*value, 1.0) if isinstance(value, tuple) else value + 1


LATER = {
    "unit": "patient",
    "metrics": MetricsNoise(noise_multiplier=9.0, rounds=(3, 5)),
    "adaptive": AdaptiveClipping(quantile=0.5, learning_rate=0.25, weight=0.125),
    "per": "month",
}
"""Another value of each term that was added to the form later."""


class TestForm:
    def test_every_number_of_the_noise_is_in_the_digest(self) -> None:
        others: list[Charter] = [NOISED, CHARTER]
        for name, value in asdict(NOISE).items():
            changed: dict[str, Any] = {name: LATER[name] if name in LATER else other_than(value)}
            others.append(replace(NOISED, privacy=replace(NOISE, **changed)))
        backwards = tuple(reversed(NOISE.noise_multipliers))
        others.append(replace(NOISED, privacy=replace(NOISE, noise_multipliers=backwards)))
        assert len({charter.digest for charter in others}) == len(others)

    @given(position=st.integers(0, len(NOISED.to_json()) - 1), byte=st.integers(0, 255))
    def test_an_altered_byte_is_refused_or_another_charter(self, position: int, byte: int) -> None:
        content = NOISED.to_json()
        altered = content[:position] + bytes([byte]) + content[position + 1 :]
        try:
            found = read_charter(altered)
        except SignatureError:
            return
        assert (found.digest == NOISED.digest) == (altered == content)

    @pytest.mark.parametrize(
        "change",
        [
            {"privacy": []},
            {"privacy": {}},
            {"privacy": "none"},
            {"privacy": {"hint": 1}},
            {"privacy": asdict(NOISE) | {"hint": 1}},
            {"privacy": asdict(NOISE) | {"noise_multipliers": 2.5}},
            {"privacy": asdict(NOISE) | {"noise_multipliers": "ab"}},
            {"privacy": {name: value for name, value in asdict(NOISE).items() if name != "delta"}},
        ],
        ids=str,
    )
    def test_another_form_is_refused(self, change: dict[str, Any]) -> None:
        body = json.loads(NOISED.to_json()) | change
        with pytest.raises(SignatureError, match=r"^a charter is not in the form this version knows$"):
            read_charter(canonical_json(body))

    @pytest.mark.parametrize("missing", ["privacy", "server_learning_rate"])
    def test_a_form_without_them_is_refused(self, missing: str) -> None:
        body = {name: value for name, value in json.loads(CHARTER.to_json()).items() if name != missing}
        with pytest.raises(SignatureError, match=r"^a charter is not in the form this version knows$"):
            read_charter(canonical_json(body))

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"noise_multipliers": [2.5, 0]}, r"privacy\.noise_multipliers\[2\] must be"),
            ({"delta": 0.5}, r"privacy\.delta must be below"),
            ({"rows_per_unit": 0.5}, r"privacy\.rows_per_unit must be a whole number"),
        ],
        ids=str,
    )
    def test_a_broken_rule_is_told(self, change: dict[str, Any], problem: str) -> None:
        body = json.loads(NOISED.to_json())
        body["privacy"] |= change
        with pytest.raises(SignatureError, match=f"^the charter of paper breaks a rule: {problem}"):
            read_charter(canonical_json(body))
