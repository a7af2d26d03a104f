"""A file that some clients put a new content into at once, while others append to it: what a fresh open may show, under any name.

A content is one *base*, which was published whole, and records that were appended to it. Every base and record is unlike all
others, and none is a part of another. A read is wrong when it shows

- bytes that are not one whole base and then whole records,
- a base or record of which it is certain that it never came to be, or that had not begun when the read was over,
- a base that had been replaced for certain when the read began, or that an earlier read has seen replaced,
- a record whose append was over before its base was begun: it belongs to an older content,
- records in an order that real time contradicts, or not all of those that were certainly appended to this base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fs3.sim.checkers.appends import NEVER, AppendedRecord, FileRead

Base = AppendedRecord
"""A content as it was published: when that began and, if that is known, ended."""


@dataclass(frozen=True)
class _Shown:
    read: FileRead
    base: Base
    records: Sequence[AppendedRecord]


def explain(bases: Sequence[Base], appends: Sequence[AppendedRecord], reads: Sequence[FileRead]) -> str:
    """What is wrong with the first read that is wrong; "" when all can be explained."""
    shown: list[_Shown] = []
    for read in sorted(reads, key=lambda read: read.begun):
        found, problem = _split(read, bases, appends)
        if found is not None:
            problem = _explain_base(found, bases, shown) or _explain_records(found, bases, appends)
            shown.append(found)
        if problem:
            return f"{len(read.content)} bytes read from {read.begun} to {read.ended}: {problem}"
    return ""


def _split(read: FileRead, bases: Sequence[Base], appends: Sequence[AppendedRecord]) -> tuple[_Shown | None, str]:
    content = read.content
    base = next((base for base in bases if content.startswith(base.data)), None)
    if base is None:
        return None, f"it does not begin with a whole base, but with {content[:20]!r}"
    records: list[AppendedRecord] = []
    at = len(base.data)
    while at < len(content):
        record = next((one for one in appends if content.startswith(one.data, at)), None)
        if record is None:
            return None, f"there is no record at {at}, but {content[at : at + 20]!r}"
        if record in records:
            return None, f"the record at {at} is there twice"
        records.append(record)
        at += len(record.data)
    return _Shown(read, base, records), ""


def _explain_base(found: _Shown, bases: Sequence[Base], earlier: Sequence[_Shown]) -> str:
    read, base = found.read, found.base
    if base.is_refused:
        return f"the base begun at {base.begun} was refused, and is there"
    if base.begun > read.ended:
        return f"the base had not begun, it did at {base.begun}"
    for other in bases:
        if base.ended < other.begun and other.ended < read.begun:
            return f"the base published at {base.ended} was replaced at {other.ended}"
    before = [one for one in earlier if one.read.ended < read.begun and one.base is not base]
    for one in before:
        if base.ended < one.base.begun:
            return f"a read before {read.begun} has seen what replaced the base"
        if any(first.base is base and first.read.ended < one.read.begun for first in earlier):
            return f"the base was seen, then another one at {one.read.begun}, and now again"
    return ""


def _explain_records(found: _Shown, bases: Sequence[Base], appends: Sequence[AppendedRecord]) -> str:
    read, base = found.read, found.base
    latest = NEVER
    for record in reversed(found.records):
        if record.is_refused:
            return f"the append begun at {record.begun} was refused, and its record is there"
        if record.begun > read.ended:
            return f"the append of a record had not begun, it did at {record.begun}"
        if record.ended < base.begun:
            return f"the record acknowledged at {record.ended} belongs to an older content, the base was begun at {base.begun}"
        if latest < record.begun:
            return f"the record begun at {record.begun} is before one that was acknowledged at {latest}"
        latest = min(latest, record.ended)
    is_newest = not any(other is not base and other.ended >= base.begun and other.begun <= read.ended for other in bases)
    for record in appends:
        if is_newest and base.ended < record.begun and record.ended < read.begun and record not in found.records:
            return f"a record of {len(record.data)} bytes was appended to the base at {record.ended}, and is not there"
    return ""
