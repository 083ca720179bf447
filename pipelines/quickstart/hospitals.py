"""The quick start's warehouses: one DuckDB file a hospital, with a table of coded encounters.

The diagnoses are real texts of ICD-10-CM (see `corpus`). Everything about patients is synthetic: names come
from faker, birth dates, insurance numbers and circumstances are drawn at random, and none of it depends on
the diagnosis. It is there so that ingestion has something that it must not let through.

Labels are skewed: each class is dealt to the hospitals in proportions drawn from a Dirichlet distribution,
the usual model of federated learning's unequal clients (Hsu, Qi and Brown, 2019), so that one hospital sees
many births and another hardly any.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.errors import UsageError
from pipelines.quickstart.corpus import CLASSES, Diagnosis, diagnoses

if TYPE_CHECKING:
    import pyarrow as pa

HOSPITALS = ("gcp", "aws", "azure", "onprem")
TABLE = "encounters"
SYNTHETIC = "synthetic, made by faker and a random generator: no such person exists"
RECORDS_PER_PATIENT = 1.6

_COLUMNS = {
    "record_id": "VARCHAR",
    "patient_id": "VARCHAR",
    "patient_name": "VARCHAR",
    "date_of_birth": "DATE",
    "insurance_number": "VARCHAR",
    "facility": "VARCHAR",
    "admission_date": "DATE",
    "icd_code": "VARCHAR",
    "icd_category": "VARCHAR",
    "diagnosis_text": "VARCHAR",
    "chapter": "VARCHAR",
    "context": "JSON",
}
_PERSONAL = ("patient_name", "date_of_birth", "insurance_number")
_FACILITIES = ("main building", "north campus", "day clinic")
_NAMES = 2000
_FIRST_BIRTH, _LAST_BIRTH = datetime.date(1930, 1, 1), datetime.date(2022, 12, 31)
_FIRST_ADMISSION, _LAST_ADMISSION = datetime.date(2023, 1, 1), datetime.date(2025, 12, 31)


def build(
    warehouses: Mapping[str, Path], *, seed: int = 7, alpha: float = 0.3, rows_per_class: int = 600
) -> Mapping[str, int]:
    """Writes every hospital's warehouse, all or none, replacing what is there.

    The same arguments give the same records on every machine and in every run, up to the names, which
    depend on faker's version too.

    Args:
        warehouses: DuckDB file of each hospital by its name.
        seed: Of everything that is drawn.
        alpha: Concentration of the Dirichlet distribution, > 0; the smaller, the more unequal.
        rows_per_class: Records of each class over all hospitals.

    Returns:
        Number of records by hospital.

    Raises:
        UsageError: No hospital is named, `alpha` is not positive, a class has too few texts, or a package
            of the `quickstart` extra is not installed.
    """
    if not warehouses:
        raise UsageError("no hospital is named: give at least one name and path")
    if not alpha > 0:
        raise UsageError(f"alpha must be positive, got {alpha}")
    # RandomState, because NumPy promises that its streams never change (NEP 19).
    generator = np.random.RandomState(seed)
    names = sorted(warehouses)
    drawn = diagnoses(rows_per_class=rows_per_class, seed=seed)
    dealt = dict(zip(names, _deal(drawn, len(names), alpha, generator), strict=True))
    people = _names(seed)
    tables = {name: _encounters(name, dealt[name], people, generator) for name in names}
    _write({warehouses[name]: table for name, table in tables.items()})
    return {name: len(dealt[name]) for name in warehouses}


def _deal(
    drawn: Sequence[Diagnosis], hospitals: int, alpha: float, generator: np.random.RandomState
) -> list[list[Diagnosis]]:
    """Each class by its own proportions; within a hospital, in random order."""
    hands: list[list[Diagnosis]] = [[] for _ in range(hospitals)]
    for chapter in CLASSES:
        pile = [diagnosis for diagnosis in drawn if diagnosis.chapter == chapter]
        shares = generator.dirichlet([alpha] * hospitals)
        # Rounded first: the last bits of a sum of floats differ between processors.
        cuts = np.rint(np.round(np.cumsum(shares), 9) * len(pile)).astype(int)[:-1]
        order = generator.permutation(len(pile))
        for hand, part in zip(hands, np.split(order, cuts), strict=True):
            hand.extend(pile[index] for index in part)
    return [[hand[index] for index in generator.permutation(len(hand))] for hand in hands]


def _names(seed: int) -> list[str]:
    try:
        from faker import Faker
    except ModuleNotFoundError:
        raise UsageError(
            "faker is not installed: the quick start needs pip install 'crosscloud[quickstart]'"
        ) from None
    faker = Faker("en_US")
    faker.seed_instance(seed)
    return [faker.name() for _ in range(_NAMES)]


def _encounters(
    hospital: str, hand: Sequence[Diagnosis], people: Sequence[str], generator: np.random.RandomState
) -> pa.Table:
    """The hospital's table; only the four columns of `hand` say anything about a diagnosis."""
    import pyarrow as pa

    rows = len(hand)
    patients = max(1, round(rows / RECORDS_PER_PATIENT))
    patient = _draw(generator, patients, rows)
    name = [people[index] for index in _draw(generator, len(people), patients)]
    born = _dates(generator, _FIRST_BIRTH, _LAST_BIRTH, patients)
    insurance = [f"SYN-{number:08d}" for number in _draw(generator, 10**8, patients)]
    facility = _draw(generator, len(_FACILITIES), rows)
    columns: dict[str, Any] = {
        "record_id": [f"{hospital}-{row:06d}" for row in range(rows)],
        "patient_id": [f"{hospital}-patient-{index:06d}" for index in patient],
        "patient_name": [name[index] for index in patient],
        "date_of_birth": [born[index] for index in patient],
        "insurance_number": [insurance[index] for index in patient],
        "facility": [_FACILITIES[index] for index in facility],
        "admission_date": _dates(generator, _FIRST_ADMISSION, _LAST_ADMISSION, rows),
        **{field: [getattr(diagnosis, field) for diagnosis in hand] for field in Diagnosis._fields},
        "context": _contexts(generator, rows),
    }
    types = {"DATE": pa.date32(), "VARCHAR": pa.string(), "JSON": pa.string()}
    return pa.table({key: pa.array(columns[key], types[kind]) for key, kind in _COLUMNS.items()})


