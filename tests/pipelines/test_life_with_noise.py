"""A federation's life where sums are noised: what is spent stays spent, and the schedule goes on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from components.agreement.charter_book import charter_in_force, read_edition
from components.artifacts.stores import open_store
from components.rounds.verification import verify_state
from pipelines.federation import load_federation
from pipelines.privacy_standing import standings
from tests.conftest import SmallFederation
from tests.pipelines.command_line import Say, say_here
from tests.pipelines.life import KEYS, STATE, add_site, agree, committed_records, typed
from tests.pipelines.noised import ours
from tests.pipelines.round_in_process import RoundInProcess


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_here(monkeypatch, capsys)


def spent(made: SmallFederation) -> dict[str, tuple[int, float, int]]:
    """Entries, epsilon spent, and rounds left of every site whose ledger lies here."""
    found = standings(load_federation(made.path), charter_in_force(KEYS), now=datetime.now(UTC))
    return {
        each.site: (each.statement.entries, each.statement.epsilon_spent, each.rounds_left) for each in found
    }


def test_ledgers_and_schedule_go_on_through_a_whole_life(
    small_federation: Callable[..., SmallFederation], say: Say
) -> None:
    made = small_federation([40, 50, 60], **ours(rounds=4))
    RoundInProcess(made).finish()
    first = charter_in_force(KEYS)
    assert first.privacy is not None

    add_site(made, "delta", rows=45)
    typed(say, "keys", "init", made, "--as", "delta")
    agree(made, say)
    assert charter_in_force(KEYS).privacy == first.privacy, "the schedule goes on where it was"
    before = spent(made)
    assert {site: each[0] for site, each in before.items()} == {"alpha": 1, "beta": 1, "gamma": 1, "delta": 0}
    assert before["delta"][1] == 0.0
    RoundInProcess(made).finish()
    assert [spent(made)[site][0] for site in ("alpha", "delta")] == [2, 1]

    typed(say, "keys", "replace", made, "--as", "beta")
    made.document["sites"] = [site for site in made.document["sites"] if site["name"] != "delta"]
    made.save()
    # With noise in every sum a site may leave and a round be taken back at once.
    drafted = typed(say, "charter", "new", made, "--take-back", "2")
    told = "\n".join(drafted)
    assert {"  sites: delta leaves", "  sites: beta has other keys"} <= set(drafted)
    assert "takes back round 2: the first round under this edition starts from the model of round 1" in told
    assert "what these rounds have cost stays spent: epsilon " in told
    assert "and 2 of 4 rounds of the schedule are left" in told
    assert "without noise" not in told
    typed(say, "charter", "sign", made, "--all")
    kept = spent(made)
    assert kept["beta"][0] == 2
    RoundInProcess(made).finish()

    after = spent(made)
    assert after["beta"][0] == 3, "the ledger goes on under the new key"
    assert after["beta"][1] > kept["beta"][1]
    assert after["beta"][2] == kept["beta"][2] - 1 == 1
    one, two, three = committed_records()
    assert (two.parent, three.parent) == (one.model, one.model)
    assert (len(two.members), three.members) == (4, ("alpha", "beta", "gamma"))
    third = read_edition(open_store(KEYS), 3)
    assert (third.restart, third.privacy) == (one.model, first.privacy)
    assert verify_state(STATE, keys_uri=KEYS, charter=third.digest).problems == ()
