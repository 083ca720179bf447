"""Whether a document has the form that its class says: who signed it need not be trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _is_listing(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(each, str) for each in value)


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "str": _is_text,
    "int": lambda value: type(value) is int,
    "tuple[str, ...]": _is_listing,
    "Mapping[str, str]": _is_mapping,
    "Mapping[str, Any] | None": lambda value: value is None or isinstance(value, dict),
}


def well_formed(document: T) -> T:
    """A document all of whose fields have the types that its class annotates.

    Raises:
        TypeError: one has not, as for a field that is missing or unknown.
    """
    for field in fields(document):
        if not _KINDS[str(field.type)](getattr(document, field.name)):
            raise TypeError(f"{field.name} is of another type than {field.type}")
    return document
