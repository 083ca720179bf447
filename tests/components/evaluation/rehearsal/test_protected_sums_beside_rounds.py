"""A rehearsed sum beside a round that went through stores: the same numbers, and as many bytes a step."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.agreement.commitment import commitment_key, read_commitment
from components.agreement.protections import RELEASE, TRAITS, UNMASK
from components.agreement.receipt import opened_sum
from components.agreement.released_sum import shapes_of
from components.agreement.site_update import read_update
from components.artifacts.documents import canonical_json
from components.encryption.ckks.roles import ABSOLUTE_ERROR
from components.encryption.update_vector import from_sum
from components.evaluation.rehearsal.protected_sums import protected_sum
from tests.components.aggregation.three_sites import NOISE, ThreeSites

FOLDERS = {RELEASE: "released", UNMASK: "unmasked"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)


def uploaded(three: ThreeSites) -> dict[str, int]:
    """Bytes by step, of the site that uploads most where it is sites that do."""
    folder = three.exchange_folder / three.opened.ticket.folder

    def most(*patterns: str) -> int:
        return max(
            sum((folder / pattern.format(site)).stat().st_size for pattern in patterns)
            for site in three.sites
        )

    steps = {"commit": most("commitments/{}.json"), "seal": most("sealed/{}.json", "sealed/{}.bin")}
    lifted_by = TRAITS[three.request.protection].lifted_by
    if lifted_by == UNMASK:
        steps["share"] = most("shares/{}.json")
    if lifted_by:
        steps[lifted_by] = most(FOLDERS[lifted_by] + "/{}.json")
    return steps | {"aggregate": most("sum.bin"), "open": most("aggregate.safetensors", "receipt.json")}


@pytest.mark.parametrize("protection", sorted(TRAITS))
def test_a_rehearsal_is_like_a_round(protection: str) -> None:
    three = ThreeSites.start(protection=protection, hidden_units=90)

    steps = steps_beside(three, error=2 * ABSOLUTE_ERROR if protection == "he" else 0.0)

    expected = uploaded(three)
    # A first round has no receipt before it to name by 64 digits, and two integers are one count in the end.
    expected["open"] += 64 + 8 * TRAITS[protection].integers
    assert steps == expected


def test_a_rehearsal_is_like_a_round_whose_sites_share_noise() -> None:
    three = ThreeSites.start(protection="sealed", privacy=NOISE)
    assert three.charter.values_per_slot == 1

    steps = steps_beside(three)

    ticket = three.opened.ticket
    document = three.exchange.read(commitment_key(ticket, "alpha"))
    ledger = read_commitment(document, ticket, "alpha", three.charter).ledger
    expected = uploaded(three)
    # What a rehearsed site commits to is charged to no ledger: where the head of one would stand is null.
    expected["commit"] -= len(canonical_json(ledger)) - len("null")
    expected["open"] += 64
    assert steps == expected


def steps_beside(three: ThreeSites, *, error: float = 0.0) -> dict[str, int]:
    """Walks the round, rehearses its sum on the vectors it sealed, and returns the rehearsal's bytes by step.

    `error` is how far the two opened sums may be apart: CKKS errs both times.
    """
    three.open_sum(three.summed(three.sealed()))
    ticket, charter = three.opened.ticket, three.charter
    vectors = {site: read_update(three.place(site).store, ticket) for site in three.sites}
    rehearsed = protected_sum(
        charter.protection,
        vectors,
        values_per_slot=charter.values_per_slot,
        min_sum_sites=charter.min_sum_sites,
        colluding_sites=charter.colluding_sites,
    )
    aggregate = (three.exchange_folder / ticket.folder / "aggregate.safetensors").read_bytes()
    shapes = shapes_of(three.model(ticket.model))
    opened = from_sum(charter, rehearsed.opened, round_number=1, shapes=shapes)
    assert abs(opened - opened_sum(aggregate)).max() <= error
    return {each.step: each.num_bytes for each in rehearsed.steps}
