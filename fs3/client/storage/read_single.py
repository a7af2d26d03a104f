"""One read by itself, the random read of a data loader: nothing is made for it that only a batch or a failure needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fs3.base.checksum import checksums, crc32c
from fs3.base.errors import FS3Error, error
from fs3.base.limits import read_attempt_ns, slow_ns_per_byte
from fs3.base.status import Code
from fs3.client.storage.node_request import NodeRequest, cancellation_count
from fs3.client.storage.reads import ReadCounters, ReadOutcome, ReadRefusal
from fs3.client.storage.router import ReplicaRouter
from fs3.core.files.read_plan import ReadIO
from fs3.ports.clock import Clock
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2 as pb

_OK = Code.OK
_NOT_FOUND = Code.NOT_FOUND


async def read_single(
    router: ReplicaRouter, clock: Clock, counters: ReadCounters, io: ReadIO, deadline: int, verify: bool
) -> ReadOutcome | ReadRefusal | None:
    """The outcome of a read that goes well at the first replica asked, or finds a hole there. What else that replica answered is
    for `ReadBatch` to go on from; None: nobody was asked."""
    buffer = io.buffer
    if type(buffer) is not memoryview:
        return None
    now = clock.now()
    who = router.candidates(io.chain)
    node = router.choice.pick(who, now)
    if node is None or deadline <= now:
        return None
    wanted = len(buffer)
    got = 0

    def into(message: Any, payload_length: int) -> Sequence[memoryview]:
        nonlocal got
        got = payload_length
        if payload_length > wanted:
            raise error(Code.PROTOCOL, f"a read of {wanted} bytes was answered with {payload_length}")
        return (buffer if payload_length == wanted else buffer[:payload_length],)

    request = pb.ReadRequest(
        chunks=io.chunk,
        chains=(io.chain,),
        chain_versions=(who.version,),
        offsets=(io.offset,),
        lengths=(wanted,),
        without_checksums=not verify,
    )
    counters.frames += 1
    router.choice.on_sent(node, wanted)
    frame = NodeRequest(node, (io.chain,))
    before = cancellation_count()
    try:
        patience = min(deadline - now, read_attempt_ns + wanted * slow_ns_per_byte)
        channel = router.channel(node)
        frame.future = channel.start(STORAGE.Read, request, (), into, patience)
        router.liveness.begin(frame, channel)
        reply = await frame.future
    except FS3Error as failure:
        router.on_failure(node, failure)
        return ReadRefusal(node, failure.code, failure.strerror or "")
    except asyncio.CancelledError:
        if frame.abort_reason is None or cancellation_count() > before:
            raise
        return ReadRefusal(node, frame.abort_reason.code, frame.abort_reason.strerror or "")
    finally:
        router.liveness.end(frame)
        router.choice.on_answered(node, wanted)
    answer: pb.ReadReply = reply.message
    router.note_routing_version(answer.routing_version)
    if len(answer.codes) != 1 or len(answer.lengths) != 1 or len(answer.versions) != 1 or len(answer.piece_bytes) != 1:
        return ReadRefusal(node, Code.PROTOCOL, f"node {node} answered a read of one range with {len(answer.codes)}")
    if answer.codes[0]:
        code = Code.from_wire(answer.codes[0])
        return ReadOutcome(_NOT_FOUND) if code is _NOT_FOUND else ReadRefusal(node, code, "")
    length = answer.lengths[0]
    if length != got or not _intact(buffer[:length], io.offset, answer, verify):
        counters.checksum_mismatches += 1
        router.report_bad(node, io.chunk, io.chain)
        return ReadRefusal(node, Code.CHECKSUM, f"bytes from node {node} fail verification")
    router.choice.on_succeeded(node)
    counters.bytes += length
    return ReadOutcome(_OK, length, answer.versions[0])


def _intact(data: memoryview, offset: int, answer: pb.ReadReply, verify: bool) -> bool:
    """The bytes are those the replica says it sent."""
    if not verify or not len(data):
        return True
    piece = answer.piece_bytes[0]
    if not piece:
        return False
    sums = answer.checksums
    if offset % piece + len(data) <= piece:
        return len(sums) == 1 and crc32c(data) == sums[0]
    return checksums(data, offset, piece) == sums[:]
