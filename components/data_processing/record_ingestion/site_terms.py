"""What a site's policy says of reading, in the words of the rooms that do it.

A run's parameters name a warehouse and a query; who pays, how much at most and where rows may go is the
policy's alone. A policy that cannot be followed refuses before anything is accepted or charged.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from components.agreement.data_policy import BigQueryPolicy
from components.data_processing.drift import DriftPolicy
from components.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from components.agreement.site_policy import SitePolicy
    from components.agreement.workplace import Workplace
    from components.data_processing.bigquery.terms import BigQueryTerms

# Of a step's deadline, so that a query that is too slow is cancelled and told of, not killed with the step.
_SHARE_OF_STEP = 0.8
_LONGEST_QUERY_S = 600.0


def bigquery_terms(place: Workplace, *, deadline_s: float) -> BigQueryTerms | None:
    """The terms of the site's policy for this ticket's snapshot; None where its policy has none.

    Args:
        place: The site at work.
        deadline_s: Seconds that the step has, above 0. A query gets four fifths of them, 600 at most.

    Raises:
        RefusedError: The policy breaks a rule of the terms.
    """
    policy = place.policy.bigquery
    if policy is None:
        return None
    with following_policy():
        return terms_of_policy(
            policy,
            labels={
                "federation": place.charter.federation,
                "round": str(place.ticket.round_number),
                "site": place.site,
                "step": "ingest",
            },
            snapshot=datetime.fromisoformat(place.ticket.snapshot),
            deadline_s=min(_SHARE_OF_STEP * deadline_s, _LONGEST_QUERY_S),
        )


def terms_of_policy(
    policy: BigQueryPolicy, *, labels: dict[str, str], snapshot: datetime, deadline_s: float
) -> BigQueryTerms:
    """The policy's section as the terms of one read.

    Raises:
        UsageError: it breaks a rule of the terms.
    """
    from components.data_processing.bigquery.residency import DataResidency
    from components.data_processing.bigquery.terms import BigQueryTerms, Parameter

    declared = policy.data_residency
    return BigQueryTerms(
        project=policy.project,
        location=policy.location,
        maximum_bytes_billed=policy.maximum_bytes_billed,
        default_dataset=policy.dataset,
        parameters={
            name: Parameter(kind=parameter.type, value=parameter.value)
            for name, parameter in policy.parameters.items()
        },
        labels=labels,
        snapshot=snapshot,
        deadline_s=deadline_s,
        data_residency=DataResidency(**declared.model_dump()) if declared else None,
        allowed_tagged_columns=frozenset(policy.allowed_tagged_columns),
        endpoint=policy.endpoint,
        storage_endpoint=policy.storage_endpoint,
    )


def drift_policy(policy: SitePolicy) -> DriftPolicy:
    """What the site does about drift."""
    return DriftPolicy(**policy.drift.model_dump())


def masked_kinds(policy: SitePolicy) -> tuple[str, ...]:
    """Kinds of values that the site has masked.

    Raises:
        RefusedError: There are some, and what judges them is not installed. Whether it is needed depends on
            the rows, and rows must not decide whether a site takes part.
    """
    kinds = policy.masking.kinds
    if kinds and importlib.util.find_spec("presidio_analyzer") is None:
        raise RefusedError(
            f"the site's policy masks {', '.join(kinds)}, which needs pip install 'crosscloud[masking]'; "
            "or set the kinds under masking to []",
            disclosed="the site's policy asks for masking, which is not installed there",
        )
    return tuple(kinds)


@contextlib.contextmanager
def following_policy() -> Iterator[None]:
    """What a person at the site can mend is the site's refusal, and its words stay at the site."""
    try:
        yield
    except UsageError as error:
        raise RefusedError(
            f"the site's policy for BigQuery cannot be followed: {error}",
            disclosed="the site's policy for BigQuery cannot be followed",
        ) from None
