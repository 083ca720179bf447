"""Text of structured columns: STRUCT, ARRAY, map and JSON as one canonical string a row.

A language model reads text, so `{"ward": "B2", "codes": ["I10", "E11"], "age": 61.0}` becomes

    age: 61; codes: I10, E11; ward: B2

- an object (STRUCT, map, JSON object) is `key: value` pairs sorted by key (code points), joined with "; ";
- an array is its elements in their order, joined with ", ";
- an object inside anything, and an array inside an array, stands in parentheses;
- what says nothing (NULL, "", an object or array of nothing else) is left out: BigQuery does not tell an
  empty array from NULL, and neither may a text that two warehouses have to agree on;
- a number has one text whatever its type: integers and decimals exactly, without trailing zeros; floats by
  their shortest digits (RFC 8785), so that 61, 61.0 and 61.00 are all "61";
- TRUE and FALSE are `true` and `false`; DATE, TIME, DATETIME and TIMESTAMP are what BigQuery's CAST to STRING
  gives, in UTC, cut to microseconds.

The same records therefore have the same text, and the same digest, whether DuckDB or BigQuery hands them
over. JSON is read as such where it is a whole column; JSON inside a STRUCT is plain text, as Arrow tables of
DuckDB do not say that it is JSON.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from components.artifacts.documents import canonical_json
from components.errors import BadDataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

MAX_NESTING = 16
"""Levels of objects and arrays; BigQuery allows 15 of STRUCT."""
_PAIRS, _ELEMENTS = "; ", ", "
# What BigQuery keeps exactly of a JSON integer; a larger one is a float.
_LEAST_WHOLE, _MOST_WHOLE = -(2**63), 2**64 - 1
_TOO_DEEP = f"it is nested deeper than {MAX_NESTING} levels"


def is_structured(kind: pa.DataType) -> bool:
    """Whether Arrow type `kind` is an object or an array: a struct, a map or any kind of list."""
    return _is_object(kind) or _is_array(kind)


def unreadable_part(kind: pa.DataType) -> str:
    """What in Arrow type `kind` no text can be made of, in words for a message; "" where all of it can.

    Bytes, intervals, unions and unknown extension types have no text that all engines agree on, and nesting
    ends at `MAX_NESTING` levels.
    """
    return _unreadable(kind, depth=0)


def structured_text(
    column: pa.Array | pa.ChunkedArray, *, name: str, is_json: bool = False
) -> pa.ChunkedArray:
    """One string a row, by the rules of this module; NULL stays NULL.

    Args:
        column: Of any type that `unreadable_part` has nothing against.
        name: Of the column, for messages.
        is_json: Whether strings are JSON text. An `arrow.json` column is, whatever is said here.

    Raises:
        BadDataError: The type has no text, or a value is not JSON: it does not parse, holds a key twice
            (engines keep different ones), a number beyond a float, half of a surrogate pair, or is nested
            deeper than `MAX_NESTING`.
    """
    import pyarrow as pa

    problem = unreadable_part(column.type)
    if problem:
        raise BadDataError(
            f"column {name!r} is of type {column.type}, and no text can be made of it: {problem}; CAST it, "
            "or select its parts, in the site's sql",
            disclosed=f"no text can be made of the type of column {name!r}",
        )
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    if is_json or _is_json(column.type):
        rendered = [_json_texts(_texts(chunk), name) for chunk in chunks]
    else:
        rendered = [_texts(chunk) for chunk in chunks]
    return pa.chunked_array(rendered, pa.string())


def parse_json(text: str) -> Any:
    """The value of a JSON text that every engine reads alike.

    Integers beyond BigQuery's (below -2^63 or from 2^64 on) are floats.

    Raises:
        ValueError: It is not JSON, an object holds a key twice, or a number is beyond a float; says which,
            and may quote a key.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def _is_object(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_struct(kind) or pa.types.is_map(kind))


def _is_array(kind: pa.DataType) -> bool:
    import pyarrow as pa

    kinds = pa.types
    plain = kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)
    return bool(plain or kinds.is_list_view(kind) or kinds.is_large_list_view(kind))


