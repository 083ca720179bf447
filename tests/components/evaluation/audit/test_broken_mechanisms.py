"""An audit must find what is broken: each fault once, seeded, with fewer canaries than a real audit has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from components.agreement.released_sum import shapes_of
from components.agreement.ticket import UPDATE, Ticket
from components.evaluation.audit.audited_run import Audited, audited_run
from components.evaluation.audit.auditing import CONFIDENCE, bounds
from components.evaluation.audit.broken_mechanisms import BROKEN, LEAST_NOISE, missing_share
from components.evaluation.audit.site_work import Asked, Mechanism, as_agreed, noise_source
from components.evaluation.audit.views import DIFFERENCES, OWN, SHARED, UNCLIPPED
from components.privacy.mechanism import STEPS
from components.privacy.round_noise import round_mechanism
from components.training.features import Examples
from tests.components.evaluation.audit.small_audit import FEATURES, small

EPSILON = 2.0
SEEN_BY = {
    "noise off by 4": OWN,
    "clipping skipped": UNCLIPPED,
    "one seed at all sites": SHARED,
    "one seed in all rounds": DIFFERENCES,
}
FOUND = [fault for fault in BROKEN if fault.name in SEEN_BY]


@pytest.fixture(scope="module")
def audited() -> Audited:
    return small(EPSILON)


def bound(audited: Audited, right: dict[str, int]) -> float:
    single = {view: [count] for view, count in right.items()}
    together, _ = bounds(
        single,
        guesses=audited.guesses,
        canaries=audited.canaries,
        delta=1e-5,
        confidence=CONFIDENCE,
    )
    return together.gaussian


def test_the_mechanism_as_agreed_stays_below_its_claim(audited: Audited) -> None:
    right = audited_run(audited, as_agreed, seed=1)
    assert set(right) == {OWN, UNCLIPPED, SHARED, DIFFERENCES}
    # Canaries are seen, though: a blind adversary is right 96 times of 192, and rarely 20 times more.
    assert right[OWN] > 116
    assert bound(audited, right) < audited.claimed(1e-5) == pytest.approx(EPSILON, rel=1e-5)


@pytest.mark.parametrize("fault", FOUND, ids=lambda fault: fault.name)
def test_a_broken_mechanism_is_found_in_one_run(audited: Audited, fault: Mechanism) -> None:
    right = audited_run(audited, fault.work, seed=1)
    assert max(right, key=lambda view: right[view]) == SEEN_BY[fault.name]
    assert bound(audited, right) > 1.2 * EPSILON


def test_a_missing_share_is_that_of_one_honest_site(audited: Audited) -> None:
    """It takes many runs of a whole audit to see it; what it does to the noise is seen at once."""
    number, model = audited.rounds[-1], audited.head
    mechanism = round_mechanism(audited.charter, number, shapes_of(model))
    deviations = {}
    for place, site in enumerate(audited.charter.site_names):
        asked = Asked(
            charter=audited.charter,
            ticket=_ticket(audited, number),
            site=site,
            place=place,
            model=model,
            examples=Examples(features=np.zeros((0, FEATURES), np.float32), labels=np.zeros(0, np.int64)),
            run_secret=1,
            random_bytes=noise_source(1, place),
        )
        found = missing_share(asked)
        deviations[site] = float(found.std())
        agreed = as_agreed(replace(asked, random_bytes=noise_source(1, place)))
        assert np.array_equal(found, agreed) == (place > 0)
    first, *others = deviations.values()
    # Deviations of 1,068 draws: 2.2 % each.
    assert first == pytest.approx(LEAST_NOISE * mechanism.sensitivity / np.sqrt(2), rel=0.12)
    assert others == pytest.approx([mechanism.share_sigma] * 2, rel=0.12)
    assert first < STEPS / 1000


def _ticket(audited: Audited, number: int) -> Ticket:
    return Ticket(
        charter=audited.charter.digest,
        federation="small",
        round_number=number,
        attempt=1,
        void="",
        purpose=UPDATE,
        model="0" * 64,
        previous="",
        previous_folder="",
        snapshot="2026-01-01T00:00:00+00:00",
        local_epochs=1,
        learning_rate=0.1,
        batch_size=1,
        seed=0,
    )
