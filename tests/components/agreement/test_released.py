from __future__ import annotations

from dataclasses import replace

import pytest

from components.agreement.cutoff import Cutoff
from components.agreement.released import MAX_RELEASE_BYTES, ReleasedMasks, read_release, release_key
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
RELEASE = ReleasedMasks(
    charter=CHARTER.digest,
    ticket=TICKET.digest,
    roster=ROSTER.digest,
    cutoff=CUTOFF.digest,
    purpose="update",
    site="alpha",
    shares={"gamma": "c2hhcmU="},
    locked="bG9ja2Vk",
)


def found(document: bytes, *, site: str = "alpha", cutoff: Cutoff = CUTOFF) -> ReleasedMasks:
    return read_release(Held({release_key(TICKET, "alpha"): document}), TICKET, cutoff, site, CHARTER)


class TestReleasedMasks(SignedForm):
    domain = "release"
    signer = "alpha"
    form = RELEASE

    def read(self, document: bytes) -> ReleasedMasks:
        return found(document)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("ticket", ticket.digest) for ticket in OTHER_TICKETS),
            ("charter", "00" * 32),
            ("roster", replace(ROSTER, commitments={"alpha": "a1" * 32}).digest),
            ("cutoff", replace(CUTOFF, members=("alpha",)).digest),
            ("cutoff", ""),
            ("cutoff", None),
            ("purpose", "metrics"),
            ("site", "gamma"),
        ],
    )
    def test_what_was_released_for_another_occasion_is_refused(self, name: str, value: str) -> None:
        with pytest.raises(
            SignatureError, match=f"^the release of alpha (was made for another {name}|is not in the form.*)$"
        ):
            self.read(self.signed(self.body() | {name: value}))

    @pytest.mark.parametrize(
        "change",
        [
            *({"shares": shares} for shares in (None, ["gamma"], "gamma")),
            *({"locked": locked} for locked in (None, 7, ["bG9ja2Vk"])),
        ],
        ids=repr,
    )
    def test_shares_are_by_member_and_what_is_locked_is_text(self, change: dict[str, object]) -> None:
        with pytest.raises(
            SignatureError, match="the release of alpha is not in the form this version knows"
        ):
            self.read(self.signed(self.body() | change))


@pytest.mark.parametrize(
    "cutoff",
    [
        replace(CUTOFF, members=("alpha",)),
        replace(CUTOFF, members=("alpha", "beta", "gamma")),
        replace(CUTOFF, roster="00" * 32),
    ],
    ids=["fewer", "more", "roster"],
)
def test_is_of_one_set_of_sites(cutoff: Cutoff) -> None:
    with pytest.raises(SignatureError, match=r"was made for another (roster|cutoff)"):
        found(RELEASE.signed(KEYS["alpha"]), cutoff=cutoff)


def test_a_site_that_released_nothing_is_missing(exchange: Store) -> None:
    with pytest.raises(ObjectMissingError):
        read_release(exchange, TICKET, CUTOFF, "gamma", CHARTER)


def test_a_release_above_the_limit_is_its_sites_fault(exchange: Store) -> None:
    exchange.create(release_key(TICKET, "alpha"), b" " * (MAX_RELEASE_BYTES + 1))
    with pytest.raises(SignatureError, match="the release of alpha is larger than any release"):
        read_release(exchange, TICKET, CUTOFF, "alpha", CHARTER)


def test_another_sites_release_is_refused_in_this_ones_place() -> None:
    with pytest.raises(SignatureError, match="names another signer"):
        found(replace(RELEASE, site="gamma").signed(KEYS["gamma"]))


def test_lies_in_the_folder_of_its_attempt() -> None:
    assert release_key(TICKET, "alpha") == "rounds/00007-2/released/alpha.json"
