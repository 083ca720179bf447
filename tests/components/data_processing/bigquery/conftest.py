from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from components.data_processing.bigquery.source import BigQuerySource, open_bigquery
from tests.components.data_processing.bigquery.server.local_bigquery import LocalBigQuery


@pytest.fixture
def service() -> Iterator[LocalBigQuery]:
    """An empty BigQuery on this machine."""
    with LocalBigQuery() as running:
        yield running


@pytest.fixture
def opened(service: LocalBigQuery) -> Iterator[Callable[..., BigQuerySource]]:
    """Opens sources on terms that lead to `service`, changed as a test asks."""
    sources: list[BigQuerySource] = []

    def open_with(**changes: Any) -> BigQuerySource:
        sources.append(open_bigquery(service.terms(**changes)))
        return sources[-1]

    yield open_with
    for source in sources:
        source.close()
