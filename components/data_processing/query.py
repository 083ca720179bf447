"""A site's query: one SELECT in BigQuery's dialect, and the statement that ingestion makes of it.

The site's query may return any columns. Around it stands a SELECT that lets through the text columns, the
label and `is_test`, and the unit of privacy where the site's policy has its rows counted, and nothing else:
what a record is split by (or any other column) is used inside the warehouse and stays there. The statement is
written anew from the parsed query, so that what runs is what was checked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from components.data_processing.template import COLUMN_NAME
from components.errors import BadDataError, UsageError

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.errors import ParseError, TokenError

LABEL = "label"
IS_TEST = "is_test"
UNIT = "privacy_unit"
"""Of a statement: the text of the site's unit of privacy. Of stored rows: a keyed digest of it."""
# The split counts in thousandths, like every example of FARM_FINGERPRINT splits in BigQuery's documentation.
BUCKETS = 1000
_RULE = "a site's query is one SELECT statement in BigQuery's dialect"


def check_sql(sql: str, parameters: Collection[str] = ()) -> list[str]:
    """What is wrong with a site's query, one line each with its position; nothing if it can be used.

    Args:
        sql: The query.
        parameters: Names of the parameters that have a value, without case.
    """
    _, problems = _parse(sql, parameters)
    return problems


def check_columns(
    *,
    columns: Sequence[str],
    label_column: str,
    split_column: str,
    test_fraction: float,
    unit_column: str = "",
) -> list[str]:
    """What is wrong with the columns and the split that a federation asks for, one line each."""
    units = [unit_column] if unit_column else []
    problems = [
        f"column {name!r} is not a plain name: use letters, digits and _, and rename it with AS in the sql"
        for name in dict.fromkeys([*columns, label_column, split_column, *units])
        if not COLUMN_NAME.fullmatch(name)
    ]
    texts = [name.lower() for name in columns]
    if not texts:
        problems.append("there is no text column: name one in the text template")
    problems += [
        f"text column {name!r} is named twice: write it alike everywhere"
        for position, name in enumerate(columns)
        if name.lower() in texts[:position]
    ]
    if label_column.lower() in texts:
        problems.append(
            f"label column {label_column!r} is also a text column: the model would read the answer"
        )
    if label_column.lower() == split_column.lower():
        problems.append(f"split column {split_column!r} is also the label: whole classes would be test rows")
    problems += [
        f"column {name!r} is reserved: rename it with AS in the site's sql"
        for name in dict.fromkeys([*columns, label_column])
        if name.lower() == IS_TEST
        or (name.lower() == LABEL and name != label_column)
        or (units and name.lower() == UNIT)
    ]
    thousandths = test_fraction * BUCKETS
    if not 1 <= thousandths <= BUCKETS - 1 or abs(thousandths - round(thousandths)) > 1e-9:
        problems.append(
            f"test_fraction must be a multiple of 0.001 between 0.001 and 0.999, got {test_fraction}"
        )
    return problems


def extraction_statement(
    sql: str,
    *,
    columns: Sequence[str],
    label_column: str,
    split_column: str,
    test_fraction: float,
    unit_column: str = "",
    parameters: Collection[str] = (),
) -> str:
    """The statement, in BigQuery's dialect, whose result is all that leaves the warehouse.

    Its columns are `columns`, `label_column` and the boolean `is_test`:
    ABS(MOD(FARM_FINGERPRINT(CAST(split_column AS STRING)), 1000)) < 1000 · test_fraction. Rows with the same
    split value are therefore all training rows or all test rows, at every site. `is_test` is NULL where the
    split column is; `contract.check_records` refuses that, as it refuses a NULL label or text.

    Args:
        sql: The site's query; any SELECT that returns the columns named here.
        columns: Text columns, at least one; neither `label` nor `is_test`, which ingestion writes.
        label_column: Column that holds the class.
        split_column: Column whose values are never parted by the split.
        test_fraction: Share of the split values whose rows are test rows; a multiple of 0.001 in (0, 1).
        unit_column: Column whose text comes last as `privacy_unit`, NULL where it is; empty for none.
        parameters: Names of the parameters that `sql` may use; the statement uses them too.

    Raises:
        BadDataError: `sql` is not one SELECT statement; names position and rule.
        UsageError: `check_columns` finds fault with the other arguments.
    """
    query = _parsed(sql, parameters)
    problems = check_columns(
        columns=columns,
        label_column=label_column,
        split_column=split_column,
        test_fraction=test_fraction,
        unit_column=unit_column,
    )
    if problems:
        raise UsageError("; ".join(problems))
    selected = ", ".join(f"`{name}` AS `{name}`" for name in [*columns, label_column])
    bucket = f"ABS(MOD(FARM_FINGERPRINT(CAST(`{split_column}` AS STRING)), {BUCKETS}))"
    unit = f", CAST(`{unit_column}` AS STRING) AS {UNIT}" if unit_column else ""
    inner = query.sql(dialect="bigquery", comments=False)
    # The names are checked above and the query is written by sqlglot: nothing is pasted in unread.
    return (
        f"SELECT {selected}, {bucket} < {round(test_fraction * BUCKETS)} AS {IS_TEST}{unit} "  # noqa: S608
        f"FROM ({inner}) AS site_query"
    )


