"""Searches for what must not be there, on the bytes that runs have left on the disk."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from tests.conftest import SITES

OWNERS = (*SITES, "coordinator", "key-holder")
Words = NDArray[np.uint64]


def files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def outside_the_sites(home: Path, *, keyed: bool = True) -> list[Path]:
    """All that is neither a site's own nor a private key: pipeline roots, logs, exchange, state, charters."""
    keys = home / "small/keys"
    private = (home / "small/sites", *(keys / owner for owner in OWNERS))
    found = [path for path in files(home) if not any(path.is_relative_to(folder) for folder in private)]
    assert {path.relative_to(home).parts[1] for path in found} == {
        "runs", "exchange", "state", "keys", "key-holder"
    }  # fmt: skip
    public = {path.relative_to(keys).parts[0] for path in found if path.is_relative_to(keys)}
    assert public == {"cards", "charters", *({"certificates", "contexts"} if keyed else ())}
    assert any(path.name == "log.txt" for path in found)
    return found


def own(home: Path, site: str, part: str = "") -> list[Path]:
    return files(home / "small/sites" / site / "store" / part)


def readable(path: Path) -> bytes:
    """The content, and what it says once it is unpacked if it is Parquet or a warehouse."""
    content = path.read_bytes()
    if content.startswith(b"PAR1"):
        address, query = ":memory:", f"SELECT * FROM read_parquet('{path}')"
    elif content[8:12] == b"DUCK":
        address, query = str(path), "SELECT * FROM visits"
    else:
        return content
    with duckdb.connect(address, read_only=address != ":memory:") as connection:
        return content + json.dumps(connection.execute(query).fetchall()).encode()


def texts_in(paths: Iterable[Path], texts: Iterable[str]) -> set[str]:
    """Those of the texts that some file holds."""
    contents = [readable(path) for path in paths]
    return {text for text in texts if any(text.encode() in content for content in contents)}


def in_eights(content: bytes, steps: int = 1) -> Words:
    """Every eight bytes in a row, wherever in such steps they begin: one float64, or two float32."""
    parts = [content[start : start + (len(content) - start) // 8 * 8] for start in range(0, 8, steps)]
    return np.unique(np.concatenate([np.frombuffer(part, "<u8") for part in parts]))


@functools.cache
def eights_of(path: Path) -> Words:
    """Of a file that no test changes; sorted.

    A lone array is read where its values may begin: across two of its integers, a small one of which ends in
    six zero bytes, the float of a small number stands now and then by chance.
    """
    steps = 4 if path.suffix == ".npy" else 1
    return in_eights(path.read_bytes(), steps)


def holding(paths: Iterable[Path], needles: Words) -> list[Path]:
    """The files that hold one of the needles or more."""
    return [path for path in paths if _holds(eights_of(path), needles)]


def _holds(words: Words, needles: Words) -> bool:
    """Whether one of the needles is among the words, which are sorted."""
    if not len(words):
        return False
    found = words[np.minimum(np.searchsorted(words, needles), len(words) - 1)]
    return bool((found == needles).any())


def seven_decimals(text: bytes) -> set[bytes]:
    return set(re.findall(rb"(?<![\d.])\d+\.\d{7}", text))


def written_out(values: NDArray[np.float32] | NDArray[np.float64]) -> set[bytes]:
    """Numbers as text, as float32 and float64 print them, to their seventh decimal."""
    magnitudes = np.abs(values).ravel()
    printed = [
        str(number) for kind in (np.float32, np.float64) for number in magnitudes.astype(kind).tolist()
    ]
    printed += [str(number) for number in magnitudes.astype(np.float32)]
    return seven_decimals(" ".join(printed).encode())


def pairs(values: NDArray[np.float32] | NDArray[np.int32]) -> Words:
    """Neighbours of four bytes as eight bytes, at both alignments, without those that hold a zero."""
    found = [values[start : start + (len(values) - start) // 2 * 2].reshape(-1, 2) for start in (0, 1)]
    kept = [np.ascontiguousarray(each[(each != 0).all(axis=1)]) for each in found]
    return np.concatenate([np.frombuffer(each.tobytes(), "<u8") for each in kept])


def json_of(path: Path) -> Any:
    """What a document says; None of a file that is none."""
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def numbers_in(value: Any) -> Iterator[float]:
    """All numbers in a document, evaluations aside: a site may publish how many rows it was tested on."""
    if isinstance(value, dict):
        yield from (n for key, each in value.items() if key != "evaluation" for n in numbers_in(each))
    elif isinstance(value, list):
        yield from (n for each in value for n in numbers_in(each))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
