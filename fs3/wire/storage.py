"""Storage messages as records and back.

Requests and replies carry columns, one element per IO. What arrives is checked here, once: columns of different lengths, sizes
beyond the limits or unknown kinds are refused with the name of the column, so that no caller has to look again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import add
from struct import Struct
from typing import Any, NamedTuple

import msgspec

from fs3.base.checksum import BLOCK_BYTES
from fs3.base.errors import error
from fs3.base.ids import CHUNK_ID_BYTES, CLIENT_ID_BYTES, ChainId, ChunkId, ClientId, TargetId, is_page
from fs3.base.limits import (
    block_bytes_max,
    content_bytes_max,
    ios_per_read_max,
    keys_per_find_max,
    read_bytes_per_request_max,
    update_bytes_per_request_max,
    updates_per_request_max,
)
from fs3.base.status import Code
from fs3.core.craq.admission.table import UNTAGGED
from fs3.model.chunk import FILLS, Tag, Update, UpdateKind, UpdateResult
from fs3.wire.malformed import malformed
from fs3.wire.pb import storage_pb2 as pb

NO_CLIENT = bytes(CLIENT_ID_BYTES)
"""The client id of an update without tag, on the wire."""
_KINDS = {int(kind): kind for kind in UpdateKind}
_WITH_DATA = FILLS | {UpdateKind.WRITE, UpdateKind.PUT}
_WHOLE = FILLS | {UpdateKind.PUT, UpdateKind.REMOVE}


class ReadRequestColumns(NamedTuple):
    """A read request, checked where it arrives; one element per IO in each."""

    chunks: Sequence[bytes]
    chains: Sequence[int]
    chain_versions: Sequence[int]
    offsets: Sequence[int]
    lengths: Sequence[int]


class ReadReplyColumns(NamedTuple):
    """A checked read reply; one element per IO in each, but for the checksums, which are of all pieces of all IOs."""

    codes: Sequence[int]
    lengths: Sequence[int]
    versions: Sequence[int]
    piece_bytes: Sequence[int]
    checksums: Sequence[int]


class SingleReadReply(NamedTuple):
    """The answer to a read of one range. `checksums` are of its pieces."""

    code: int
    length: int
    version: int
    piece_bytes: int
    checksums: Sequence[int]


class UpdateRequestColumns(NamedTuple):
    """An update request about to leave; one element per update in each, but for the checksums, which are of all pieces of all."""

    chunks: Sequence[bytes]
    kinds: Sequence[UpdateKind]
    chains: Sequence[int]
    chain_versions: Sequence[int]
    offsets: Sequence[int]
    lengths: Sequence[int]
    """Bytes of each in the payload."""
    versions: Sequence[int]
    """0 from a client."""
    checksums: Sequence[int]
    clients: Sequence[bytes]
    """`NO_CLIENT` of an update without tag."""
    channels: Sequence[int]
    seqs: Sequence[int]
    reserves: Sequence[int]
    pushes: Sequence[int] = ()
    """`Update.push` of each; empty: none of any."""


@lru_cache(maxsize=256)
def _ids(count: int) -> Struct:
    return Struct(f"{CHUNK_ID_BYTES}s" * count)


def split_ids(packed: bytes, count: int, column: str) -> Sequence[bytes]:
    """16-byte ids that travel as one string. Raises INVALID naming the column when there are not `count` of them."""
    if len(packed) != CHUNK_ID_BYTES * count:
        raise malformed(column, f"{len(packed)} bytes are not {count} ids of {CHUNK_ID_BYTES} bytes")
    return _ids(count).unpack(packed)


def _check_columns(count: int, count_max: int, **columns: Sequence[Any]) -> None:
    if count > count_max:
        raise malformed("chains", f"{count} elements, at most {count_max} are allowed")
    for name, column in columns.items():
        if len(column) != count:
            raise malformed(name, f"{len(column)} elements beside {count} chains")


def _check_range(offset: int, length: int) -> None:
    raise malformed("lengths", f"{length} bytes at {offset} end past {content_bytes_max}, the longest a chunk can be")


def routing_version_of(reply: Any) -> int:
    """The version of the routing info that the answering node knows."""
    version: int = reply.routing_version
    return version


# --- reading ---------------------------------------------------------------------------------------------------------


def read_request_to_pb(
    columns: ReadRequestColumns, with_checksums: bool, repair_version: int = 0, *, is_use: bool = True
) -> pb.ReadRequest:
    """The message of a read. `repair_version`: the version another replica repairs its copy of; 0 from a client. `is_use`: pages
    that it asks for count as used."""
    return pb.ReadRequest(
        chunks=b"".join(columns.chunks),
        chains=columns.chains,
        chain_versions=columns.chain_versions,
        offsets=columns.offsets,
        lengths=columns.lengths,
        without_checksums=not with_checksums,
        repair_version=repair_version,
        without_use=not is_use,
    )


def single_read_request_to_pb(
    chunk: bytes, chain: int, chain_version: int, offset: int, length: int, with_checksums: bool
) -> pb.ReadRequest:
    """The same for one range: a read by itself has no columns to make."""
    return pb.ReadRequest(
        chunks=chunk,
        chains=(chain,),
        chain_versions=(chain_version,),
        offsets=(offset,),
        lengths=(length,),
        without_checksums=not with_checksums,
    )


def read_request_from_pb(request: pb.ReadRequest) -> ReadRequestColumns:
    """The checked columns of a request. Raises INVALID naming the column."""
    chains = request.chains[:]
    versions = request.chain_versions[:]
    offsets = request.offsets[:]
    lengths = request.lengths[:]
    count = len(chains)
    if not len(versions) == len(offsets) == len(lengths) == count <= ios_per_read_max:
        _check_columns(count, ios_per_read_max, chain_versions=versions, offsets=offsets, lengths=lengths)
    chunks = split_ids(request.chunks, count, "chunks")
    if count and max(map(add, offsets, lengths)) > content_bytes_max:
        for offset, length in zip(offsets, lengths, strict=True):
            if offset + length > content_bytes_max:
                _check_range(offset, length)
    if count > 1 and sum(lengths) > read_bytes_per_request_max:
        raise malformed("lengths", f"{sum(lengths)} bytes in one request, at most {read_bytes_per_request_max} are allowed")
    return ReadRequestColumns(chunks, chains, versions, offsets, lengths)


def read_reply_to_pb(
    codes: Sequence[int],
    lengths: Sequence[int],
    versions: Sequence[int],
    piece_bytes: Sequence[int],
    checksums: Iterable[int],
    routing_version: int,
    block_lease_ms: int | None,
) -> pb.ReadReply:
    """The answer to a read, one element per IO; `checksums` are of all pieces of all IOs, none when they are not wanted."""
    return pb.ReadReply(
        codes=codes,
        lengths=lengths,
        versions=versions,
        checksums=checksums,
        piece_bytes=piece_bytes,
        routing_version=routing_version,
        block_lease_ms=block_lease_ms,
    )


def read_reply_from_pb(reply: pb.ReadReply, wanted: Sequence[int], payload_length: int, with_checksums: bool) -> ReadReplyColumns:
    """The checked columns of an answer to a request for `wanted` bytes per IO. Raises PROTOCOL when they contradict."""
    codes = reply.codes[:]
    lengths = reply.lengths[:]
    versions = reply.versions[:]
    piece_bytes = reply.piece_bytes[:]
    count = len(wanted)
    if not len(codes) == len(lengths) == len(versions) == len(piece_bytes) == count:
        raise error(Code.PROTOCOL, f"a read of {count} ranges was answered with {len(codes)}")
    if sum(lengths) != payload_length:
        raise error(Code.PROTOCOL, f"a read was answered with {payload_length} bytes for lengths of {sum(lengths)}")
    if lengths == wanted and not any(codes) and (0 not in piece_bytes or not with_checksums):
        return ReadReplyColumns(codes, lengths, versions, piece_bytes, reply.checksums[:])  # everything there: as nearly always
    for code, length, asked, piece in zip(codes, lengths, wanted, piece_bytes, strict=True):
        if length > asked or (code and length) or (length and not piece and with_checksums):
            raise error(Code.PROTOCOL, f"a read of {asked} bytes was answered with {length} (code {code}, pieces of {piece})")
    return ReadReplyColumns(codes, lengths, versions, piece_bytes, reply.checksums[:])


def single_read_reply_from_pb(reply: pb.ReadReply) -> SingleReadReply:
    """The answer to a read of one range. Raises PROTOCOL when it is of another number; its length is the caller's to compare."""
    codes, lengths, versions, piece_bytes = reply.codes, reply.lengths, reply.versions, reply.piece_bytes
    if not len(codes) == len(lengths) == len(versions) == len(piece_bytes) == 1:
        raise error(Code.PROTOCOL, f"a read of one range was answered with {len(codes)}")
    return SingleReadReply(codes[0], lengths[0], versions[0], piece_bytes[0], reply.checksums[:])


