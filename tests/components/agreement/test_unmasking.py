from __future__ import annotations

from dataclasses import replace

import pytest

from components.agreement.cutoff import Cutoff
from components.agreement.sharers import Sharers
from components.agreement.unmasking import (
    MAX_UNMASKING_BYTES,
    Unmasking,
    read_unmasking,
    unmasking_key,
)
from components.artifacts.stores import Store
from components.errors import ObjectMissingError, SignatureError
from tests.components.agreement.signed_form import (
    CHARTER,
    KEYS,
    OTHER_TICKETS,
    ROSTER,
    TICKET,
    Held,
    SignedForm,
)

CUTOFF = Cutoff(roster=ROSTER.digest, members=("alpha", "gamma"), left_out={})
SHARERS = Sharers(roster=ROSTER.digest, shares={"alpha": "51" * 32, "gamma": "52" * 32}, left_out={})
UNMASKING = Unmasking(
    charter=CHARTER.digest,
    ticket=TICKET.digest,
    roster=ROSTER.digest,
    sharers=SHARERS.digest,
    cutoff=CUTOFF.digest,
    purpose="update",
    site="alpha",
    tokens={"gamma": "dG9rZW4="},
    lock_shares={"gamma": "c2hhcmU="},
    own_share="b3du",
    locked="bG9ja2Vk",
)


def found(
    document: bytes, *, site: str = "alpha", cutoff: Cutoff = CUTOFF, sharers: Sharers = SHARERS
) -> Unmasking:
    held = Held({unmasking_key(TICKET, "alpha"): document})
    return read_unmasking(held, TICKET, sharers, cutoff, site, charter=CHARTER)


class TestUnmasking(SignedForm):
    domain = "unmasking"
    signer = "alpha"
    form = UNMASKING

    def read(self, document: bytes) -> Unmasking:
        return found(document)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("ticket", ticket.digest) for ticket in OTHER_TICKETS),
            ("charter", "00" * 32),
            ("roster", replace(ROSTER, commitments={"alpha": "a1" * 32}).digest),
            ("sharers", replace(SHARERS, shares={"alpha": "51" * 32}).digest),
            ("cutoff", replace(CUTOFF, members=("alpha",)).digest),
            ("cutoff", ""),
            ("purpose", "metrics"),
            ("site", "gamma"),
        ],
    )
    def test_what_was_made_for_another_occasion_is_refused(self, name: str, value: str) -> None:
        with pytest.raises(SignatureError, match=f"^the unmasking of alpha was made for another {name}$"):
            self.read(self.signed(self.body() | {name: value}))

    @pytest.mark.parametrize("name", ["tokens", "lock_shares", "own_share", "locked"])
    @pytest.mark.parametrize("value", [None, 7, ["gamma"], {"gamma": 1}], ids=repr)
    def test_its_parts_are_text(self, name: str, value: object) -> None:
        with pytest.raises(SignatureError, match="the unmasking of alpha is not in the form"):
            self.read(self.signed(self.body() | {name: value}))


@pytest.mark.parametrize(
    ("cutoff", "sharers"),
    [
        (replace(CUTOFF, members=("alpha",)), SHARERS),
        (replace(CUTOFF, roster="00" * 32), SHARERS),
        (CUTOFF, replace(SHARERS, shares={"alpha": "51" * 32, "gamma": "53" * 32})),
    ],
    ids=["fewer", "roster", "sharers"],
)
def test_is_of_one_set_of_sites_and_sharers(cutoff: Cutoff, sharers: Sharers) -> None:
    with pytest.raises(SignatureError, match=r"was made for another (roster|cutoff|sharers)"):
        found(UNMASKING.signed(KEYS["alpha"]), cutoff=cutoff, sharers=sharers)


def test_a_site_that_has_not_unmasked_is_missing(exchange: Store) -> None:
    with pytest.raises(ObjectMissingError):
        read_unmasking(exchange, TICKET, SHARERS, CUTOFF, "gamma", charter=CHARTER)


def test_one_above_the_limit_is_its_sites_fault(exchange: Store) -> None:
    exchange.create(unmasking_key(TICKET, "alpha"), b" " * (MAX_UNMASKING_BYTES + 1))
    with pytest.raises(SignatureError, match="the unmasking of alpha is larger than any unmasking"):
        read_unmasking(exchange, TICKET, SHARERS, CUTOFF, "alpha", charter=CHARTER)


def test_another_sites_is_refused_in_this_ones_place() -> None:
    with pytest.raises(SignatureError, match="names another signer"):
        found(replace(UNMASKING, site="gamma").signed(KEYS["gamma"]))


def test_lies_in_the_folder_of_its_attempt() -> None:
    assert unmasking_key(TICKET, "alpha") == "rounds/00007-2/unmasked/alpha.json"
