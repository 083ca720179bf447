"""Whose features a site may learn from or be measured on, where a unit of privacy has only so many rows."""

from __future__ import annotations

from components.agreement.cache_uses import is_used
from components.agreement.privacy_unit import read_unit
from components.agreement.ticket import Ticket
from components.agreement.workplace import Workplace
from components.artifacts.stores import key_of
from components.errors import RefusedError


def require_counted(place: Workplace, ticket: Ticket, features: str) -> None:
    """Passes features that `augment` has made under a ticket, where the site counts the rows of a unit.

    A reference comes from the coordinator, and features of an earlier ticket may be of rows that were
    counted otherwise.

    Args:
        place: the site at work.
        ticket: of the round's update, under which the rows were read.
        features: reference of the site's features.

    Raises:
        RefusedError: they are others.
    """
    if read_unit(place.policy.privacy, place.charter.privacy) is None:
        return
    if not is_used(place.store, ticket, key_of(place.store, features)):
        text = "these are not features of the rows that the site has counted by its unit of privacy"
        raise RefusedError(text, disclosed=text)
