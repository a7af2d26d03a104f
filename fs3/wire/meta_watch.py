"""Watches of attributes, to and from protobuf."""

from __future__ import annotations

from fs3.base.ids import InodeId
from fs3.model.watch import Watch, WatchNews
from fs3.wire.pb import meta_pb2 as pb


def fill_watch(message: pb.WatchRequest, request: Watch) -> None:
    """A client asks for news."""
    message.watch = request.watch
    message.seen = request.seen


def watch_from_pb(message: pb.WatchRequest) -> Watch:
    """The request of a message."""
    return Watch(message.watch, message.seen)


def fill_news(message: pb.WatchReply, news: WatchNews, _room: int) -> None:
    """The answer."""
    message.watch = news.watch
    message.serial = news.serial
    message.inode_ids.extend(news.inodes)
    message.all = news.all
    message.lease_ns = news.lease_ns


def news_from_pb(message: pb.WatchReply) -> WatchNews:
    """The answer of a message."""
    inodes = tuple(InodeId(inode) for inode in message.inode_ids)
    return WatchNews(message.watch, message.serial, inodes, message.all, message.lease_ns)
