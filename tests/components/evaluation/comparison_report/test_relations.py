"""Verdicts on constructed figures: contradicted, tied, held, and missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from components.evaluation.comparison_report.bands import Band
from components.evaluation.comparison_report.chapters import relations, verdict_sentences
from components.evaluation.comparison_report.learning_relations import within
from components.evaluation.comparison_report.protection import MEASURES
from components.evaluation.comparison_report.relations import (
    FAILS,
    HOLDS,
    TIE,
    UNMEASURED,
    Relation,
    Verdict,
    alike,
    not_below,
    said_once,
    spoken,
)
from components.evaluation.comparison_report.verdict_tables import at_a_glance

if TYPE_CHECKING:
    from tests.components.evaluation.comparison_report.conftest import Records, Results

AT_LEAST = "ours protects no worse than DP-FL less 0.02"
PRODUCT = "ours has at least 1.05 times DP-FL's protection × relative accuracy at ε ≤ 2"
ROUNDS = "ours reaches 85 % within 15 rounds at ε = 4 at every hidden size"
ADAPTED = "an adapted model is no worse than the better of the common and a local one, to 1 point"


def verdicts(results: Results, records: Records, claim: str) -> dict[str, Verdict]:
    found = [one for one in relations(results.data_set(records)) if one.claim == claim]
    return {verdict.at: verdict for verdict in found[0].verdicts}


@pytest.mark.parametrize(
    ("mean", "half", "word"),
    [
        (-0.05, 0.02, FAILS),  # the whole band is below −0.02
        (-0.05, 0.06, TIE),  # holds 0
        (-0.015, 0.005, HOLDS),  # worse, within the margin
        (-0.03, 0.015, HOLDS),  # the mean is below the bound, the band does not contradict
        (0.05, 0.02, HOLDS),
        (0.0, 0.0, TIE),
        (-0.02, 0.0, HOLDS),  # the bound itself
        (0.3, None, UNMEASURED),
    ],
)
def test_a_claim_fails_only_where_the_whole_band_contradicts_it(
    mean: float, half: float | None, word: str
) -> None:
    assert not_below(Band(mean=mean, half_width=half, count=3), -0.02) == word


@pytest.mark.parametrize(
    ("mean", "half", "word"),
    [
        (0.0, 0.0, HOLDS),
        (0.05, 0.04, HOLDS),
        (0.05, 0.02, FAILS),
        (-0.05, 0.02, FAILS),
        (0.0, None, UNMEASURED),
    ],
)
def test_alike_is_a_band_that_meets_the_margin(mean: float, half: float | None, word: str) -> None:
    assert alike(Band(mean=mean, half_width=half, count=3), 0.02) == word


@pytest.mark.parametrize(
    ("mean", "half", "word"),
    [(15.0, 0.0, HOLDS), (12.0, 2.0, HOLDS), (14.0, 2.0, TIE), (20.0, 2.0, FAILS), (16.0, None, FAILS)],
)
def test_a_number_of_rounds_is_judged_by_its_own_band(mean: float, half: float | None, word: str) -> None:
    assert within(Band(mean=mean, half_width=half, count=3), 15) == word


def test_methods_are_compared_seed_by_seed(results: Results) -> None:
    # Each method varies by far more than the two differ: only paired by seed is the difference seen.
    records = results.protections("ours", 1.0, [0.5, 0.7, 0.9]) + results.protections(
        "dp-fl", 1.0, [0.4, 0.6, 0.8]
    )
    found = verdicts(results, records, AT_LEAST)
    assert found["ε = 1"].word == HOLDS
    assert found["ε = 1"].finding.startswith("difference +0.100 ± 0.000 (ours 0.700 ± 0.497, DP-FL")
    assert {at: verdict.word for at, verdict in found.items() if at != "ε = 1"} == dict.fromkeys(
        ("ε = 0.5", "ε = 2", "ε = 4", "ε = 8"), UNMEASURED
    )
    assert found["ε = 2"].finding == "no figures of ours and DP-FL"


def test_worse_protection_is_said_not_to_hold_and_equal_protection_to_be_a_tie(results: Results) -> None:
    records = []
    for epsilon, level in ((1.0, 0.8), (2.0, 0.9)):
        records += results.protections("ours", epsilon, [level, level + 0.001, level - 0.001])
        records += results.protections("dp-fl", epsilon, [0.9, 0.9, 0.9])
    found = verdicts(results, records, AT_LEAST)
    assert (found["ε = 1"].word, found["ε = 2"].word) == (FAILS, TIE)
    sentences = dict(verdict_sentences(relations(results.data_set(records))))
    assert f"{AT_LEAST} (ε = 1)" in sentences[FAILS]
    assert f"{AT_LEAST} (ε = 2)" in sentences[TIE]
    assert HOLDS not in sentences


def test_one_seed_says_nothing_of_a_difference(results: Results) -> None:
    records = results.protections("ours", 1.0, [0.9]) + results.protections("dp-fl", 1.0, [0.1])
    found = verdicts(results, records, AT_LEAST)["ε = 1"]
    assert found.word == UNMEASURED
    assert "one seed has no band" in found.finding


def test_the_product_must_exceed_that_of_dp_fl_by_a_twentieth(results: Results) -> None:
    central = [results.record("centralised", {"accuracy": 1.0, "epochs": 1}, seed=1)]
    records = central + results.protections("dp-fl", 1.0, [0.8, 0.8, 0.8], accuracy=0.5)
    better = results.protections("ours", 1.0, [0.8, 0.8, 0.8], accuracy=0.526)
    short = results.protections("ours", 1.0, [0.8, 0.8, 0.8], accuracy=0.524)
    assert verdicts(results, records + better, PRODUCT)["ε = 1"].word == HOLDS
    assert verdicts(results, records + short, PRODUCT)["ε = 1"].word == FAILS
    assert "ε = 4" not in verdicts(results, records + better, PRODUCT)


def test_an_attack_that_was_made_on_one_side_only_compares_nothing(results: Results) -> None:
    strong = {str(seed): [results.attempt(0.1, "likelihood-ratio", "model")] for seed in (1, 2, 3)}

    def shadowed(method: str, epsilon: float | None) -> Records:
        outcome = {"by_seed": strong, "stands_for": [method], "shadows": 16}
        return [results.record("likelihood-ratio", outcome, method=method, epsilon=epsilon)]

    records = results.protections("ours", 1.0, [0.7, 0.71, 0.69])
    records += results.protections("he-fl", None, [0.8, 0.8, 0.8]) + shadowed("he-fl", None)
    # HE-FL's protection is 0.1 under all its attacks, but those that both saw put it above ours.
    found = verdicts(results, records, "ours protects better than HE-FL")["ε = 1"]
    assert found.word == FAILS
    assert found.finding.endswith("HE-FL 0.800 ± 0.000); without likelihood-ratio, not made on both")
    both = verdicts(results, records + shadowed("ours", 1.0), "ours protects better than HE-FL")["ε = 1"]
    assert both.word == TIE
    assert both.finding == "difference +0.000 ± 0.000 (ours 0.100 ± 0.000, HE-FL 0.100 ± 0.000)"


def test_rounds_are_judged_at_every_hidden_size_with_dp_fl_beside(results: Results) -> None:
    records = results.convergences([10, 11, 12], hidden_units=32)
    records += results.convergences([30, 31, 32], hidden_units=64)
    records += results.convergences([None, None, None], hidden_units=128)
    records += results.convergences([None, 10, 10], hidden_units=256, rounds=12, planned=12, length=12)
    records += results.convergences([None, None, None], hidden_units=512, ended="diverged", length=3)
    records += results.convergences([20, 20, 20], hidden_units=32, method="dp-fl")
    # Neither of these is what the claim is about.
    records += results.convergences([99, 99, 99], hidden_units=32, epsilon=1.0)
    records += results.convergences([99, 99, 99], hidden_units=32, concentration=0.5)
    found = verdicts(results, records, ROUNDS)
    assert {at: verdict.word for at, verdict in found.items()} == {
        "hidden units = 32": HOLDS,
        "hidden units = 64": FAILS,
        "hidden units = 128": FAILS,
        "hidden units = 256": UNMEASURED,
        "hidden units = 512": FAILS,
    }
    assert found["hidden units = 32"].finding == "ours 11.0 ± 2.5; DP-FL 20.0 ± 0.0"
    assert found["hidden units = 128"].finding.startswith("ours not reached, counted as 41 rounds")
    assert "1 of 3 runs were allowed 12 rounds" in found["hidden units = 256"].finding


def test_a_plan_that_spent_its_epsilon_in_fewer_rounds_did_not_get_there(results: Results) -> None:
    records = results.convergences([None, None, None], planned=10, length=10)
    found = verdicts(results, records, ROUNDS)["hidden units = 32"]
    assert found.word == FAILS
    assert found.finding == "ours not reached, counted as 16 rounds; DP-FL not measured"


def test_rounds_to_85_are_not_judged_where_centralised_training_is_below(results: Results) -> None:
    records = [results.record("centralised", {"accuracy": 0.84, "epochs": 1}, seed=1)]
    records += [results.record("centralised", {"accuracy": 0.9, "epochs": 1}, seed=1, features="words")]
    found = verdicts(results, records + results.convergences([None, None]), ROUNDS)
    assert {verdict.word for verdict in found.values()} == {UNMEASURED}
    assert found["hidden units = 32"].finding == "centralised training itself reaches only 84.0 %"
    told = dict(verdict_sentences(relations(results.data_set(records))))
    assert f"{ROUNDS} (centralised training itself reaches only 84.0 %)" in told[UNMEASURED]


def test_adaptation_is_judged_against_the_better_of_before_and_local(results: Results) -> None:
    clouds = {
        "gains": [(0.8, 0.7, 0.85), (0.8, 0.7, 0.851), (0.8, 0.7, 0.852)],
        "loses": [(0.8, 0.9, 0.85), (0.8, 0.9, 0.851), (0.8, 0.9, 0.852)],
        "a-point": [(0.8, 0.7, 0.792), (0.8, 0.7, 0.793), (0.8, 0.7, 0.794)],
        "alike": [(0.8, 0.7, 0.8), (0.8, 0.7, 0.79), (0.8, 0.7, 0.81)],
    }
    found = verdicts(results, results.migrations(clouds, late="loses"), ADAPTED)
    assert {at: verdict.word for at, verdict in found.items()} == {
        "gains": HOLDS,
        "loses": FAILS,
        "a-point": HOLDS,
        "alike": TIE,
    }


def test_methods_that_adapt_alike_are_told_together(results: Results) -> None:
    loses = results.migrations({"cloud-1": [(0.8, 0.7, 0.7), (0.8, 0.7, 0.7)]})
    records = loses + [
        one | {"configuration": one["configuration"] | {"method": method, "epsilon": None}}
        for method in ("fedavg", "he-fl")
        for one in results.migrations({"cloud-1": [(0.8, 0.7, 0.9), (0.8, 0.7, 0.9)]})
    ]
    found = relations(results.data_set(records))
    assert f"{ADAPTED} under FedAvg and HE-FL" in spoken(found, HOLDS)
    assert f"{ADAPTED} under ours at ε = 4" in spoken(found, FAILS)
    rows = {row[0]: row[1:] for row in at_a_glance(found).rows}
    assert rows[f"{ADAPTED}, under HE-FL"] == ("holds", "–")


def test_without_records_everything_is_not_measured(results: Results) -> None:
    found = relations(results.data_set([]))
    assert {verdict.word for one in found for verdict in one.verdicts} == {UNMEASURED}
    # Each claim about protection is told under both measures.
    assert sorted({one.under for one in found}) == sorted(["", *MEASURES])


def test_what_both_measures_say_is_said_once() -> None:
    def relation(measure: str, *words: str) -> Relation:
        told = [Verdict(at=f"ε = {rank}", word=word, finding="") for rank, word in enumerate(words, 1)]
        return Relation(claim="a claim", under=measure, verdicts=tuple(told))

    same = [relation(measure, FAILS, FAILS) for measure in MEASURES]
    assert spoken(same, FAILS) == ["a claim"]
    assert spoken(same, HOLDS) == []
    differ = [relation(MEASURES[0], FAILS, HOLDS), relation(MEASURES[1], HOLDS, HOLDS)]
    assert spoken(differ, FAILS) == ["a claim under all attacks (ε = 1)"]
    assert spoken(differ, HOLDS) == [
        "a claim under all attacks (ε = 2)",
        "a claim under example-level attacks",
    ]
    assert at_a_glance(differ).rows == (("a claim", "does not hold at ε = 1; holds at ε = 2", "holds"),)


def test_what_places_begin_with_is_said_once() -> None:
    assert said_once(["ε = 1", "ε = 2"]) == "ε = 1, 2"
    assert said_once(["cloud-1 under ours, ε = 4", "cloud-2 under ours, ε = 4"]) == (
        "cloud-1 under ours, ε = 4, cloud-2 under ours, ε = 4"
    )
