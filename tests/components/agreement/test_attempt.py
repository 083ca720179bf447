from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from components.agreement.attempt import Attempt
from components.agreement.commitment import Commitment
from components.agreement.cutoff import Cutoff, cutoff_key
from components.agreement.key_certificate import KeyCertificate, certificate_key
from components.agreement.roster import roster_key
from components.agreement.sealed_manifest import SealedManifest, manifest_key
from components.agreement.ticket import Ticket
from components.artifacts.documents import digest
from components.artifacts.stores import Store, open_store
from components.errors import (
    IntegrityError,
    ObjectMissingError,
    RefusedError,
    SignatureError,
    StoreError,
    UsageError,
)
from tests.components.agreement.signed_form import (
    CHARTER,
    KEYS,
    OTHER_TICKETS,
    ROSTER,
    TICKET,
    furnish,
    put_in_force,
)

KEY = f"{TICKET.folder}/ticket.json"
CERTIFICATE = KeyCertificate(
    federation="paper", protection="sealed", number=1, context="c1" * 32, first_round=5, previous=""
)
CERTIFIED = digest(CERTIFICATE.signed(KEYS["key-holder"]))


@pytest.fixture(autouse=True)
def in_force(home: Path) -> None:
    put_in_force()


def issue(exchange: Store, ticket: Ticket = TICKET, *, by: str = "coordinator") -> None:
    exchange.create(KEY, ticket.signed(KEYS[by]))


def opened(reference: str = f"exchange/{KEY}", *, pinned_by: str = "") -> Attempt:
    return Attempt.open(reference, exchange_uri="exchange", keys_uri="keys", pinned_by=pinned_by)


class TestOpening:
    def test_opens_what_the_reference_names(self, exchange: Store) -> None:
        issue(exchange)
        assert (opened().ticket, opened().charter) == (TICKET, CHARTER)

    @pytest.mark.parametrize("signer", ["alpha", "key-holder", "delta"])
    def test_a_ticket_of_somebody_else_is_refused(self, exchange: Store, signer: str) -> None:
        issue(exchange, by=signer)
        with pytest.raises(SignatureError, match="the signature of coordinator"):
            opened()

    def test_a_ticket_of_a_charter_that_is_not_there_is_refused(self, exchange: Store) -> None:
        issue(exchange, replace(TICKET, charter="f0" * 32))
        with pytest.raises(SignatureError, match="no edition of the charter has digest f0f0f0f0f0f0"):
            opened()

    @pytest.mark.parametrize(
        "reference",
        ["", "elsewhere/a", "exchange", "exchange/", "exchange/../keys/charters/00001/charter.json"],
    )
    def test_a_reference_out_of_the_exchange_is_refused(self, reference: str) -> None:
        with pytest.raises(RefusedError, match="does not lie in store 'exchange'"):
            opened(reference)

    def test_a_missing_or_oversized_ticket_is_not_read(self, exchange: Store) -> None:
        with pytest.raises(ObjectMissingError):
            opened()
        exchange.create(KEY, bytes((1 << 16) + 1))
        with pytest.raises(StoreError, match="at most 65536 are read"):
            opened()


class TestPinning:
    """The key holder acts on the charter in its own policy, whatever lies beside the tickets."""

    def test_the_pinned_charter_is_acted_on(self, exchange: Store) -> None:
        issue(exchange)
        furnish("key-holder")
        assert opened(pinned_by="key-holder").ticket == TICKET

    def test_a_foreign_charter_is_refused_although_all_have_signed_it(self, exchange: Store) -> None:
        second = replace(CHARTER, edition=2, previous=CHARTER.digest, max_rounds=30)
        put_in_force(second)
        furnish("key-holder")
        issue(exchange, replace(TICKET, charter=second.digest))
        assert opened().charter == second
        with pytest.raises(
            SignatureError, match=f"a foreign charter, {second.digest[:12]}: key-holder has not"
        ):
            opened(pinned_by="key-holder")
        furnish("key-holder", charter=second)
        assert opened(pinned_by="key-holder").charter == second

    def test_whoever_must_pin_one_and_has_not_takes_no_part(self, exchange: Store) -> None:
        issue(exchange)
        with pytest.raises(RefusedError, match=r"key-holder has no policy\.yaml"):
            opened(pinned_by="key-holder")


class TestDocuments:
    @pytest.fixture(autouse=True)
    def issued(self, exchange: Store) -> None:
        issue(exchange)

    def test_roster_and_cutoff_are_those_of_the_ticket(self, exchange: Store) -> None:
        with pytest.raises(ObjectMissingError):
            opened().roster()
        exchange.create(roster_key(TICKET), ROSTER.signed(KEYS["coordinator"]))
        assert opened().roster() == ROSTER
        cutoff = Cutoff(roster=ROSTER.digest, members=("gamma",), left_out={"alpha": "oom"})
        exchange.create(cutoff_key(TICKET), cutoff.to_json())
        assert opened().cutoff(ROSTER) == cutoff
        with pytest.raises(IntegrityError, match="does not follow from its roster"):
            opened().cutoff(replace(ROSTER, commitments={"gamma": "00" * 32}))

    @pytest.mark.parametrize("ticket", OTHER_TICKETS)
    def test_a_roster_of_another_ticket_is_refused(self, exchange: Store, ticket: Ticket) -> None:
        replayed = replace(ROSTER, ticket=ticket.digest)
        exchange.create(roster_key(TICKET), replayed.signed(KEYS["coordinator"]))
        with pytest.raises(SignatureError, match="was made for another ticket"):
            opened().roster()

    def test_a_commitment_is_no_roster(self, exchange: Store) -> None:
        commitment = Commitment(
            charter=TICKET.charter, ticket=TICKET.digest, site="alpha", ephemeral="", commitment="00" * 32
        )
        exchange.create(roster_key(TICKET), commitment.signed(KEYS["coordinator"]))
        with pytest.raises(SignatureError):
            opened().roster()

    def test_manifests_are_of_the_key_that_serves_the_round(self, exchange: Store) -> None:
        with pytest.raises(UsageError, match="no key for protection sealed"):
            opened().certificate()
        open_store("keys").create(
            certificate_key(CHARTER, "sealed", 1), CERTIFICATE.signed(KEYS["key-holder"])
        )
        certified = opened().certificate()
        assert certified is not None
        assert (certified.certificate, certified.digest) == (CERTIFICATE, CERTIFIED)
        with pytest.raises(ObjectMissingError):
            opened().manifest(ROSTER, "gamma")
        for site, named in (("alpha", CERTIFIED), ("gamma", "00" * 32)):
            manifest = SealedManifest(
                charter=CHARTER.digest,
                ticket=TICKET.digest,
                roster=ROSTER.digest,
                purpose="update",
                site=site,
                protection="sealed",
                certificate=named,
                blob="b1" * 32,
                size=10,
                length=2,
            )
            exchange.create(manifest_key(TICKET, site), manifest.signed(KEYS[site]))
        assert opened().manifest(ROSTER, "alpha").site == "alpha"
        with pytest.raises(SignatureError, match="of gamma was made for another certificate"):
            opened().manifest(ROSTER, "gamma")
