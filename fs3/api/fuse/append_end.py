"""The step that ends an append, noted before it is asked for: so one that the kernel asks the next process for happens once."""

from __future__ import annotations

from msgspec.structs import replace

from fs3.api.append import AppendEnd
from fs3.api.fuse.ledger import MountLedger
from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.client.meta.client import MetaClient
from fs3.model.requests import Append, AppendStep

_NOT_DONE = (Code.NOT_ITS_TURN, Code.NOT_INLINE, Code.NO_SESSION, Code.STALE, Code.INVALID)


class NotedAppendEnd(AppendEnd):
    """Of one request of the kernel."""

    def __init__(self, meta: MetaClient, ledger: MountLedger, unique: int) -> None:
        self._meta = meta
        self._ledger = ledger
        self._unique = unique

    def note(self, step: Append, start: int) -> int:
        if not self._ledger.is_kept:
            return 0
        self._ledger.begin_request(self._unique, self._meta.seqs)
        seq = self._meta.draw_seq()
        self._ledger.note_append(self._unique, step, start, seq)
        return seq

    def on_answered(self) -> None:
        """The append has ended, one way or the other."""
        self._ledger.end_request(self._unique)

    async def find_earlier(self, data: memoryview, *, unnamed: bool) -> int | None:
        """Where an earlier process has put these bytes; None: it has not, and will not any more."""
        left = self._ledger.inherited_append(self._unique)
        if left is None:
            return None
        step = replace(left.request, unnamed=unnamed)
        if step.step is AppendStep.INLINE:
            step = replace(step, length=0, data=bytes(data))
        try:
            inode = await self._meta.ask(step, seq=left.seq, repeated=True)
        except FS3Error as failure:
            if failure.code in _NOT_DONE:
                return None
            raise
        return inode.length - len(data) if step.step is AppendStep.INLINE else left.start
