"""Where blocks lie, for clients on the host of their node: short-circuit reads."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import NamedTuple

from fs3.base.checksum import PIECE_BYTES, piece_count
from fs3.base.errors import error
from fs3.base.ids import ChainId, ChunkId
from fs3.base.limits import block_bytes_max, blocks_per_locate_max
from fs3.base.status import Code
from fs3.core.craq.change_board import OwnerMark, ToldEpoch, is_row, is_slot
from fs3.wire.malformed import malformed
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.storage import split_ids

SUM_BYTES = 4
"""Of a piece, as it travels."""
_PATH_BYTES_MAX = 4096
_MARK_BYTES_MAX = 64


class LocateColumns(NamedTuple):
    """Which blocks are asked for; a column each."""

    chunks: Sequence[bytes]
    chains: Sequence[int]
    chain_versions: Sequence[int]


class LocatedTarget(NamedTuple):
    """What has to be so for blocks of a target to be read."""

    gate: ToldEpoch
    mark: OwnerMark


class LocatedBlock(NamedTuple):
    """Where the committed version of a chunk is, and what must not have changed."""

    target: int
    """Index of its target in the same answer."""
    slot: int
    changes: int
    path: str
    offset: int
    length: int
    version: int
    sums: array[int]
    """CRC32C of each piece of PIECE_BYTES, of format q; -1: it is not known to the node."""


class Located(NamedTuple):
    """An answer."""

    board: str
    token: int
    clock_space: int
    targets: Sequence[LocatedTarget]
    blocks: Sequence[LocatedBlock | Code]
    """Per chunk where it is, or why that is not said."""


def locate_request_to_pb(asked: Sequence[tuple[ChunkId, ChainId, int]]) -> pb.LocateBlocksRequest:
    """Ask for (chunk, its chain, the version of that), at most `blocks_per_locate_max`."""
    chunks, chains, versions = zip(*asked, strict=True)
    return pb.LocateBlocksRequest(chunks=b"".join(chunks), chains=chains, chain_versions=versions)


def locate_request_from_pb(request: pb.LocateBlocksRequest) -> LocateColumns:
    """The columns. Raises INVALID naming the one that is wrong."""
    chains, versions = request.chains[:], request.chain_versions[:]
    if len(chains) > blocks_per_locate_max:
        raise malformed("chains", f"{len(chains)} elements, at most {blocks_per_locate_max} are allowed")
    if len(versions) != len(chains):
        raise malformed("chain_versions", f"{len(versions)} elements beside {len(chains)} chains")
    return LocateColumns(split_ids(request.chunks, len(chains), "chunks"), chains, versions)


def locate_reply_to_pb(located: Located, *, routing_version: int) -> pb.LocateBlocksReply:
    """The message of an answer."""
    return pb.LocateBlocksReply(
        board=located.board,
        token=located.token,
        clock_space=located.clock_space,
        targets=[
            pb.LocatedTarget(row=gate.row, epoch=gate.epoch, mark_path=mark.path, mark=mark.content)
            for gate, mark in located.targets
        ],
        blocks=[
            pb.LocatedBlock(code=int(block))
            if isinstance(block, Code)
            else pb.LocatedBlock(
                target=block.target,
                slot=block.slot,
                changes=block.changes,
                version=block.version,
                length=block.length,
                path=block.path,
                offset=block.offset,
                sums=_pack(block.sums),
                unknown=[index for index, piece in enumerate(block.sums) if piece < 0],
            )
            for block in located.blocks
        ],
        routing_version=routing_version,
    )


def locate_reply_from_pb(reply: pb.LocateBlocksReply, count: int) -> Located:
    """An answer about `count` chunks. Raises PROTOCOL for one that makes no sense."""
    if len(reply.blocks) != count or len(reply.targets) > count:
        raise error(Code.PROTOCOL, f"{count} blocks were asked for, {len(reply.blocks)} of {len(reply.targets)} targets answered")
    targets = [_target(target) for target in reply.targets]
    return Located(
        _path(reply.board) if targets else reply.board,
        reply.token,
        reply.clock_space,
        targets,
        [Code.from_wire(block.code) if block.code else _block(block, len(targets)) for block in reply.blocks],
    )


def _target(target: pb.LocatedTarget) -> LocatedTarget:
    if not is_row(target.row) or not 0 < len(target.mark) <= _MARK_BYTES_MAX:
        raise error(Code.PROTOCOL, f"a target in word {target.row} of a board, with a mark of {len(target.mark)} bytes")
    return LocatedTarget(ToldEpoch(target.row, target.epoch), OwnerMark(_path(target.mark_path), target.mark))


def _block(block: pb.LocatedBlock, targets: int) -> LocatedBlock:
    length = block.length
    if block.target >= targets or not is_slot(block.slot) or not 0 < length <= block_bytes_max or block.offset >> 63:
        raise error(Code.PROTOCOL, f"a block of {length} bytes at {block.offset}, of target {block.target}, slot {block.slot}")
    if len(block.sums) != SUM_BYTES * piece_count(0, length, PIECE_BYTES):
        raise error(Code.PROTOCOL, f"{len(block.sums)} bytes of sums for a block of {length}")
    unknown = block.unknown[:]
    if unknown and max(unknown) >= len(block.sums) // SUM_BYTES:
        raise error(Code.PROTOCOL, f"piece {max(unknown)} of a block of {length} bytes is said to be unknown")
    sums = _unpack(block.sums, unknown)
    return LocatedBlock(block.target, block.slot, block.changes, _path(block.path), block.offset, length, block.version, sums)


def _path(path: str) -> str:
    if not path.startswith("/") or "\0" in path or len(path) > _PATH_BYTES_MAX:
        raise error(Code.PROTOCOL, f"{path[:80]!r} is no absolute path")
    return path


def _pack(sums: array[int]) -> bytes:
    packed = array("I", [piece if piece >= 0 else 0 for piece in sums] if -1 in sums else sums)
    return _in_wire_order(packed).tobytes()


def _unpack(packed: bytes, unknown: Sequence[int]) -> array[int]:
    sums = array("q", _in_wire_order(array("I", packed)))
    for piece in unknown:
        sums[piece] = -1
    return sums


def _in_wire_order(sums: array[int]) -> array[int]:
    if sys.byteorder == "big":
        sums.byteswap()
    return sums
