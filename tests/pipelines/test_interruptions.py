"""A run that is killed, at whatever step, is finished by typing the command again."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import RoundAlreadyCommittedError
from components.rounds.round_commit.committing import commit_round
from pipelines.chartering import ensure_charter
from pipelines.federation import load_federation
from tests.conftest import SITES, SmallFederation
from tests.pipelines.conftest import copied, typed
from tests.pipelines.kept_updates import assert_mean_of_updates
from tests.pipelines.round_in_process import RoundInProcess
from tests.pipelines.run_in_progress import RunInProgress
from tests.pipelines.store_history import watched

STEPS = {
    "open round": "open_round",
    "ingest": "ingest",
    "augment": "augment",
    "train": "train",
    "roster": "roster",
    "seal": "seal",
    "aggregate": "aggregate",
    "release": "release",
    "open": "open",
    "commit round": "commit",
    "adapt": "adapt",
    "evaluate": "evaluate",
    "report": "report",
}
"""The steps of a round in order, as people and as the journal call them."""
AT_SITES = ("ingest", "augment", "train", "seal", "release", "adapt", "evaluate")
KILLED_AT = ("train", "release")

Kept = dict[str, tuple[int, int, str]]


def stored(home: Path) -> Kept:
    """Inode, time of the last change and content of every object that stays, in every store."""
    stores = [home / f"small/{name}" for name in ("state", "exchange", "key-holder")]
    stores += (home / "small/sites").glob("*/store")
    files = [path for store in stores for path in store.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(home)): (path.stat().st_ino, path.stat().st_mtime_ns, digest(path))
        for path in files
        if not path.name.startswith(".") and path.parent.name != "secrets"
    }


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def journal(home: Path) -> set[str]:
    """The steps of round 2 that are done."""
    return {path.stem for path in (home / "small/exchange/rounds/00002-1/journal").glob("*.json")}


def entry(title: str) -> str:
    """The journal's name of a task."""
    step, _, site = title.partition(" · ")
    return f"{STEPS[step]}-{site}" if site else STEPS[step]


def with_breakable_encoder(federation: SmallFederation) -> Path:
    """Gives the federation an encoder of its own that is the same by its digest; its weights."""
    section = federation.document["encoder"]
    encoder = federation.home.parent / "encoder"
    shutil.copytree(section["name"], encoder)
    section.update(name=str(encoder))
    federation.save()
    return encoder / "model.safetensors"


@pytest.mark.slow
def test_a_round_killed_again_and_again_is_finished_and_nothing_is_repeated(
    after_one_round: SmallFederation,
) -> None:
    """The command is killed as a step starts (at the sites: the second site's, so that one has finished).

    The warehouse of a site that has ingested is taken away, and once all sites have features the encoder's
    weights are: whatever was repeated would fail.
    """
    home = after_one_round.home
    weights = with_breakable_encoder(after_one_round)
    missed, before = [], stored(home)
    for step in KILLED_AT:
        with RunInProgress(after_one_round) as run:
            run.await_start(step, nth=2 if step in AT_SITES else 1)
            run.kill()
            assert run.process.returncode == -9
            *finished, killed = map(entry, run.started())
        kept, done = stored(home), journal(home)
        assert before.items() <= kept.items(), f"killed at {step}: something that was stored has changed"
        assert set(finished) <= done, f"killed at {step}: what came before it is not done"
        missed += [killed] if killed in done else []
        for site in SITES:
            if f"ingest-{site}" in done:
                after_one_round.warehouse(site).unlink(missing_ok=True)
        if {f"augment-{site}" for site in SITES} <= done:
            weights.write_bytes(b"not weights")
        before = kept
    # Somebody else may hold the processor between the start of a short step and the kill, but not often.
    assert len(missed) <= 1, f"killed too late: {missed}"

    command = typed("run", str(after_one_round.path), home=home)
    assert command.returncode == 0, command.stderr
    assert re.findall(r"round (\d) committed", command.stdout) == ["2"]
    kept = stored(home)
    assert before.items() <= kept.items()
    assert len(journal(home)) == len(STEPS) + len(AT_SITES) * (len(SITES) - 1)
    assert not any(after_one_round.warehouse(site).exists() for site in SITES)
    assert not (home / "small/exchange/rounds/00002-2").exists(), "the round is the attempt it began as"
    report = json.loads((home / "small/state/rounds/00002/report.json").read_text())
    assert [site["took_part"] for site in report["sites"]] == [True] * 3
    assert [site["reason"] for site in report["sites"]] == [""] * 3
    assert_mean_of_updates(after_one_round, 2, SITES)


