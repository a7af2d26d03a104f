"""Messages that carry the bytes of an update ahead of it, from a target to its successor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fs3.base.checksum import piece_count
from fs3.base.ids import ChainId, TargetId
from fs3.base.limits import block_bytes_max, content_bytes_max
from fs3.wire.malformed import malformed
from fs3.wire.pb import storage_pb2 as pb


class Push(NamedTuple):
    """What is said of pushed bytes, which are the payload and all of a chunk."""

    chain: ChainId
    chain_version: int
    from_target: TargetId
    number: int
    """By which the update names them."""
    checksums: Sequence[int]
    """Of pieces of 64 KiB."""
    reserve: int
    """Size the chunk is expected to reach, 0 unknown."""


def push_request_to_pb(push: Push) -> pb.PushRequest:
    """The message."""
    return pb.PushRequest(
        chain=push.chain,
        chain_version=push.chain_version,
        from_target=push.from_target,
        number=push.number,
        checksums=push.checksums,
        reserve=push.reserve,
    )


def push_request_from_pb(request: pb.PushRequest, payload: memoryview | None) -> Push:
    """The checked message. Raises INVALID naming the field."""
    length = len(payload) if payload is not None else 0
    if not 0 < length <= content_bytes_max:
        raise malformed("payload", f"{length} bytes, 1 to {content_bytes_max} are allowed")
    if not request.from_target or not request.number:
        raise malformed("number", f"{request.number} from target {request.from_target}: neither is 0")
    checksums = request.checksums[:]
    if len(checksums) != piece_count(0, length):
        raise malformed("checksums", f"{len(checksums)} for {length} bytes")
    if request.reserve > block_bytes_max:
        raise malformed("reserve", f"{request.reserve} bytes, at most {block_bytes_max} are allowed")
    return Push(
        ChainId(request.chain),
        request.chain_version,
        TargetId(request.from_target),
        request.number,
        checksums,
        request.reserve,
    )


def push_reply_to_pb() -> pb.PushReply:
    """The bytes are written, and passed on."""
    return pb.PushReply()
