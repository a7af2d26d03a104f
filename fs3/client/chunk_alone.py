"""One read by itself, the random read of a data loader: nothing is made for it that only a batch or a failure needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fs3.base.checksum import checksums, crc32c
from fs3.base.errors import FS3Error, error
from fs3.base.limits import read_attempt_ns, slow_ns_per_byte
from fs3.base.status import Code
from fs3.client.chunk_frames import Frame, cancels_so_far
from fs3.client.chunk_reads import ReadCounters, ReadOutcome, Refusal
from fs3.client.chunk_routes import ChunkRoutes
from fs3.core.files.read_plan import ReadIO
from fs3.ports.clock import Clock
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2 as pb

_OK = Code.OK
_NOT_FOUND = Code.NOT_FOUND


async def read_alone(
    routes: ChunkRoutes, clock: Clock, counters: ReadCounters, io: ReadIO, deadline: int, verify: bool
) -> ReadOutcome | Refusal | None:
    """The outcome of a read that goes well at the first replica asked, or finds a hole there. What else that replica answered is
    for `ReadBatch` to go on from; None: nobody was asked."""
    buffer = io.buffer
    if type(buffer) is not memoryview:
        return None
    now = clock.now()
    who = routes.candidates(io.chain)
    node = routes.choice.pick(who, now)
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
    routes.choice.sent(node, wanted)
    frame = Frame(node, (io.chain,))
    before = cancels_so_far()
    try:
        patience = min(deadline - now, read_attempt_ns + wanted * slow_ns_per_byte)
        channel = routes.channel(node)
        frame.future = channel.start(STORAGE.Read, request, (), into, patience)
        routes.silence.begin(frame, channel)
        reply = await frame.future
    except FS3Error as failure:
        routes.not_answered(node, failure)
        return Refusal(node, failure.code, failure.strerror or "")
    except asyncio.CancelledError:
        if frame.given_up is None or cancels_so_far() > before:
            raise
        return Refusal(node, frame.given_up.code, frame.given_up.strerror or "")
    finally:
        routes.silence.end(frame)
        routes.choice.answered(node, wanted)
    answer: pb.ReadReply = reply.message
    routes.heard(answer.routing_version)
    if len(answer.codes) != 1 or len(answer.lengths) != 1 or len(answer.versions) != 1 or len(answer.piece_bytes) != 1:
        return Refusal(node, Code.PROTOCOL, f"node {node} answered a read of one range with {len(answer.codes)}")
    if answer.codes[0]:
        code = Code.from_wire(answer.codes[0])
        return ReadOutcome(_NOT_FOUND) if code is _NOT_FOUND else Refusal(node, code, "")
    length = answer.lengths[0]
    if length != got or not _intact(buffer[:length], io.offset, answer, verify):
        counters.checksum_mismatches += 1
        routes.report_bad(node, io.chunk, io.chain)
        return Refusal(node, Code.CHECKSUM, f"bytes from node {node} fail verification")
    routes.choice.succeeded(node)
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