def is_settled(reply: pb.ReadReply) -> bool:
    """Every range was read, or is of a chunk that does not exist: nothing has to be asked elsewhere."""
    return all(code in (0, Code.NOT_FOUND) for code in reply.codes)


def block_lease_of(reply: pb.ReadReply) -> int | None:
    """The block lease (ms) of a reply without checksums; None: its payload is a copy and needs none."""
    return reply.block_lease_ms if reply.HasField("block_lease_ms") else None


# --- updating --------------------------------------------------------------------------------------------------------


def update_columns_to_pb(
    columns: UpdateRequestColumns,
    from_target: int = 0,
    serials: Sequence[int] = (),
    floor: int = 0,
    *,
    of_lost_pages: bool = False,
) -> pb.UpdateRequest:
    """The message of a batch whose payload is the updates' data, in order. `from_target` forwards them, each under its serial
    (`Update.serial`, `Update.floor`); 0: a client sends them. `of_lost_pages`: see `Update.is_of_lost_page`, of all of them."""
    kinds: Sequence[Any] = columns.kinds
    return pb.UpdateRequest(
        chunks=b"".join(columns.chunks),
        kinds=kinds,
        chains=columns.chains,
        chain_versions=columns.chain_versions,
        offsets=columns.offsets,
        lengths=columns.lengths,
        versions=columns.versions,
        checksums=columns.checksums,
        client_ids=b"".join(columns.clients),
        channels=columns.channels,
        seqs=columns.seqs,
        reserves=columns.reserves,
        from_target=from_target,
        serials=serials,
        floor=floor,
        of_lost_pages=of_lost_pages,
        pushed=columns.pushes,
    )


