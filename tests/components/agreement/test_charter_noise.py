"""What a charter may say of noise: for sums of clipped gradients alone, and never less than it looks."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.agreement.charter import Charter, read_charter
from components.artifacts.documents import canonical_json
from components.errors import SignatureError
from tests.components.agreement.signed_form import CHARTER, NOISE, NOISED


def broken(**changes: Any) -> list[str]:
    return replace(NOISED, **changes).problems()


def test_gradient_sums_with_noise_can_be_signed() -> None:
    assert NOISED.problems() == []
    assert read_charter(NOISED.to_json()) == NOISED
    assert read_charter(NOISED.to_json()).privacy == NOISE


@pytest.mark.parametrize("algorithm", ["fedavg", "fedadam", "dp-sgd", "FedSGD", "analytic"])
def test_epsilon_is_refused_for_sums_without_a_sensitivity(algorithm: str) -> None:
    [problem] = broken(algorithm=algorithm)
    assert problem == (
        "privacy belongs to algorithm fedsgd and to no other: a sum of weighted updates has no sensitivity "
        f"to one example, got {algorithm!r} with it"
    )


def test_gradient_sums_without_noise_are_refused() -> None:
    [problem] = broken(privacy=None)
    assert problem.startswith("privacy belongs to algorithm fedsgd")
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


class TestForm:
    def test_every_number_of_the_noise_is_in_the_digest(self) -> None:
        others: list[Charter] = [NOISED, CHARTER]
        for name, value in asdict(NOISE).items():
            changed: dict[str, Any] = {name: (*value, 1.0) if isinstance(value, tuple) else value + 1}
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
