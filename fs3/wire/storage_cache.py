"""Messages about KVCache pages between the targets of a chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fs3.base.ids import CHUNK_ID_BYTES, ChainId, ChunkId, TargetId
from fs3.base.limits import touched_pages_max
from fs3.wire.malformed import malformed
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.storage import split_ids


class SharedTouches(NamedTuple):
    """What a target tells another one of its chain."""

    chain: ChainId
    from_target: TargetId
    chunks: Sequence[ChunkId]
    """Pages that were read there; `touched_pages_max` at most."""
    free_bytes: int
    """What new blocks may still take there."""


def share_touches_request_to_pb(touches: SharedTouches) -> pb.ShareTouchesRequest:
    """What was read, for another target of the chain."""
    return pb.ShareTouchesRequest(
        chain=touches.chain,
        from_target=touches.from_target,
        chunks=b"".join(touches.chunks),
        free_bytes=min(touches.free_bytes, (1 << 63) - 1),
    )


def share_touches_request_from_pb(request: pb.ShareTouchesRequest) -> SharedTouches:
    """The checked message. INVALID naming the column."""
    count = len(request.chunks) // CHUNK_ID_BYTES
    if count > touched_pages_max:
        raise malformed("chunks", f"{count} pages, at most {touched_pages_max}")
    chunks = [ChunkId(chunk) for chunk in split_ids(request.chunks, count, "chunks")]
    return SharedTouches(ChainId(request.chain), TargetId(request.from_target), chunks, request.free_bytes)


def share_touches_reply_to_pb() -> pb.ShareTouchesReply:
    """It has arrived."""
    return pb.ShareTouchesReply()
