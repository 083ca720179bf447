"""Sites that are lost on the way of a round: what it costs, what is opened, and how it goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from components.agreement.ticket import ticket_digest
from components.errors import ObjectMissingError, QuorumNotReachedError, RefusedError
from components.rounds.verification import verify_state
from tests.conftest import SITES, SmallFederation
from tests.pipelines.conftest import typed
from tests.pipelines.kept_updates import assert_mean_of_updates, committed, record
from tests.pipelines.round_in_process import RoundInProcess
from tests.pipelines.run_in_progress import RunInProgress

FOUR = (*SITES, "delta")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def attempt(federation: SmallFederation, number: int) -> Path:
    return federation.home / f"small/exchange/rounds/{number:05d}-1"


def assert_nothing_was_opened(federation: SmallFederation, number: int) -> None:
    """In the first attempt of a round."""
    folder = attempt(federation, number)
    assert names(folder).isdisjoint({"receipt.json", "aggregate.safetensors", "committed.json"})
    ticket = ticket_digest((folder / "ticket.json").read_bytes())
    remembered = federation.home / f"small/key-holder/opened/{ticket}-update.json"
    assert not remembered.exists(), "the key holder remembers what it decrypts, before it does"


@pytest.fixture
def four(small_federation: Callable[..., SmallFederation]) -> SmallFederation:
    """Four sites, of which one may be lost."""
    return small_federation([41, 66, 102, 54], names=FOUR)


def test_a_site_that_committed_and_did_not_seal_costs_nothing(four: SmallFederation) -> None:
    """The others' masks with it are lifted by their pair keys, which they release."""
    one = RoundInProcess(four)
    one.learn()
    one.call()
    one.seal(SITES)
    one.add(SITES)
    cutoff = json.loads((attempt(four, 1) / "cutoff.json").read_text())
    assert cutoff["members"] == list(SITES)
    assert list(cutoff["left_out"]) == ["delta"]
    one.release(SITES)
    assert_nothing_was_opened(four, 1)
    one.open()
    assert (four.home / f"small/key-holder/opened/{one.opened.digest}-update.json").exists()
    one.commit()
    assert_mean_of_updates(four, 1, SITES)
    assert verify_state("small/state", keys_uri="small/keys").problems == ()


def test_a_late_upload_of_a_lost_site_is_not_opened(four: SmallFederation) -> None:
    """It seals after the cut-off: the set is fixed, and it is asked for no release."""
    one = RoundInProcess(four)
    one.learn()
    one.call()
    one.seal(SITES)
    one.add(SITES)
    one.seal(["delta"])
    with pytest.raises(RefusedError, match="the site is not in the sum of round 1: its masks stay"):
        one.release(["delta"])
    one.add(FOUR)
    assert json.loads((attempt(four, 1) / "cutoff.json").read_text())["members"] == list(SITES)
    one.release(SITES)
    one.open()
    one.commit()
    assert_mean_of_updates(four, 1, SITES)
    assert names(attempt(four, 1) / "released") == {f"{site}.json" for site in SITES}


@pytest.mark.slow
def test_a_site_lost_between_sealing_and_release_voids_the_attempt_and_the_next_run_goes_on(
    four: SmallFederation,
) -> None:
    """What beta has drawn for the attempt is lost with its disk, once its sealed update is on its way.

    Delta has no warehouse since the first round, which costs neither run anything.
    """
    home = four.home
    RoundInProcess(four).finish()
    four.warehouse("delta").unlink()
    with RunInProgress(four) as run:
        run.await_start("aggregate")
        with run.paused():
            assert (attempt(four, 2) / "sealed/beta.json").exists()
            assert not (attempt(four, 2) / "released").exists()
            shutil.rmtree(home / "small/sites/beta/store/secrets")
        command = run.ended()
    assert command.returncode == QuorumNotReachedError.exit_code == 1
    (line,) = command.stderr.splitlines()
    assert line.startswith(
        "crosscloud: round 2 is void: beta sealed but did not release, so nothing can be opened and nothing "
        "was. Run again: the next round starts from the same model (log: "
    )
    assert "Traceback" not in command.stdout
    assert names(attempt(four, 2) / "released") == {"alpha.json", "gamma.json"}
    assert_nothing_was_opened(four, 2)

    again = typed("run", str(four.path), home=home)
    assert again.returncode == 0, again.stderr
    assert "round 3 committed" in again.stdout
    reason = "unreachable: the warehouse is not there"
    assert f"round 3: delta left out: {reason}" in again.stdout.splitlines()
    assert_nothing_was_opened(four, 2)
    assert names(home / "small/state/rounds/00002") == {"void.json"}
    assert record(four, 3)["parent"] == record(four, 1)["model"]
    assert record(four, 3)["members"] == list(SITES)
    assert record(four, 3)["left_out"] == {"delta": reason}
    assert_mean_of_updates(four, 3, SITES)
    assert list((home / "small/sites").glob("*/store/secrets/*")) == []
    found = verify_state("small/state", keys_uri="small/keys")
    assert (found.problems, found.rounds, found.voided) == ((), 2, 1)


