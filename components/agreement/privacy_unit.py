"""The unit of privacy at a site: which column its own policy names, and how many rows of one are read.

A federation's charter says what its epsilon is of; the site's policy says whom the site protects. Where
both name the same column, contributions are clipped for each of its values and a unit is priced once.
Where the charter prices rows by their number, m²ρ, a policy that names a column and a number has the rows
counted, so that m holds because it was enforced.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.agreement.noise_terms import ROW, NoiseTerms
from components.agreement.site_policy import PrivacyPolicy
from components.errors import RefusedError


@dataclass(frozen=True, kw_only=True)
class ReadUnit:
    """By what a site's rows are counted as they are read.

    Attributes:
        column: of the site's query; its values never leave the memory of `ingest`.
        rows: most of one value that are kept, of training rows and of test rows each, from 1.
        clipped: whether contributions are clipped by it, so that rows are told apart by unit later on.
    """

    column: str
    rows: int
    clipped: bool


def read_unit(policy: PrivacyPolicy | None, terms: NoiseTerms | None) -> ReadUnit | None:
    """What a site enforces under a charter; None where it counts nothing.

    Args:
        policy: the site's own budget; None where it has none.
        terms: of the charter; None where nothing is noised.

    Raises:
        RefusedError: the charter's epsilon does not protect what the policy names, or admits more rows of it.
    """
    if policy is None or terms is None:
        return None
    if terms.has_unit_column:
        return _clipped_unit(policy, terms)
    if policy.unit == ROW:
        return None
    if terms.rows_per_unit == 1:
        raise _refusal(
            f"the site's ledger is of a {policy.unit}, the charter prices single rows: it needs rows_per_unit"
        )
    if policy.rows_per_unit is None:
        return None
    rows = min(policy.rows_per_unit, terms.rows_per_unit)
    return ReadUnit(column=policy.unit, rows=rows, clipped=False)


def _clipped_unit(policy: PrivacyPolicy, terms: NoiseTerms) -> ReadUnit:
    """Of a charter that names a column."""
    asked, mend = terms.unit, "or leave the federation"
    if policy.unit.lower() != asked.lower():
        held = "single rows" if policy.unit == ROW else f"each {policy.unit}"
        raise _refusal(
            f"the site's policy protects {held}, the charter each {asked}: clipping by {asked} bounds what a "
            f"whole {asked} adds, and one row less may move that by twice the norm. Set unit: {asked} under "
            f"privacy in the policy, {mend}"
        )
    if policy.rows_per_unit is None or policy.rows_per_unit < terms.rows_per_unit:
        held = "no number" if policy.rows_per_unit is None else f"at most {policy.rows_per_unit}"
        raise _refusal(
            f"the charter admits {terms.rows_per_unit} rows of one {asked}, the site's policy {held}: set "
            f"rows_per_unit under privacy in the policy to {terms.rows_per_unit} or more, {mend}"
        )
    return ReadUnit(column=policy.unit, rows=terms.rows_per_unit, clipped=True)


def _refusal(text: str) -> RefusedError:
    return RefusedError(text, disclosed=text)
