"""Messages about targets rather than about single chunks: listing, space, scrubs, reports of bad chunks; records and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fs3.base.errors import error
from fs3.base.ids import CHUNK_ID_BYTES, ChainId, ChunkId, TargetId
from fs3.base.limits import ios_per_read_max, list_entries_max
from fs3.base.status import Code
from fs3.model.upkeep import ChunkPage, ChunkRow, ScrubStatus, TargetSpace
from fs3.wire.malformed import malformed
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.storage import split_ids


class ListRequest(NamedTuple):
    """A checked request for a page of chunks, beside the target."""

    after: ChunkId | None
    until: ChunkId | None
    limit: int
    """`list_entries_max` at most."""


def list_request_to_pb(target: TargetId, after: ChunkId | None, until: ChunkId | None, limit: int) -> pb.ListChunksRequest:
    """A page of one target's chunks: those behind `after` and before `until`; `limit` 0: as many as the target likes."""
    return pb.ListChunksRequest(target_id=target, after=after or b"", until=until or b"", limit=limit)


def list_request_from_pb(request: pb.ListChunksRequest) -> ListRequest:
    """What a client asks for. INVALID naming a key that is none."""
    for name, key in (("after", request.after), ("until", request.until)):
        if len(key) not in (0, CHUNK_ID_BYTES):
            raise malformed(name, f"{len(key)} bytes are not a chunk id of {CHUNK_ID_BYTES} bytes")
    after, until = (ChunkId(key) if key else None for key in (request.after, request.until))
    return ListRequest(after, until, min(request.limit or list_entries_max, list_entries_max))


def chunk_page_to_pb(rows: Sequence[ChunkRow], more: bool) -> pb.ListChunksReply:
    """A page of chunks in key order. `more`: there are chunks behind the last of them."""
    infos = [
        pb.ChunkInfo(
            chunk=row.chunk,
            committed_version=row.committed,
            pending_version=row.pending,
            chain_version=row.chain_version,
            length=row.length,
            checksum=row.checksum,
            bad=row.bad,
        )
        for row in rows
    ]
    return pb.ListChunksReply(chunks=infos, more=more)


def chunk_page_from_pb(reply: pb.ListChunksReply) -> ChunkPage:
    """The page that was asked for. Raises PROTOCOL for an id of another size, and for an empty page that is not the last."""
    rows = [
        ChunkRow(
            ChunkId(info.chunk),
            info.committed_version,
            info.pending_version,
            info.chain_version,
            info.length,
            info.checksum,
            info.bad,
        )
        for info in reply.chunks
    ]
    if any(len(row.chunk) != CHUNK_ID_BYTES for row in rows):
        raise error(Code.PROTOCOL, f"a chunk id is not of {CHUNK_ID_BYTES} bytes")
    if reply.more and not rows:
        raise error(Code.PROTOCOL, "a page of chunks says that there are more, and is empty")
    return ChunkPage(rows, reply.more)


def space_request_to_pb() -> pb.GetSpaceRequest:
    """Asks a node for the room of its targets."""
    return pb.GetSpaceRequest()


def space_reply_to_pb(targets: Sequence[TargetSpace], resident_bytes: int, buffer_bytes: int) -> pb.GetSpaceReply:
    """Room and use of each target, resident memory of the process, and what of it is in buffers."""
    spaces = [
        pb.TargetSpace(
            target_id=space.target_id,
            used_bytes=space.used_bytes,
            free_bytes=space.free_bytes,
            chunks=space.chunks,
            pinned_bytes=space.pinned_bytes,
        )
        for space in targets
    ]
    return pb.GetSpaceReply(targets=spaces, resident_bytes=resident_bytes, buffer_bytes=buffer_bytes)


def space_reply_from_pb(reply: pb.GetSpaceReply) -> list[TargetSpace]:
    """Room and use of each target of the node."""
    return [
        TargetSpace(TargetId(space.target_id), space.used_bytes, space.free_bytes, space.chunks, space.pinned_bytes)
        for space in reply.targets
    ]


def scrub_request_to_pb(begin: bool) -> pb.ScrubRequest:
    """Asks a node how far its scrubs are; `begin`: one is begun where none is under way."""
    return pb.ScrubRequest(begin=begin)


def scrub_reply_to_pb(targets: Sequence[ScrubStatus]) -> pb.ScrubReply:
    """The scrub of each target of the node."""
    return pb.ScrubReply(
        targets=[
            pb.ScrubStatus(
                target_id=status.target_id,
                running=status.running,
                done_chunks=status.done_chunks,
                total_chunks=status.total_chunks,
                bytes=status.bytes,
                passes=status.passes,
                bad_chunks=status.bad_chunks,
                bad=b"".join(status.bad),
                repaired_chunks=status.repaired_chunks,
            )
            for status in targets
        ]
    )


def scrub_reply_from_pb(reply: pb.ScrubReply) -> list[ScrubStatus]:
    """The scrub of each target of the node."""
    return [
        ScrubStatus(
            TargetId(status.target_id),
            status.running,
            status.done_chunks,
            status.total_chunks,
            status.bytes,
            status.passes,
            status.bad_chunks,
            _split_bad(status.bad),
            status.repaired_chunks,
        )
        for status in reply.targets
    ]


def _split_bad(packed: bytes) -> tuple[ChunkId, ...]:
    return tuple(ChunkId(packed[at : at + CHUNK_ID_BYTES]) for at in range(0, len(packed), CHUNK_ID_BYTES))


def report_bad_request_to_pb(chunks: Sequence[tuple[ChunkId, ChainId]]) -> pb.ReportBadRequest:
    """Chunks whose bytes arrived with other sums than the node's index has."""
    return pb.ReportBadRequest(chunks=b"".join([chunk for chunk, _ in chunks]), chains=[chain for _, chain in chunks])


def report_bad_request_from_pb(request: pb.ReportBadRequest) -> list[tuple[ChunkId, ChainId]]:
    """The checked chunks of a report. INVALID naming the column."""
    count = len(request.chains)
    if count > ios_per_read_max:
        raise malformed("chunks", f"{len(request.chunks)} bytes beside {count} chains, at most {ios_per_read_max}")
    chunks = split_ids(request.chunks, count, "chunks")
    return [(ChunkId(chunk), ChainId(chain)) for chunk, chain in zip(chunks, request.chains, strict=True)]


def report_bad_reply_to_pb() -> pb.ReportBadReply:
    """The report has arrived; what becomes of it is not waited for."""
    return pb.ReportBadReply()


def resync_request_to_pb(target: TargetId) -> pb.ResyncRequest:
    """Has a target leave its chain for a moment and come back through a resync."""
    return pb.ResyncRequest(target_id=target)


def resync_reply_to_pb() -> pb.ResyncReply:
    """The target leaves its chain."""
    return pb.ResyncReply()


def accept_loss_request_to_pb(target: TargetId) -> pb.AcceptLossRequest:
    """Has a target serve with what it has."""
    return pb.AcceptLossRequest(target_id=target)


def accept_loss_reply_to_pb() -> pb.AcceptLossReply:
    """The target will serve."""
    return pb.AcceptLossReply()