def test_of_a_void_round_nothing_is_left_to_open_it_with(four: SmallFederation) -> None:
    """Once the next round is accepted, the site that was away cannot release what it had sealed."""
    one = RoundInProcess(four)
    one.learn(SITES)
    one.call()
    one.seal()
    one.add()
    one.release(["alpha", "gamma"])
    with pytest.raises(QuorumNotReachedError, match="round 1 is void: beta sealed but did not release"):
        one.open()
    two = RoundInProcess(four)
    assert (two.opened.round_number, two.opened.attempt) == (2, 1)
    assert (two.opened.model, two.opened.previous) == (one.opened.model, "")
    two.learn()
    with pytest.raises(RefusedError, match="the site has erased its secrets of attempt 1 of round 1"):
        one.release(["beta"])
    with pytest.raises(QuorumNotReachedError):
        one.open()
    two.go_on()
    assert_nothing_was_opened(four, 1)
    assert record(four, 2)["members"] == sorted(FOUR)
    assert_mean_of_updates(four, 2, sorted(FOUR))
    assert committed(four, 2).shape == (16 * 3 + 3,)


def test_below_the_quorum_of_the_roster_the_round_waits(four: SmallFederation) -> None:
    one = RoundInProcess(four)
    one.learn(["alpha", "beta"])
    with pytest.raises(QuorumNotReachedError, match="2 of 4 sites can take part, the quorum is 3"):
        one.call()
    assert names(attempt(four, 1)) == {"ticket.json", "commitments"}
    assert not (four.home / "small/state").exists()
    assert_nothing_was_opened(four, 1)
    two = RoundInProcess(four)
    assert two.opened == one.opened, "the same attempt can still be made"
    two.learn(SITES)
    two.go_on()
    assert_mean_of_updates(four, 1, SITES)


def test_below_the_quorum_of_the_sum_nothing_is_released_and_a_new_attempt_is_made(
    four: SmallFederation,
) -> None:
    one = RoundInProcess(four)
    one.learn()
    one.call()
    one.seal(["alpha", "gamma"])
    text = "2 of 4 sites on the roster sealed, the quorum is 3.* Run again: a new attempt is opened"
    with pytest.raises(QuorumNotReachedError, match=text):
        one.add(["alpha", "gamma"])
    assert (attempt(four, 1) / "shortfall.json").exists()
    with pytest.raises(ObjectMissingError, match=r"cutoff\.json"):
        one.release(["alpha"])
    assert_nothing_was_opened(four, 1)
    two = RoundInProcess(four)
    assert (two.opened.round_number, two.opened.attempt) == (1, 2)
    two.finish()
    assert record(four, 1)["attempt"] == 2
    assert_mean_of_updates(four, 1, sorted(FOUR))
    assert names(attempt(four, 1)).isdisjoint({"cutoff.json", "receipt.json"})
    assert verify_state("small/state", keys_uri="small/keys").problems == ()


def test_a_site_refuses_to_release_for_a_sum_that_is_too_small(four: SmallFederation) -> None:
    """Whatever the aggregator, the coordinator and the key holder agree on."""
    one = RoundInProcess(four)
    one.learn()
    one.call()
    one.seal()
    one.add()
    path = attempt(four, 1) / "cutoff.json"
    cutoff = json.loads(path.read_text()) | {"members": ["alpha", "beta"]}
    path.write_text(json.dumps(cutoff))
    for site in ("alpha", "beta"):
        with pytest.raises(RefusedError, match="the sum of round 1 has 2 sites, the charter asks for 3"):
            one.release([site])
    with pytest.raises(QuorumNotReachedError, match="a sum of 2 sites is not opened, the charter asks for 3"):
        one.open()
    assert_nothing_was_opened(four, 1)
