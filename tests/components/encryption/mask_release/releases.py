"""What a site releases and refuses to release."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from components.agreement.cutoff import Cutoff, cutoff_key
from components.agreement.released import release_key
from components.encryption.mask_release.releasing import release_masks
from components.errors import (
    RefusedError,
)
from tests.components.aggregation.three_sites import ThreeSites

REMAINING = ("alpha", "beta", "gamma")


def release(three: ThreeSites, site: str = "alpha") -> str:
    return release_masks(three.place(site)).reference


def released(three: ThreeSites, site: str = "alpha") -> Path:
    return three.exchange_folder / release_key(three.opened.ticket, site)


def cutoff(three: ThreeSites) -> Cutoff:
    attempt = three.attempt()
    return attempt.cutoff(attempt.roster())


def fix(three: ThreeSites, members: Sequence[str], **changes: str) -> None:
    """Another set of sites in the place of the one that was fixed."""
    fixed = {"roster": three.attempt().roster().digest, **changes}
    path = three.exchange_folder / cutoff_key(three.opened.ticket)
    path.write_bytes(Cutoff(members=tuple(members), left_out={}, **fixed).to_json())


def refused(three: ThreeSites, rule: str, site: str = "alpha") -> None:
    """The site gives nothing away, and says why in words that others may read."""
    with pytest.raises(RefusedError, match=rule) as caught:
        release(three, site)
    assert caught.value.disclosed == str(caught.value)
    assert not released(three, site).exists()
    assert three.place(site).store.keys("releases") == []
