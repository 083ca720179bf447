from __future__ import annotations

import pyarrow as pa
import pytest

from components.data_processing.masking.columns import mask_columns
from components.data_processing.masking.masking import mask
from components.errors import BadDataError, UsageError

NOTES = ["card 4111111111111111", None, "", "no digit", "ü ٤١١١ ١١١١ ١١١١ ١١١١", "a@b.org"]
MASKED = ["card <CARD>", None, "", "no digit", "ü <CARD>", "<EMAIL>"]


def batch(kind: pa.DataType) -> pa.RecordBatch:
    return pa.record_batch(
        {
            "Notes": pa.array(NOTES, pa.string()).cast(kind),
            "other": pa.array(["4111111111111111"] * len(NOTES)),
            "age": pa.array(range(len(NOTES))),
        }
    )


@pytest.mark.parametrize(
    ("kind", "masked_kind"),
    [
        (pa.string(), pa.string()),
        (pa.large_string(), pa.large_string()),
        (pa.dictionary(pa.int32(), pa.string()), pa.string()),
        (pa.string_view(), pa.string()),
    ],
)
def test_named_columns_are_masked_and_others_are_not(kind: pa.DataType, masked_kind: pa.DataType) -> None:
    before = batch(kind)
    result = mask_columns(before, ["notes"])
    assert result.batch.column("Notes").to_pylist() == MASKED
    assert result.batch.schema.field("Notes").type == masked_kind
    assert result.batch.schema.names == before.schema.names
    assert result.batch.column("other").equals(before.column("other"))
    assert result.batch.column("age").equals(before.column("age"))
    assert result.counts == {"iban": 0, "card": 2, "email": 1, "ip": 0, "ssn": 0, "phone": 0}
    assert "card <CARD>" not in repr(result)


def test_json_is_masked_as_text() -> None:
    column = pa.array(['{"mail": "a@b.org"}'], pa.json_())
    result = mask_columns(pa.record_batch({"context": column}), ["context"])
    assert result.batch.column("context").to_pylist() == ['{"mail": "<EMAIL>"}']


@pytest.mark.parametrize("rows", [0, 8191, 8192, 8193, 20_000])
def test_slices_do_not_show(rows: int) -> None:
    texts = [f"row {row}, a{row}@b.org" if row % 1000 == 0 else f"row {row}" for row in range(rows)]
    whole = pa.record_batch({"notes": pa.array(["left out", *texts], pa.string())}).slice(1)
    result = mask_columns(whole, ["notes"], ["email"])
    assert result.batch.column("notes").to_pylist() == mask(texts).texts
    assert result.counts == {"email": (rows + 999) // 1000}


@pytest.mark.parametrize(
    ("column", "disclosed"),
    [
        ("lost", "column 'lost' is to be masked, but the records have none of that name"),
        ("age", "column 'age' is to be masked, but holds no text"),
    ],
)
def test_columns_that_cannot_be_masked_stop_the_site(column: str, disclosed: str) -> None:
    with pytest.raises(BadDataError) as caught:
        mask_columns(batch(pa.string()), [column])
    assert caught.value.disclosed == disclosed
    assert "\n" not in str(caught.value)
    assert "4111" not in str(caught.value)


def test_unknown_kinds_are_refused_even_of_no_rows() -> None:
    with pytest.raises(UsageError, match="'passport'"):
        mask_columns(batch(pa.string()).slice(0, 0), [], ["passport"])