def update_request_to_pb(updates: Sequence[Update], from_target: int = 0) -> pb.UpdateRequest:
    """The same for updates that are records already."""
    checksums: list[int] = []
    for update in updates:
        checksums += update.checksums
    tags = [update.tag for update in updates]
    columns = UpdateRequestColumns(
        chunks=[update.chunk for update in updates],
        kinds=[update.kind for update in updates],
        chains=[update.chain for update in updates],
        chain_versions=[update.chain_version for update in updates],
        offsets=[update.offset for update in updates],
        lengths=[update.length if update.kind in _WITH_DATA else 0 for update in updates],
        versions=[update.version for update in updates],
        checksums=checksums,
        clients=[tag.client or NO_CLIENT for tag in tags],
        channels=[tag.channel for tag in tags],
        seqs=[tag.seq for tag in tags],
        reserves=[update.reserve for update in updates],
        pushes=[update.push for update in updates] if any(update.push for update in updates) else (),
    )
    if not from_target:
        return update_columns_to_pb(columns)
    floor = max([update.floor for update in updates], default=0)
    return update_columns_to_pb(columns, from_target, [update.serial for update in updates], floor)


def _of_lost_page(update: Update) -> Update:
    if update.kind is not UpdateKind.REMOVE or update.from_target or not is_page(update.chunk):
        raise malformed("of_lost_pages", f"true with a {update.kind.name} that is no client's removal of a KVCache page")
    return msgspec.structs.replace(update, is_of_lost_page=True)


