"""What a federation file lets be known of figures: defaults, rules, their budget, and the tasks they make."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.agreement.noise_terms import NoiseTerms
from components.agreement.protections import TRAITS
from components.errors import FederationFileError, UsageError
from components.privacy.schedule import PrivacyTerms, metrics_multiplier, noise_multipliers
from components.privacy.zcdp import epsilon
from pipelines.compile import compile_round
from pipelines.federation import Federation, load_federation
from pipelines.noise_schedule import noise_terms
from tests.conftest import SITES, SmallFederation
from tests.pipelines.noised import ours

Make = Callable[..., SmallFederation]
OF_METRICS = {"open metrics", "metrics roster", "metrics aggregate", "metrics open"}


def released(made: SmallFederation, *releases: str | None, **changes: Any) -> Path:
    """The file with these releases at its sites; None says nothing."""
    for site, release in zip(made.document["sites"], releases, strict=True):
        site.pop("evaluation", None)
        if release:
            site["evaluation"] = {"release": release}
    made.document.update(changes)
    return made.save()


def problems(path: Path) -> list[str]:
    with pytest.raises(FederationFileError) as told:
        load_federation(path)
    return list(told.value.problems)


def terms_of(federation: Federation, *, first_round: int = 1) -> NoiseTerms:
    terms = noise_terms(federation, first_round=first_round)
    assert terms
    return terms


def tasks(path: Path, folder: Path, federation: Federation | None = None) -> set[str]:
    spec = compile_round(federation or load_federation(path), folder / "round.yaml")
    document = next(yaml.safe_load_all(spec.read_text()))
    return {task["taskInfo"]["name"] for task in document["root"]["dag"]["tasks"].values()}


class TestRelease:
    @pytest.mark.parametrize("protection", TRAITS)
    def test_who_says_nothing_is_counted_where_single_sites_are_hidden(
        self, small_federation: Make, protection: str
    ) -> None:
        path = released(small_federation(rows=0), None, None, None, protection=protection)
        federation = load_federation(path)
        expected = "aggregate" if TRAITS[protection].masked else "none"
        assert [federation.release(site) for site in federation.sites] == [expected] * 3
        assert federation.counting_sites == (list(SITES) if TRAITS[protection].masked else [])

    def test_another_method_takes_what_its_protection_hides(self, small_federation: Make) -> None:
        federation = load_federation(released(small_federation(rows=0, **ours()), None, None, None))
        assert federation.counting_sites == list(SITES)
        for method in ("fedavg", "he-fl", "dp-fl"):
            assert federation.with_method(method).counting_sites == []
        assert federation.with_method("smc-fl").counting_sites == list(SITES)

    @pytest.mark.parametrize("protection", ["none", "he"])
    def test_nobody_can_be_counted_where_each_is_seen(self, small_federation: Make, protection: str) -> None:
        path = released(small_federation(rows=0), "aggregate", "none", "aggregate", protection=protection)
        rule = (
            "evaluation.release: aggregate needs protection smc or masked or sealed, which hide single "
            f"sites, got {protection}: say none or per_site"
        )
        assert problems(path) == [f"sites[0].{rule}", f"sites[2].{rule}"]

    def test_a_method_that_shows_each_is_refused_to_who_insists(self, small_federation: Make) -> None:
        federation = load_federation(released(small_federation(rows=0), *["aggregate"] * 3))
        with pytest.raises(UsageError, match=r"under fedavg: sites\[0\]\.evaluation\.release: "):
            federation.with_method("fedavg")

    @pytest.mark.parametrize(("said", "named"), [(None, "alpha, beta"), ("aggregate", "alpha, beta")])
    def test_a_quorum_or_nobody_is_counted(
        self, small_federation: Make, said: str | None, named: str
    ) -> None:
        made = small_federation(rows=0)
        assert problems(released(made, said, said, "none")) == [
            "sites: evaluation.release aggregate needs at least quorum.min_sites, 3, sites that say so or "
            f"say nothing, got {named}: let as many say it, or say none or per_site at each of these"
        ]
        load_federation(released(made, "none", "per_site", "none"))

    def test_what_is_no_release_is_told(self, small_federation: Make) -> None:
        path = released(small_federation(rows=0), "averaged", None, None)
        assert any("sites[0].evaluation.release" in problem for problem in problems(path))


class TestBudget:
    @pytest.mark.parametrize(
        ("rounds", "every", "expected"),
        [
            (2, "auto", (1, 2)),
            (10, "auto", (1, 4, 7, 10)),
            (40, "auto", (10, 20, 30, 40)),
            (10, 4, (2, 6, 10)),
            (10, 99, (10,)),
        ],
    )
    def test_the_last_round_has_metrics_and_some_before_it(
        self, small_federation: Make, rounds: int, every: Any, expected: tuple[int, ...]
    ) -> None:
        made = small_federation(rows=0, **ours(rounds=rounds, metrics={"every": every}))
        federation = load_federation(released(made, None, None, None))
        terms = terms_of(federation)
        assert terms.metrics
        assert terms.metrics.rounds == expected
        later = terms_of(federation, first_round=7).metrics
        assert later
        assert later.rounds == tuple(number + 6 for number in expected)

    @pytest.mark.parametrize("fraction", [0.05, 0.01])
    @pytest.mark.parametrize("target", [0.5, 4.0])
    def test_all_rounds_and_their_metrics_together_cost_the_target_and_not_more(
        self, small_federation: Make, fraction: float, target: float
    ) -> None:
        asked = ours(rounds=12, target_epsilon=target, metrics={"fraction": fraction}, start_fraction=0.2)
        made = small_federation(rows=0, **asked)
        terms = terms_of(load_federation(released(made, None, None, None)))
        assert terms.metrics
        # From scratch: zCDP of every Gaussian sum is 1/2σ², and adds up.
        updates = math.fsum(1 / (2 * sigma**2) for sigma in terms.noise_multipliers)
        metrics = len(terms.metrics.rounds) / (2 * terms.metrics.noise_multiplier**2)
        assert 0.999 * target < epsilon(updates + metrics, terms.delta) <= target
        assert metrics / (updates + metrics) == pytest.approx(fraction, rel=1e-4)

    def test_nothing_is_set_aside_where_nobody_is_counted(self, small_federation: Make) -> None:
        made = small_federation(rows=0, **ours(rounds=12))
        counted = terms_of(load_federation(released(made, None, None, None)))
        kept = terms_of(load_federation(released(made, "none", "per_site", "per_site")))
        assert kept.metrics is None
        assert kept.noise_multipliers[0] == pytest.approx(
            counted.noise_multipliers[0] * math.sqrt(0.95), rel=1e-6
        )

    @pytest.mark.parametrize("fraction", [0.0, 0.0501, -0.01, 1.0, float("nan")])
    def test_no_more_than_a_twentieth(self, small_federation: Make, fraction: float) -> None:
        made = small_federation(rows=0, **ours(metrics={"fraction": fraction}))
        assert any("privacy.metrics.fraction" in problem for problem in problems(made.path))

    @pytest.mark.parametrize("change", [{"metrics_fraction": 0.0501}, {"metrics_every": 0}])
    def test_nor_by_a_schedule_of_ones_own(self, change: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match="metrics_"):
            noise_multipliers(schedule(**{"metrics_fraction": 0.05} | change))
        with pytest.raises(UsageError, match="nothing is set aside for metrics"):
            metrics_multiplier(schedule())

    def test_a_person_of_several_rows_needs_as_many_times_the_noise(self) -> None:
        one, four = (metrics_multiplier(schedule(metrics_fraction=0.05, rows_per_unit=m)) for m in (1, 4))
        assert four == pytest.approx(4 * one, rel=1e-6)


class TestTasks:
    def test_whoever_is_counted_has_its_tasks_and_nobody_else(
        self, small_federation: Make, tmp_path: Path
    ) -> None:
        made = small_federation(rows=0, names=(*SITES, "omega"), quorum={"min_sites": 3})
        found = tasks(released(made, None, None, None, "none"), tmp_path)
        assert found >= OF_METRICS
        for step in ("count", "metrics seal", "metrics release"):
            assert {name for name in found if name.startswith(f"{step} ·")} == {
                f"{step} · {site}" for site in SITES
            }

    def test_without_anybody_there_are_none(self, small_federation: Make, tmp_path: Path) -> None:
        found = tasks(released(small_federation(rows=0), "none", "per_site", "none"), tmp_path)
        assert not [name for name in found if "metrics" in name or name.startswith("count")]

    def test_under_smc_the_counts_are_shared_and_unmasked(
        self, small_federation: Make, tmp_path: Path
    ) -> None:
        found = tasks(released(small_federation(rows=0), None, None, None, protection="smc"), tmp_path)
        assert {f"metrics {step} · alpha" for step in ("share", "seal", "unmask")} <= found
        assert not [name for name in found if name.startswith("metrics release")]


def schedule(**changes: Any) -> PrivacyTerms:
    fields: dict[str, Any] = {
        "target_epsilon": 4.0,
        "delta": 1e-5,
        "public_population": 20_000,
        "clipping_norm": 1.0,
        "rounds": 10,
        "min_sum_sites": 3,
        "colluding_sites": 1,
    }
    return PrivacyTerms(**{**fields, **changes})
