"""Data residency: reading from outside Google Cloud moves rows out of it, and has to be declared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from components.errors import RefusedError, UsageError

GOOGLE_CLOUD = "gcp"
_READER = re.compile(r"[a-z]+:[a-z0-9-]+")


@dataclass(frozen=True, kw_only=True)
class DataResidency:
    """What a site declares of the way its rows take: from where, to where, and whether they may.

    Attributes:
        warehouse: location of the datasets, as BigQuery writes it (`EU`, `europe-west3`).
        reader: cloud and region of the step that reads (`gcp:europe-west3`, `aws:eu-central-1`,
            `onprem:frankfurt`).
        may_leave: whether rows may leave Google Cloud; must be true where `reader` is not in it.

    Raises:
        UsageError: `reader` is not `cloud:region`.
    """

    warehouse: str
    reader: str
    may_leave: bool = False

    def __post_init__(self) -> None:
        if not _READER.fullmatch(self.reader):
            raise UsageError(f"data_residency reader {self.reader!r} must be cloud:region, aws:eu-central-1")

    @property
    def reads_in_google_cloud(self) -> bool:
        """Whether the reader is said to be in Google Cloud."""
        return self.reader.startswith(f"{GOOGLE_CLOUD}:")


def check_reader(declared: DataResidency | None, *, identity: str, in_google_cloud: bool) -> None:
    """Refuses a reader that would move rows out of Google Cloud without a declaration that they may.

    Only the metadata server proves that a reader is inside Google Cloud; a federated identity or a
    person's own credentials are used from elsewhere.

    Args:
        declared: the site's declaration, None where it made none.
        identity: what kind of identity reads, for the message.
        in_google_cloud: whether that identity exists inside Google Cloud only.

    Raises:
        RefusedError: the reader is, or is declared to be, outside, and rows may not leave.
    """
    if declared is None:
        if not in_google_cloud:
            raise _refused(
                f"reading BigQuery with {identity} moves rows out of Google Cloud: declare data_residency "
                "with warehouse, reader and may_leave: true in the site's policy, or read from inside",
                "rows would leave the warehouse's cloud, which the site has not declared",
            )
        return
    if not in_google_cloud and declared.reads_in_google_cloud:
        raise _refused(
            f"data_residency declares the reader {declared.reader}, but {identity} is no proof of being "
            "inside Google Cloud: declare where the step really runs, or give it a workload identity there",
            "the reader is not where the site declared it to be",
        )
    if not declared.may_leave and not (in_google_cloud and declared.reads_in_google_cloud):
        raise _refused(
            f"data_residency has reader {declared.reader} and may_leave: false, but reading there moves "
            "rows out of Google Cloud: set may_leave: true if they may, or read from inside",
            "rows would leave the warehouse's cloud, which the site does not allow",
        )


def check_locations(declared: DataResidency | None, locations: Mapping[str, str]) -> None:
    """Refuses tables that lie elsewhere than declared.

    Args:
        declared: the site's declaration; without one BigQuery's own rule stands alone, that a job reads
            what lies in its location.
        locations: location of each table, by its full name.

    Raises:
        RefusedError: a table lies in another location.
    """
    if declared is None:
        return
    for table, location in sorted(locations.items()):
        if location.lower() != declared.warehouse.lower():
            raise _refused(
                f"{table} lies in {location or 'no known location'}, and data_residency declares "
                f"{declared.warehouse}: correct the declaration, or name a table that lies there",
                "a table lies elsewhere than the site declared",
            )


def _refused(text: str, disclosed: str) -> RefusedError:
    return RefusedError(text, disclosed=disclosed)
