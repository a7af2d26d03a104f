"""What the kernel was told last of the bytes of each inode: which of them it may keep when a file is opened.

`Inode.change` rises by one with every change. The kernel's pages are as of the change that it was told; what this mount changes
itself goes through those pages, so it counts as told as long as no other client's change came in between.

A kernel that is to drop its pages does so after it has got the answer to the open. Until a request on that handle says that it
has, others who open the file must not rely on it, and drop them as well.
"""

from __future__ import annotations

from fs3.base.ids import InodeId
from fs3.model.inode import Inode


class ToldChanges:
    """Of one mount: as many as the kernel remembers inodes, at most."""

    def __init__(self) -> None:
        self._changes: dict[InodeId, int] = {}
        self._dropping: dict[InodeId, set[int]] = {}
        """Handles whose opens were answered so that the pages go, and of which it is not known that these have gone."""

    def open(self, inode: Inode, handle: int) -> bool:
        """A file is opened. True: the kernel has its bytes as they are, and may keep them. False: they go; `drop` says when."""
        is_same = self.is_as_told(inode)
        self._changes[inode.id] = inode.change
        if not is_same:
            self._dropping.setdefault(inode.id, set()).add(handle)
        return is_same

    def drop(self, inode: InodeId, handle: int) -> None:
        """The pages that were to go with an open have gone."""
        left = self._dropping.get(inode, set())
        left.discard(handle)
        if not left:
            self._dropping.pop(inode, None)

    def is_as_told(self, inode: Inode) -> bool:
        """The kernel has the bytes of a file as they are."""
        return self._changes.get(inode.id) == inode.change and inode.id not in self._dropping

    def is_older(self, inode: Inode) -> bool:
        """What the kernel may have of a file is as of a change before this one, or wrong."""
        return self._changes.get(inode.id, -1) < inode.change or inode.id in self._dropping

    def knows(self, inode: InodeId) -> bool:
        """The kernel may have bytes of it, and they may be right."""
        return inode in self._changes

    def change(self, after: Inode) -> None:
        """This mount made a change, and this was answered."""
        if self._changes.get(after.id) == after.change - 1:
            self._changes[after.id] = after.change

    def begin(self, inode: Inode) -> None:
        """The kernel knows all of it: the file is new, or the kernel has just forgotten what it knew."""
        self._changes[inode.id] = inode.change
        self._dropping.pop(inode.id, None)

    def forget(self, inode: InodeId) -> None:
        """The kernel has no bytes of it any more, or wrong ones."""
        self._changes.pop(inode, None)
