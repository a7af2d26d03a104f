"""Messages of a resync as records and back. As in `fs3.wire.storage`, what arrives is checked here, once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fs3.base.errors import error
from fs3.base.ids import CHUNK_ID_BYTES, CLIENT_ID_BYTES, ChainId, ChunkId, ClientId, TargetId
from fs3.base.limits import channel_rows_per_merge_max, list_entries_max, resync_range_chunks, resync_ranges_per_request_max
from fs3.base.status import Code
from fs3.core.craq.resync.rows import RangeDigest, RangeState, RemoteRow, key_after, key_before
from fs3.core.craq.resync.steps import ResyncPeer
from fs3.model.chunk import ChannelKey, ChannelRow, UpdateResult
from fs3.wire.malformed import malformed
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.storage import split_ids

_FIRST = bytes(CHUNK_ID_BYTES)


class ResyncFence(NamedTuple):
    """Who asks, under what: what `Replica.check_resync_fence` decides about each request."""

    chain: ChainId
    chain_version: int
    source: TargetId
    incarnation: int


def fence_to_pb(peer: ResyncPeer) -> pb.ResyncFence:
    """The message."""
    return pb.ResyncFence(
        chain=peer.chain, chain_version=peer.chain_version, from_target=peer.source, incarnation=peer.incarnation
    )


def fence_from_pb(message: pb.ResyncFence) -> ResyncFence:
    """The record. INVALID when it does not say who asks."""
    if not message.chain or not message.chain_version or not message.from_target:
        raise malformed("fence", f"chain {message.chain} version {message.chain_version} from target {message.from_target}")
    return ResyncFence(ChainId(message.chain), message.chain_version, TargetId(message.from_target), message.incarnation)


def answer_to_pb(code: Code, incarnation: int) -> pb.ResyncAnswer:
    """Who answers, and whether."""
    return pb.ResyncAnswer(code=int(code), incarnation=incarnation)


def answer_from_pb(message: pb.ResyncAnswer) -> tuple[Code, int]:
    """(code, incarnation of the successor's replica)"""
    return Code.from_wire(message.code), message.incarnation


# --- ranges ----------------------------------------------------------------------------------------------------------


def compare_request_to_pb(peer: ResyncPeer, ranges: Sequence[RangeDigest]) -> pb.CompareRangesRequest:
    """Only the last of the ranges may be open."""
    assert all(each.end for each in ranges[:-1]), "a range that is open is not the last"
    return pb.CompareRangesRequest(
        fence=fence_to_pb(peer),
        begins=b"".join([each.begin or _FIRST for each in ranges]),
        ends=b"".join([each.end for each in ranges]),
        counts=[each.count for each in ranges],
        sums=[each.sum for each in ranges],
    )


def compare_request_from_pb(request: pb.CompareRangesRequest) -> list[RangeDigest]:
    """The checked ranges of a request. INVALID naming the column."""
    counts = request.counts[:]
    sums = request.sums[:]
    count = len(counts)
    if count > resync_ranges_per_request_max:
        raise malformed("counts", f"{count} ranges, at most {resync_ranges_per_request_max} are allowed")
    if len(sums) != count:
        raise malformed("sums", f"{len(sums)} elements beside {count} counts")
    begins = split_ids(request.begins, count, "begins")
    is_open = bool(count) and len(request.ends) == CHUNK_ID_BYTES * (count - 1)
    ends = [*split_ids(request.ends, count - is_open, "ends"), *([b""] * is_open)]
    ranges = []
    for begin, end, chunks, total in zip(begins, ends, counts, sums, strict=True):
        if end and end <= begin:
            raise malformed("ends", f"{end.hex()} is not behind {begin.hex()}")
        if chunks > resync_range_chunks:
            raise malformed("counts", f"{chunks} chunks in one range, at most {resync_range_chunks} are allowed")
        ranges.append(RangeDigest(begin, end, chunks, total))
    return ranges


def compare_reply_to_pb(states: Iterable[RangeState], code: Code, incarnation: int) -> pb.CompareRangesReply:
    """How each range of a request compares; none when `code` is not OK."""
    return pb.CompareRangesReply(states=map(int, states), answer=answer_to_pb(code, incarnation))


def compare_reply_from_pb(reply: pb.CompareRangesReply, count: int) -> tuple[RangeState, ...]:
    """How each range compares. PROTOCOL when there are not `count`, or for a number that means nothing."""
    if len(reply.states) != count:
        raise error(Code.PROTOCOL, f"{count} ranges were answered with {len(reply.states)}")
    try:
        return tuple(map(RangeState, reply.states))
    except ValueError as wrong:
        raise error(Code.PROTOCOL, f"a range was answered with a state that does not exist: {wrong}") from wrong


# --- rows ------------------------------------------------------------------------------------------------------------


class ListRowsColumns(NamedTuple):
    """A checked request for rows, beside its fence."""

    begin: bytes
    """First key; b"" is before all."""
    end: bytes
    """Ends before this key; b"" is behind all."""
    limit: int
    """Rows at most, `list_entries_max` at most."""


def list_request_to_pb(peer: ResyncPeer, begin: bytes, end: bytes, limit: int) -> pb.ListChunksRequest:
    """Asks the successor for its rows from `begin` on and before `end`, `limit` at most."""
    return pb.ListChunksRequest(
        target_id=peer.target, after=key_before(begin) or b"", until=end, limit=limit, fence=fence_to_pb(peer)
    )


def list_request_from_pb(request: pb.ListChunksRequest) -> ListRowsColumns:
    """What a predecessor asks for. INVALID naming a key that is none."""
    for name, key in (("after", request.after), ("until", request.until)):
        if len(key) not in (0, CHUNK_ID_BYTES):
            raise malformed(name, f"{len(key)} bytes are not a chunk id of {CHUNK_ID_BYTES} bytes")
    begin = key_after(request.after) if request.after else b""
    return ListRowsColumns(begin, request.until, min(request.limit or list_entries_max, list_entries_max))


def list_reply_to_pb(rows: Sequence[RemoteRow], more: bool, code: Code, incarnation: int) -> pb.ListChunksReply:
    """Rows in key order; none when `code` is not OK. `more`: there are rows behind the last of them."""
    infos = [
        pb.ChunkInfo(
            chunk=row.chunk,
            committed_version=row.committed,
            pending_version=row.pending,
            length=row.length,
            checksum=row.checksum,
            bad=row.bad,
        )
        for row in rows
    ]
    return pb.ListChunksReply(chunks=infos, more=more, answer=answer_to_pb(code, incarnation))


def list_reply_from_pb(reply: pb.ListChunksReply) -> tuple[RemoteRow, ...]:
    """The rows of a successor. PROTOCOL when they are not in order or too many."""
    if len(reply.chunks) > list_entries_max:
        raise error(Code.PROTOCOL, f"a list of {len(reply.chunks)} chunks, at most {list_entries_max} are allowed")
    rows = []
    before = b""
    for info in reply.chunks:
        if len(info.chunk) != CHUNK_ID_BYTES or info.chunk <= before:
            raise error(Code.PROTOCOL, f"a list of chunks has {info.chunk.hex()!r} behind {before.hex()!r}")
        before = info.chunk
        rows.append(
            RemoteRow(ChunkId(info.chunk), info.committed_version, info.pending_version, info.length, info.checksum, info.bad)
        )
    return tuple(rows)


# --- channels --------------------------------------------------------------------------------------------------------


def merge_request_to_pb(peer: ResyncPeer, rows: Sequence[tuple[ChannelKey, ChannelRow]]) -> pb.MergeChannelsRequest:
    """Channel rows on their way to the successor."""
    results = [row.result for _, row in rows]
    return pb.MergeChannelsRequest(
        fence=fence_to_pb(peer),
        client_ids=b"".join([client for (client, _), _ in rows]),
        channels=[channel for (_, channel), _ in rows],
        seqs=[row.seq for _, row in rows],
        chunks=b"".join([row.chunk for _, row in rows]),
        codes=[result.code for result in results],
        versions=[result.version for result in results],
        lengths=[result.length for result in results],
        checksums=[result.checksum for result in results],
    )


def merge_request_from_pb(request: pb.MergeChannelsRequest) -> list[tuple[ChannelKey, ChannelRow]]:
    """The checked rows of a request. INVALID naming the column."""
    channels = request.channels[:]
    count = len(channels)
    if count > channel_rows_per_merge_max:
        raise malformed("channels", f"{count} elements, at most {channel_rows_per_merge_max} are allowed")
    for name in ("seqs", "codes", "versions", "lengths", "checksums"):
        column = getattr(request, name)
        if len(column) != count:
            raise malformed(name, f"{len(column)} elements beside {count} channels")
    if len(request.client_ids) != CLIENT_ID_BYTES * count:
        raise malformed("client_ids", f"{len(request.client_ids)} bytes are not {count} ids of {CLIENT_ID_BYTES} bytes")
    clients = split_ids(request.client_ids, count, "client_ids")
    chunks = split_ids(request.chunks, count, "chunks")
    rows = []
    for client, channel, seq, chunk, code, version, length, checksum in zip(
        clients,
        channels,
        request.seqs,
        chunks,
        request.codes,
        request.versions,
        request.lengths,
        request.checksums,
        strict=True,
    ):
        result = UpdateResult(Code.from_wire(code), version, length, checksum)
        rows.append(((ClientId(client), channel), ChannelRow(seq, ChunkId(chunk), result)))
    return rows


def merge_reply_to_pb(code: Code, incarnation: int) -> pb.MergeChannelsReply:
    """OK: every row, or one with a higher seq, is durable here."""
    return pb.MergeChannelsReply(answer=answer_to_pb(code, incarnation))


# --- the end ---------------------------------------------------------------------------------------------------------


def finish_request_to_pb(peer: ResyncPeer) -> pb.FinishResyncRequest:
    """Tells the successor that it has everything."""
    return pb.FinishResyncRequest(fence=fence_to_pb(peer))


def finish_reply_to_pb(code: Code, incarnation: int) -> pb.FinishResyncReply:
    """OK: the target that was asked counts as one that has everything."""
    return pb.FinishResyncReply(answer=answer_to_pb(code, incarnation))
