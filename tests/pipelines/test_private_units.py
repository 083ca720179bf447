"""`ours` for patients of 1 to 50 rows: from warehouses to the ledger, and what one patient can change."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import duckdb
import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.released_sum import shapes_of
from components.agreement.site_policy import load_policy
from components.agreement.site_update import read_update
from components.artifacts.stores import open_store
from components.data_processing.feature_augmentation.augmentation import augment
from components.errors import RefusedError
from components.privacy.charging import charge_ticket, open_ledger
from components.privacy.events import DiscreteGaussianSum
from components.privacy.mechanism import STEPS
from components.privacy.round_noise import round_mechanism
from components.training.features import Examples, read_features
from components.training.local_training.contributions import contribution
from pipelines.readiness import encoder_spec
from tests.conftest import CLASSES, DIMENSIONS, FILLER, SITES, WORDS, SmallFederation
from tests.pipelines.byte_search import OWNERS, files, holding, readable
from tests.pipelines.chartered import KEYS
from tests.pipelines.command_line import Say, say_here
from tests.pipelines.conftest import moved
from tests.pipelines.noised import ours
from tests.pipelines.round_in_process import RoundInProcess

MOST = 8
NORM = 1.5
"""C."""
PATIENTS = 45
"""Of a site."""
NAME = "Quastenberg"
NEWCOMER = f"{NAME}-newcomer"
Visit = tuple[str, str, str, str]
Vector = NDArray[np.int64]


def visits(seed: int) -> list[Visit]:
    """Patient, category, note and organ; patients have 1 to 50 visits, by Zipf's law."""
    chance = random.Random(seed)
    found = []
    for number in range(PATIENTS):
        for visit in range(max(1, round(50 / (1 + number)))):
            organ = chance.choice(CLASSES)
            note = " ".join([*chance.sample(WORDS[organ], 2), *chance.sample(FILLER, chance.randint(1, 4))])
            found.append((f"{NAME}-{seed}-{number}", f"C{chance.randint(0, 40)}", f"{note} {visit}", organ))
    return found


def write(made: SmallFederation, site: str, rows: list[Visit]) -> None:
    path = made.warehouse(site)
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS visits "
            "(patient VARCHAR, category VARCHAR, note VARCHAR, organ VARCHAR)"
        )
        places = ", ".join(["(?, ?, ?, ?)"] * len(rows))
        connection.execute(f"INSERT INTO visits VALUES {places}", [value for row in rows for value in row])


def federation(make: Callable[..., SmallFederation], **privacy: object) -> SmallFederation:
    made = make(rows=0, **ours(**{"unit": "patient", "rows_per_unit": MOST, **privacy}))
    for number, site in enumerate(SITES):
        made.site(site)["data"]["sql"] = "SELECT note, organ, category, patient FROM visits"
        write(made, site, visits(number))
    made.save()
    return made


@dataclass(frozen=True, kw_only=True)
class Run:
    """A whole round, and one up to its commitments, before which a patient with 50 visits comes to alpha."""

    made: SmallFederation
    rounds: tuple[RoundInProcess, RoundInProcess]

    def examples(self, number: int, site: str = "alpha") -> Examples:
        taken = self.rounds[number - 1]
        return read_features(taken.place(site).store, taken.features[site]).train

    def before_noise(self, examples: Examples, number: int = 1, site: str = "alpha") -> Vector:
        """A site's integers as `train` makes them of examples, without the noise."""
        taken = self.rounds[number - 1]
        place = taken.place(site)
        total, count = contribution(taken.charter, place.ticket, site, place.model(), examples, device="cpu")
        found: Vector = np.rint(np.append(total / NORM * STEPS, 0.1 * STEPS * count)).astype(np.int64)
        return found


@pytest.fixture(scope="module")
def found() -> list[Run]:
    """Empty before the first test."""
    return []