def update_request_from_pb(request: pb.UpdateRequest, payload: memoryview | None) -> list[Update]:
    """The checked updates of a request; `data` of each is its part of the payload. Raises INVALID naming the column."""
    chains = request.chains[:]
    kinds = request.kinds[:]
    chain_versions = request.chain_versions[:]
    offsets = request.offsets[:]
    lengths = request.lengths[:]
    versions = request.versions[:]
    channels = request.channels[:]
    seqs = request.seqs[:]
    reserves = request.reserves[:]
    checksums = request.checksums[:]
    sender = request.from_target
    serials = request.serials[:]
    floor = request.floor
    count = len(chains)
    pushes = request.pushed[:] or [0] * count
    _check_columns(
        count,
        updates_per_request_max,
        kinds=kinds,
        chain_versions=chain_versions,
        offsets=offsets,
        lengths=lengths,
        versions=versions,
        channels=channels,
        seqs=seqs,
        reserves=reserves,
        pushed=pushes,
    )
    if not sender and any(pushes):
        raise malformed("pushed", "a client pushes nothing")
    if len(serials) != (count if sender else 0):
        raise malformed("serials", f"{len(serials)} elements beside {count} chains, from target {sender}")
    chunks = split_ids(request.chunks, count, "chunks")
    clients = split_ids(request.client_ids, count, "client_ids")
    total = sum(length for length, push in zip(lengths, pushes, strict=True) if not push)
    have = len(payload) if payload is not None else 0
    if total != have:
        raise malformed("lengths", f"{total} bytes for a payload of {have}")
    if count > 1 and total > update_bytes_per_request_max:
        raise malformed("lengths", f"{total} bytes in one request, at most {update_bytes_per_request_max} are allowed")
    updates = []
    at = 0
    sum_at = 0
    for i in range(count):
        kind = _KINDS.get(kinds[i])
        if kind is None:
            raise malformed("kinds", f"unknown kind {kinds[i]}")
        offset, length = offsets[i], lengths[i]
        data = None
        sums: tuple[int, ...] = ()
        if kind in _WITH_DATA:
            pieces = (offset + length - 1) // BLOCK_BYTES - offset // BLOCK_BYTES + 1 if length else 0
            sums = tuple(checksums[sum_at : sum_at + pieces])
            if len(sums) != pieces:
                raise malformed("checksums", f"{len(checksums)} for data of at least {sum_at + pieces} pieces")
            sum_at += pieces
            if pushes[i]:
                if not length or offset:
                    raise malformed("pushed", f"{length} bytes at {offset} were pushed: that is done with whole chunks")
            else:
                data = payload[at : at + length] if payload is not None else memoryview(b"")
                at += length
        elif pushes[i]:
            raise malformed("pushed", f"the data of a {kind.name}, which has none")
        elif length:
            raise malformed("lengths", f"{length} bytes of data with a {kind.name}")
        if offset + length > content_bytes_max:
            _check_range(offset, length)
        if offset and kind in _WHOLE:
            raise malformed("offsets", f"{offset} with a {kind.name}, which is of the whole chunk")
        if reserves[i] > block_bytes_max:
            raise malformed("reserves", f"{reserves[i]} bytes, at most {block_bytes_max} are allowed")
        if bool(versions[i]) != bool(sender):
            raise malformed("versions", f"{versions[i]} from target {sender}: a predecessor numbers every update, a client none")
        if kind in FILLS and not sender:
            raise malformed("kinds", f"{kind.name} from a client")
        client = clients[i]
        if client == NO_CLIENT:
            tag = UNTAGGED
        elif not seqs[i]:
            raise malformed("seqs", "0 with a client id")
        else:
            tag = Tag(ClientId(client), channels[i], seqs[i])
        updates.append(
            Update(
                ChunkId(chunks[i]), kind, ChainId(chains[i]), chain_versions[i], versions[i], offset, length, tag,
                sums, reserves[i], data, TargetId(sender), serials[i] if sender else 0, floor, push=pushes[i],
            )
        )  # fmt: skip
    if request.of_lost_pages:
        updates = [_of_lost_page(update) for update in updates]
    if sum_at != len(checksums):
        raise malformed("checksums", f"{len(checksums)} for data of {sum_at} pieces")
    return updates


