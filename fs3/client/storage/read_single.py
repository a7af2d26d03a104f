"""One read by itself, the random read of a data loader: nothing is made for it that only a batch or a failure needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from crc32c import crc32c

from fs3.base.checksum import checksums, checksums_in_slices
from fs3.base.errors import FS3Error, error
from fs3.base.limits import read_attempt_ns, slow_ns_per_byte
from fs3.base.status import Code
from fs3.client.storage.node_request import NodeRequest, cancellation_count
from fs3.client.storage.reads import ReadCounters, ReadOutcome, ReadRefusal, late_message
from fs3.client.storage.router import ReplicaRouter
from fs3.core.craq.block_lease import is_within_block_lease
from fs3.core.files.read_grants import bulk_read_bytes
from fs3.core.files.read_plan import ReadIO
from fs3.ports.clock import Clock
from fs3.ports.rpc import FlatBuffers, Reply
from fs3.runtime.bulk_work import bulk_slice_bytes, bulk_work_of
from fs3.wire.methods import STORAGE
from fs3.wire.storage import (
    SingleReadReply,
    block_lease_of,
    routing_version_of,
    single_read_reply_from_pb,
    single_read_request_to_pb,
)

_OK = Code.OK
_NOT_FOUND = Code.NOT_FOUND


async def read_single(
    router: ReplicaRouter, clock: Clock, counters: ReadCounters, io: ReadIO, deadline: int, verify: bool
) -> ReadOutcome | ReadRefusal | None:
    """The outcome of a read that goes well at the first replica asked, or finds a hole there. What else that replica answered is
    for `ReadCall` to go on from; None: no replica was asked.

    One request needs no window, so this does inline what `send_windowed` and `ReplicaRouter.start` do for many: the same watch,
    and the same way to tell an aborted request from a cancelled caller. A test compares the two.
    """
    buffer = io.buffer
    if type(buffer) is not memoryview:
        return None
    now = clock.now()
    replicas = router.candidates(io.chain)
    node = router.choice.pick(replicas, now)
    if node is None or deadline <= now:
        return None
    wanted = len(buffer)
    got = 0

    def into(message: Any, payload_length: int) -> Sequence[memoryview]:
        nonlocal got
        got = payload_length
        if payload_length > wanted:
            raise error(Code.PROTOCOL, f"a read of {wanted} bytes was answered with {payload_length}")
        return FlatBuffers((buffer,)) if 0 < payload_length == wanted else (buffer[:payload_length],)

    message = single_read_request_to_pb(io.chunk, io.chain, replicas.version, io.offset, wanted, verify)
    counters.requests += 1
    router.choice.on_sent(node, wanted)
    request = NodeRequest(node, (io.chain,), router)
    before = cancellation_count()
    reply: Reply | None = None
    try:
        if wanted < bulk_read_bytes:
            patience = min(deadline - now, read_attempt_ns + wanted * slow_ns_per_byte)
            channel = request.channel = router.short_channel(node)
            request.future = channel.start(STORAGE.Read, message, (), into, patience)
            router.liveness.begin(request)
            router.hedger.begin(request, wanted, message, into, now, now + patience)
        else:

            def begin(timeout_ns: int) -> asyncio.Future[Reply]:
                nonlocal now
                now = clock.now()
                return request.channel.start(STORAGE.Read, message, (), into, timeout_ns)

            router.start_bulk(request, wanted, begin, read_attempt_ns + wanted * slow_ns_per_byte, deadline)
        assert request.future is not None
        reply = await request.future
    except FS3Error as failure:
        router.on_failure(node, failure)
        return ReadRefusal(node, failure.code, failure.strerror or "")
    except asyncio.CancelledError:
        if request.abort_reason is None or cancellation_count() > before:
            raise
        if request.hedge_reply is None:
            return ReadRefusal(node, request.abort_reason.code, request.abort_reason.strerror or "")
        reply = request.hedge_reply.reply
    finally:
        router.hedger.end(request, is_answered=reply is not None)
        router.liveness.end(request)
        router.choice.on_answered(node, wanted)
    if request.hedge_reply is not None:
        node = request.hedge_reply.node
    router.note_routing_version(routing_version_of(reply.message))
    try:
        answer = single_read_reply_from_pb(reply.message)
    except FS3Error as nonsense:
        return ReadRefusal(node, nonsense.code, f"node {node}: {nonsense.strerror}")
    if answer.code:
        code = Code.from_wire(answer.code)
        return ReadOutcome(_NOT_FOUND) if code is _NOT_FOUND else ReadRefusal(node, code, "")
    length = answer.length
    lease_ms = None if verify else block_lease_of(reply.message)
    if lease_ms is not None and not is_within_block_lease(now, clock.now(), lease_ms):
        counters.late += 1
        return ReadRefusal(node, Code.BUSY, late_message(node, lease_ms))
    if length != got or (
        verify
        and not (
            is_intact(buffer[:length], io.offset, answer)
            if length < bulk_read_bytes
            else await _is_bulk_intact(buffer[:length], io.offset, answer)
        )
    ):
        counters.checksum_mismatches += 1
        router.report_bad(node, io.chunk, io.chain)
        return ReadRefusal(node, Code.CHECKSUM, f"bytes from node {node} fail verification")
    router.choice.on_succeeded(node)
    counters.bytes += length
    return ReadOutcome(_OK, length, answer.version)


async def _is_bulk_intact(data: memoryview, offset: int, answer: SingleReadReply) -> bool:
    """`is_intact`, in slices while short reads are under way."""
    work = bulk_work_of(asyncio.get_running_loop())
    if not work.is_sliced or not answer.piece_bytes:
        return is_intact(data, offset, answer)
    own: list[int] = []
    for some in checksums_in_slices((data,), offset, answer.piece_bytes, bulk_slice_bytes):
        if own and work.is_sliced:
            await work.turn()
        own += some
    return own == answer.checksums


def is_intact(data: memoryview, offset: int, answer: SingleReadReply) -> bool:
    """The bytes are those the replica says it sent. `offset`: of the first, in the chunk."""
    if not len(data):
        return True
    piece = answer.piece_bytes
    if not piece:
        return False
    sums = answer.checksums
    if offset % piece + len(data) <= piece:
        return len(sums) == 1 and bool(crc32c(data) == sums[0])
    return checksums(data, offset, piece) == sums
