"""Sizes in bytes and durations in integer nanoseconds, and how people write them."""

from __future__ import annotations

import re

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

NEVER = 1 << 62
"""Nanoseconds later than every time of any clock: a deadline that does not come."""

_SIZES = {"": 1, "b": 1, "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": GIB, "gib": GIB, "t": TIB, "tib": TIB,
          "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4}  # fmt: skip
_DURATIONS = {"ns": 1, "us": MICROSECOND, "ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def parse_size(text: str) -> int:
    """Bytes from "64KiB", "4 MiB", "1.5G" or "4096". Raises ValueError naming the text."""
    return _parse(text, _SIZES, "a size such as 64KiB or 4MiB")


def parse_duration(text: str) -> int:
    """Nanoseconds from "500ms", "3s", "10m" or "7d". Raises ValueError naming the text."""
    return _parse(text, _DURATIONS, "a duration such as 500ms or 3s")


def _parse(text: str, units: dict[str, int], wanted: str) -> int:
    found = _QUANTITY.fullmatch(text)
    unit = units.get(found[2].lower()) if found else None
    if not found or unit is None:
        raise ValueError(f"{text!r} is not {wanted}")
    return round(float(found[1]) * unit)


def format_size(count: int) -> str:
    """ "4.3 MiB", for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def format_duration(nanoseconds: int) -> str:
    """ "90s", "1.5h", "7d", for people; `parse_duration` reads it."""
    unit, size = next(
        (each for each in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", MILLISECOND)) if nanoseconds >= each[1]),
        ("ns", 1),
    )
    value = nanoseconds / size
    return f"{value:.0f}{unit}" if value == round(value) else f"{value:.1f}{unit}"


def format_seconds(seconds: float) -> str:
    """ "40 s", "3 min", "2.5 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
