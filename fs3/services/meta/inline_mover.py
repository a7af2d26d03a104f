"""Moving the bytes of inline files to storage, before clients write their chunks. See `fs3.core.meta.inline`."""

from __future__ import annotations

from functools import partial

from fs3.base.errors import FS3Error
from fs3.base.ids import InodeId
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.files.move_plan import plan_move
from fs3.core.meta.errors import MetaError
from fs3.core.meta.inline import begin_move, finish_move
from fs3.model.trace import COMMIT
from fs3.ports.kv import KV
from fs3.runtime.tracing import timed_part
from fs3.services.meta.chunk_client import ChunkClient

_TIMEOUT_NS = 5 * SECOND
"""For the one update of storage."""


class InlineMover:
    """Moves what any file has inline, as often as anybody asks. Keeps nothing."""

    def __init__(self, kv: KV, chunks: ChunkClient) -> None:
        self._kv = kv
        self._chunks = chunks

    async def move(self, inode: InodeId) -> None:
        """When it returns, the bytes that the file had inline when it was called are in storage, or gone.

        Raises MetaError when storage does not take them: NO_SPACE, or BUSY; it can be called again.
        """
        with timed_part(COMMIT):
            begun = await self._kv.transact(partial(begin_move, inode=inode))
        if begun is None:
            return
        file, data = begun
        try:
            results = await self._chunks.update(plan_move(file, data), timeout_ns=_TIMEOUT_NS)
        except FS3Error as why:
            raise MetaError(Code.BUSY, f"storage does not take the bytes of inode {inode}: {why.strerror}") from why
        for result in results:
            if result.code is not Code.OK:
                code = Code.NO_SPACE if result.code is Code.NO_SPACE else Code.BUSY
                what = result.message or result.code.name
                raise MetaError(code, f"storage does not take the bytes of inode {inode}: {what}")
        with timed_part(COMMIT):
            await self._kv.transact(partial(finish_move, moved=file))
