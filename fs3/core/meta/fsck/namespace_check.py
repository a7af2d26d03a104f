"""The check of a whole namespace that is in use: pages put together, in bounded memory and without stopping any client.

Pages are read one after the other while names come and go, so what they add up to may be nonsense: a file that is renamed
from where the check has not been to where it has been is seen twice or never. An inode's `change` tells: it rises with every
change of its names and, for a directory, of its entries. So an inode is noted with its `change`, then all entries are counted,
and what does not add up is a problem only if the inode still has the same `change` afterwards; else it is noted anew and
counted again, `check_rounds_max` times. A removed file needs a weaker argument: once it has neither name nor session it is
queued until it is gone, so a scan of the queue that begins then and ends while it exists has met its row.

Memory: `check_inodes_per_pass` inodes are noted at once (26 bytes each); a larger namespace has its entries counted several
times over.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from fs3.base.ids import ROOT_INODE, InodeId
from fs3.base.limits import check_rounds_max, inspect_inodes_max
from fs3.core.meta import keys
from fs3.core.meta.fsck.counters import parse_counters
from fs3.core.meta.fsck.pages import check_directory_counts, check_page, inspect_inodes
from fs3.core.meta.fsck.problems import ProblemCollector
from fs3.core.meta.rows import GarbageKind
from fs3.core.txn import ReadTxn
from fs3.model.check import CheckPage, DirectoryPart, InodeFacts, Inspection, Problem, ProblemKind, RowTable
from fs3.model.inode import InodeType

_OTHER_TABLES = (
    RowTable.REQUESTS,
    RowTable.CLIENTS,
    RowTable.PRUNED,
    RowTable.CONTENTS,
    RowTable.DATA,
    RowTable.XATTRS,
    RowTable.LOCKS,
)
check_suspects_max = 1 << 20
"""More inodes than this are not looked at again: they change faster than they can be counted."""

check_inodes_per_pass = 1 << 21
"""Inodes a check counts the names of at once, 26 bytes each; in a larger namespace it counts several times."""

Progress = Callable[[str, int], None]
"""Called with what is being looked at and how many rows of it there have been."""


class CheckSource(Protocol):
    """Where pages come from: a transaction, or a metadata service."""

    async def page(self, table: RowTable, begin: bytes) -> CheckPage:
        """The page of a table that begins at a key."""
        ...

    async def inspect(self, inodes: Sequence[int]) -> Inspection:
        """At most `inspect_inodes_max` inodes as they are now."""
        ...

    async def inspect_contents(self, contents: Sequence[int]) -> Inspection:
        """The inodes that have these contents, at most `inspect_inodes_max`, as they are now."""
        ...


class TxnSource(CheckSource):
    """Pages of one transaction: a check of everything at one moment."""

    def __init__(self, txn: ReadTxn, rows_per_page: int) -> None:
        self._txn = txn
        self._rows = rows_per_page

    async def page(self, table: RowTable, begin: bytes) -> CheckPage:
        """The page of a table that begins at a key."""
        return await check_page(self._txn, table, begin, self._rows)

    async def inspect(self, inodes: Sequence[int]) -> Inspection:
        """These inodes as they are now."""
        return await inspect_inodes(self._txn, inodes)

    async def inspect_contents(self, contents: Sequence[int]) -> Inspection:
        """The inodes that have these contents as they are now."""
        return await inspect_inodes(self._txn, contents, contents=True)


class NamespaceCheck(ProblemCollector):
    """One check. `run`, then `problems` and `unsettled`."""

    def __init__(
        self, source: CheckSource, progress: Progress = lambda what, rows: None, per_pass: int = check_inodes_per_pass
    ) -> None:
        super().__init__()
        self._source = source
        self._progress = progress
        self._per_pass = per_pass
        self.unsettled: set[int] = set()
        """Inodes that changed every time they were looked at: nothing can be said of what they add up to."""
        self.counts: dict[RowTable, int] = {}
        """Rows of each table."""
        self._largest = 0

    async def run(self) -> None:
        """Look at everything."""
        start = await self._now()
        await self._through(RowTable.SESSIONS, start.sessions)
        for table in _OTHER_TABLES:
            await self._through(table, b"\xff")
        begin, first, inodes, garbage = b"", True, 0, 0
        while True:
            noted = _InodeColumns()
            begin, rows = await self._note(noted, begin, start.inodes)
            inodes += rows
            garbage, busy = await self._count(noted, everything=first)
            await self._settle(busy)
            first = False
            if not begin:
                break
        self.counts[RowTable.INODES] = inodes
        await self._check_counters(start.counters, inodes, garbage)

    # --- the three walks ----------------------------------------------------------------------------------------------

    async def _note(self, noted: _InodeColumns, begin: bytes, end: bytes) -> tuple[bytes, int]:
        """Notes the inodes of the next pass, but for those created meanwhile: where the one after it begins, and rows read."""
        rows = 0
        while len(noted.ids) < self._per_pass:
            page = await self._source.page(RowTable.INODES, begin)
            self.add_problems(page.problems)
            noted.add(page.inodes, page.changes, page.names, page.queued)
            self._largest = max(self._largest, *page.inodes[-1:], 0)
            self._progress("inodes", page.rows)
            rows += page.rows
            begin = page.next if page.next <= end else b""
            if not begin:
                break
        return begin, rows

    async def _count(self, noted: _InodeColumns, *, everything: bool) -> tuple[int, set[int]]:
        """Counts names and garbage rows of what is noted: (garbage rows, inodes to be looked at again)."""
        directories = _Directories()
        entries = 0
        # Rows behind those that are the last ones now are new, and need not be met: whatever they name has changed.
        now = await self._now()
        async for page in self._pages(RowTable.ENTRIES, "entries", b"", now.entries):
            noted.count_names(page.inodes)
            entries += page.rows
            if everything:
                self.add_problems(page.problems)
                for part in page.parts:
                    self.add_problems(directories.add(part))
        directories.end()
        garbage = 0
        for begin, end in ((b"", now.files), (keys.garbage_range(GarbageKind.TREE)[0], now.garbage)):
            async for page in self._pages(RowTable.GARBAGE, "garbage", begin, end):
                met = sum(key <= end for key in page.keys)
                noted.count_garbage(page.inodes[:met], page.keys[:met])
                garbage += page.rows - len(page.keys) + met
                if everything:
                    self.add_problems(page.problems)
        if everything:
            self.counts[RowTable.ENTRIES], self.counts[RowTable.GARBAGE] = entries, garbage
        busy = await self._recheck_suspects(noted)
        return garbage, busy | directories.busy

    async def _recheck_suspects(self, noted: _InodeColumns) -> set[int]:
        """Says what is wrong with the noted inodes that do not add up and have not changed; the others."""
        busy: set[int] = set()
        for suspects in _batches(noted.suspects(), inspect_inodes_max):
            now = {facts.inode: facts for facts in (await self._source.inspect(suspects)).facts}
            for inode in suspects:
                facts = now.get(InodeId(inode))
                if facts is None:
                    continue  # it is gone; entries that name it have been met as such
                problems = noted.find_problems(facts)
                if problems is None:
                    busy.add(inode)
                else:
                    self.add_problems(problems)
        return busy

    async def _settle(self, busy: set[int]) -> None:
        """Looks again at what was changing, with fewer inodes each time."""
        for _ in range(check_rounds_max):
            if not busy:
                return
            if len(busy) > check_suspects_max:
                break
            noted, directories = _InodeColumns(), []
            for some in _batches(sorted(busy), inspect_inodes_max):
                for facts in (await self._source.inspect(some)).facts:
                    noted.add([facts.inode], [facts.change], [facts.names], [facts.queued])
                    if facts.type is InodeType.DIRECTORY:
                        directories.append(facts.inode)
            _, again = await self._count(noted, everything=False)
            for directory in directories:
                if not await self._recount(directory):
                    again.add(directory)
            busy = again
        self.unsettled |= busy

    async def _recount(self, directory: InodeId) -> bool:
        """Counts the entries of one directory. False when it changed meanwhile."""
        begin = keys.dirents_range(directory)[0]
        joined = _Directories()
        while begin:
            page = await self._source.page(RowTable.ENTRIES, begin)
            # Other directories of the same page are judged by it as well; only this one is asked about.
            self.add_problems(problem for problem in page.problems if problem.inode == directory and problem.kind in _COUNTING)
            parts = [part for part in page.parts if part.inode == directory]
            for part in parts:
                self.add_problems(joined.add(part))
            if not parts or parts[-1].ends:
                break
            begin = page.next
        joined.end()
        return not joined.busy

    async def _through(self, table: RowTable, end: bytes) -> None:
        rows = 0
        async for page in self._pages(table, table.name.lower(), b"", end):
            self.add_problems(page.problems)
            self._largest = max(self._largest, *page.inodes, 0)
            rows += page.rows
        self.counts[table] = rows

    async def _now(self) -> _Ends:
        return _Ends(*(await self._source.page(RowTable.COUNTERS, b"")).keys)

    async def _pages(self, table: RowTable, what: str, begin: bytes, end: bytes) -> AsyncIterator[CheckPage]:
        """Pages up to the one that holds the key `end`."""
        while True:
            page = await self._source.page(table, begin)
            self._progress(what, page.rows)
            yield page
            begin = page.next
            if not begin or begin > end:
                return

    async def _check_counters(self, before: bytes, inodes: int, garbage: int) -> None:
        """Nothing was created or removed meanwhile exactly if the counters are what they were."""
        after = (await self._now()).counters
        counters = parse_counters(after)
        if after != before or (counters is not None and (counters.inodes, counters.garbage) == (inodes, garbage)):
            return
        found, found_too, next_id = 0, 0, 0
        if counters is not None:
            found, found_too = counters.inodes, counters.garbage
        else:
            # Ids are never drawn twice, and chunks of files that are long gone may still be somewhere.
            next_id = self._largest + _ID_MARGIN
        self.add_problems(
            [
                Problem(
                    ProblemKind.MISCOUNTED,
                    key=after,
                    change=next_id,
                    found=found,
                    found_too=found_too,
                    expected=inodes,
                    expected_too=garbage,
                )
            ]
        )


_ID_MARGIN = 1 << 32
_COUNTING = (ProblemKind.DIRECTORY_MISCOUNTED,)


class _Ends(NamedTuple):
    """The counters at some moment, and the last keys of the tables."""

    counters: bytes
    inodes: bytes
    entries: bytes
    sessions: bytes
    garbage: bytes
    files: bytes


class _InodeColumns:
    """Inodes with what was counted of each. Ids come in rising order."""

    def __init__(self) -> None:
        self.ids = array("Q")
        self._changes = array("Q")
        self._names = array("I")
        self._queued = bytearray()
        self._names_found = array("I")
        self._queued_found = bytearray()
        self._surplus: dict[int, list[bytes]] = {}
        """Garbage rows behind the first one of an inode."""

    def add(self, inodes: Sequence[int], changes: Sequence[int], names: Sequence[int], queued: Sequence[int]) -> None:
        """Notes some inodes."""
        self.ids.extend(inodes)
        self._changes.extend(changes)
        self._names.extend(names)
        self._queued.extend(queued)
        self._names_found.extend([0] * len(inodes))
        self._queued_found.extend(bytes(len(inodes)))

    def count_names(self, inodes: Iterable[int]) -> None:
        """Each of these is named by an entry."""
        ids, found = self.ids, self._names_found
        count = len(ids)
        if not count:
            return
        first, last = ids[0], ids[-1]
        for inode in inodes:
            if first <= inode <= last:
                at = bisect_left(ids, inode)
                if ids[at] == inode:
                    found[at] += 1

    def count_garbage(self, inodes: Iterable[int], row_keys: Iterable[bytes]) -> None:
        """Each of these is named by a garbage row."""
        ids, found = self.ids, self._queued_found
        for inode, key in zip(inodes, row_keys, strict=True):
            at = bisect_left(ids, inode)
            if at == len(ids) or ids[at] != inode:
                continue
            if found[at]:
                self._surplus.setdefault(inode, []).append(key)
            found[at] = 1

    def suspects(self) -> list[int]:
        """The inodes that do not add up, as they were when they were noted."""
        wrong = {
            inode
            for inode, names, found, queued, met in zip(
                self.ids, self._names, self._names_found, self._queued, self._queued_found, strict=True
            )
            if names != found or queued > met
        }
        return sorted(wrong | set(self._surplus))

    def find_problems(self, now: InodeFacts) -> list[Problem] | None:
        """What is wrong with a suspect, given what it is now; None when it has changed since it was noted."""
        at = bisect_left(self.ids, now.inode)
        inode, change, found = now.inode, now.change, self._names_found[at]
        waits = self._queued[at] and now.queued and not self._queued_found[at] and not found
        if change != self._changes[at]:
            return None
        problems = []
        if found != now.names:
            if now.type is InodeType.DIRECTORY and (found > 1 or inode == ROOT_INODE):
                expected = int(inode != ROOT_INODE)
                problems.append(Problem(ProblemKind.DIRECTORY_NAMES, inode, change=change, found=found, expected=expected))
            elif not found:
                problems.append(Problem(ProblemKind.WITHOUT_NAME, inode, change=change, found=now.nlink))
            else:
                problems.append(Problem(ProblemKind.WRONG_NLINK, inode, change=change, found=now.nlink, expected=found))
        if waits:
            problems.append(Problem(ProblemKind.NOT_QUEUED, inode, change=change))
        problems += [Problem(ProblemKind.QUEUED_TWICE, inode, key=key) for key in self._surplus.get(inode, ())]
        return problems


class _Directories:
    """Directories of several pages, joined in the order of the pages."""

    def __init__(self) -> None:
        self._open: DirectoryPart | None = None
        self._entries = 0
        self._subdirectories = 0
        self.busy: set[int] = set()
        """Those that changed between their pages."""

    def add(self, part: DirectoryPart) -> list[Problem]:
        """What is wrong with the directory this part ends, if it does."""
        before = self._open
        if before is not None and before.inode != part.inode:
            self.busy.add(before.inode)
            before = None
        if part.begins:
            self._entries = self._subdirectories = 0
        elif before is None or before.change != part.change:
            self._open = None
            self.busy.add(part.inode)
            return []
        self._entries += part.entries
        self._subdirectories += part.subdirectories
        self._open = None if part.ends else part
        if not part.ends:
            return []
        return check_directory_counts(part.inode, part.change, part.length, part.nlink, self._entries, self._subdirectories)

    def end(self) -> None:
        """There are no more pages."""
        if self._open is not None:
            self.busy.add(self._open.inode)
            self._open = None


def _batches(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
