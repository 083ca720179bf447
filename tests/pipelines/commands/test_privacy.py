"""`crosscloud privacy`, and the refusal of runs that no budget holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from components.errors import UsageError
from components.privacy.zcdp import epsilon
from pipelines.chartering import ensure_charter
from pipelines.federation import load_federation
from pipelines.privacy_standing import require_rounds, standings
from tests.pipelines.noised import ours
from tests.pipelines.round_in_process import RoundInProcess

if TYPE_CHECKING:
    from tests.conftest import SmallFederation
    from tests.pipelines.command_line import Say

SITES = ("alpha", "beta", "gamma")
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def made(
    small_federation: Callable[..., SmallFederation], monkeypatch: pytest.MonkeyPatch
) -> SmallFederation:
    federation = small_federation(30, **ours(rounds=2))
    monkeypatch.chdir(federation.path.parent)
    return federation


def rows(said: list[str]) -> list[list[str]]:
    return [line.split() for line in said]


def test_it_prints_what_is_spent_and_left_by_site(
    made: SmallFederation, say: Say, capsys: pytest.CaptureFixture[str]
) -> None:
    RoundInProcess(made).learn()
    capsys.readouterr()
    first, header, *sites = say("privacy", made.path).lines
    sigma = ensure_charter(load_federation(made.path)).privacy.noise_multipliers[0]  # type: ignore[union-attr]
    over = "schedule: epsilon 8 at delta 1e-05 over rounds 1 to 2"
    assert first == f"{over}, noise multiplier {sigma:.4g}, of one row"
    assert header.split() == [
        "site", "dataset", "unit", "period",
        "releases", "spent", "left", "at", "delta", "ever", "rounds", "left",
    ]  # fmt: skip
    one = epsilon(1 / (2 * sigma**2), 1e-5)
    for site, row in zip(SITES, rows(sites), strict=True):
        dataset = next(each for each in made.document["sites"] if each["name"] == site)["data"]["uri"]
        left = [f"{8 - one:.4g}", "of", "8"]
        assert row == [site, dataset, "row", "total", "1", f"{one:.4g}", *left, "1e-05", f"{one:.4g}", "1"]


def test_before_the_first_round_nothing_is_spent(made: SmallFederation) -> None:
    federation = load_federation(made.path)
    charter = ensure_charter(federation)
    for standing in standings(federation, charter, now=NOW):
        assert (standing.statement.entries, standing.statement.epsilon_spent) == (0, 0)
        assert standing.rounds_left == 2
    require_rounds(federation, charter, 2, now=NOW)


def test_more_rounds_than_the_schedule_has_are_refused_before_anything_runs(made: SmallFederation) -> None:
    federation = load_federation(made.path)
    charter = ensure_charter(federation)
    with pytest.raises(UsageError) as caught:
        require_rounds(federation, charter, 3, now=NOW)
    assert str(caught.value) == (
        "3 rounds are asked for, the charter's schedule has 2 of 2 left, which together cost epsilon 8 at "
        "delta 1e-05: run --rounds 2"
    )


def test_a_round_that_was_begun_can_be_finished_and_the_next_is_refused(
    made: SmallFederation, say: Say, capsys: pytest.CaptureFixture[str]
) -> None:
    federation = load_federation(made.path)
    for _ in range(2):
        run = RoundInProcess(made)
        run.learn()
        # What was charged is finished by the same command, although no budget is left for it.
        require_rounds(federation, run.charter, 1, now=NOW)
        run.go_on()
    capsys.readouterr()
    said = say("run", made.path)
    assert said.code == 2
    (line,) = said.complaints
    assert line.startswith(
        "1 round is asked for, the charter's schedule has 0 of 2 left, which together cost "
    )
    assert "'make clean'" in line
    # Another federation that begins anew over the same data meets the ledgers.
    again = federation.model_copy(update={"state_uri": "other/state", "exchange_uri": "other/exchange"})
    with pytest.raises(UsageError) as caught:
        require_rounds(again, ensure_charter(again), 1, now=NOW)
    problems = str(caught.value).splitlines()
    assert [problem.split(":")[0] for problem in problems] == list(SITES)
    assert all("has spent epsilon 8 of 8" in problem for problem in problems)


def test_a_federation_without_noise_has_nothing_to_account_for(
    small_federation: Callable[..., SmallFederation], say: Say
) -> None:
    plain = small_federation(30)
    ensure_charter(load_federation(plain.path))
    said = say("privacy", plain.path)
    assert said.code == 2
    (line,) = said.complaints
    assert line.startswith("the charter of small has no differential privacy, its algorithm is fedavg")