def names_another_site(path: Path) -> bool:
    return any(site in str(path) for site in SITES[1:])


@pytest.mark.slow
def test_a_round_cut_off_at_every_other_object_is_finished_with_what_is_there(
    small_federation: Callable[..., SmallFederation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed run leaves what it had created, and had not erased, by then: each such state is resumed.

    What the other two sites create is cut off with the rest, but not between their own objects.
    """
    made = small_federation(12)
    ensure_charter(load_federation(made.path))
    untouched = copied(made, tmp_path / "untouched")
    with watched(made.home) as history:
        RoundInProcess(made).finish()
    created = [path for kind, path in history.events if kind == "created"]
    assert sorted(map(str, created)) == sorted([*stored(made.home), *map(str, history.erased)])
    assert [kind for kind, _ in history.events].count("erased") == len(history.erased) == len(SITES)
    assert_mean_of_updates(made, 1, SITES)
    everything = len(stored(made.home))
    cuts = [(n, *event) for n, event in enumerate(history.events) if not names_another_site(event[1])]
    for count, kind, path in cuts[::2]:
        federation = copied(untouched, tmp_path / str(count))
        monkeypatch.setenv("CROSSCLOUD_HOME", str(federation.home))
        history.leave(count, federation.home)
        left = stored(federation.home)
        RoundInProcess(federation).finish()
        now = stored(federation.home)
        assert left.items() <= now.items(), f"before {path} was {kind}: what was there has changed"
        assert len(now) == everything, f"before {path} was {kind}: more was made"
        assert list((federation.home / "small/sites").glob("*/store/secrets/*")) == []
        assert_mean_of_updates(federation, 1, SITES)
        shutil.rmtree(tmp_path / str(count))


@pytest.mark.slow
def test_of_two_runs_of_one_round_one_commits_and_the_other_says_why_it_stops(
    after_one_round: SmallFederation,
) -> None:
    """One run is stopped in its tracks before it commits; another one overtakes it."""
    state = after_one_round.home / "small/state/rounds"
    with RunInProgress(after_one_round) as first:
        first.await_start("open")
        with first.paused():
            assert not (state / "00002/round.json").exists()
            second = RoundInProcess(after_one_round)
            assert (second.opened.round_number, second.opened.attempt) == (2, 1)
            second.finish()
            kept = stored(after_one_round.home)
        command = first.ended()
    assert command.returncode == RoundAlreadyCommittedError.exit_code == 1
    (line,) = command.stderr.splitlines()
    assert line.startswith("crosscloud: round 2 of small was committed by another run")
    assert "run again for the next round" in line
    assert kept.items() <= stored(after_one_round.home).items()
    assert len(list((state / "00002").glob("checkpoint-*"))) == 1
    assert_mean_of_updates(after_one_round, 2, SITES)

    RoundInProcess(after_one_round).finish()
    bodies = [json.loads((state / f"{n:05d}/round.json").read_text())["body"] for n in (1, 2, 3)]
    assert [each["parent"] for each in bodies[1:]] == [each["model"] for each in bodies[:2]]


def test_a_commit_that_comes_second_leaves_the_first_as_it_is(after_one_round: SmallFederation) -> None:
    before = stored(after_one_round.home)
    folder = "small/exchange/rounds/00001-1"
    with pytest.raises(RoundAlreadyCommittedError, match="round 1 of small was committed by another run"):
        commit_round(
            receipt=f"{folder}/receipt.json",
            ticket=f"{folder}/ticket.json",
            stage="open",
            state_uri="small/state",
            exchange_uri="small/exchange",
            keys_uri="small/keys",
        )
    assert stored(after_one_round.home) == before
