"""`crosscloud audit`: what it prints, writes and keeps, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer

from components.artifacts.stores import open_store
from components.evaluation.audit.record import newest_audit, read_audit
from components.rounds.state import round_key
from pipelines.commands.audit import require_as_expected
from pipelines.federation import load_federation
from tests.components.evaluation.audit.audit_records import record, trial
from tests.pipelines.noised import ours, set_privacy

if TYPE_CHECKING:
    from tests.conftest import SmallFederation
    from tests.pipelines.command_line import Say


@pytest.fixture
def made(
    small_federation: Callable[..., SmallFederation], monkeypatch: pytest.MonkeyPatch
) -> SmallFederation:
    federation = small_federation(30, **ours(rounds=2))
    monkeypatch.chdir(federation.path.parent)
    return federation


def test_it_writes_a_record_and_a_part_of_the_page(made: SmallFederation, say: Say) -> None:
    page = Path("RESULTS.md")
    page.write_text("# Results of the comparison\n")
    words = ("--epsilons", "1", "--runs", "1", "--seed", "4", "--output", "found", "--results-page", page)
    lines = say("audit", made.path, *words).lines
    assert lines[0].split()[:2] == ["Mechanism", "Runs"]
    assert lines[1].startswith("intact")
    assert lines[1].endswith("below the claim")
    record = read_audit(Path("found/audit.json").read_bytes())
    assert (record.federation, record.seed, record.as_expected) == ("small", 4, True)
    assert (record.canaries, record.guesses, record.sites, record.honest) == (32, 6, 3, 2)
    assert record.trials[0].claimed == pytest.approx(1.0, rel=1e-4)
    text = page.read_text()
    assert text.count("## Audit of small") == 1
    again = say("audit", made.path, *words).lines
    assert again[:3] == lines[:3]
    assert page.read_text().count("## Audit of small") == 1


@pytest.mark.parametrize(
    ("mechanism", "bound", "said"),
    [
        ("intact", 1.25, "a lower bound of 1.25 contradicts the claimed epsilon 1.00: the mechanism gives"),
        ("one share missing", 0.75, "one share missing was not found with 7680 canaries and 2 runs: this"),
    ],
)
def test_what_is_not_as_it_must_be_exits_with_1(
    mechanism: str, bound: float, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        require_as_expected(record(trial(), trial(mechanism, bound)))
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err.startswith(f"crosscloud: {said}")
    require_as_expected(record(trial(), trial("one share missing", 1.25)))


def test_a_real_audit_is_kept_beside_the_rounds(made: SmallFederation, say: Say) -> None:
    state = open_store(load_federation(made.path).state_uri)
    say("audit", made.path, "--epsilons", "2", "--runs", "1")
    assert newest_audit(state) is None
    state.create(round_key(1, "round.json"), b"a round")
    say("audit", made.path, "--epsilons", "2", "--runs", "1")
    kept = newest_audit(state)
    assert kept is not None
    assert kept.seed is None
    assert kept.trials[0].claimed == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--epsilons", "0"),
            "--epsilons must be numbers above 0, separated by commas, got '0': 0.5,1,2,4,8",
        ),
        (("--epsilons", "1,-2"), "--epsilons must be numbers above 0"),
        (("--epsilons", "one"), "--epsilons must be numbers above 0"),
        (("--epsilons", ","), "--epsilons must be numbers above 0"),
        (("--epsilons", "inf"), "--epsilons must be numbers above 0"),
        (("--epsilons", "1e9"), "target_epsilon must be from 0.001 to 1000"),
        (("--runs", "0"), "--runs must be at least 1, got 0: an audit of no training says nothing"),
    ],
)
def test_a_bad_option_is_one_line(made: SmallFederation, say: Say, words: tuple[str, ...], said: str) -> None:
    found = say("audit", made.path, *words)
    assert (found.code, len(found.complaints)) == (2, 1)
    assert found.complaints[0].startswith(said)


def test_a_federation_without_noise_has_nothing_to_audit(
    small_federation: Callable[..., SmallFederation], say: Say
) -> None:
    found = say("audit", small_federation(30).path)
    assert (found.code, len(found.complaints)) == (2, 1)
    assert "an audit is of sums of clipped gradients with noise" in found.complaints[0]


def test_a_head_with_hidden_units_is_refused(made: SmallFederation, say: Say) -> None:
    made.document["head"] = {"hidden_units": 4}
    set_privacy(made)
    found = say("audit", made.path)
    assert (found.code, found.complaints) == (
        2, ["an audit's canaries are for linear heads: set head.hidden_units to 0"],
    )  # fmt: skip
