"""What targets have, chunk by chunk: for administration, which looks at every replica rather than at any one."""

from __future__ import annotations

import asyncio

from fs3.base.backoff import Backoff
from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChainId, ChunkId, TargetId
from fs3.base.limits import attempt_timeout_ns, retry_backoff_max_ns, retry_backoff_min_ns
from fs3.base.status import Code, Retry
from fs3.base.units import SECOND
from fs3.client.storage.router import ReplicaRouter
from fs3.core.files.retry import RetryAction
from fs3.model.upkeep import ChunkPage
from fs3.ports.clock import Clock
from fs3.wire.methods import STORAGE
from fs3.wire.storage_upkeep import chunk_page_from_pb, list_request_to_pb


async def list_chunks(
    router: ReplicaRouter,
    clock: Clock,
    chain: ChainId,
    target: TargetId,
    after: ChunkId | None,
    until: ChunkId | None,
    limit: int,
    deadline: int,
) -> ChunkPage:
    """A page of one target of a chain; `limit` 0: as many as it likes. Raises FS3Error naming the target when it does not answer
    until the deadline."""
    request = list_request_to_pb(target, after, until, limit)
    backoff = Backoff(retry_backoff_min_ns, retry_backoff_max_ns)
    failure: FS3Error | None = None
    while True:
        left = deadline - clock.now()
        if left <= 0:
            why = f": {failure.strerror}" if failure is not None else ""
            raise error(failure.code if failure is not None else Code.DEADLINE, f"target {target} does not list its chunks{why}")
        try:
            members = router.routing.chains.get(chain)
            slot = members.slot(target) if members is not None else None
            if slot is None:
                raise error(Code.NO_SUCH_TARGET, f"chain {chain} has no such target")
            channel = router.channel(slot.node)
            reply = await channel.start(STORAGE.ListChunks, request, timeout_ns=min(left, attempt_timeout_ns))
            return chunk_page_from_pb(reply.message)
        except FS3Error as why_not:
            failure = why_not
        if failure.code.retry is Retry.NEVER:
            raise error(failure.code, f"target {target} does not list its chunks: {failure.strerror}") from failure
        if failure.code.retry is Retry.REFRESH:
            await router.prepare_retry({RetryAction.REFRESH}, 1, deadline)
        await asyncio.sleep(min(backoff.next_ns(), max(0, deadline - clock.now())) / SECOND)