def _is_json(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.json"


def _is_string(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_scalar(kind: pa.DataType) -> bool:
    """Whether a value of `kind` has one text in all engines."""
    import pyarrow as pa

    kinds = pa.types
    number = kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind)
    time = kinds.is_date(kind) or kinds.is_time(kind) or kinds.is_timestamp(kind)
    return bool(_is_string(kind) or number or time or kinds.is_boolean(kind) or kinds.is_null(kind))


def _unreadable(kind: pa.DataType, depth: int) -> str:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _unreadable(kind.value_type, depth)
    if _is_json(kind):
        return _unreadable(kind.storage_type, depth)
    if not is_structured(kind):
        return "" if _is_scalar(kind) else f"{kind} has none"
    if depth == MAX_NESTING:
        return _TOO_DEEP
    if pa.types.is_map(kind) and is_structured(kind.key_type):
        return f"{kind.key_type} is no key"
    fields = [kind.field(position) for position in range(kind.num_fields)]
    if pa.types.is_map(kind):
        fields = [kind.key_field, kind.item_field]
    return next(filter(None, (_unreadable(field.type, depth + 1) for field in fields)), "")


def _texts(array: pa.Array) -> pa.Array:
    """Strings of an array; NULL stays NULL."""
    import pyarrow as pa

    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _texts(array.dictionary).take(array.indices)
    if pa.types.is_struct(kind):
        return _struct_texts(array)
    if pa.types.is_map(kind):
        return _map_texts(array)
    return _list_texts(array) if _is_array(kind) else _scalar_texts(array)


def _parts(array: pa.Array, *, in_array: bool) -> pa.Array:
    """Strings of what stands inside an object or array: in parentheses where needed, NULL for nothing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = _texts(array)
    said = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    if _is_object(array.type) or (in_array and _is_array(array.type)):
        return pc.binary_join_element_wise("(", said, ")", "")
    return said


def _struct_texts(array: pa.StructArray) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    names = [array.type.field(position).name for position in range(array.type.num_fields)]
    fields = sorted(zip(names, array.flatten(), strict=True), key=lambda pair: pair[0])
    pairs = [
        pc.binary_join_element_wise(f"{_PAIRS}{name}: ", _parts(values, in_array=False), "")
        for name, values in fields
    ]
    # Not null_handling="skip": Arrow 26 then loses every row that is NULL in all fields.
    said = [pc.coalesce(pair, "") for pair in pairs] or [pa.array([""] * len(array), pa.string())]
    joined = pc.utf8_slice_codeunits(pc.binary_join_element_wise(*said, ""), len(_PAIRS))
    return pc.if_else(array.is_valid(), joined, pa.scalar(None, pa.string()))


def _map_texts(array: pa.MapArray) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    entry = pa.struct([("key", array.type.key_type), ("value", array.type.item_type)])
    entries = array.cast(pa.list_(entry))
    keys, values = pc.list_flatten(entries).flatten()
    rows = pa.table(
        {
            "parent": pc.list_parent_indices(entries),
            "key": _texts(keys),
            "value": _parts(values, in_array=False),
        }
    )
    rows = rows.sort_by([(name, "ascending") for name in rows.column_names]).combine_chunks()
    parent, key, value = (_whole_array(column) for column in rows.columns)
    pairs = pc.binary_join_element_wise(key, ": ", value, "")
    return _joined(pairs, parent, array.is_valid(), _PAIRS)


def _list_texts(array: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    elements = _parts(pc.list_flatten(array), in_array=True)
    return _joined(elements, pc.list_parent_indices(array), array.is_valid(), _ELEMENTS)


def _joined(parts: pa.Array, parents: pa.Array, valid: pa.Array, separator: str) -> pa.Array:
    """Joins the parts of every parent, which come in the order of parents; NULL parts are left out."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    kept = parts.is_valid()
    counts = np.bincount(parents.filter(kept).to_numpy(), minlength=len(valid))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int64())
    joined = pc.binary_join(pa.LargeListArray.from_arrays(offsets, parts.filter(kept)), separator)
    return pc.if_else(valid, joined, pa.scalar(None, pa.string()))


