"""Bytes that were accepted and are not stored, where the next process of the mount finds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from fs3.base.ids import InodeId
from fs3.base.limits import inline_bytes_max
from fs3.drivers.fuse.lasting_memory import LastingMemory, cell_bytes

_WHOLE: Final = 1 << 63
"""As the offset of a cell: it has all bytes of a small file."""
_ABOUT: Final = Struct("=qQI")  # cut change ranges
_RANGE: Final = Struct("=II")
_ABOUT_AT: Final = inline_bytes_max
_RANGES_AT: Final = _ABOUT_AT + _ABOUT.size
_RANGES_MAX: Final = (cell_bytes - _RANGES_AT) // _RANGE.size

OnNotKept = Callable[[int], None]
"""There was no room for bytes of this inode."""

assert _RANGES_MAX > 256


class KeptBlock:
    """Bytes of a file from an offset on, without a gap."""

    __slots__ = ("_cells", "_memory", "_node", "_offset", "_on_not_kept", "_order")

    def __init__(self, memory: LastingMemory, node: int, offset: int, order: int, on_not_kept: OnNotKept) -> None:
        """`order`: blocks with greater ones were written later."""
        self._memory = memory
        self._node = node
        self._offset = offset
        self._order = order
        self._on_not_kept = on_not_kept
        self._cells: list[tuple[int, int]] = []
        """(cell, bytes in it)."""

    def write(self, at: int, data: memoryview) -> None:
        """Bytes at a place of the block, at its end at most."""
        memory, done = self._memory, 0
        while done < len(data):
            index, within = divmod(at + done, cell_bytes)
            part = data[done : done + cell_bytes - within]
            done += len(part)
            if index == len(self._cells):
                self._cells.append((memory.take_cell(), 0))
            cell, count = self._cells[index]
            if cell < 0:
                self._on_not_kept(self._node)
                continue
            memory.write_cell(cell, within, part)
            if within + len(part) > count:
                count = within + len(part)
                self._cells[index] = cell, count
                memory.set_head(cell, self._node, self._offset + index * cell_bytes, self._order, count)

    def free(self) -> None:
        """They are stored, or given up."""
        for cell, _ in self._cells:
            if cell >= 0:
                self._memory.give_cell(cell)
        self._cells = []


class KeptWhole:
    """All bytes of a small file, and which of them were written."""

    __slots__ = ("_cell", "_memory", "_node", "_on_not_kept", "change", "cut", "data", "written")

    def __init__(self, memory: LastingMemory, node: int, on_not_kept: OnNotKept) -> None:
        self._memory = memory
        self._node = node
        self._on_not_kept = on_not_kept
        self._cell = -1
        self.data = b""
        """As an earlier process left them, here and below."""
        self.cut: int | None = None
        self.change = 0
        """Of the inode that they are changes to."""
        self.written: list[tuple[int, int]] = []

    def write(self, data: bytearray, start: int, end: int, written: list[tuple[int, int]], cut: int | None, change: int) -> None:
        """The file has these bytes now, of which those of a range are other ones than before."""
        memory = self._memory
        if self._cell < 0:
            self._cell = memory.take_cell()
            if self._cell < 0:
                self._on_not_kept(self._node)
                return
            start, end = 0, len(data)
        if len(written) > _RANGES_MAX:
            written = [(written[0][0], written[-1][1])]
        memory.write_cell(self._cell, start, memoryview(data)[start:end])
        about = [_ABOUT.pack(-1 if cut is None else cut, change, len(written)), *(_RANGE.pack(*one) for one in written)]
        memory.write_cell(self._cell, _ABOUT_AT, b"".join(about))
        memory.set_head(self._cell, self._node, _WHOLE, 0, len(data))

    def free(self) -> None:
        """They are stored, or given up."""
        if self._cell >= 0:
            self._memory.give_cell(self._cell)
            self._cell = -1


@dataclass(slots=True)
class KeptBytes:
    """All that an earlier process has left."""

    blocks: dict[InodeId, list[tuple[int, bytes]]] = field(default_factory=dict)
    wholes: dict[InodeId, KeptWhole] = field(default_factory=dict)
    cells: list[int] = field(default_factory=list)
    """Those that hold it."""
    order: int = 0
    """The greatest of a block."""


def read_kept(memory: LastingMemory) -> KeptBytes:
    """What is there, in the order it was written. `memory` is one that was just mapped."""
    found = KeptBytes()
    pieces: dict[InodeId, list[tuple[int, int, int, int]]] = {}
    for cell, owner, offset, order, count in memory.cells():
        node = InodeId(owner)
        found.cells.append(cell)
        found.order = max(found.order, order)
        if offset == _WHOLE:
            found.wholes[node] = _read_whole(memory, node, cell, count)
        else:
            pieces.setdefault(node, []).append((order, offset, cell, count))
    for node, several in pieces.items():
        found.blocks[node] = [(offset, memory.read_cell(cell, 0, count)) for _, offset, cell, count in sorted(several)]
    return found


def _read_whole(memory: LastingMemory, node: InodeId, cell: int, count: int) -> KeptWhole:
    whole = KeptWhole(memory, node, lambda _: None)
    whole.data = memory.read_cell(cell, 0, count)
    cut, whole.change, ranges = _ABOUT.unpack(memory.read_cell(cell, _ABOUT_AT, _ABOUT.size))
    whole.cut = None if cut < 0 else cut
    packed = memory.read_cell(cell, _RANGES_AT, min(ranges, _RANGES_MAX) * _RANGE.size)
    whole.written = [(start, end) for start, end in _RANGE.iter_unpack(packed)]
    return whole
