"""The bytes of a small file, all of them, as they are changed before they are stored."""

from __future__ import annotations


class WholeFile:
    """Belongs to an open inode whose bytes are beside it in the metadata store."""

    def __init__(self, data: bytes) -> None:
        """`data`: what is stored."""
        self.data = bytearray(data)
        self.is_dirty = False
        self.cut: int | None = None
        """The shortest length that it was truncated to since it was stored; None: it was not."""
        self._written: list[tuple[int, int]] = []
        """Ranges [start, end) that were written since, none of which touch."""

    def write(self, data: memoryview, offset: int) -> None:
        """Take bytes; between the end and `offset` there are zeros then."""
        end = offset + len(data)
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset:end] = data
        self.is_dirty = True
        if data:
            self._add(offset, end)

    def truncate(self, length: int) -> None:
        """Shorter, or longer by zeros."""
        if length < len(self.data):
            self.cut = min(length, len(self.data) if self.cut is None else self.cut)
            del self.data[length:]
            self._written = [(start, min(end, length)) for start, end in self._written if start < length]
        self.data.extend(bytes(length - len(self.data)))
        self.is_dirty = True

    def on_stored(self) -> None:
        """All of it is."""
        self.is_dirty = False
        self.cut = None
        self._written = []

    def written(self) -> list[tuple[int, memoryview]]:
        """(offset, bytes) of what was written since it was stored."""
        view = memoryview(bytes(self.data))
        return [(start, view[start:end]) for start, end in self._written]

    def _add(self, start: int, end: int) -> None:
        apart = []
        for one in self._written:
            if one[1] < start or one[0] > end:
                apart.append(one)
            else:
                start, end = min(start, one[0]), max(end, one[1])
        self._written = sorted([*apart, (start, end)])