def _contexts(generator: np.random.RandomState, rows: int) -> list[str]:
    """Semi-structured circumstances of an admission, as systems export them: keys come and go."""
    ward, kind, stay = (_draw(generator, count, rows) for count in (24, 3, 15))
    system, referred, alerts = (_draw(generator, count, rows) for count in (3, 2, 4))
    contexts = []
    for row in range(rows):
        context: dict[str, Any] = {
            "admission": {
                "type": ("elective", "emergency", "transfer")[kind[row]],
                "ward": f"W{ward[row]:02d}",
            },
            "length_of_stay_days": stay[row],
            "source_system": ("hl7v2", "fhir", "export")[system[row]],
        }
        if referred[row]:
            context["referral"] = {"by": "general practice", "urgent": bool(alerts[row] == 3)}
        if alerts[row]:
            context["alerts"] = ["fall risk", "isolation", "interpreter"][: alerts[row]]
        contexts.append(json.dumps(context))
    return contexts


def _draw(generator: np.random.RandomState, below: int, count: int) -> list[int]:
    # The type is named because the default one is another on other platforms, and draws other numbers.
    drawn: list[int] = generator.randint(0, below, size=count, dtype=np.int64).tolist()
    return drawn


def _dates(
    generator: np.random.RandomState, first: datetime.date, last: datetime.date, count: int
) -> list[datetime.date]:
    days = _draw(generator, (last - first).days + 1, count)
    return [first + datetime.timedelta(days=day) for day in days]


def _write(tables: Mapping[Path, pa.Table]) -> None:
    """Writes all files beside their places, then moves them there."""
    written: list[tuple[Path, Path]] = []
    try:
        for path, table in tables.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
            written.append((partial, path))
            _write_warehouse(partial, table)
        for partial, path in written:
            partial.replace(path)
    finally:
        for partial, _ in written:
            partial.unlink(missing_ok=True)


def _write_warehouse(path: Path, table: pa.Table) -> None:
    import duckdb

    columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in _COLUMNS.items())
    with duckdb.connect(path, config={"threads": 1}) as connection:
        connection.register("incoming", table)
        connection.execute(f"CREATE TABLE {TABLE} ({columns})")
        connection.execute(f"INSERT INTO {TABLE} SELECT * FROM incoming")  # noqa: S608
        connection.execute(
            f"COMMENT ON TABLE {TABLE} IS 'Diagnosis texts of ICD-10-CM. Patients: {SYNTHETIC}.'"
        )
        for column in _PERSONAL:
            connection.execute(f"COMMENT ON COLUMN {TABLE}.{column} IS '{SYNTHETIC}'")
