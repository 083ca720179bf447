"""How numbers are written, the same in every table and sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.evaluation.comparison_report.bands import Band

NONE = "–"
_UNITS = ("B", "kB", "MB", "GB", "TB")


def in_band(value: Band, digits: int = 3, *, signed: bool = False) -> str:
    """A mean and half its band: 0.912 ± 0.004; of one seed the number alone."""
    mean = number(value.mean, digits, signed=signed)
    return mean if value.half_width is None else f"{mean} ± {value.half_width:.{digits}f}"


def number(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """A number with a true minus sign, and no minus before zero."""
    rounded = round(value, digits) + 0.0
    text = f"{rounded:+.{digits}f}" if signed else f"{rounded:.{digits}f}"
    return text.replace("-", "−")


def percent(share: float) -> str:
    """A share in per cent: 0.8513 is 85.1 %."""
    return f"{number(100 * share, 1)} %"


def amount(num_bytes: float) -> str:
    """Bytes in the largest decimal unit that leaves at least 1: 264000 is 264 kB."""
    size, unit = float(num_bytes), 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.{0 if unit == 0 or size >= 99.95 else 1}f} {_UNITS[unit]}"


def seconds(value: float) -> str:
    """A computation's seconds to three digits, small ones in milliseconds: 0.0123 is 12.3 ms."""
    if value < 0.9995:
        return f"{1000 * value:.3g} ms"
    return f"{value:.3g} s" if value < 999.5 else f"{value:.0f} s"


def duration(value: float) -> str:
    """A wait as people say it: 42 s, 12 min 05 s, 1 h 02 min."""
    total = round(value)
    if total < 100:
        return f"{total} s"
    minutes, rest = divmod(total, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def listed(values: Mapping[str, Any]) -> str:
    """Settings in a row, without the name that stands above them: train rows 8,000, sites 4."""
    return ", ".join(f"{_spaced(name)} {_plain(value)}" for name, value in values.items() if name != "name")


def _spaced(name: str) -> str:
    return name.replace("_", " ").replace("gib", "GiB")


def _plain(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)
