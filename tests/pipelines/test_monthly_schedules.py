"""Federation files with an allowance a month, and with a norm that adapts: from the file to the charter."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.agreement.adaptive_norm import CLIPPING_NORM
from components.agreement.noise_terms import AdaptiveClipping
from components.artifacts.stores import open_store
from components.artifacts.tensors import decode_any
from components.errors import UsageError
from components.rounds.monthly_allowance import month_of
from components.rounds.verification import verify_state
from pipelines.charter_comparison import changes
from pipelines.charter_terms import explained
from pipelines.chartering import ensure_charter, first_policy, propose_charter
from pipelines.diagnosis.agreed_file import allowance
from pipelines.diagnosis.findings import NotCheckedError
from pipelines.federation import Federation, load_federation
from pipelines.noise_schedule import noise_terms
from pipelines.privacy_standing import require_rounds, standings
from tests.conftest import SmallFederation
from tests.pipelines.command_line import say_here
from tests.pipelines.noised import ours, set_privacy
from tests.pipelines.round_in_process import RoundInProcess

Make = Callable[..., SmallFederation]
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def with_schedule(made: SmallFederation, cron: str) -> Federation:
    made.document["schedule"] = {"cron": cron}
    return load_federation(made.save())


class TestMonth:
    def test_the_schedule_of_a_file_is_every_months(self, small_federation: Make) -> None:
        made = small_federation(rows=0, **ours(per="month", rounds=4, start_fraction=0.1))
        federation = load_federation(made.path)
        terms = noise_terms(federation, first_round=1)
        assert terms is not None
        assert (terms.per, len(terms.noise_multipliers)) == ("month", 4)
        assert terms.noise_multiplier(1000) == terms.noise_multipliers[-1]
        charter = ensure_charter(federation)
        assert charter.privacy == terms
        budget = first_policy(federation, charter, "beta").privacy
        assert budget is not None
        assert (budget.per, budget.epsilon) == ("month", 8.0)

    def test_people_are_told(self, small_federation: Make) -> None:
        made = small_federation(rows=0, **ours())
        first = ensure_charter(load_federation(made.path))
        set_privacy(made, per="month", adaptive_clipping={})
        second = propose_charter(load_federation(made.path))
        (line,) = (each for each in changes(first, second) if each.startswith("privacy: "))
        assert "over rounds 1 to 2, noise" in line
        assert "in every month of 2 rounds from 1 on, noise" in line
        assert "clipped to a norm that aims at 0.2 of the gradients in steps of 0.5, told with weight" in line
        told = {name: f"{value}: {meaning}" for name, value, meaning in explained(second)}
        assert told["epsilon"].startswith(
            "8: 2 rounds of every calendar month (UTC) together, at delta 1e-05;"
        )
        assert told["adaptive norm"].endswith("by a coordinate of weight 0.1, which costs 0.12 % more noise")

    def test_a_schedule_that_goes_on_keeps_its_first_round(
        self, small_federation: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Later editions of the same terms are no new schedule, however many rounds there were."""
        made = small_federation(rows=0, **ours(per="month"))
        ensure_charter(load_federation(made.path))
        monkeypatch.setattr("pipelines.chartering.next_round_number", lambda state: 40)
        made.document["limits"] = {**made.document.get("limits", {}), "local_epochs": 7}
        second = propose_charter(load_federation(made.save()))
        assert second.privacy is not None
        assert second.privacy.first_round == 1

    def test_a_run_asks_for_no_more_than_the_month_has(self, small_federation: Make) -> None:
        made = small_federation(rows=0, **ours(per="month"))
        federation = load_federation(made.path)
        charter = ensure_charter(federation)
        require_rounds(federation, charter, 2, now=NOW)
        with pytest.raises(UsageError) as raised:
            require_rounds(federation, charter, 3, now=NOW)
        assert str(raised.value) == (
            "3 rounds are asked for, 2026-11 has 2 of its 2 left, which together cost epsilon 8 at delta "
            "1e-05: run --rounds 2, the next allowance starts on 2026-12-01 (UTC)"
        )
        assert {each.rounds_left for each in standings(federation, charter, now=NOW)} == {2}


class TestDoctor:
    def test_a_cron_that_starts_more_than_the_month_has(self, small_federation: Make) -> None:
        made = small_federation(rows=0, **ours(per="month", rounds=10))
        with pytest.raises(UsageError) as raised:
            allowance(with_schedule(made, "0 0 3 * * *"), now=NOW)
        assert str(raised.value) == (
            "schedule.cron: '0 0 3 * * *' starts up to 31 rounds in a month (2026-12), privacy has 10: the "
            "rounds after them are refused until the next month; start fewer, or say privacy.rounds 31, "
            "which share the same epsilon"
        )

    def test_one_that_fits(self, small_federation: Make) -> None:
        made = small_federation(rows=0, **ours(per="month", rounds=10))
        told = allowance(with_schedule(made, "0 0 3 */4 * *"), now=NOW)
        assert told == "'0 0 3 */4 * *' starts up to 8 rounds in a month (2026-11), privacy has 10"

    @pytest.mark.parametrize("per", ["total", "month"])
    def test_what_has_none_is_not_looked_at(self, small_federation: Make, per: str) -> None:
        made = small_federation(rows=0, **ours(per=per))
        federation = load_federation(made.path)
        with pytest.raises(NotCheckedError):
            allowance(with_schedule(made, "0 0 3 * * *") if per == "total" else federation, now=NOW)


def test_a_norm_that_adapts_is_the_charters(small_federation: Make, tmp_path: Path) -> None:
    made = small_federation(rows=0, **ours(adaptive_clipping={"quantile": 0.3}))
    charter = ensure_charter(load_federation(made.path))
    assert charter.privacy is not None
    assert charter.privacy.adaptive == AdaptiveClipping(quantile=0.3, learning_rate=0.5, weight=0.1)
    assert charter.clipping_norm == 1.5


def test_a_round_is_reported_with_its_norm_and_its_month(
    small_federation: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = small_federation(30, **ours(per="month", adaptive_clipping={}))
    monkeypatch.chdir(made.path.parent)
    say = say_here(monkeypatch, capsys)
    run = RoundInProcess(made)
    run.finish()
    month = month_of(datetime.fromisoformat(run.opened.snapshot))
    state = open_store(run.federation.state_uri)
    report = json.loads(state.read("rounds/00001/report.json"))
    assert report["parameters"]["clipping_norm"] == 1.5
    assert {name: report["privacy"][name] for name in ("month", "releases", "rounds_left")} == {
        "month": month,
        "releases": 1,
        "rounds_left": 1,
    }
    assert report["privacy"]["epsilon_ever"] == report["privacy"]["epsilon_spent"]
    after = decode_any(state.read(f"rounds/00001/checkpoint-{report['model_digest'][:16]}.safetensors"))
    assert 1.5 * math.exp(-0.4) <= float(after[CLIPPING_NORM][0]) <= 1.5 * math.exp(0.1)
    capsys.readouterr()
    first, months, _, *sites = say("privacy", made.path).lines
    assert first.startswith(
        "schedule: epsilon 8 at delta 1e-05 in every calendar month (UTC) of 2 rounds, noise"
    )
    assert months.startswith("spent and left are the running month's; months add up")
    assert [line.split()[2:4] for line in sites] == [["row", month]] * 3
    assert verify_state(run.federation.state_uri, keys_uri=run.federation.keys_uri).problems == ()
