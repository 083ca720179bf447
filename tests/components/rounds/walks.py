"""Attempts that were walked up to a step, once for all tests: each test is given a copy in its own home."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.agreement.protections import RELEASE, UNMASK
from components.agreement.released_sum import shapes_of
from components.agreement.site_update import keep_update
from components.artifacts.stores import crosscloud_home, open_store
from components.encryption.update_vector import to_vector
from components.training.local_training.training import train
from tests.components.aggregation.three_sites import CLASSES, FEATURES, SITES, ThreeSites

FOUR = ("alpha", "beta", "delta", "gamma")
"""Under `sealed` a sum of three of four is opened: one site may be lost."""
STEPS = ("open", "trained", "called", "shared", "sealed", "summed", "released", "opened", "committed")


@dataclass(frozen=True, kw_only=True)
class Walked:
    """An attempt and the references that its steps have handed on; empty for steps that were not taken."""

    three: ThreeSites
    commitments: dict[str, str]
    roster: str = ""
    sealed: dict[str, str]
    total: str = ""
    receipt: str = ""

    def blob(self, site: str) -> Path:
        return self.three.exchange_folder / f"{self.three.opened.ticket.folder}/sealed/{site}.bin"

    def manifest(self, site: str) -> Path:
        return self.three.exchange_folder / f"{self.three.opened.ticket.folder}/sealed/{site}.json"


def walk(
    step: str,
    protection: str,
    *,
    sites: Sequence[str] = SITES,
    hidden_units: int = 0,
    lost: str = "",
    colluding: int = 1,
) -> Walked:
    """A copy, in the home of this test, of an attempt walked up to and with a step.

    Args:
        step: one of STEPS.
        protection: by name.
        sites: of the federation.
        hidden_units: of the head.
        lost: site that is on the roster and does not seal.
        colluding: sites that may collude, which the quorum follows from.
    """
    start = _Start(protection=protection, sites=tuple(sites), hidden_units=hidden_units, colluding=colluding)
    saved, walked = _template(STEPS.index(step), start, lost)
    saved.write(crosscloud_home())
    return replace(walked, commitments=dict(walked.commitments), sealed=dict(walked.sealed))


def content(uri: str) -> dict[str, bytes]:
    """Every object of a store."""
    store = open_store(uri)
    return {key: store.read(key) for key in store.keys("")}


@dataclass(frozen=True)
class _Saved:
    """Content and mode by path, and the modes of the folders: many small files are copied often."""

    folders: dict[str, int]
    files: dict[str, tuple[int, bytes]]

    @classmethod
    def read(cls, home: Path) -> _Saved:
        folders, files = {}, {}
        for path in sorted(home.rglob("*")):
            name, mode = path.relative_to(home).as_posix(), stat.S_IMODE(path.stat().st_mode)
            if path.is_dir():
                folders[name] = mode
            else:
                files[name] = (mode, path.read_bytes())
        return cls(folders, files)

    def write(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        for name, mode in self.folders.items():
            (home / name).mkdir(mode=mode)
        for name, (mode, data) in self.files.items():
            with os.fdopen(
                os.open(f"{home}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb"
            ) as file:
                file.write(data)


@dataclass(frozen=True, kw_only=True)
class _Start:
    protection: str
    sites: tuple[str, ...]
    hidden_units: int
    colluding: int

    def opened(self) -> ThreeSites:
        return ThreeSites.start(
            protection=self.protection,
            sites=self.sites,
            hidden_units=self.hidden_units,
            colluding_sites=self.colluding,
        )


@cache
def _template(last: int, start: _Start, lost: str) -> tuple[_Saved, Walked]:
    # In memory where tests' own folders are: a store waits for the disk after every object and folder.
    root = os.environ.get("PYTEST_DEBUG_TEMPROOT")
    with tempfile.TemporaryDirectory(prefix="walked-", dir=root) as folder:
        home = Path(folder)
        with _at(home):
            if not last:
                three = start.opened()
                return _Saved.read(home), Walked(three=three, commitments={}, sealed={})
            saved, walked = _template(last - 1, start, lost)
            saved.write(home)
            walked = _next(STEPS[last], walked, lost)
            return _Saved.read(home), walked


def _next(step: str, walked: Walked, lost: str) -> Walked:
    three = walked.three
    if step == "trained":
        return replace(walked, commitments=three.train())
    if step == "called":
        return replace(walked, roster=three.roster(walked.commitments))
    lifted_by = three.charter.traits.lifted_by
    if step == "shared" and lifted_by == UNMASK:
        three.share(walked.roster)
    elif step == "sealed":
        sealed = three.seal(walked.roster, [site for site in three.sites if site != lost])
        return replace(walked, sealed=sealed | ({lost: ""} if lost else {}))
    if step == "summed":
        return replace(walked, total=three.aggregate(walked.sealed).reference)
    if step == "released" and lifted_by == RELEASE:
        three.release()
    elif step == "released" and lifted_by == UNMASK:
        three.unmask()
    elif step == "opened":
        return replace(walked, receipt=three.open_sum(walked.total).reference)
    elif step == "committed":
        three.commit(walked.receipt)
    return walked


@contextmanager
def _at(home: Path) -> Iterator[None]:
    before = os.environ.get("CROSSCLOUD_HOME")
    os.environ["CROSSCLOUD_HOME"] = str(home)
    try:
        yield
    finally:
        if before is None:
            del os.environ["CROSSCLOUD_HOME"]
        else:
            os.environ["CROSSCLOUD_HOME"] = before


def commit_to(three: ThreeSites, updates: Mapping[str, tuple[NDArray[np.float64], int]]) -> dict[str, str]:
    """What `train` does once it has an update: the reference of each site's commitment, by site."""
    references = dict.fromkeys(three.sites, "")
    for site, (values, num_examples) in updates.items():
        place = three.accepted(site)
        keep_update(
            place.store,
            place.ticket,
            to_vector(
                place.charter,
                values,
                num_examples,
                round_number=place.ticket.round_number,
                shapes=shapes_of(place.model()),
            ),
        )
        references[site] = train(place, features="", device="cpu").reference
    return references


def round_of(three: ThreeSites, updates: Mapping[str, tuple[NDArray[np.float64], int]]) -> str:
    """From the sites' updates to the key holder's receipt."""
    roster = three.roster(commit_to(three, updates))
    return three.open_sum(three.summed(three.seal(roster, sorted(updates)))).reference


def seeded_updates(
    sites: Sequence[str] = SITES, *, seed: int = 7
) -> dict[str, tuple[NDArray[np.float64], int]]:
    """One update a site, of the length of three sites' linear model, with unequal counts."""
    generator = np.random.default_rng(seed)
    length = FEATURES * CLASSES + CLASSES
    return {site: (generator.normal(0, 0.1, length), 10 * n + 11) for n, site in enumerate(sites)}
