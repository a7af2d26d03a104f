"""What the log has and the index has not, taken over when a target is opened.

The rows lie over the index from then on, as they did before. Data go to their blocks once more: blocks are not synced for what
the log has. Only the bytes that a row still refers to are written; they are the same whether the disk has them or not, so a
replay that is interrupted is simply begun again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fs3.base.errors import error
from fs3.base.ids import ChunkId
from fs3.base.status import Code
from fs3.drivers.chunks.files import BlockFiles, write_all
from fs3.drivers.chunks.log_records import LogRecord, PackedRows
from fs3.drivers.chunks.rows import RowDamaged, parse_places
from fs3.drivers.chunks.sizes import split_place
from fs3.ports.chunk_store import StoreDamaged
from fs3.runtime.durable_files import NO_ROOM


@dataclass(slots=True)
class Replayed:
    """What was taken over."""

    rows: PackedRows = field(default_factory=PackedRows)
    """That the index lacks."""
    classes: set[int] = field(default_factory=set)
    """Whose block files have bytes that only the log has durably."""


def replay(records: Sequence[LogRecord], files: BlockFiles) -> Replayed:
    """Write the data of records, oldest first, to their blocks. Raises StoreDamaged; FS3Error NO_SPACE or DISK."""
    replayed = Replayed()
    written: dict[int, list[tuple[int, memoryview]]] = {}
    """Place -> what the log has for that block: (from where on, bytes)."""
    for record in records:
        replayed.rows.add(record.rows)
        for write in record.writes:
            # A block may have had another version before. Of that nothing counts that is not below the new bytes.
            parts = [(at, data[: write.start - at]) for at, data in written.get(write.place, ()) if at < write.start]
            if write.data is not None:
                parts.append((write.start, write.data))
            written[write.place] = parts
    try:
        for place in sorted(_referred_to(replayed.rows, files) & written.keys()):
            fd, base = files.locate(place)
            for at, data in written[place]:
                write_all(fd, data, base + at)
                replayed.classes.add(split_place(place)[0])
        files.sync_names()
    except OSError as why:
        if isinstance(why, StoreDamaged):
            raise
        code = Code.NO_SPACE if why.errno in NO_ROOM else Code.DISK
        raise error(code, f"cannot take over what the log has: {why.strerror}", str(files.directory)) from why
    return replayed


def _referred_to(rows: PackedRows, files: BlockFiles) -> set[int]:
    places: set[int] = set()
    for chunk, packed in rows.chunks.items():
        if packed is not None:
            try:
                places.update(parse_places(ChunkId(chunk), packed, {})[:2])
            except RowDamaged as why:
                raise StoreDamaged(str(why), str(files.directory)) from why
    return places
