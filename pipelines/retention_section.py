"""The section of a federation file that says how long `crosscloud prune` keeps what is not needed."""

from __future__ import annotations

from pydantic import Field

from pipelines.data_sections import Section


class Retention(Section):
    """Days; what open rounds, the next ticket and `verify` need stays however old it is."""

    exchange_days: int = Field(default=30, ge=0, le=36_500)
    """Objects of a round in the exchange, and run folders, after the round was committed."""
    cache_days: int = Field(default=30, ge=0, le=36_500)
    """Rows, features and updates in a site's own store, after the site has gone on to the next attempt."""
