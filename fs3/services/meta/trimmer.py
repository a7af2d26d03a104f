"""Finishing truncations: storage is cut, then the file may grow again. See docs/protocols/truncation.md."""

from __future__ import annotations

from functools import partial

from fs3.base.errors import FS3Error, error
from fs3.base.ids import InodeId
from fs3.base.limits import updates_per_request_max
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.storage.finds import FindOutcome
from fs3.core.files.trim_plan import ChainTrim
from fs3.core.files.write_plan import WriteIO
from fs3.core.meta import rows
from fs3.core.meta.errors import MetaError
from fs3.core.meta.trims import finish_trim
from fs3.model.inode import Inode
from fs3.model.trace import COMMIT
from fs3.ports.kv import KV, RoomMaker
from fs3.runtime.tracing import timed_part
from fs3.services.meta.chunk_client import ChunkClient

_TIMEOUT_NS = 5 * SECOND
"""For one round of requests to storage."""
_TRUNCATIONS_MET_MAX = 5
_DONE = (Code.OK, Code.NOT_FOUND, Code.STALE_UPDATE)
"""Of the cut of a chunk. STALE_UPDATE: somebody who does the same, or a later truncation, has come further already."""


class Trimmer:
    """Does what a truncation has left to do, for any file, as often as anybody asks. Keeps nothing."""

    def __init__(self, kv: KV, chunks: ChunkClient) -> None:
        self._kv = kv
        self._chunks = chunks

    async def finish(self, inode: InodeId) -> None:
        """When it returns, no truncation of the file is outstanding that was when it was called.

        Raises MetaError BUSY when storage does not answer; it can be called again.
        """
        for _ in range(_TRUNCATIONS_MET_MAX):
            found = await self._kv.read(partial(rows.find_inode, inode=inode))
            if found is not None and found.trim is not None:
                try:
                    await self._cut(found)
                except FS3Error as why:
                    raise MetaError(Code.BUSY, f"storage does not truncate inode {inode}: {why.strerror}") from why
            # Without one there may be a row that is left over.
            with timed_part(COMMIT):
                after = await self._kv.transact(RoomMaker(partial(finish_trim, inode=inode, cut=found)))
            if after is None or after.trim is None:
                return
        raise MetaError(Code.BUSY, f"inode {inode} is truncated again and again")

    async def _cut(self, inode: Inode) -> None:
        assert inode.trim is not None
        chains = [ChainTrim(inode.content_id, inode.layout, inode.trim, offset) for offset in range(len(inode.layout.chains))]
        while chains:
            nearest = await self._chunks.find_next([chain.key() for chain in chains], timeout_ns=_TIMEOUT_NS)
            steps = []
            for chain, outcome in zip(chains, nearest, strict=True):
                if not _is_there(chain, outcome):
                    chain.on_nothing()
                    continue
                try:
                    keys = chain.on_chunk(outcome.chunk)
                except ValueError as why:
                    raise error(Code.PROTOCOL, str(why)) from None
                if keys:
                    steps.append((chain, keys))
            if steps:
                found = iter(await self._chunks.find([key for _, keys in steps for key in keys], timeout_ns=_TIMEOUT_NS))
                updates: list[WriteIO] = []
                for chain, keys in steps:
                    lengths = [one.length if _is_there(chain, one) else None for one in (next(found) for _ in keys)]
                    updates += chain.plan(lengths)
                await self._apply(updates)
            chains = [chain for chain in chains if not chain.is_done]

    async def _apply(self, updates: list[WriteIO]) -> None:
        for at in range(0, len(updates), updates_per_request_max):
            batch = updates[at : at + updates_per_request_max]
            for update, result in zip(batch, await self._chunks.update(batch, timeout_ns=_TIMEOUT_NS), strict=True):
                if result.code not in _DONE:
                    raise error(result.code, f"chunk {update.chunk.hex()}: {result.message or result.code.name}")


def _is_there(chain: ChainTrim, outcome: FindOutcome) -> bool:
    if outcome.code not in (Code.OK, Code.NOT_FOUND):
        raise error(outcome.code, f"chain {chain.chain} does not tell what it has: {outcome.message or outcome.code.name}")
    return outcome.code is Code.OK
