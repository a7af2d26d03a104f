"""A file that several clients append to at once, and do nothing else to: what a fresh open may show of it.

Every record is unlike all others, and none is a part of another. A read is wrong when it shows

- bytes that are not one whole record after the other,
- a record twice, or one whose append was refused, or had not begun when the read was over,
- two records in an order that real time contradicts: one append was over before the other began,
- not all records whose appends were over when it began,
- something else than a beginning of what later reads show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NEVER = 1 << 62
"""When an append ended whose client was not told."""


@dataclass
class AppendedRecord:
    """One append."""

    data: bytes
    begun: int
    ended: int = NEVER
    """It was acknowledged."""
    is_refused: bool = False
    """It failed for certain."""


@dataclass(frozen=True)
class FileRead:
    """What a fresh open showed."""

    content: bytes
    begun: int
    ended: int


def explain(appends: Sequence[AppendedRecord], reads: Sequence[FileRead]) -> str:
    """What is wrong with the first read that is wrong; "" when all can be explained."""
    by_data = {record.data: record for record in appends}
    for read in reads:
        shown, problem = _split(read.content, by_data)
        problem = problem or _misplaced(shown, read) or _missing(shown, appends, read)
        if problem:
            return f"{len(read.content)} bytes read from {read.begun} to {read.ended}: {problem}"
    longest = max((read.content for read in reads), key=len, default=b"")
    for read in reads:
        if not longest.startswith(read.content):
            return f"{len(read.content)} bytes read from {read.begun} to {read.ended} are no beginning of what another read shows"
        for earlier in reads:
            if earlier.ended < read.begun and len(earlier.content) > len(read.content):
                return f"{len(earlier.content)} bytes were read before {read.begun}, and {len(read.content)} then"
    return ""


def _split(content: bytes, by_data: dict[bytes, AppendedRecord]) -> tuple[list[AppendedRecord], str]:
    """The records that a file consists of; or what is wrong."""
    lengths = sorted({len(data) for data in by_data})
    shown: list[AppendedRecord] = []
    at = 0
    while at < len(content):
        found = next((record for length in lengths if (record := by_data.get(content[at : at + length])) is not None), None)
        if found is None:
            return shown, f"there is no record at {at}, but {content[at : at + 20]!r}"
        if found in shown:
            return shown, f"the record at {at} is there twice"
        shown.append(found)
        at += len(found.data)
    return shown, ""


def _misplaced(shown: Sequence[AppendedRecord], read: FileRead) -> str:
    latest = 0
    for record in reversed(shown):
        if record.is_refused:
            return f"the append begun at {record.begun} was refused, and its record is there"
        if record.begun > read.ended:
            return f"the append of a record had not begun, it did at {record.begun}"
        if latest and latest < record.begun:
            return f"the record begun at {record.begun} is before one that was acknowledged at {latest}"
        latest = min(latest or NEVER, record.ended)
    return ""


def _missing(shown: Sequence[AppendedRecord], appends: Sequence[AppendedRecord], read: FileRead) -> str:
    for record in appends:
        if record.ended < read.begun and record not in shown:
            return f"a record of {len(record.data)} bytes was acknowledged at {record.ended}, and is not there"
    return ""
