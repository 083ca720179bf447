"""Privacy that cannot be had: one line a mistake, exit 2, before anything is written."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.errors import FederationFileError, UsageError
from components.training import heads
from components.training.local_training.clipped_gradients import ROWS_AT_ONCE, clipped_gradient_sum
from pipelines.federation import load_federation
from pipelines.privacy_rules import num_weights
from tests.conftest import SmallFederation
from tests.pipelines.chartered import content
from tests.pipelines.command_line import Say, say_here
from tests.pipelines.noised import ours

Make = Callable[..., SmallFederation]
Change = Callable[[dict[str, Any]], None]
NAMES = tuple("abcdefghij")


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_here(monkeypatch, capsys)


def put(section: str, **values: Any) -> Change:
    return lambda document: document.setdefault(section, {}).update(values)


def without(section: str, *names: str) -> Change:
    def change(document: dict[str, Any]) -> None:
        if not names:
            del document[section]
        for name in names:
            del document[section][name]

    return change


def both(*changes: Change) -> Change:
    def change(document: dict[str, Any]) -> None:
        for each in changes:
            each(document)

    return change


def colluding(document: dict[str, Any]) -> None:
    document["quorum"] = {"min_sites": 3, "colluding_sites": 2}


MISTAKES: dict[str, tuple[Change, str]] = {
    "an adaptive norm that is solved": (
        both(put("training", algorithm="analytic"), put("privacy", rounds=1, adaptive_clipping={})),
        "privacy.adaptive_clipping: belongs to fedsgd, whose gradients are clipped one by one in every "
        "round, got analytic: leave it out",
    ),
    "an adaptive norm of local steps": (
        both(put("training", algorithm="dp-sgd"), put("privacy", adaptive_clipping={"quantile": 0.3})),
        "privacy.adaptive_clipping: belongs to fedsgd, whose gradients are clipped one by one in every "
        "round, got dp-sgd: leave it out",
    ),
    "a quantile of all": (
        put("privacy", adaptive_clipping={"quantile": 1.0}),
        "privacy.adaptive_clipping.quantile: Input should be less than 1, got",
    ),
    "epsilon 0": (
        put("privacy", target_epsilon=0),
        "privacy.target_epsilon must be from 0.001 to 1000, got 0.0: try 1 to 8",
    ),
    "epsilon below 0": (put("privacy", target_epsilon=-1), "privacy.target_epsilon must be from 0.001 to"),
    "epsilon that is no number": (
        put("privacy", target_epsilon=float("nan")),
        "privacy.target_epsilon: Input should be a finite number, got nan",
    ),
    "no end of epsilon": (
        put("privacy", target_epsilon=float("inf")),
        "privacy.target_epsilon: Input should be a finite number, got inf",
    ),
    "delta 0": (put("privacy", delta=0), "privacy.delta must be above 0 and below 1/public_population"),
    "delta of one person": (
        put("privacy", delta=1 / 20000),
        "privacy.delta must be above 0 and below 1/public_population, 5e-05, got 5e-05: choose a tenth",
    ),
    "delta that is no number": (
        put("privacy", delta=float("nan")),
        "privacy.delta: Input should be a finite number, got nan",
    ),
    "nobody": (put("privacy", public_population=0), "privacy.public_population must be at least 1, got 0"),
    "no clipping norm": (
        without("privacy", "clipping_norm"),
        "privacy.clipping_norm is missing: without a bound on one example's contribution there is no epsilon",
    ),
    "clipping norm 0": (
        put("privacy", clipping_norm=0),
        "privacy.clipping_norm must be above 0 and finite, got 0.0: 1 is usual",
    ),
    "clipping norm that is no number": (
        put("privacy", clipping_norm=float("nan")),
        "privacy.clipping_norm: Input should be a finite number, got nan",
    ),
    "clipping norm without bits": (
        put("privacy", clipping_norm=1e-300),
        "privacy: with limits.max_examples 1000: largest_value is 1e-300: steps or sums of",
    ),
    "no rounds": (
        put("privacy", rounds=0),
        "privacy.rounds must be from 1 to 100000 or 'auto', got 0: 10 to 60 are usual",
    ),
    "half a round": (
        put("privacy", rounds=2.5),
        "privacy.rounds: must be a whole number or 'auto', got 2.5",
    ),
    "some rounds": (
        put("privacy", rounds="some"),
        "privacy.rounds: must be a whole number or 'auto', got 'some'",
    ),
    "no rows": (put("privacy", rows_per_unit=0), "privacy.rows_per_unit must be at least 1, got 0"),
    "another period": (put("privacy", per="year"), "privacy.per: Input should be 'total' or 'month', got"),
    "unknown value": (put("privacy", epsilon=8), "privacy.epsilon: Extra inputs are not permitted, got 8"),
    "no delta": (without("privacy", "delta"), "privacy.delta: Field required"),
    "no section": (
        without("privacy"),
        "privacy: missing: fedsgd needs target_epsilon, delta, public_population and clipping_norm",
    ),
    "no section in the section": (lambda document: document.update(privacy=8), "privacy: Input should be a"),
    "a section without the algorithm": (
        put("training", algorithm="fedavg"),
        "privacy: has no meaning for training.algorithm fedavg, whose sums have no sensitivity to one",
    ),
    "in clear": (
        lambda document: document.update(protection="none"),
        "protection: fedsgd needs sealed: its noise is shared among sites that hide each other",
    ),
    "under he": (lambda document: document.update(protection="he"), "protection: fedsgd needs sealed"),
    "two colluding of three": (
        colluding,
        "quorum.min_sites: sealed needs at least 4 of 3 sites on a roster when 2 may collude, got 3",
    ),
    "more noise than the range has": (
        put("privacy", target_epsilon=0.001, rounds=60_000, delta=1e-12),
        "privacy: with limits.max_examples 1000: ",
    ),
    "more rows than the range has": (
        put("limits", max_examples=2**24),
        "privacy: with limits.max_examples 16777216: 16777216 examples and their noise can reach 17592",
    ),
    "more rows than float64 sums hold": (
        put("limits", max_examples=2**21),
        "privacy: with limits.max_examples 2097152: 2097152 examples summed with 4608 additions in a row",
    ),
    "a linear head that skips": (
        lambda document: document.update(head={"skip": True}),
        "head: skip needs hidden_units above 0, got 0: a linear head is one",
    ),
    "Gram sums in three rounds": (
        both(put("training", algorithm="analytic"), put("privacy", rounds=3)),
        "privacy.rounds: analytic is solved in one round, got 3: say 1",
    ),
    "Gram sums of hidden units alone": (
        both(
            put("training", algorithm="analytic"), put("privacy", rounds=1), put("head", hidden_units=4)
        ),
        "head.skip: analytic solves a head with hidden units and a skip connection: say true",
    ),
    "Gram sums in clear": (
        both(
            put("training", algorithm="analytic"),
            put("privacy", rounds=1),
            lambda document: document.update(protection="none"),
        ),
        "protection: analytic needs sealed: its noise is shared among sites that hide each other",
    ),
    "class sums before hidden units alone": (
        both(put("privacy", start_fraction=0.2), put("head", hidden_units=4)),
        "privacy.start_fraction: class sums start a linear head or one with head.skip, this has neither",
    ),
    "all of the budget for the start": (
        put("privacy", start_fraction=1),
        "privacy.start_fraction must be from 0, below 1, got 1.0: 0.2 is usual",
    ),
    "a start that is the only round": (
        put("privacy", start_fraction=0.2, rounds=1),
        "privacy.start_fraction is 0.2, but the start is the only round: give it 2 or more",
    ),
    "people under local noise": (
        both(put("training", algorithm="dp-sgd"), put("privacy", rows_per_unit=3)),
        "privacy.rows_per_unit: dp-sgd protects rows and no people, got 3: choose fedsgd, or 1",
    ),
    "a unit under local noise": (
        both(put("training", algorithm="dp-sgd"), put("privacy", unit="patient", rows_per_unit=1)),
        "privacy.unit: dp-sgd has contributions of single rows, got 'patient': choose fedsgd to clip by it",
    ),
    "a unit under analytic": (
        both(
            put("training", algorithm="analytic"),
            put("privacy", unit="patient", rows_per_unit=3, rounds=1),
        ),
        "privacy.unit: analytic has contributions of single rows, got 'patient': choose fedsgd to clip by it",
    ),
    "a unit without rows": (
        put("privacy", unit="patient", rows_per_unit=0),
        "privacy.rows_per_unit must be at least 1, got 0",
    ),
    "a unit that is no column": (
        put("privacy", unit="patient id", rows_per_unit=3),
        "privacy.unit: String should match pattern",
    ),
    "a rate that is no share": (
        both(put("training", algorithm="dp-sgd"), put("privacy", local={"sample_rate": 0.3})),
        "privacy.local: sample_rate must be 1 over a whole number, such as 0.25, got 0.3",
    ),
    "local noise without a section": (
        both(put("training", algorithm="dp-sgd"), without("privacy")),
        "privacy: missing: dp-sgd needs target_epsilon, delta, public_population and clipping_norm",
    ),
    "a BigQuery site whose data have no name": (
        lambda document: document["sites"][0].update(
            data={
                "source": "bigquery",
                "uri": "bigquery://payer/clinic",
                "sql": "SELECT note, organ, category FROM visits",
                "bigquery": {"location": "EU", "maximum_bytes_billed": 10**9},
                "dataset": "visits",
            }
        ),
        "sites[0].data.ledger_uri: missing: under an epsilon a BigQuery site names the store of their ledger",
    ),
    "a ridge of nothing": (
        put("training", ridge=0),
        "training.ridge: Input should be greater than 0, got 0",
    ),
    "a server that stands still": (
        put("training", server_learning_rate=0),
        "training.server_learning_rate: Input should be greater than 0, got 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(small_federation: Make, say: Say, mistake: str) -> None:
    made = small_federation(rows=2, **ours())
    change, message = MISTAKES[mistake]
    change(made.document)
    made.save()
    before = content(made.home)
    said = say("run", made.path)
    (line,) = said.complaints
    assert line.startswith(f"{made.path}: {message}")
    assert (said.code, said.out) == (2, "")
    assert content(made.home) == before


def told(path: Path) -> list[str]:
    with pytest.raises(FederationFileError) as raised:
        load_federation(path)
    return [line.removeprefix(f"{path}: ") for line in str(raised.value).splitlines()]


def test_all_problems_are_told_at_once_with_those_of_the_other_sections(small_federation: Make) -> None:
    """Also beside values that break the rule of their own type, and beside another protection."""
    made = small_federation(rows=0, **ours(target_epsilon=float("nan"), delta=0.1, rounds=0))
    del made.document["privacy"]["clipping_norm"], made.document["title"]
    made.document["protection"] = "he"
    made.document["training"]["server_learning_rate"] = -1
    made.document["quorum"]["min_sites"] = 7
    assert sorted(line.replace(":", " ").split()[0] for line in told(made.save())) == [
        "privacy.clipping_norm", "privacy.delta", "privacy.rounds", "privacy.target_epsilon", "protection",
        "quorum.min_sites", "title", "training.server_learning_rate",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sites", "least", "t_sites", "needed"),
    [(3, 2, 1, 3), (4, 3, 2, 4), (5, 3, 2, 4), (7, 4, 3, 6), (10, 7, 6, 9)],
)
def test_noise_that_one_site_would_have_to_make_alone_is_refused(
    small_federation: Make, sites: int, least: int, t_sites: int, needed: int
) -> None:
    """u_min - t_sites < 2: what the seal asks for is never less than what the noise asks for."""
    quorum = {"min_sites": sites, "min_sum_sites": least, "colluding_sites": t_sites}
    made = small_federation(rows=0, names=NAMES[:sites], quorum=quorum, **ours())
    assert needed - t_sites >= 2
    assert told(made.path) == [
        f"quorum.min_sum_sites: must be at least {needed} for {sites} sites of which {t_sites} may collude, "
        f"got {least}"
    ]
    quorum["min_sum_sites"] = needed
    assert load_federation(made.save()).method == "ours"


def test_rows_are_taken_up_to_what_float64_sums_hold(small_federation: Make) -> None:
    """So many rows, n, and 4096 + ceil(n / 4096) additions, one after another: at most 2^31 as a product."""
    most = 508_761
    assert most * (4096 + 125) <= 2**31 < (most + 1) * (4096 + 125)
    made = small_federation(rows=0, limits={"max_examples": most}, **ours())
    assert load_federation(made.path).limits.max_examples == most
    made.document["limits"]["max_examples"] += 1
    (line,) = told(made.save())
    assert "508762 examples summed with 4221 additions in a row round by more than the" in line


def test_sites_sum_as_many_rows_at_once_as_the_rule_says() -> None:
    assert inspect.signature(clipped_gradient_sum).parameters["batch_size"].default == ROWS_AT_ONCE


@pytest.mark.parametrize(("hidden_units", "skip"), [(0, False), (1, False), (1, True), (8, False), (8, True)])
def test_the_noise_has_as_many_coordinates_as_the_head(hidden_units: int, skip: bool) -> None:
    made = heads.initial(5, hidden_units, 3, seed=1, skip=skip)
    assert num_weights(5, hidden_units, 3, skip=skip) == sum(values.size for values in made.values())


def test_methods_choose_algorithm_and_protection_and_take_the_section_along(small_federation: Make) -> None:
    federation = load_federation(small_federation(rows=0, **ours()).path)
    assert (federation.method, federation.privacy is None) == ("ours", False)
    for method, protection in (("sealed", "sealed"), ("fedavg", "none"), ("he-fl", "he")):
        other = federation.with_method(method)
        assert (other.method, other.protection, other.training.algorithm) == (method, protection, "fedavg")
        assert other.privacy is None, "whoever reads it must not think that these sums are private"
    rival = federation.with_method("dp-fl")
    assert (rival.protection, rival.training.algorithm) == ("none", "dp-sgd")
    assert rival.privacy == federation.privacy, "its epsilon is the same"
    assert federation.with_method("ours") == federation


def test_the_method_needs_a_section_that_says_how_private(small_federation: Make, say: Say) -> None:
    made = small_federation(rows=2)
    before = content(made.home)
    said = say("run", made.path, "--method", "ours")
    assert (said.code, content(made.home)) == (2, before)
    (line,) = said.complaints
    assert line.startswith("under ours: privacy: missing: fedsgd needs target_epsilon, delta, ")
    with pytest.raises(UsageError, match=r"^under ours: privacy: missing"):
        load_federation(made.path).with_method("ours")
