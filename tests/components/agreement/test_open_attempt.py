from __future__ import annotations

from dataclasses import replace

import pytest

from components.agreement.open_attempt import require_open
from components.agreement.receipt import Receipt, receipt_key
from components.agreement.roster import roster_key
from components.agreement.void import void_document, void_key
from components.errors import RefusedError
from tests.components.agreement.signed_form import CHARTER, KEYS, ROSTER, TICKET, Held
from tests.components.agreement.test_receipt import RECEIPT

VOID = void_document(TICKET.digest, TICKET.round_number, "lost", KEYS["coordinator"])


def receipt(form: Receipt = RECEIPT, *, by: str = "key-holder") -> bytes:
    return form.signed(KEYS[by])


@pytest.mark.parametrize("site", ["alpha", "beta"])
def test_an_attempt_that_nobody_has_ended_is_open(site: str) -> None:
    require_open(Held({}), TICKET, CHARTER, site)


def test_one_whose_roster_names_the_site_is_open() -> None:
    held = Held({roster_key(TICKET): ROSTER.signed(KEYS["coordinator"])})
    require_open(held, TICKET, CHARTER, "alpha")


@pytest.mark.parametrize(
    ("objects", "site", "how"),
    [
        ({void_key(TICKET.folder): VOID}, "alpha", "is void"),
        ({roster_key(TICKET): ROSTER.signed(KEYS["coordinator"])}, "beta", "went on without beta"),
        ({receipt_key(TICKET.folder): receipt()}, "alpha", "has ended"),
    ],
)
def test_one_that_has_gone_on_is_not_taken_up(objects: dict[str, bytes], site: str, how: str) -> None:
    """Nothing is charged for it: it is refused before the ledger is asked."""
    with pytest.raises(RefusedError, match=f"^attempt 2 of round 7 {how}: it is too late") as refused:
        require_open(Held(objects), TICKET, CHARTER, site)
    assert refused.value.disclosed == str(refused.value)


@pytest.mark.parametrize(
    "objects",
    [
        {void_key(TICKET.folder): b"junk"},
        {void_key(TICKET.folder): void_document(TICKET.digest, 7, "lost", KEYS["beta"])},
        {void_key(TICKET.folder): void_document("00" * 32, 7, "lost", KEYS["coordinator"])},
        {roster_key(TICKET): replace(ROSTER, commitments={"gamma": "a3" * 32}).signed(KEYS["gamma"])},
        {receipt_key(TICKET.folder): b"junk"},
        {receipt_key(TICKET.folder): receipt(by="coordinator")},
        {receipt_key(TICKET.folder): receipt(replace(RECEIPT, ticket="00" * 32))},
    ],
)
def test_what_is_forged_ends_nothing(objects: dict[str, bytes]) -> None:
    require_open(Held(objects), TICKET, CHARTER, "alpha")
