"""What the kernel was told last of the bytes of each inode: which of them it may keep when a file is opened.

`Inode.change` rises by one with every change. The kernel's pages are as of the change that it was told; what this mount changes
itself goes through those pages, so it counts as told as long as no other client's change came in between.
"""

from __future__ import annotations

from fs3.base.ids import InodeId
from fs3.model.inode import Inode


class ToldChanges:
    """Of one mount: as many as the kernel remembers inodes, at most."""

    def __init__(self) -> None:
        self._changes: dict[InodeId, int] = {}

    def open(self, inode: Inode) -> bool:
        """A file is opened. True: the kernel has its bytes as they are, and may keep them."""
        is_same = self.is_as_told(inode)
        self._changes[inode.id] = inode.change
        return is_same

    def is_as_told(self, inode: Inode) -> bool:
        """The kernel has the bytes of a file as they are."""
        return self._changes.get(inode.id) == inode.change

    def change(self, after: Inode) -> None:
        """This mount made a change, and this was answered."""
        if self._changes.get(after.id) == after.change - 1:
            self._changes[after.id] = after.change

    def begin(self, inode: Inode) -> None:
        """The kernel knows all of it: the file is new, or the kernel has just forgotten what it knew."""
        self._changes[inode.id] = inode.change

    def forget(self, inode: InodeId) -> None:
        """The kernel has no bytes of it any more, or wrong ones."""
        self._changes.pop(inode, None)
