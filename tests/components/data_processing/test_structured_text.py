"""The text of a value does not depend on the warehouse, the Arrow type or the way it came."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.structured_text import (
    MAX_NESTING,
    is_structured,
    parse_json,
    structured_text,
    unreadable_part,
)
from components.errors import BadDataError

SECRET = "Ada Lovelace"
VISIT = {"ward": "B2", "codes": ["I10", None, "E11"], "age": 61.0, "left": None, "notes": ""}
VISIT_TEXT = "age: 61; codes: I10, E11; ward: B2"


def text_of(value: object, kind: pa.DataType | None = None) -> str | None:
    """Text of one value of an Arrow column."""
    text: str | None = structured_text(pa.array([value], kind), name="visit")[0].as_py()
    return text


def text_of_json(document: str) -> str | None:
    text: str | None = structured_text(pa.array([document]), name="visit", is_json=True)[0].as_py()
    return text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (VISIT, VISIT_TEXT),
        ({"b": {"d": 1, "c": [True, False]}, "a": "x"}, "a: x; b: (c: true, false; d: 1)"),
        ([{"code": "I10", "since": 2001}, {"code": "E11"}], "(code: I10; since: 2001), (code: E11)"),
        ([[1, 2], [], [3]], "(1, 2), (3)"),
        ({"a": {"b": None}, "c": [{"d": []}, None], "e": "x"}, "e: x"),
        ({"Z": 1, "a": 2, "ä": 3, "B": 4}, "B: 4; Z: 1; a: 2; ä: 3"),
        ({"a": None}, ""),
        ([], ""),
    ],
)
def test_structs_and_json_have_the_text_of_the_documentation(value: Any, text: str) -> None:
    if value != []:
        assert text_of(value) == text
    assert text_of_json(json.dumps(value)) == text


def test_a_map_reads_like_an_object_with_sorted_keys() -> None:
    kind = pa.map_(pa.string(), pa.list_(pa.decimal128(10, 2)))
    rows = pa.array(
        [
            [("z", [Decimal("9.90")])],
            [("b", [Decimal("1.50"), None]), ("a", []), ("B", [Decimal(2)])],
            None,
            [],
        ],
        kind,
    )
    assert structured_text(rows, name="m").to_pylist() == ["z: 9.9", "B: 2; b: 1.5", None, ""]
    assert structured_text(rows.slice(1, 2), name="m").to_pylist() == ["B: 2; b: 1.5", None]


@pytest.mark.parametrize(
    ("number", "text"),
    # The examples of RFC 8785, sections 3.2.2 and appendix B.
    [
        (333333333.33333329, "333333333.3333333"),
        (1e30, "1e+30"),
        (4.50, "4.5"),
        (2e-3, "0.002"),
        (0.000000000000000000000000001, "1e-27"),
        (-0.0, "0"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (9007199254740992.0, "9007199254740992"),
        (295147905179352830000.0, "295147905179352830000"),
        (9.999999999999997e22, "9.999999999999997e+22"),
        (0.000001, "0.000001"),
        (0.00001, "0.00001"),
    ],
)
def test_floats_have_their_shortest_digits(number: float, text: str) -> None:
    assert text_of(number) == text
    assert text_of_json(repr(number)) == text


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (61, pa.int8()),
        (61, pa.uint64()),
        (61.0, pa.float16()),
        (61.0, pa.float32()),
        (61.0, pa.float64()),
        (Decimal(61), pa.decimal128(38, 9)),
        (Decimal(61), pa.decimal256(76, 38)),
        ("61", pa.large_string()),
        ("61", pa.string_view()),
    ],
)
def test_one_number_has_one_text_whatever_its_type(value: object, kind: pa.DataType) -> None:
    assert text_of(value, kind) == "61"
    assert text_of([value, None], pa.list_(kind)) == "61"
    assert structured_text(pa.array([value], kind).dictionary_encode(), name="n").to_pylist() == ["61"]


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (Decimal("0.100000000"), pa.decimal128(38, 9), "0.1"),
        (Decimal("0.000000001"), pa.decimal128(38, 9), "0.000000001"),
        (Decimal(0), pa.decimal128(38, 9), "0"),
        (Decimal("-1200.50"), pa.decimal128(38, 9), "-1200.5"),
        (Decimal(100), pa.decimal128(38, 0), "100"),
        (0.1, pa.float32(), "0.1"),
        (1e10, pa.float32(), "10000000000"),
        (2**64 - 1, pa.uint64(), "18446744073709551615"),
        (datetime.date(1815, 12, 10), pa.date32(), "1815-12-10"),
        (datetime.date(1815, 12, 10), pa.date64(), "1815-12-10"),
        (datetime.time(9, 30), pa.time64("us"), "09:30:00"),
        (datetime.time(9, 30, 0, 120000), pa.time64("ns"), "09:30:00.12"),
        (datetime.datetime(2020, 1, 1, 10), pa.timestamp("s"), "2020-01-01 10:00:00"),
        (datetime.datetime(2020, 1, 1, 10), pa.timestamp("us", "UTC"), "2020-01-01 10:00:00+00"),
        (
            datetime.datetime(2020, 1, 1, 10, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
            pa.timestamp("ms", "Europe/Berlin"),
            "2020-01-01 09:00:00+00",
        ),
        (None, pa.null(), None),
    ],
)
def test_scalars(value: object, kind: pa.DataType, text: str | None) -> None:
    assert text_of(value, kind) == text


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int64()),
        pa.large_list(pa.int32()),
        pa.list_(pa.int16(), 2),
        pa.list_view(pa.int64()),
        pa.large_list_view(pa.float64()),
    ],
)
def test_every_kind_of_list_reads_alike_also_from_the_middle(kind: pa.DataType) -> None:
    rows = pa.array([[9, 9], [1, 2], None, [3, None]], kind)
    assert is_structured(kind)
    assert structured_text(rows, name="l").to_pylist() == ["9, 9", "1, 2", None, "3"]
    assert structured_text(rows.slice(1, 2), name="l").to_pylist() == ["1, 2", None]


def test_null_is_null_and_json_null_is_a_value_that_says_nothing() -> None:
    rows = pa.array([None, "null", "{}", '"x"'])
    assert structured_text(rows, name="j", is_json=True).to_pylist() == [None, "", "", "x"]
    structs = pa.array([None, {"a": 1}], pa.struct([("a", pa.int64())]))
    assert structured_text(structs, name="s").to_pylist() == [None, "a: 1"]
    silent = pa.array([{"a": None}, {"a": 1}, {"a": None}], structs.type)
    assert structured_text(silent, name="s").to_pylist() == ["", "a: 1", ""]
    assert structured_text(pa.array([{}, None], pa.struct([])), name="s").to_pylist() == ["", None]


def test_a_dictionary_is_its_values() -> None:
    rows = pa.array(["b", None, "a", "b"]).dictionary_encode()
    assert structured_text(rows, name="e").to_pylist() == ["b", None, "a", "b"]
    assert structured_text(rows.slice(1, 2), name="e").to_pylist() == [None, "a"]


def test_strings_are_left_as_they_are() -> None:
    rows = pa.array(["a; b", '{"b": 1}', "", None])
    assert structured_text(rows, name="t").to_pylist() == rows.to_pylist()
    assert structured_text(pa.array(['{"b": 1.0}'], pa.json_()), name="t").to_pylist() == ["b: 1"]


KEYS = st.text("aAbzä_ ", min_size=1, max_size=3)
SCALARS = st.one_of(
    st.tuples(st.just(pa.int64()), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(pa.float64()), st.floats(allow_nan=False, allow_infinity=False)),
    st.tuples(st.just(pa.bool_()), st.booleans()),
    st.tuples(st.just(pa.string()), st.text(max_size=4)),
    st.tuples(st.just(pa.string()), st.none()),
)


def _list_of(inner: tuple[pa.DataType, Any], copies: int) -> tuple[pa.DataType, Any]:
    kind, value = inner
    return pa.list_(kind), [value] * copies


def _struct_of(inner: dict[str, tuple[pa.DataType, Any]]) -> tuple[pa.DataType, Any]:
    kind = pa.struct([(name, each) for name, (each, _) in inner.items()])
    return kind, {name: value for name, (_, value) in inner.items()}


TYPED = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.builds(_list_of, inner, st.integers(0, 2)),
        st.dictionaries(KEYS, inner, min_size=1, max_size=3).map(_struct_of),
    ),
    max_leaves=8,
)


@given(TYPED)
def test_arrow_and_json_of_the_same_value_have_the_same_text(typed: tuple[pa.DataType, Any]) -> None:
    kind, value = typed
    through_json = text_of_json(json.dumps(value))
    assert (text_of(value, kind) or "") == through_json


WORDS = st.sampled_from([None, "", "x", "y; z"])
VISITS = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            "ward": WORDS,
            "visits": st.lists(
                st.one_of(
                    st.none(),
                    st.fixed_dictionaries(
                        {"day": WORDS, "codes": st.lists(st.lists(WORDS, max_size=2), max_size=2)}
                    ),
                ),
                max_size=2,
            ),
        }
    ),
)
VISIT_KIND = pa.struct(
    [
        ("ward", pa.string()),
        ("visits", pa.list_(pa.struct([("day", pa.string()), ("codes", pa.list_(pa.list_(pa.string())))]))),
    ]
)


@given(st.lists(VISITS, max_size=12), st.integers(0, 6))
def test_rows_beside_each_other_do_not_mix(rows: list[Any], start: int) -> None:
    documents = pa.array([None if row is None else json.dumps(row) for row in rows], pa.string())
    expected = structured_text(documents, name="visit", is_json=True).to_pylist()
    typed = pa.array(rows, VISIT_KIND)
    assert structured_text(typed, name="visit").to_pylist() == expected
    assert structured_text(typed.slice(start, 4), name="visit").to_pylist() == expected[start : start + 4]


@given(st.lists(st.one_of(st.none(), st.lists(st.integers(0, 9), max_size=3)), max_size=8), st.integers(0, 8))
def test_the_text_of_a_row_does_not_depend_on_chunks(rows: list[list[int] | None], cut: int) -> None:
    kind = pa.list_(pa.int64())
    whole = pa.array(rows, kind)
    chunks = pa.chunked_array([whole.slice(0, cut), whole.slice(cut)], kind)
    expected = [None if row is None else ", ".join(map(str, row)) for row in rows]
    assert structured_text(whole, name="l").to_pylist() == expected
    assert structured_text(chunks, name="l").to_pylist() == expected


QUERIES = {
    "struct": "{'ward': 'B2', 'codes': ['I10', NULL, 'E11'], 'age': 61.0::DOUBLE, 'left': NULL::INT}",
    "list": "[{'code': 'I10', 'dose': 2.50}, {'code': 'E11', 'dose': 10.00}]",
    "map": "MAP {'b': 2.0::DOUBLE, 'a': 1.5::DOUBLE}",
    "nested": "{'a': {'b': [[1, 2], [3]]}, 'c': TRUE, 'd': 0.1::DOUBLE, 'e': 1e-7::DOUBLE}",
}
TEXTS = {
    "struct": VISIT_TEXT,
    "list": "(code: I10; dose: 2.5), (code: E11; dose: 10)",
    "map": "a: 1.5; b: 2",
    "nested": "a: (b: (1, 2), (3)); c: true; d: 0.1; e: 1e-7",
}


@pytest.mark.parametrize("name", QUERIES)
def test_duckdbs_own_types_and_its_json_of_them_have_the_same_text(name: str) -> None:
    with duckdb.connect() as connection:
        query = f"SELECT {QUERIES[name]} AS typed, to_json({QUERIES[name]}) AS document"
        table = connection.sql(query).to_arrow_table()
    typed = structured_text(table["typed"], name="typed").to_pylist()
    document = structured_text(table["document"], name="document", is_json=True).to_pylist()
    assert typed == document == [TEXTS[name]]


def test_duckdb_and_bigquery_hand_over_other_types_and_get_the_same_text() -> None:
    select = (
        "SELECT {'at': TIMESTAMPTZ '2020-01-01 10:00:00.5+01', 'day': DATE '2020-01-01', 'price': 1.50, "
        "'amounts': [1::SMALLINT, 2::SMALLINT], 'ward': 'B2'::ENUM('A1', 'B2')} AS visit"
    )
    with duckdb.connect() as connection:
        of_duckdb = connection.sql(select).to_arrow_table()["visit"]
    bigquery = pa.struct(
        [
            ("at", pa.timestamp("us", "UTC")),
            ("day", pa.date32()),
            ("price", pa.decimal128(38, 9)),
            ("amounts", pa.list_(pa.field("item", pa.int64()))),
            ("ward", pa.string()),
        ]
    )
    row = {
        "at": datetime.datetime(2020, 1, 1, 9, 0, 0, 500000, tzinfo=datetime.UTC),
        "day": datetime.date(2020, 1, 1),
        "price": Decimal("1.5"),
        "amounts": [1, 2],
        "ward": "B2",
    }
    assert of_duckdb.type != bigquery
    text = "amounts: 1, 2; at: 2020-01-01 09:00:00.5+00; day: 2020-01-01; price: 1.5; ward: B2"
    assert structured_text(of_duckdb, name="visit").to_pylist() == [text]
    assert text_of(row, bigquery) == text


def nested(levels: int) -> pa.DataType:
    kind = pa.int64()
    for _ in range(levels):
        kind = pa.list_(kind)
    return kind


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (pa.binary(), "binary has none"),
        (pa.struct([("a", pa.list_(pa.large_binary()))]), "large_binary has none"),
        (pa.month_day_nano_interval(), "month_day_nano_interval has none"),
        (pa.duration("s"), "has none"),
        (pa.dense_union([pa.field("a", pa.int8())]), "has none"),
        (pa.uuid(), "has none"),
        (pa.map_(pa.list_(pa.int8()), pa.int8()), "is no key"),
        (pa.map_(pa.int8(), pa.binary()), "binary has none"),
        (nested(MAX_NESTING + 1), "nested deeper than 16 levels"),
    ],
)
def test_types_without_a_text_are_refused_before_their_rows(kind: pa.DataType, complaint: str) -> None:
    assert complaint in unreadable_part(kind)
    with pytest.raises(BadDataError) as caught:
        structured_text(pa.chunked_array([], kind), name="visit")
    assert complaint in str(caught.value)
    assert "CAST it" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.disclosed == "no text can be made of the type of column 'visit'"


def test_the_deepest_nesting_that_is_allowed() -> None:
    kind, value = nested(MAX_NESTING), json.loads("[" * MAX_NESTING + "7" + "]" * MAX_NESTING)
    text = "(" * (MAX_NESTING - 1) + "7" + ")" * (MAX_NESTING - 1)
    assert unreadable_part(kind) == ""
    assert text_of(value, kind) == text
    assert text_of_json(json.dumps(value)) == text


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (f'{{"name": "{SECRET}"', "Expecting ',' delimiter"),
        (f'{{"a": "{SECRET}", "a": 2}}', "the key 'a' stands there twice"),
        (f'["{SECRET}", NaN]', "NaN is not JSON"),
        (f'["{SECRET}", 1e400]', "a number is beyond a float"),
        (f'["{SECRET}", {"9" * 5000}]', "a number is beyond a float"),
        (f'["{SECRET}", "\\ud800"]', "surrogates not allowed"),
        ("[" * 17 + f'"{SECRET}"' + "]" * 17, "nested deeper than 16 levels"),
        ("[" * 100_000, "nested deeper than 16 levels"),
        ("", "Expecting value"),
        (SECRET, "Expecting value"),
    ],
)
def test_what_is_not_json_for_every_engine_is_refused(document: str, complaint: str) -> None:
    with pytest.raises(BadDataError) as caught:
        text_of_json(document)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value) + caught.value.disclosed
    assert caught.value.disclosed == "column 'visit' holds a value that is not JSON"
    assert caught.value.__suppress_context__, "the parser's error carries the whole value"


def test_integers_are_exact_as_far_as_bigquery_keeps_them() -> None:
    least, most = -(2**63), 2**64 - 1
    assert parse_json(f"[{least}, {most}]") == [least, most]
    assert text_of_json(f"[{least}, {most}]") == f"{least}, {most}"
    assert text_of_json(str(2**64)) == "18446744073709552000"
