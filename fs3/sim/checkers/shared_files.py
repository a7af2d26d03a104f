"""Files that several clients write and truncate at once: what a fresh open may show of them.

Writers put tags of `TAG_BYTES` into slots; a truncation cuts at the beginning of a slot. A history has what each client asked and
was told, in real time; an operation whose client was not told ended NEVER. A read is wrong when a slot shows

- what no writer has put there,
- a tag whose write was over before a truncation began that took the slot away and was over before the read began,
- a tag that another write to the slot replaced in between likewise,
- nothing, though a write to it was acknowledged and published before the read began, and no truncation that takes it away could
  have come after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TAG_BYTES = 16


@dataclass(frozen=True)
class SlotWrite:
    """One tag."""

    slot: int
    tag: bytes
    begun: int
    stored: int
    """Storage has acknowledged the tag."""
    published: int
    """The close was answered."""


@dataclass(frozen=True)
class Cut:
    """A truncation: slots from this one on are gone."""

    slot: int
    begun: int
    ended: int


@dataclass(frozen=True)
class SlotRead:
    """What a fresh open showed: per slot its tag, b"" for zeros or what lies behind the end."""

    slots: tuple[bytes, ...]
    begun: int
    ended: int


def explain(writes: Sequence[SlotWrite], cuts: Sequence[Cut], reads: Sequence[SlotRead]) -> str:
    """What is wrong with the first read that is wrong; "" when all can be explained."""
    by_tag = {(write.slot, write.tag): write for write in writes}
    for read in reads:
        for slot, tag in enumerate(read.slots):
            problem = _missing(slot, read, writes, cuts) if not tag else _wrong(by_tag.get((slot, tag)), read, writes, cuts)
            if problem:
                return f"slot {slot} shows {tag!r} in a read from {read.begun} to {read.ended}: {problem}"
    return ""


def _wrong(shown: SlotWrite | None, read: SlotRead, writes: Sequence[SlotWrite], cuts: Sequence[Cut]) -> str:
    if shown is None or shown.begun > read.ended:
        return "no writer has put it there"
    for cut in cuts:
        if cut.slot <= shown.slot and shown.stored < cut.begun and cut.ended < read.begun:
            return f"it is from before the truncation at {cut.begun}"
    for other in writes:
        if other.slot == shown.slot and shown.stored < other.begun and other.stored < read.begun:
            return f"it was replaced at {other.begun}"
    return ""


def _missing(slot: int, read: SlotRead, writes: Sequence[SlotWrite], cuts: Sequence[Cut]) -> str:
    for write in writes:
        if write.slot != slot or write.published >= read.begun:
            continue
        if not any(cut.slot <= slot and cut.ended > write.begun and cut.begun < read.ended for cut in cuts):
            return f"{write.tag!r} was published at {write.published}, and nothing has taken it away"
    return ""