def update_reply_to_pb(results: Sequence[UpdateResult], routing_version: int) -> pb.UpdateReply:
    """The answer to a batch."""
    return pb.UpdateReply(
        codes=[result.code for result in results],
        versions=[result.version for result in results],
        lengths=[result.length for result in results],
        checksums=[result.checksum for result in results],
        routing_version=routing_version,
        message=next((result.message for result in results if result.message), ""),
    )


def update_reply_from_pb(reply: pb.UpdateReply, count: int) -> list[UpdateResult]:
    """The results of a batch of `count`; the message goes with each refused update. Raises PROTOCOL when columns contradict."""
    codes = reply.codes
    versions = reply.versions
    lengths = reply.lengths
    checksums = reply.checksums
    if not len(codes) == len(versions) == len(lengths) == len(checksums) == count:
        raise error(Code.PROTOCOL, f"{count} updates were answered with {len(codes)} results")
    message = reply.message
    return [
        UpdateResult(Code.OK, version, length, checksum)
        if code == 0
        else UpdateResult(Code.from_wire(code), version, length, checksum, message)
        for code, version, length, checksum in zip(codes, versions, lengths, checksums, strict=True)
    ]


# --- finding ---------------------------------------------------------------------------------------------------------


def find_request_to_pb(
    chunks: Sequence[bytes], chains: Sequence[int], chain_versions: Sequence[int], following: bool = False
) -> pb.FindRequest:
    """The message of a search, one element per key. `following`: for the first chunk of the same file from each key on."""
    return pb.FindRequest(chunks=b"".join(chunks), chains=chains, chain_versions=chain_versions, following=following)


def probe_request_to_pb() -> pb.FindRequest:
    """A search for nothing, which any storage node answers at once, whatever its disks do."""
    return pb.FindRequest()


def find_request_from_pb(request: pb.FindRequest) -> tuple[Sequence[bytes], Sequence[int], Sequence[int]]:
    """(chunks, chains, chain versions) of a request. Raises INVALID naming the column."""
    chains = request.chains[:]
    versions = request.chain_versions[:]
    _check_columns(len(chains), keys_per_find_max, chain_versions=versions)
    return split_ids(request.chunks, len(chains), "chunks"), chains, versions


def find_reply_to_pb(
    codes: Sequence[int], lengths: Sequence[int], chunks: Sequence[bytes] = (), *, routing_version: int
) -> pb.FindReply:
    """The answer to a search, one element per key. `chunks`: with `following`, those that were found."""
    return pb.FindReply(codes=codes, lengths=lengths, chunks=b"".join(chunks), routing_version=routing_version)


def find_reply_from_pb(reply: pb.FindReply, count: int) -> tuple[Sequence[int], Sequence[int]]:
    """(codes, lengths) of an answer. Raises PROTOCOL when there are not `count`."""
    codes = reply.codes[:]
    lengths = reply.lengths[:]
    if not len(codes) == len(lengths) == count:
        raise error(Code.PROTOCOL, f"{count} chunks were looked for and {len(codes)} answered")
    return codes, lengths


def found_chunks_from_pb(reply: pb.FindReply, count: int) -> Sequence[bytes]:
    """Of a search for following chunks: the one each key found, zeros where there is none. Raises INVALID when there are not
    `count`."""
    return split_ids(reply.chunks, count, "chunks")