def _whole_array(column: pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa

    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _scalar_texts(array: pa.Array) -> pa.Array:
    import pyarrow as pa

    kind = array.type
    if pa.types.is_floating(kind):
        return _float_texts(array)
    if pa.types.is_decimal(kind):
        return _decimal_texts(array)
    if pa.types.is_date(kind):
        return array.cast(pa.date32()).cast(pa.string())
    if pa.types.is_time(kind) or pa.types.is_timestamp(kind):
        return _time_texts(array)
    return array.cast(pa.string())


def _float_texts(array: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    # The sum makes 0 of -0.
    texts = pc.add(array, pa.scalar(0, array.type)).cast(pa.string())
    # Arrow goes over to exponents at other sizes than RFC 8785 does.
    mask = pc.match_substring(texts, "e").fill_null(False)
    written = [_float_text(float(text)) for text in texts.filter(mask).to_pylist()]
    return pc.replace_with_mask(texts, mask, pa.array(written, pa.string()))


def _float_text(number: float) -> str:
    digits = repr(number + 0.0)
    # Both write the shortest digits, and differ in when they go over to exponents; this is the faster.
    return canonical_json(number).decode() if "e" in digits else digits.removesuffix(".0")


def _decimal_texts(array: pa.Array) -> pa.Array:
    from decimal import Decimal

    import pyarrow as pa
    import pyarrow.compute as pc

    texts = array.cast(pa.string())
    mask = pc.match_substring(texts, "E").fill_null(False)
    written = [format(Decimal(text), "f") for text in texts.filter(mask).to_pylist()]
    return _trimmed(pc.replace_with_mask(texts, mask, pa.array(written, pa.string())))


def _time_texts(array: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_timestamp = pa.types.is_timestamp(array.type)
    zone = "+00" if is_timestamp and array.type.tz is not None else ""
    # A cast to a timestamp without a zone gives the time in UTC.
    micros = array.cast(pa.timestamp("us") if is_timestamp else pa.time64("us"), safe=False)
    return pc.binary_join_element_wise(_trimmed(micros.cast(pa.string())), zone, "")


def _trimmed(texts: pa.Array) -> pa.Array:
    """Without the zeros at the end of a fraction, and without its point where nothing else follows."""
    import pyarrow.compute as pc

    shorter = pc.replace_substring_regex(texts, r"(\.\d*[1-9])0+$", r"\1")
    return pc.replace_substring_regex(shorter, r"\.0+$", "")


def _json_texts(values: pa.Array, name: str) -> pa.Array:
    import pyarrow as pa

    try:
        texts = [None if text is None else _json_text(parse_json(text), 0) for text in values.to_pylist()]
        # Half of a surrogate pair, which JSON can write and no string can hold, ends here.
        return pa.array(texts, pa.string())
    except ValueError as error:
        # Not chained: the parser's error carries the whole value.
        raise BadDataError(
            f"a value of column {name!r} is not JSON that a text can be made of: {error}; mend it, or select "
            "other columns, in the site's sql",
            disclosed=f"column {name!r} holds a value that is not JSON",
        ) from None


def _json_text(value: Any, depth: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        pairs = [(key, _json_part(value[key], depth, in_array=False)) for key in sorted(value)]
        return _PAIRS.join([f"{key}: {text}" for key, text in pairs if text])
    if isinstance(value, list):
        return _ELEMENTS.join(filter(None, [_json_part(each, depth, in_array=True) for each in value]))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float_text(value)
    return "" if value is None else str(value)


def _json_part(value: Any, depth: int, *, in_array: bool) -> str:
    """Text of what stands inside an object or array, which is `depth` levels below the outermost."""
    is_object, is_array = isinstance(value, dict), isinstance(value, list)
    if (is_object or is_array) and depth + 1 == MAX_NESTING:
        raise ValueError(_TOO_DEEP)
    text = _json_text(value, depth + 1)
    return f"({text})" if text and (is_object or (in_array and is_array)) else text


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    found = dict(pairs)
    if len(found) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} stands there twice")
    return found


def _whole(digits: str) -> int | float:
    if len(digits) <= 20 and _LEAST_WHOLE <= int(digits) <= _MOST_WHOLE:
        return int(digits)
    return _finite(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number is beyond a float")
    return number


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_whole, parse_float=_finite, parse_constant=_refuse_constant
)
