"""What an adversary can compute from linear equations in sites' vectors and unknown streams."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

PRIME = 70368743669761
Row = dict[str | bytes, int]
"""A linear form: coefficients of vectors, by the site's name, and of streams, by their key."""


def echelon(rows: Iterable[Row], columns: Iterable[str | bytes]) -> list[Row]:
    """Reduced row echelon form modulo the prime; a row without streams follows from the rows given."""
    left = [row for row in rows if row]
    done: list[Row] = []
    for column in columns:
        pivot = next((row for row in left if column in row), None)
        if pivot is None:
            continue
        inverse = pow(pivot[column], -1, PRIME)
        pivot_row = {name: value * inverse % PRIME for name, value in pivot.items()}
        left = [less(row, pivot_row, column) for row in left if row is not pivot]
        done = [*(less(row, pivot_row, column) for row in done), pivot_row]
    return done


def less(row: Row, pivot: Row, column: str | bytes) -> Row:
    """`row` less the multiple of `pivot`, whose `column` is 1, that clears `column`."""
    factor = row.get(column, 0)
    if factor == 0:
        return row
    difference = {name: (row.get(name, 0) - factor * pivot.get(name, 0)) % PRIME for name in {**row, **pivot}}
    return {name: value for name, value in difference.items() if value}


def subsets(sites: str, smallest: int) -> list[str]:
    sizes = range(smallest, len(sites) + 1)
    return ["".join(chosen) for size in sizes for chosen in itertools.combinations(sites, size)]


def quorum(sites: int, colluding: int) -> int:
    """The smallest u_min that a charter may have."""
    return max(colluding + 2, (sites + colluding) // 2 + 1)
