"""At most so many rows of one unit of privacy (a patient, say), whatever the warehouse holds.

Which rows of a unit are kept is decided by a keyed digest of the unit and of the row, smallest first: not by
the order in which a warehouse returns rows, not by the rows of others, and not by anybody who does not hold
the site's key. Training and test rows are counted apart, as no sum is of both. Rows come sorted by unit, so
that counting them takes no memory (see `sorted_rows`).

What names a unit is read into memory and no further. Rows carry 64 bits of a keyed digest in its place: two
units of a million at a site are taken for one with probability 3e-8, and then share what one is allowed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.privacy_unit import ReadUnit
from components.agreement.private_keys import derived_key
from components.artifacts.documents import framed
from components.data_processing.contract import is_text
from components.data_processing.query import IS_TEST, UNIT
from components.errors import BadDataError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

_RANK: Final = "privacy_rank"
_DIGITS: Final = 16


class UnitRows:
    """Counts the rows of an extraction by unit, and keeps the first of each.

    Args:
        unit: The column, and most rows of one value.
        key: The site's, for digests that nobody else can compute.
    """

    def __init__(self, unit: ReadUnit, key: Ed25519PrivateKey) -> None:
        self.unit = unit
        self._unit_key = derived_key(key, "privacy units")
        self._rank_key = derived_key(key, "rows of a privacy unit")
        self._rows = self._nulls = 0

    @property
    def column(self) -> str:
        """Name of the column in the site's query."""
        return self.unit.column

    def lacking(self, batch: pa.RecordBatch) -> bool:
        """Counts the rows of a batch that name no unit; whether there were any so far."""
        self._rows += batch.num_rows
        self._nulls += batch.column(UNIT).null_count
        return self._nulls > 0

    def conclude(self) -> None:
        """Tells whether every row names its unit: rows of nobody could not be counted.

        Raises:
            BadDataError: some do not.
        """
        if self._nulls:
            raise _problem(
                self.unit,
                f"column {self.column!r} is NULL in {self._nulls} of {self._rows} rows, and the site's "
                "policy counts rows by it: filter such rows out, or give each a value of its own, in the "
                "site's sql",
                "is NULL in some rows",
            )

    def ranked_schema(self, canonical: pa.Schema) -> pa.Schema:
        """Of canonical rows in the order in which they are counted: by unit, split and rank first."""
        import pyarrow as pa

        others = [field for field in canonical if field.name != IS_TEST]
        return pa.schema([(UNIT, pa.string()), (IS_TEST, pa.bool_()), (_RANK, pa.string()), *others])

    def ranked(self, canonical: pa.RecordBatch, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Canonical rows with the digest of their unit, and their rank among its rows.

        Args:
            canonical: As `RecordTexts.canonical` gives them.
            batch: What they were made of, with the text of the unit and without NULL in it.
        """
        import pyarrow as pa

        named = batch.column(UNIT).cast(pa.string()).dictionary_encode()
        digests = pa.array([self._digest(name) for name in named.dictionary.to_pylist()], pa.string())
        units = digests.take(named.indices)
        rows = zip(units.to_pylist(), *(column.to_pylist() for column in canonical.columns), strict=True)
        ranks = pa.array([self._rank(row) for row in rows], pa.string())
        columns = {UNIT: units, _RANK: ranks} | dict(
            zip(canonical.schema.names, canonical.columns, strict=True)
        )
        schema = self.ranked_schema(canonical.schema)
        return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)

    def kept(self, pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Canonical rows without the surplus, in the order they come in; with their unit if it is clipped by.

        Args:
            pieces: Sorted rows of `ranked_schema`, of one chunk each, parted in any way.
        """
        import pyarrow as pa

        last: tuple[str, bool] | None = None
        count = 0
        for piece in pieces:
            places = _places(piece, last, count)
            if len(places):
                last = (piece.column(UNIT)[-1].as_py(), piece.column(IS_TEST)[-1].as_py())
                count = int(places[-1]) + 1
            within = pa.array(places < self.unit.rows)
            yield self._bare(piece.filter(within).combine_chunks())

    def _bare(self, ranked: pa.Table) -> pa.Table:
        names = [name for name in ranked.schema.names if name not in {UNIT, IS_TEST, _RANK}]
        return ranked.select([*names, IS_TEST, *([UNIT] if self.unit.clipped else [])])

    def _digest(self, name: str) -> str:
        content = framed([self.column.lower().encode(), name.encode()])
        return hmac.digest(self._unit_key, content, hashlib.sha256).hex()[:_DIGITS]

    def _rank(self, row: Sequence[str | bool]) -> str:
        """A row's place among the rows of its unit: equal rows have equal places, so that it is no choice."""
        content = framed(str(value).encode() for value in row)
        return hmac.digest(self._rank_key, content, hashlib.sha256).hex()[:_DIGITS]


def check_unit(schema: pa.Schema, unit: ReadUnit) -> None:
    """Whether a query returns the column of a unit of privacy, before its rows are read.

    Raises:
        BadDataError: it does not, or as a type whose text is not the same in every engine.
    """
    import pyarrow as pa

    kind = {field.name.lower(): field.type for field in schema}.get(unit.column.lower())
    if kind is None:
        raise _problem(
            unit,
            f"the query returns no column {unit.column!r}, by which the site's policy counts rows (it "
            f"returns {', '.join(schema.names)}): select it in the site's sql, or correct unit under "
            "privacy in the policy",
            "is missing",
        )
    if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_date(kind)):
        raise _problem(
            unit,
            f"column {unit.column!r} is of type {kind}: a unit of privacy must be strings, integers or "
            "dates; CAST it in the site's sql",
            "has the wrong type",
        )


def unit_numbers(units: Iterable[str]) -> list[int]:
    """Digests of units as 64-bit integers, equal for equal units."""
    return [int.from_bytes(bytes.fromhex(unit), "big", signed=True) for unit in units]


def _places(piece: pa.Table, last: tuple[str, bool] | None, count: int) -> NDArray[np.int64]:
    """Each row's place in its group of one unit and split, from 0; the first group goes on from `last`."""
    import numpy as np

    units = piece.column(UNIT).to_numpy()
    tests = piece.column(IS_TEST).to_numpy()
    rows = np.arange(len(units))
    begins = np.ones(len(units), bool)
    begins[1:] = (units[1:] != units[:-1]) | (tests[1:] != tests[:-1])
    starts = np.maximum.accumulate(np.where(begins, rows, 0))
    places: NDArray[np.int64] = rows - starts
    if len(units) and last == (units[0], bool(tests[0])):
        ends = np.flatnonzero(begins[1:])
        places[: ends[0] + 1 if len(ends) else len(units)] += count
    return places


def _problem(unit: ReadUnit, message: str, what: str) -> BadDataError:
    """A column that only the site's policy names is not named to others."""
    named = f"column {unit.column!r}" if unit.clipped else "the column of the site's privacy unit"
    return BadDataError(message, disclosed=f"{named} {what}")
