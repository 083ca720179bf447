from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from components.agreement.dealt_shares import (
    MAX_SHARES_BYTES,
    SEALED_SHARE_BYTES,
    DealtShares,
    read_shares_document,
    shares_key,
    verified_shares,
)
from components.artifacts.stores import Store
from components.errors import ObjectMissingError, SignatureError
from tests.components.agreement.signed_form import (
    CHARTER,
    KEYS,
    OTHER_TICKETS,
    ROSTER,
    TICKET,
    SignedForm,
)

SHARE = base64.b64encode(bytes(range(SEALED_SHARE_BYTES))).decode()
SHARES = DealtShares(
    charter=CHARTER.digest,
    ticket=TICKET.digest,
    roster=ROSTER.digest,
    purpose="update",
    site="alpha",
    self_digest="5d" * 32,
    selves={"alpha": SHARE, "gamma": SHARE},
    scalars={"alpha": SHARE, "gamma": SHARE},
)


class TestDealtShares(SignedForm):
    domain = "shares"
    signer = "alpha"
    form = SHARES

    def read(self, document: bytes) -> DealtShares:
        return verified_shares(document, TICKET, ROSTER, "alpha", CHARTER)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("ticket", ticket.digest) for ticket in OTHER_TICKETS),
            ("charter", "00" * 32),
            ("roster", replace(ROSTER, commitments={"alpha": "a1" * 32}).digest),
            ("roster", ""),
            ("purpose", "metrics"),
            ("site", "gamma"),
        ],
    )
    def test_what_was_dealt_for_another_occasion_is_refused(self, name: str, value: str) -> None:
        with pytest.raises(SignatureError, match=f"^the shares of alpha were dealt for another {name}$"):
            self.read(self.signed(self.body() | {name: value}))

    @pytest.mark.parametrize("kind", ["selves", "scalars"])
    @pytest.mark.parametrize(
        "dealt",
        [
            {},
            {"alpha": SHARE},
            {"alpha": SHARE, "beta": SHARE, "gamma": SHARE},
            {"alpha": SHARE, "gamma": ""},
            {"alpha": SHARE, "gamma": SHARE[:-4]},
            {"alpha": SHARE, "gamma": SHARE + "AAAA"},
            {"alpha": SHARE, "gamma": "?" * len(SHARE)},
            {"alpha": SHARE, "gamma": SHARE.replace("PA==", "PB==")},
            {"alpha": SHARE, "gamma": 7},
            [SHARE, SHARE],
            None,
        ],
        ids=repr,
    )
    def test_every_site_of_the_roster_has_one_of_each_kind(self, kind: str, dealt: object) -> None:
        with pytest.raises(SignatureError, match=r"not two for every site of the roster$|not in the form"):
            self.read(self.signed(self.body() | {kind: dealt}))

    @pytest.mark.parametrize("named", ["", "5d" * 31, "5D" * 32, "xy" * 32])
    def test_the_self_key_is_named_by_its_digest(self, named: str) -> None:
        with pytest.raises(SignatureError, match="not two for every site"):
            self.read(self.signed(self.body() | {"self_digest": named}))

    def test_another_sites_are_refused_in_this_ones_place(self) -> None:
        with pytest.raises(SignatureError, match="names another signer"):
            self.read(replace(SHARES, site="gamma").signed(KEYS["gamma"]))


def test_a_site_that_dealt_nothing_is_missing(exchange: Store) -> None:
    with pytest.raises(ObjectMissingError):
        read_shares_document(exchange, TICKET, "gamma")


def test_shares_above_the_limit_are_their_sites_fault(exchange: Store) -> None:
    exchange.create(shares_key(TICKET, "alpha"), b" " * (MAX_SHARES_BYTES + 1))
    with pytest.raises(SignatureError, match="the shares of alpha are larger than any shares"):
        read_shares_document(exchange, TICKET, "alpha")


def test_they_lie_in_the_folder_of_their_attempt() -> None:
    assert shares_key(TICKET, "alpha") == "rounds/00007-2/shares/alpha.json"
