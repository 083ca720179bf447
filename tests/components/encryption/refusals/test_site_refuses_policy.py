"""What a site refuses because its own policy, which only it can write, does not admit it."""

from __future__ import annotations

from typing import Any

import pytest

from components.agreement.private_keys import private_folder
from components.agreement.site_policy import POLICY, query_digest
from components.agreement.workplace import Workplace
from components.data_processing.feature_augmentation.augmentation import augment
from components.data_processing.feature_augmentation.encoder import EncoderSpec
from components.data_processing.record_ingestion.ingestion import RecordSpec, ingest
from components.errors import RefusedError
from components.evaluation.model_evaluation.evaluation import evaluate
from components.training.adaptation.adaptation import adapt
from tests.components.aggregation.three_sites import ThreeSites, set_policy
from tests.components.encryption.refusals.walk import (
    FOUR,
    WalkTo,
    refused,
    roster_of,
    show_cutoff,
    without,
)

ADMITTED, ASKED = "SELECT note FROM visits", "SELECT note, patient FROM visits"


def restrict(three: ThreeSites, **rules: Any) -> None:
    """Alpha's policy with the charter pinned and these rules."""
    set_policy(three.name, "alpha", **({"charter": three.charter.digest, "protections": ("sealed",)} | rules))


def test_a_query_that_is_not_admitted_is_refused_before_the_warehouse_is_opened(walk_to: WalkTo) -> None:
    three = walk_to("opened").three
    restrict(three, queries=(query_digest(ADMITTED),))
    # There is no warehouse at all: whoever looked for it would say `unreachable`.
    spec = RecordSpec(
        source_kind="duckdb",
        source_uri="small/nowhere.duckdb",
        sql=ASKED,
        template="{note}",
        label_column="organ",
        split_column="category",
        test_fraction=0.3,
        classes=("heart", "lung"),
    )
    place = three.place("alpha")
    with refused(three, RefusedError, f"the query with digest {query_digest(ASKED)[:12]} is not one"):
        ingest(place, spec)
    three.accepted("alpha")


@pytest.mark.parametrize(
    ("store", "exchange"),
    [
        ("small/sites/alpha", "other/exchange"),
        ("small/sites/beta", "small/exchange"),
        ("small/sites/alpha/../beta", "small/exchange"),
        ("small/sites/alpha::file://small/sites/beta", "small/exchange"),
        ("small/sites/alphabet", "small/exchange"),
    ],
)
def test_a_store_that_is_not_admitted_is_refused(walk_to: WalkTo, store: str, exchange: str) -> None:
    three = walk_to("opened").three
    with refused(three, RefusedError, "is not below one that the site's policy admits"):
        Workplace.open(
            site="alpha",
            store_uri=store,
            exchange_uri=exchange,
            keys_uri=three.keys_uri,
            ticket=three.opened.reference,
        )
    three.accepted("alpha")


def test_a_protection_that_is_not_accepted_is_refused(walk_to: WalkTo) -> None:
    """Each step asks the policy anew: it counts from the moment it is written."""
    walk = walk_to("rostered")
    restrict(walk.three, protections=("he",))
    with refused(walk.three, RefusedError, "accepts protection he, the charter has sealed"):
        walk.three.seal(walk.roster, ["alpha"])
    restrict(walk.three)
    walk.three.seal(walk.roster, ["alpha"])


def test_an_encoder_that_is_not_admitted_is_refused_before_a_row_is_read(walk_to: WalkTo) -> None:
    three = walk_to("opened").three
    restrict(three, encoder="ab" * 32)
    place = three.accepted("alpha")
    asked = EncoderSpec(name="package:none", revision="", digest="cd" * 32, max_length=16, dimensions=6)
    # There are no rows under this reference.
    with refused(three, RefusedError, "the language model with digest cdcdcdcdcdcd is not the one"):
        augment(
            place, rows=f"{place.store.uri}/rows/x.parquet", template="{note}", classes=("a",), encoder=asked
        )


def test_figures_that_may_not_be_published_stay_at_the_site(walk_to: WalkTo) -> None:
    first = walk_to("committed").three
    place, features = first.place("alpha"), first.features("alpha")
    model = first.next_round().opened.ticket.model
    adapted = adapt(place, model=model, features=features).reference
    kept = "sites/alpha/evaluations/"
    with refused(first, RefusedError, "does not allow its figures to be published", remembers=[kept]):
        evaluate(place, model=model, features=features, adaptation=adapted, release="per_site")
    assert evaluate(place, model=model, features=features, adaptation=adapted, release="none").reference == ""
    restrict(first, evaluation="per_site")
    published = evaluate(
        first.place("alpha"), model=model, features=features, adaptation=adapted, release="per_site"
    )
    assert first.exchange.exists(published.reference.removeprefix(f"{first.exchange_uri}/"))


def test_a_roster_without_an_insisted_peer_is_refused(walk_to: WalkTo) -> None:
    walk = walk_to("rostered", FOUR)
    restrict(walk.three, peers=("delta",))
    fewer = walk.three.sign_roster(without(roster_of(walk.three), "delta"), "offers/roster.json")
    with refused(walk.three, RefusedError, "insists on delta, which does not take part"):
        walk.three.seal(fewer, ["alpha"])
    walk.three.seal(walk.roster, ["alpha"])


def test_a_set_without_an_insisted_peer_is_refused(walk_to: WalkTo) -> None:
    walk = walk_to("summed", FOUR)
    restrict(walk.three, peers=("delta",))
    show_cutoff(walk.three, ("alpha", "beta", "gamma"))
    with refused(walk.three, RefusedError, "insists on delta, which does not take part"):
        walk.three.release(["alpha"])
    show_cutoff(walk.three, FOUR)
    walk.three.release(["alpha"])


def test_more_rounds_a_day_than_agreed_are_refused(walk_to: WalkTo) -> None:
    first = walk_to("committed").three
    restrict(first, rounds_a_day=1)
    second = first.next_round()
    with refused(second, RefusedError, "allows 1 rounds a day and they are used up"):
        second.accepted("alpha")
    restrict(first, rounds_a_day=2)
    second.accepted("alpha")


def test_a_site_without_a_policy_takes_no_part(walk_to: WalkTo) -> None:
    three = walk_to("opened").three
    (private_folder(three.keys_uri, "alpha") / POLICY).unlink()
    with refused(three, RefusedError, "alpha has no policy.yaml: it signs the charter first"):
        three.accepted("alpha")
