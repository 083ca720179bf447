"""What the coordinator may know of the rows of a site, which it sees in the manifest of `ingest`.

No number in it is exact: each is padded to the next power of two. Where the charter promises differential
privacy there is none at all, since one row more can carry a padded number over its threshold too, and
epsilon does not price that. Keyed digests stay: without the site's key they tell equal from unequal rows and
nothing else, and the rows of all rounds are the same ones in what epsilon promises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.data_processing.record_ingestion.row_shards import KeptRows
from components.execution.padding import padded


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a site's rows were read: for the site as it is.

    Attributes:
        account: what the warehouse says of the read; numbers, and names of jobs and interfaces.
        masked: values that were masked, by kind; empty where none are looked for.
        drift: kinds of findings that the site's policy lets out.
    """

    account: Mapping[str, str | int]
    masked: Mapping[str, int]
    drift: Sequence[str]


def row_manifest(uri: str, kept: KeptRows, reading: Reading, *, private: bool) -> dict[str, object]:
    """The manifest of rows.

    Args:
        uri: Of the rows' index.
        kept: The rows in the site's store.
        reading: How they were read.
        private: Whether the charter promises differential privacy.
    """
    manifest: dict[str, object] = {"uri": uri, "digest": kept.digest, "schema": dict(kept.schema)}
    account: dict[str, str | int] = {
        name: value if isinstance(value, str) else padded(value)
        for name, value in reading.account.items()
        if isinstance(value, str) or not private
    }
    if account:
        manifest["account"] = account
    if private:
        return manifest
    manifest["padded_size"] = padded(kept.size)
    if reading.masked:
        manifest["masked"] = {kind: padded(count) for kind, count in reading.masked.items()}
    if reading.drift:
        manifest["drift"] = list(reading.drift)
    return manifest
