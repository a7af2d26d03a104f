"""The bytes of a small file, all of them, as they are changed before they are stored."""

from __future__ import annotations

from fs3.api.fuse.kept_bytes import KeptWhole


class WholeFile:
    """Belongs to an open inode whose bytes are beside it in the metadata store."""

    def __init__(self, data: bytes, change: int = 0, kept: KeptWhole | None = None) -> None:
        """`data`: what is stored, as of this change of the inode. `kept`: where it outlives this process."""
        self.data = bytearray(data)
        self._change = change
        self._kept = kept
        self.is_dirty = False
        self.cut: int | None = None
        """The shortest length that it was truncated to since it was stored; None: it was not."""
        self._written: list[tuple[int, int]] = []
        """Ranges [start, end) that were written since, none of which touch."""

    def write(self, data: memoryview, offset: int) -> None:
        """Take bytes; between the end and `offset` there are zeros then."""
        end, before = offset + len(data), len(self.data)
        if offset > before:
            self.data.extend(bytes(offset - before))
        self.data[offset:end] = data
        self.is_dirty = True
        begin = min(offset, before)
        if data:
            self._add(offset, end)
        self._keep(begin, end)

    def truncate(self, length: int) -> None:
        """Shorter, or longer by zeros."""
        if length < len(self.data):
            self.cut = min(length, len(self.data) if self.cut is None else self.cut)
            del self.data[length:]
            self._written = [(start, min(end, length)) for start, end in self._written if start < length]
        before = len(self.data)
        self.data.extend(bytes(length - before))
        self.is_dirty = True
        self._keep(before, length)

    @classmethod
    def inherit(cls, left: KeptWhole, kept: KeptWhole | None) -> WholeFile:
        """As an earlier process left it."""
        whole = cls(left.data, left.change, kept)
        whole.cut, whole._written, whole.is_dirty = left.cut, left.written, True
        whole._keep(0, len(whole.data))
        return whole

    def on_stored(self, change: int) -> None:
        """All of it is, by this change of the inode."""
        self._change = change
        self.is_dirty = False
        self.cut = None
        self._written = []
        self.free()

    def free(self) -> None:
        """It need not outlive this process."""
        if self._kept is not None:
            self._kept.free()

    def _keep(self, start: int, end: int) -> None:
        if self._kept is not None:
            self._kept.write(self.data, start, end, self._written, self.cut, self._change)

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
