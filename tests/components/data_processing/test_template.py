from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.template import columns_of, render
from components.errors import UsageError


def test_columns_are_named_once_in_order_of_first_use() -> None:
    assert columns_of("{b}: {a} ({b}) {{not_a_column}}") == ("b", "a")


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{a.__class__}", "'a.__class__'"),
        ("{a[0]}", "'a[0]'"),
        ("{a!r}", "'a!r'"),
        ("{a:>{width}}", "'a:>{width}'"),
        ("{}", "''"),
        ("{0}", "'0'"),
        ("{a b}", "'a b'"),
        ("{a", "expected '}'"),
        ("a}", "Single '}'"),
        ("no field", "names no column"),
        ("", "names no column"),
    ],
)
def test_anything_but_plain_column_names_is_refused(template: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        columns_of(template)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_render_fills_every_row() -> None:
    table = pa.table({"a": ["x", "y"], "b": ["1", "2"], "unused": ["-", "-"]})
    assert render("{{{b}}} {a}/{a}.", table) == ["{1} x/x.", "{2} y/y."]
    assert render("{a}", table.slice(0, 0)) == []


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5), st.text(alphabet="ab {}"))
def test_render_equals_str_format_and_never_reads_a_value_as_a_template(
    rows: list[tuple[str, str]], middle: str
) -> None:
    template = "{a}" + middle.replace("{", "{{").replace("}", "}}") + "{b}"
    table = pa.table(
        {"a": pa.array([a for a, _ in rows], pa.string()), "b": pa.array([b for _, b in rows], pa.string())}
    )
    assert render(template, table) == [template.format(a=a, b=b) for a, b in rows]
