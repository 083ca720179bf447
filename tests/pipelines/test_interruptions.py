"""A run that is killed, at whatever step, is finished by typing the command again."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from safetensors.numpy import load_file

from components.aggregation.secure_aggregation.summing import aggregate_updates
from components.agreement.workplace import Workplace
from components.artifacts.stores import crosscloud_home
from components.data_processing.feature_augmentation.augmentation import augment
from components.data_processing.record_ingestion.ingestion import RecordSpec, ingest
from components.encryption.aggregate_opening.opening import open_aggregate
from components.encryption.update_sealing.sealing import seal_update
from components.errors import RoundAlreadyCommittedError
from components.evaluation.model_evaluation.evaluation import evaluate
from components.evaluation.round_report.report import Story, write_report
from components.rounds.roster_call.calling import call_roster
from components.rounds.round_commit.committing import commit_round
from components.rounds.round_opening.opening import ModelShape, OpenedRound, RoundRequest, open_round
from components.training.adaptation.adaptation import adapt
from components.training.local_training.training import train
from pipelines.federation import load_federation
from pipelines.readiness import encoder_spec
from tests.conftest import CLASSES, DIMENSIONS, SmallFederation
from tests.pipelines.conftest import FinishedRun, RunInProgress, copied, typed

SITES = ("alpha", "beta", "gamma")
STEPS = {
    "open round": "open_round",
    "ingest": "ingest",
    "augment": "augment",
    "train": "train",
    "roster": "roster",
    "seal": "seal",
    "aggregate": "aggregate",
    "open": "open",
    "commit round": "commit",
    "adapt": "adapt",
    "evaluate": "evaluate",
    "report": "report",
}
"""The steps of a round in order, as people and as the journal call them."""
AT_SITES = ("ingest", "augment", "train", "seal", "adapt", "evaluate")
KILLED_AT = ("train", "seal", "commit round", "evaluate")

Kept = dict[str, tuple[int, int, str]]


def stored(home: Path) -> Kept:
    """Inode, time of the last change and content of every object in every store."""
    stores = [home / "small/state", home / "small/exchange", *(home / "small/sites").glob("*/store")]
    files = [path for store in stores for path in store.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(home)): (path.stat().st_ino, path.stat().st_mtime_ns, digest(path))
        for path in files
        if not path.name.startswith(".")
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
    """Gives the federation an encoder of its own that is the same; its weights."""
    section = federation.document["encoder"]
    encoder = federation.home.parent / "encoder"
    shutil.copytree(section["name"], encoder)
    section.update(name=str(encoder), digest=digest(encoder / "model.safetensors"))
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
    assert_mean_of_updates(home)


def assert_mean_of_updates(home: Path, number: int = 2) -> None:
    """The round's model is the one before it and the weighted mean of the sites' stored updates."""
    body = json.loads((home / f"small/state/rounds/{number:05d}/round.json").read_text())["body"]
    kept = [load_file(home / f"small/sites/{s}/store/updates/{body['ticket']}.safetensors") for s in SITES]
    counts = [int(each["num_examples"][0]) for each in kept]
    mean = sum(n * each["update"] for n, each in zip(counts, kept, strict=True)) / sum(counts)
    base, made = (
        load_file(home / f"small/exchange/models/{body[k]}.safetensors") for k in ("parent", "model")
    )
    moved = np.concatenate([(made[name] - base[name]).ravel() for name in sorted(made)])
    np.testing.assert_allclose(moved, mean, rtol=0, atol=1e-5)
    assert np.abs(mean).max() > 1e-3


class Resumption:
    """What typing the command again does, step by step, without the processes around it."""

    common: ClassVar = {"exchange_uri": "small/exchange", "keys_uri": "small/keys"}

    def __init__(self, federation: SmallFederation) -> None:
        self.federation = load_federation(federation.path)

    def run(self) -> None:
        """Everything from `open_round` to `report`."""
        opened = self._open()
        self.ticket = opened.reference
        common: dict[str, Any] = self.common
        features = {site: self._features(site) for site in SITES}
        promises = {site: train(self._place(site), features=features[site]).reference for site in SITES}
        quorum: dict[str, Any] = {"ticket": self.ticket, "min_sites": 3}
        roster = call_roster(promises, {}, **quorum, **common).reference
        sealed = {
            site: seal_update(self._place(site), roster=roster, keys_uri="small/keys").reference
            for site in SITES
        }
        total = aggregate_updates(sealed, {}, **quorum, **common).reference
        receipt = open_aggregate(total, **quorum, **common).reference
        state = {"state_uri": "small/state", **common}
        done = commit_round(receipt=receipt, ticket=self.ticket, stage=opened.stage, **state)
        model = done.manifest["model"]
        figures = {site: self._figures(site, model, features[site]) for site in SITES}
        story = Story(title="resumed", method="he-fl", classes=CLASSES, clouds={})
        page = str(crosscloud_home() / "page.html")
        write_report(story, figures, {}, committed=done.reference, ticket=self.ticket, page=page, **state)

    def _open(self) -> OpenedRound:
        training = self.federation.training
        request = RoundRequest(
            federation="small",
            sites=SITES,
            protection="he",
            local_epochs=training.local_epochs,
            learning_rate=training.learning_rate,
            batch_size=training.batch_size,
            seed=training.seed,
        )
        shape = ModelShape(features=DIMENSIONS, hidden_units=0, classes=len(CLASSES), seed=training.seed)
        return open_round(request, shape, state_uri="small/state", **self.common)

    def _place(self, site: str) -> Workplace:
        store = f"small/sites/{site}/store"
        return Workplace.open(site=site, store_uri=store, ticket=self.ticket, **self.common)

    def _features(self, site: str) -> str:
        data, task = self.federation.site(site).data, self.federation.task
        spec = RecordSpec(
            source_kind=data.source,
            source_uri=data.uri,
            sql=data.sql,
            template=task.template,
            label_column=task.label_column,
            split_column=task.split.column,
            test_fraction=task.split.test_fraction,
            classes=task.classes,
        )
        place, encoder = self._place(site), encoder_spec(self.federation)
        rows = ingest(place, spec).reference
        text: dict[str, Any] = {"template": task.template, "classes": task.classes}
        return augment(place, rows=rows, encoder=encoder, **text).reference

    def _figures(self, site: str, model: str, features: str) -> str:
        place = self._place(site)
        adaptation = adapt(place, model=model, features=features).reference
        measured = {"model": model, "features": features, "adaptation": adaptation}
        return evaluate(place, **measured, release="per_site").reference


def test_a_round_cut_off_after_any_object_is_finished_with_what_is_there(
    one_round: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed run leaves what it had created by then: each such state is made and resumed.

    What the other two sites create is cut off with the rest, but not between their own objects.
    """
    finished = one_round.federation.home
    created = sorted(
        (finished / name for name in stored(finished) if "/journal/" not in name),
        key=lambda path: path.stat().st_mtime_ns,
    )
    assert len(created) == 8 * 3 + 25
    for count, first in enumerate(created):
        if any(site in str(first.relative_to(finished)) for site in SITES[1:]):
            continue
        federation = copied(one_round.federation, tmp_path / str(count))
        home = federation.home
        monkeypatch.setenv("CROSSCLOUD_HOME", str(home))
        for path in created[count:]:
            (home / path.relative_to(finished)).unlink()
        left = stored(home)
        Resumption(federation).run()
        now, missing = stored(home), first.relative_to(finished)
        assert left.items() <= now.items(), f"{missing}: what was there has changed"
        assert len(now) == len(left) + len(created) - count, f"{missing}: more was made"
        assert_mean_of_updates(home, 1)
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
            second = typed("run", str(after_one_round.path), home=after_one_round.home)
            assert second.returncode == 0, second.stderr
            kept = stored(after_one_round.home)
            assert "round 2 committed" in second.stdout
        _, complaint = first.process.communicate(timeout=60)
        assert first.process.returncode == RoundAlreadyCommittedError.exit_code == 1
    (line,) = complaint.splitlines()
    assert line.startswith("crosscloud: round 2 of small was committed by another run")
    assert "run again for the next round" in line
    assert kept.items() <= stored(after_one_round.home).items()
    assert len(list((state / "00002").glob("checkpoint-*"))) == 1
    assert_mean_of_updates(after_one_round.home)

    Resumption(after_one_round).run()
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
