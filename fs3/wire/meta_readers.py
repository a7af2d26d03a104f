"""What clients say of what they read, to and from protobuf."""

from __future__ import annotations

from typing import Any

from fs3.base.ids import InodeId
from fs3.model.requests import Hold, KeepAlive
from fs3.wire.malformed import malformed
from fs3.wire.meta import open_contents_from_pb
from fs3.wire.pb import meta_pb2 as pb


def fill_hold(message: pb.HoldRequest, request: Hold) -> None:
    """A client keeps a content."""
    message.content_id = request.content


def hold_from_pb(message: pb.HoldRequest) -> Hold:
    """The request of a message."""
    if not message.content_id:
        raise malformed("content_id", "is missing")
    return Hold(InodeId(message.content_id))


def fill_keep_alive(message: pb.KeepAliveRequest, request: KeepAlive) -> None:
    """A client lives, and reads these contents."""
    message.open_contents.extend(request.open_contents)


def keep_alive_from_pb(message: pb.KeepAliveRequest) -> KeepAlive:
    """The request of a message."""
    return KeepAlive(open_contents_from_pb("open_contents", message.open_contents))


def fill_unnamed(message: pb.KeepAliveReply, contents: list[InodeId], _room: int) -> None:
    """Those that have no name any more."""
    message.unnamed_contents.extend(contents)


def unnamed_from_pb(message: Any) -> list[InodeId]:
    """The same of an answer."""
    return [InodeId(content) for content in message.unnamed_contents]
