"""Listing directories, page by page, from any place of the listing on."""

from __future__ import annotations

import errno

from fs3.api.client import Client
from fs3.api.fuse.attributes_of import TYPE_BITS
from fs3.api.fuse.base import FuseBase
from fs3.api.fuse.ledger import MountLedger
from fs3.api.fuse.options import FuseOptions
from fs3.base.ids import InodeId
from fs3.base.limits import list_entries_max
from fs3.base.names import to_bytes
from fs3.client.meta.client import MetaClient
from fs3.drivers.fuse.records import DirectoryEntry, KernelRequest, Opened
from fs3.model.inode import InodeType
from fs3.model.namespace import Entry, PathRef
from fs3.model.requests import List, Stat

_DOTS = 2
"""Offsets 0 and 1 are "." and ".."; what is listed begins at 2."""


class DirectoryHandle:
    """An open directory: one page of it, and where the pages before that one began."""

    def __init__(self, meta: MetaClient) -> None:
        self.meta = meta
        self.starts: list[tuple[int, str]] = [(_DOTS, "")]
        """(offset of its first entry, the name it comes after) of each page up to the one that is there."""
        self.page: list[Entry] = []
        self.number = -1
        """Of the page that is there."""
        self.has_inodes = False

    def rewind(self) -> None:
        """From the beginning: names that were made since are listed."""
        self.starts = [(_DOTS, "")]
        self.page, self.number = [], -1

    def page_of(self, offset: int) -> int:
        """The page that has an offset; the last one that is known for those behind it."""
        found = len(self.starts) - 1
        while found and self.starts[found][0] > offset:
            found -= 1
        return found


class DirectoryOperations(FuseBase):
    """See `Operations`."""

    def __init__(self, client: Client, options: FuseOptions, ledger: MountLedger | None = None) -> None:
        super().__init__(client, options, ledger)
        self._directories: dict[int, DirectoryHandle] = {}

    def opendir(self, request: KernelRequest, flags: int, drops_set_ids: bool) -> Opened:
        number = self.next_handle()
        self._directories[number] = DirectoryHandle(self.identities.meta_for(request))
        return Opened(number)

    def releasedir(self, request: KernelRequest, handle: int, owner: int | None) -> None:
        self._directories.pop(handle, None)

    def fsyncdir(self, request: KernelRequest, handle: int, data_only: bool) -> None:
        """Every change of a name is durable when it is answered."""

    async def readdir(self, request: KernelRequest, handle: int, offset: int, plus: bool) -> list[DirectoryEntry]:
        directory = self._directories.get(handle)
        if directory is None and handle <= self.ledger.handles_begin:
            # Of an earlier process: what was listed is counted off, as the offsets say.
            directory = self._directories[handle] = DirectoryHandle(self.identities.meta_for(request))
        if directory is None:
            raise OSError(errno.EBADF, f"directory handle {handle} is not open")
        listed: list[DirectoryEntry] = []
        here = InodeId(request.node)
        if offset < _DOTS:
            if not offset:
                directory.rewind()
                listed.append(DirectoryEntry(b".", here, TYPE_BITS[InodeType.DIRECTORY], 1))
            inode = await directory.meta.ask(Stat(PathRef(here, ""), follow=False))
            self.client.record_access(inode)
            above = here if here == self.root_node else inode.parent
            listed.append(DirectoryEntry(b"..", above, TYPE_BITS[InodeType.DIRECTORY], _DOTS))
            offset = _DOTS
        first, page = await self._page(directory, here, offset, plus)
        for number, one in enumerate(page[offset - first :], offset + 1):
            listed.append(self._entry_of(one, number, plus))
        return listed

    async def _page(self, directory: DirectoryHandle, here: InodeId, offset: int, plus: bool) -> tuple[int, list[Entry]]:
        """(offset of its first entry, a page that has the entry of an offset); an empty one behind the end."""
        number = directory.page_of(offset)
        while True:
            first, after = directory.starts[number]
            if number != directory.number or (plus and not directory.has_inodes):
                found = await directory.meta.ask(List(PathRef(here, ""), after, list_entries_max, plus))
                directory.page, directory.number, directory.has_inodes = found.entries, number, plus
                if found.more and found.entries and number == len(directory.starts) - 1:
                    directory.starts.append((first + len(found.entries), found.entries[-1].name))
            if offset < first + len(directory.page) or number == len(directory.starts) - 1:
                return first, directory.page
            number += 1

    def _entry_of(self, one: Entry, next_offset: int, plus: bool) -> DirectoryEntry:
        entry = None
        if plus and one.inode is not None:
            opened = self.inodes.get(one.inode_id)
            length = opened.length if opened is not None and opened.is_dirty else None
            entry = self.entry_told(one.inode, length)
        return DirectoryEntry(to_bytes(one.name), one.inode_id, TYPE_BITS[one.type], next_offset, entry)