@pytest.fixture
def run(
    found: list[Run],
    small_federation: Callable[..., SmallFederation],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """To be read only."""
    if not found:
        made = moved(federation(small_federation), tmp_path_factory.mktemp("units") / "run")
        monkeypatch.setenv("CROSSCLOUD_HOME", str(made.home))
        first = RoundInProcess(made)
        first.finish()
        write(made, "alpha", newcomer())
        second = RoundInProcess(made)
        second.learn()
        found.append(Run(made=made, rounds=(first, second)))
    monkeypatch.setenv("CROSSCLOUD_HOME", str(found[0].made.home))
    return found[0]


def newcomer() -> list[Visit]:
    """Fifty visits that say the same: their gradients have one direction."""
    return [(NEWCOMER, f"C{k % 41}", "cardiac valve acute", "heart") for k in range(50)]


def epsilon_from_scratch(sigmas: list[float], delta: float) -> float:
    """Smallest epsilon of Gaussian noise of these deviations, in units of what one patient can change.

    The Rényi divergence of order alpha of a Gaussian mechanism is alpha / 2 sigma² (Mironov 2017, table II);
    over alpha > 1, delta = exp((alpha − 1)(R(alpha) − epsilon)) (1 − 1/alpha)^alpha / (alpha − 1) (Canonne,
    Kamath and Steinke 2020, proposition 12). Searched for: nothing of `zcdp` is used.
    """
    from scipy.optimize import brentq, minimize_scalar

    def log_delta(epsilon: float) -> float:
        def at(log_beyond: float) -> float:
            beyond = math.exp(log_beyond)
            order = 1 + beyond
            divergence = sum(order / (2 * sigma**2) for sigma in sigmas)
            kept = order * (log_beyond - math.log(order)) - log_beyond
            return beyond * (divergence - epsilon) + kept

        return float(minimize_scalar(at, bounds=(-8, 12), method="bounded", options={"xatol": 1e-12}).fun)

    return float(brentq(lambda epsilon: log_delta(epsilon) - math.log(delta), 0.01, 500, xtol=1e-12))


@pytest.fixture
def say(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(run.made.home))
    return say_here(monkeypatch, capsys)


def test_epsilon_of_a_patient_is_that_of_a_recomputation(run: Run) -> None:
    """From the noise in the ledger's releases and the sensitivity of one patient, and from no price."""
    charter = run.rounds[0].charter
    assert charter.privacy is not None
    dimensions = (DIMENSIONS + 1) * len(CLASSES)
    sensitivity = math.sqrt(1 + 0.1**2) * STEPS + math.sqrt(dimensions) + 1
    for site in SITES:
        terms = load_policy(KEYS, site).privacy
        assert terms is not None
        assert (terms.unit, terms.rows_per_unit) == ("patient", MOST)
        ledger = open_ledger(terms)
        events = [entry.event for entry in ledger.entries()]
        assert all(isinstance(event, DiscreteGaussianSum) for event in events)
        sums = [event for event in events if isinstance(event, DiscreteGaussianSum)]
        assert [event.rows_per_unit for event in sums] == [1, 1]
        # Two sites are sure to be honest: u_min − t = 3 − 1.
        sigmas = [event.share_sigma * math.sqrt(2) / sensitivity for event in sums]
        spent = ledger.statement(now=datetime.now(UTC)).epsilon_spent
        expected = epsilon_from_scratch(sigmas, charter.privacy.delta)
        assert spent == pytest.approx(expected, rel=1e-5)
        assert 7.99 < spent <= 8, "the whole schedule"
        assert rdp_epsilon(sigmas, charter.privacy.delta) == pytest.approx(spent, rel=1e-3)
        # Of rows: what a patient of eight would be promised of the same noise by their number alone.
        assert epsilon_from_scratch([sigma / MOST for sigma in sigmas], charter.privacy.delta) > 100


def rdp_epsilon(sigmas: list[float], delta: float) -> float:
    from dp_accounting import GaussianDpEvent
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(orders=[1 + k / 50 for k in range(1, 300)])
    for sigma in sigmas:
        accountant.compose(GaussianDpEvent(sigma))
    return float(accountant.get_epsilon(delta))


def test_of_every_patient_at_most_so_many_rows_are_learned_from(run: Run) -> None:
    """Counted apart in the warehouses: 45 patients of 1 to 50 visits a site."""
    for number, site in enumerate(SITES):
        visited = Counter(patient for patient, *_ in visits(number))
        assert (min(visited.values()), max(visited.values())) == (1, 50)
        features = read_features(run.rounds[0].place(site).store, run.rounds[0].features[site])
        trained, measured = features.train.units, features.test.units
        assert trained is not None
        assert measured is not None
        assert set(trained.tolist()) | set(measured.tolist()) == set(np.append(trained, measured).tolist())
        assert len(set(np.append(trained, measured).tolist())) == PATIENTS
        for units in (trained, measured):
            assert max(Counter(units.tolist()).values()) == MOST
        whole = Counter(np.append(trained, measured).tolist())
        small = sorted(count for count in visited.values() if count <= MOST)
        assert sorted(whole.values())[: len(small)] == small, "nobody with few visits loses one"


@pytest.mark.parametrize("site", SITES)
def test_what_is_committed_to_are_sums_clipped_by_patient_and_noise(run: Run, site: str) -> None:
    """The first model is zero: a gradient is (1/3 − y) z, which is summed by patient and clipped here."""
    examples, charter = run.examples(1, site), run.rounds[0].charter
    assert examples.units is not None
    error = 1 / len(CLASSES) - np.eye(len(CLASSES))[examples.labels]
    inputs = examples.features.astype(np.float64)
    total = np.zeros((DIMENSIONS + 1) * len(CLASSES))
    for unit in np.unique(examples.units):
        mine = examples.units == unit
        gradient = np.append(error[mine].sum(axis=0), (error[mine].T @ inputs[mine]).ravel())
        total += gradient * min(1, NORM / np.linalg.norm(gradient))
    count = len(np.unique(examples.units))
    exact = np.rint(np.append(total / NORM * STEPS, 0.1 * STEPS * count))
    np.testing.assert_allclose(run.before_noise(examples, site=site), exact, atol=1)
    place = run.rounds[0].place(site)
    noise = read_update(place.store, place.ticket) - exact
    mechanism = round_mechanism(charter, 1, shapes_of(place.model()))
    # 52 draws: their mean square is within half and twice the variance but for one in 10^4.
    assert 0.5 < float(np.mean(noise.astype(np.float64) ** 2)) / mechanism.share_sigma**2 < 2


def test_a_patient_with_fifty_visits_changes_the_sum_by_the_sensitivity_at_most(run: Run) -> None:
    """And by nearly all of it, though he has 50 visits of which 8 are read; the others' rows are the same."""
    before, after = run.examples(1), run.examples(2)
    assert before.units is not None
    assert after.units is not None
    (unit,) = set(after.units.tolist()) - set(before.units.tolist())
    others = after.units != unit
    assert (~others).sum() == MOST
    assert after.features[others].tobytes() == before.features.tobytes()
    assert after.labels[others].tobytes() == before.labels.tobytes()
    assert after.units[others].tobytes() == before.units.tobytes()
    change = run.before_noise(after) - run.before_noise(before)
    place = run.rounds[0].place("alpha")
    sensitivity = round_mechanism(run.rounds[0].charter, 1, shapes_of(place.model())).sensitivity
    assert 0.99 < float(np.linalg.norm(change.astype(np.float64))) / sensitivity <= 1


def test_no_patient_is_named_in_any_store(run: Run) -> None:
    """Names in no file but the warehouses; digests of them at their sites alone."""
    home = run.made.home
    warehouses = {run.made.warehouse(site) for site in SITES}
    assert all(NAME.encode() in readable(path) for path in warehouses), "or this could not tell"
    others = {path: readable(path) for path in files(home) if path not in warehouses}
    assert not [path for path, content in others.items() if NAME.encode() in content]
    private = (home / "small/sites", *(home / KEYS / owner for owner in OWNERS))
    outside = [path for path in others if not any(path.is_relative_to(folder) for folder in private)]
    assert any("exchange" in path.parts for path in outside)
    units = np.unique(np.concatenate([run.examples(2, site).units for site in SITES]))
    digests = [int(unit).to_bytes(8, "big", signed=True).hex().encode() for unit in units]
    told = [path for path, content in others.items() if any(each in content for each in digests)]
    kept = files(*(home / f"small/sites/{site}/store" for site in SITES))
    assert {path.parent.name for path in told} == {"rows"}
    assert set(told) <= set(kept)
    features = [path for path in kept if path.parent.name == "features"]
    assert holding(features, np.sort(units.view(np.uint64))) == features
    assert not holding(outside, np.sort(units.view(np.uint64)))


def test_whose_epsilon_it_is_stands_wherever_it_is_told(run: Run, say: Say) -> None:
    words = f"of one patient with at most {MOST} rows at a site"
    first, _, *rows = say("privacy", run.made.path).lines
    assert first.endswith(words)
    assert all(row.split()[2] == "patient" for row in rows)
    assert words in "\n".join(say("charter", "show", run.made.path).lines)
    state = open_store("small/state")
    document = json.loads(state.read("rounds/00001/report.json"))
    assert document["privacy"]["unit"] == words.removeprefix("of one ")
    assert f"at δ 1e-05 {words}" in state.read("rounds/00001/report.html").decode()


def test_rows_of_an_earlier_round_are_not_encoded(run: Run) -> None:
    """They may have been counted otherwise: a reference comes from the coordinator."""
    first, second = (taken.place("alpha") for taken in run.rounds)
    rows = json.loads(first.store.read(f"ingested/{first.ticket.digest}.json"))["uri"]
    task = run.rounds[1].federation.task
    asked: dict[str, Any] = {"template": task.template, "classes": task.classes}
    with pytest.raises(RefusedError, match="not the rows that the site has counted by its unit of privacy"):
        augment(second, rows=rows, encoder=encoder_spec(run.rounds[1].federation), **asked)


def test_a_site_that_protects_rows_takes_no_part_and_pays_nothing(
    small_federation: Callable[..., SmallFederation],
) -> None:
    opened = RoundInProcess(federation(small_federation))
    path = opened.federation
    policy = load_policy(path.keys_uri, "beta")
    assert policy.privacy is not None
    place = opened.place("beta")
    rows = policy.model_copy(update={"privacy": policy.privacy.model_copy(update={"unit": "row"})})
    with pytest.raises(RefusedError, match="protects single rows, the charter each patient"):
        charge_ticket(replace(place, policy=rows), now=datetime.now(UTC))
    assert open_ledger(policy.privacy).entries() == ()
