"""Masks text columns of Arrow records, a slice of rows at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from components.data_processing.contract import is_text
from components.data_processing.masking.kinds import DEFAULT_KINDS, ranked
from components.data_processing.masking.masking import mask
from components.errors import BadDataError

if TYPE_CHECKING:
    import pyarrow as pa

# So many rows are Python strings at a time, whatever the size of a batch.
_ROWS_AT_A_TIME = 8192
# A text without one of these holds no value of any kind. Beyond ASCII Python says what a digit is.
_TELLTALE = r"[0-9@\x80-\x{10FFFF}]"


@dataclass(frozen=True, kw_only=True)
class MaskedBatch:
    """Records without the sensitive values of some columns; printing it shows none of them.

    Attributes:
        batch: the records, in their order, all columns kept.
        counts: replaced values by kind over all masked columns, 0 included.
    """

    batch: pa.RecordBatch = field(repr=False)
    counts: dict[str, int]


def mask_columns(
    batch: pa.RecordBatch, columns: Sequence[str], kinds: Sequence[str] = DEFAULT_KINDS
) -> MaskedBatch:
    """`batch` with `columns` masked as `mask` masks texts; NULL stays NULL, other columns are untouched.

    A masked column is large_string if it was, else string: enums and JSON become their text.

    Args:
        batch: Records.
        columns: Names of text columns, without case, as SQL has it.
        kinds: As for `mask`.

    Raises:
        UsageError: There is no such kind, or none is named.
        BadDataError: There is no such column, or it holds no text.
    """
    import pyarrow as pa

    counts = Counter(dict.fromkeys(ranked(kinds), 0))
    positions = {name.lower(): position for position, name in enumerate(batch.schema.names)}
    for name in columns:
        position = positions.get(name.lower())
        if position is None:
            text = f"column {name!r} is to be masked, but the records have none of that name"
            raise BadDataError(f"{text} (they have {', '.join(batch.schema.names)})", disclosed=text)
        kind = batch.schema.field(position).type
        if not is_text(kind):
            raise BadDataError(
                f"column {name!r} is of type {kind}: only text is masked; CAST it in the site's sql",
                disclosed=f"column {name!r} is to be masked, but holds no text",
            )
        masked = _mask_column(_plain(batch.column(position)), kinds, counts)
        named = pa.field(batch.schema.names[position], masked.type)
        batch = batch.set_column(position, named, masked)
    return MaskedBatch(batch=batch, counts=dict(counts))


def _plain(column: pa.Array) -> pa.Array:
    import pyarrow as pa

    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    return column if pa.types.is_large_string(column.type) else column.cast(pa.string())


def _mask_column(column: pa.Array, kinds: Sequence[str], counts: Counter[str]) -> pa.Array:
    """`column` masked; `counts` is added to."""
    import pyarrow as pa
    import pyarrow.compute as pc

    pieces = []
    for start in range(0, len(column), _ROWS_AT_A_TIME):
        piece = column.slice(start, _ROWS_AT_A_TIME)
        suspects = pc.match_substring_regex(piece, _TELLTALE).fill_null(False)
        masked = mask(piece.filter(suspects).to_pylist(), kinds)
        counts.update(masked.counts)
        pieces.append(pc.replace_with_mask(piece, suspects, pa.array(masked.texts, column.type)))
    return pa.concat_arrays(pieces) if pieces else column
