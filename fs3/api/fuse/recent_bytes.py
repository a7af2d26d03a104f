"""The bytes of small files that were open a while ago: an open that finds the file as it was needs not ask for them again."""

from __future__ import annotations

from typing import Final

from fs3.base.ids import InodeId
from fs3.base.units import MIB
from fs3.model.inode import Inode

recent_bytes_max: Final = 64 * MIB
"""Kept by one mount; those that were closed longest ago go first."""


class RecentBytes:
    """Of one mount."""

    def __init__(self, room: int = recent_bytes_max) -> None:
        self._room = room
        self._kept: dict[InodeId, tuple[int, bytes]] = {}
        """Inode -> the change that it was at, and its bytes."""

    def keep(self, inode: Inode, data: bytes) -> None:
        """A file is closed, which has these bytes."""
        self.forget(inode.id)
        self._kept[inode.id] = inode.change, data
        self._room -= len(data)
        while self._room < 0:
            self.forget(next(iter(self._kept)))

    def find(self, inode: Inode) -> bytes | None:
        """All bytes of a file as it is; None: they are not known."""
        change, data = self._kept.get(inode.id, (0, None))
        return data if change == inode.change else None

    def forget(self, inode: InodeId) -> None:
        """It is not opened again."""
        _, data = self._kept.pop(inode, (0, b""))
        self._room += len(data)
