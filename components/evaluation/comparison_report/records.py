"""Reading `results.json`: what was measured on each data set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from components.errors import IntegrityError

FORMAT: Final = 1
METHODS: Final = ("fedavg", "smc-fl", "he-fl", "dp-fl", "ours")
NAMES: Final = {"fedavg": "FedAvg", "smc-fl": "SMC-FL", "he-fl": "HE-FL", "dp-fl": "DP-FL", "ours": "ours"}
_MARKUP: Final = frozenset("<>|`\\")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished configuration; `configuration` and `outcome` are as `method_measurement` made them."""

    configuration: Mapping[str, Any]
    outcome: Mapping[str, Any]
    seconds: float

    @property
    def method(self) -> str:
        """Its method; empty for centralised training."""
        return str(self.configuration.get("method", ""))

    @property
    def epsilon(self) -> float | None:
        """Its ε; None for a method without."""
        value = self.configuration.get("epsilon")
        return None if value is None else float(value)

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.configuration["seed"])


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Everything measured on one data set.

    Attributes:
        name: of the data set.
        about: sizes and settings by name.
        machine: what it was measured on.
        versions: of the software, by package.
        command: that measured it.
        quick: the reduced run, which shows that everything works and no more.
        seeds: that were measured, as far as time allowed.
        seconds: wall time over all starts.
        figure_seconds: processor seconds by figure.
        measured_at: ISO 8601 time of the last start.
        records: finished configurations.
    """

    name: str
    about: Mapping[str, Any]
    machine: Mapping[str, Any]
    versions: Mapping[str, Any]
    command: str
    quick: bool
    seeds: tuple[int, ...]
    seconds: float
    figure_seconds: Mapping[str, float]
    measured_at: str
    records: tuple[Record, ...]

    def of_kind(self, kind: str, **wanted: Any) -> Iterator[Record]:
        """Records of a kind whose configuration has every `wanted` value."""
        for record in self.records:
            found = record.configuration
            if found["kind"] == kind and all(found.get(key) == value for key, value in wanted.items()):
                yield record

    def has(self, *kinds: str) -> bool:
        """Whether there is any record of one of the kinds."""
        return any(record.configuration["kind"] in kinds for record in self.records)


def read_results(path: Path) -> tuple[DataSet, ...]:
    """Reads all data sets, in the order of their names.

    Raises:
        IntegrityError: the file is not a comparison's results, or of another format.
    """
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise IntegrityError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else None
        raise IntegrityError(f"{path.name} has format {found!r}: only {FORMAT} is known")
    sets = _field(document, "datasets", dict)
    return tuple(_data_set(name, sets[name]) for name in sorted(sets))


def method_order(method: str) -> tuple[int, str]:
    """Sorts methods from the least protected on; unknown ones come last."""
    return (METHODS.index(method) if method in METHODS else len(METHODS), method)


def label(method: str, epsilon: float | None = None) -> str:
    """What a method is called: DP-FL, or with its ε DP-FL, ε = 4."""
    name = NAMES.get(method, method)
    return name if epsilon is None else f"{name}, ε = {epsilon:g}"


def _data_set(name: str, document: Any) -> DataSet:
    if not isinstance(document, dict):
        raise IntegrityError(f"results of {name!r:.60} must be an object, got {document!r:.60}")
    if not name.isprintable() or not name.strip() or _MARKUP & set(name):
        # The name stands in pages and marks a data set's part of RESULTS.md.
        raise IntegrityError(f"a data set's name must be one printable line without markup, got {name!r:.60}")
    return DataSet(
        name=name,
        about=_field(document, "about", dict),
        machine=_field(document, "machine", dict),
        versions=_field(document, "versions", dict),
        command=_field(document, "command", str),
        quick=_field(document, "quick", bool),
        seeds=tuple(int(seed) for seed in _field(document, "seeds", list)),
        seconds=float(_field(document, "seconds", (int, float))),
        figure_seconds=_field(document, "figure_seconds", dict),
        measured_at=_field(document, "measured_at", str),
        records=tuple(_record(each) for each in _field(document, "records", list)),
    )


def _record(document: Any) -> Record:
    if not isinstance(document, dict):
        raise IntegrityError(f"a record must be an object, got {document!r:.60}")
    configuration = _field(document, "configuration", dict)
    _field(configuration, "kind", str)
    return Record(
        configuration=configuration,
        outcome=_field(document, "outcome", dict),
        seconds=float(_field(document, "seconds", (int, float))),
    )


def _field(document: Mapping[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    """The value of `key`, which must be of `kind`; a bool is no number."""
    value = document.get(key)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        names = kind.__name__ if isinstance(kind, type) else " or ".join(member.__name__ for member in kind)
        raise IntegrityError(f"results: {key} must be of type {names}, got {value!r:.60}")
    return value
