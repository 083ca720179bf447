"""Erases objects of a store that are not needed any more, by kind, so that what goes can be told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from components.artifacts.stores import Store
from components.errors import ObjectMissingError, StoreError


@dataclass(frozen=True, kw_only=True)
class Erasable:
    """An object that may go, and the kind that people know it by."""

    kind: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Erased:
    """Objects of one kind that are erased, or would be, and their bytes together."""

    kind: str
    objects: int
    size: int


def measured(store: Store, erasables: Iterable[Erasable]) -> list[tuple[Erasable, int]]:
    """Those that are there, with their bytes: another process may have erased some since they were listed."""
    found = []
    for each in erasables:
        try:
            found.append((each, store.size(each.key)))
        except ObjectMissingError:
            continue
    return found


def erase(store: Store, objects: Sequence[tuple[Erasable, int]]) -> None:
    """Removes objects in their order, which is that in which they may be missed.

    Raises:
        StoreError: one could not be removed; those before it are, and the rest are as they were.
    """
    for done, (each, _) in enumerate(objects):
        try:
            store.remove(each.key)
        except StoreError as error:
            raise StoreError(
                f"{done} of {len(objects)} objects were erased, the others are as they were: {error}; then "
                "prune again"
            ) from error


def by_kind(objects: Iterable[tuple[Erasable, int]]) -> list[Erased]:
    """Numbers and bytes by kind, in the order in which kinds come first."""
    sizes: dict[str, list[int]] = {}
    for each, size in objects:
        sizes.setdefault(each.kind, []).append(size)
    return [Erased(kind=kind, objects=len(found), size=sum(found)) for kind, found in sizes.items()]
