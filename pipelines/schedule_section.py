"""The section of a federation file that says when rounds start by themselves."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from pipelines.data_sections import Section
from pipelines.kubeflow.cron import parse_cron


def _cron(text: str) -> str:
    return parse_cron(text).text


class Schedule(Section):
    """When rounds start, once `crosscloud schedule` has told a Kubeflow endpoint."""

    cron: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_cron)]
    """Six fields: second, minute, hour, day of month, month, day of week, such as `0 0 3 * * MON-FRI`. In the
    time zone that the endpoint's scheduler has for all, UTC by default. A round that is due while another
    runs is left out."""
    enabled: bool = True
    """Whether it runs; a schedule that is not enabled stays at the endpoint, suspended."""