def to_duckdb(statement: str) -> str:
    """`statement`, one SELECT in BigQuery's dialect, in DuckDB's.

    Raises:
        BadDataError: It is not one SELECT statement, or uses what DuckDB has no words for.
    """
    from sqlglot.errors import ErrorLevel, UnsupportedError

    query = _parsed(statement)
    try:
        return query.sql(dialect="duckdb", comments=False, unsupported_level=ErrorLevel.RAISE)
    except UnsupportedError as error:
        raise BadDataError(
            f"the query cannot be translated to DuckDB: {_one_line(str(error))}",
            disclosed="the query cannot be translated to DuckDB",
        ) from None


def names_in(statement: str, parameters: Collection[str] = ()) -> frozenset[str]:
    """Lower-case names of the tables and columns that `statement` itself writes."""
    from sqlglot import exp

    return frozenset(name.name.lower() for name in _parsed(statement, parameters).find_all(exp.Identifier))


def _parsed(sql: str, parameters: Collection[str] = ()) -> exp.Expr:
    query, problems = _parse(sql, parameters)
    if query is None:
        # The query stands in the federation file, so what is wrong with its text may be disclosed.
        raise BadDataError(f"query refused: {'; '.join(problems)}", disclosed="the query is not one SELECT")
    return query


def _parse(sql: str, parameters: Collection[str] = ()) -> tuple[exp.Expr | None, list[str]]:
    """The query and no problem, or no query and at least one problem."""
    import sqlglot
    from sqlglot.errors import ParseError, TokenError

    try:
        problems = _check_statements(sql)
        if problems:
            return None, problems
        query = sqlglot.parse(sql, read="bigquery")[0]
    except TokenError as error:
        return None, [f"{_unreadable(error)}: {_RULE}"]
    except ParseError as error:
        return None, [_position_of(error)]
    except RecursionError:
        return None, ["the query is nested too deeply to be checked: write it flatter, with WITH"]
    if query is None:
        return None, [f"the query is empty: {_RULE}"]
    problems = _check_tree(query, parameters)
    return (None, problems) if problems else (query, [])


def _check_statements(sql: str) -> list[str]:
    """Looks at how statements begin before any is parsed: exactly one, and it selects."""
    import sqlglot
    from sqlglot import TokenType

    begins = {TokenType.SELECT, TokenType.WITH, TokenType.L_PAREN, TokenType.FROM}
    tokens = sqlglot.tokenize(sql, read="bigquery")
    if all(token.token_type == TokenType.SEMICOLON for token in tokens):
        return [f"the query is empty: {_RULE}"]
    if tokens[0].token_type not in begins:
        return [f"{_position(sql, tokens[0].start)}: {tokens[0].text[:40]!r} begins no SELECT: {_RULE}"]
    ended = False
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            ended = True
        elif ended:
            where = _position(sql, token.start)
            return [f"{where}: a second statement begins with {token.text[:40]!r}: {_RULE}"]
    return []


def _check_tree(query: exp.Expr, parameters: Collection[str] = ()) -> list[str]:
    from sqlglot import exp

    if not isinstance(query, exp.Select | exp.SetOperation | exp.Subquery):
        return [f"{type(query).__name__.upper()} is not a SELECT: {_RULE}"]
    writing = query.find(exp.DML, exp.DDL, exp.Command, exp.Into, exp.Drop)
    if writing is not None:
        return [f"{type(writing).__name__.upper()} is not allowed inside the query: {_RULE}"]
    declared = {name.lower() for name in parameters}
    for node in query.find_all(exp.Parameter, exp.Placeholder, exp.SessionParameter):
        # @@x parses as a Parameter in a Parameter.
        named = (
            isinstance(node, exp.Parameter)
            and isinstance(node.this, exp.Var)
            and not isinstance(node.parent, exp.Parameter)
        )
        if not named or node.name.lower() not in declared:
            return ["a query parameter (@name or ?) has no value here: write the value itself"]
    return []


def _position(sql: str, offset: int) -> str:
    line_start = sql.rfind("\n", 0, offset) + 1
    return f"line {sql.count(chr(10), 0, offset) + 1}, column {offset - line_start + 1}"


def _position_of(error: ParseError) -> str:
    """First fault that the parser found, in one line."""
    fault = error.errors[0] if error.errors else {}
    highlight = str(fault.get("highlight") or "")
    column = max(1, int(fault.get("col") or 1) - len(highlight) + 1)
    fallback = "something is missing"
    expected = _one_line(str(fault.get("description") or fallback)).split(" but got <Token")[0]
    if "<class" in expected:
        expected = fallback
    return f"line {fault.get('line') or 1}, column {column}: {expected} at {highlight[:40]!r}: {_RULE}"


def _unreadable(error: TokenError) -> str:
    opened = re.match(r"Missing (\S+) from (\d+):", str(error.__cause__ or ""))
    if opened:
        return f"line {opened[2]}: {opened[1]} is opened and not closed"
    return f"it cannot be read: {_one_line(str(error))}"


def _one_line(text: str) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())
