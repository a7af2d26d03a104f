"""Paths beside the stream: the messages that agree on one, and what an offer looks like.

A `PathMessage` is JSON: a few hundred bytes once in a connection's life, with names that can be read in a trace. Fields that are
not known are skipped, those that are missing have their defaults.

An offer stands before the protobuf of OFFERED_REQUEST and OFFERED_REPLY:

    0       4          8
    | count | reserved | count × (address, key, length) | protobuf ...

Little-endian; u32, but for the u64 address.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

import msgspec

from fs3.base.limits import frame_payload_bytes_max
from fs3.model.rdma import PathMessage, PathStep, RemoteRegion
from fs3.wire.frames import FrameError

path_message_bytes_max = 64 * 1024
path_addresses_max = 256
offer_regions_max = 64
_COUNT = struct.Struct("<II")
_REGION = struct.Struct("<QII")
_GID = re.compile(r"[0-9a-f]{4}(:[0-9a-f]{4}){7}")
_decoder = msgspec.json.Decoder(PathMessage)


def pack_path_message(message: PathMessage) -> bytes:
    """The header of a PATH frame."""
    return msgspec.json.encode(message)


def unpack_path_message(step: int, data: bytes | bytearray | memoryview) -> tuple[PathStep, PathMessage]:
    """What a PATH frame says. Raises FrameError naming what makes no sense in it."""
    if len(data) > path_message_bytes_max:
        raise FrameError(f"a message about a path of {len(data)} bytes, at most {path_message_bytes_max} are allowed")
    try:
        known = PathStep(step)
        message = _decoder.decode(bytes(data))
    except (ValueError, msgspec.MsgspecError) as problem:
        raise FrameError(f"a message about a path cannot be read: {problem}") from None
    if len(message.addresses) > path_addresses_max:
        raise FrameError(f"{len(message.addresses)} RDMA addresses, at most {path_addresses_max} are allowed")
    for address in message.addresses:
        _check_gid(address.gid)
    end = message.end
    if end is None:
        if known in (PathStep.CHOICE, PathStep.BUILT):
            raise FrameError(f"{known.name} without the sender's end of the path")
    else:
        _check_gid(end.gid)
        if end.mtu not in (256, 512, 1024, 2048, 4096):
            raise FrameError(f"{end.mtu} bytes are no MTU of RDMA")
        for name, value, most in (("queue pair", end.qp_number, 1 << 24), ("PSN", end.psn, 1 << 24), ("LID", end.lid, 1 << 16)):
            if not 0 <= value < most:
                raise FrameError(f"{name} {value} is out of range")
        if not 1 <= end.reads_max <= 255:
            raise FrameError(f"{end.reads_max} reads at once")
        _check_region(end.proof)
    return known, message


def _check_gid(gid: str) -> None:
    if not _GID.fullmatch(gid):
        raise FrameError(f"{gid[:64]!r} is no RDMA address")


def _check_region(region: RemoteRegion) -> None:
    if not (0 <= region.address < 1 << 64 and 0 <= region.key < 1 << 32 and region.length > 0):
        raise FrameError(f"there can be no such region: {region}")
    if region.address + region.length > 1 << 64:
        raise FrameError(f"a region reaches beyond the last address: {region}")


def pack_offer(regions: Sequence[RemoteRegion]) -> bytes:
    """What stands before the protobuf."""
    return _COUNT.pack(len(regions), 0) + b"".join([_REGION.pack(one.address, one.key, one.length) for one in regions])


def unpack_offer(header: bytes | bytearray | memoryview) -> tuple[list[RemoteRegion], memoryview]:
    """The regions, and the protobuf. Raises FrameError when the list is cut short, when a region is empty or reaches beyond the
    last address, or when there is more in all than a payload may have."""
    view = memoryview(header)
    if len(view) < _COUNT.size:
        raise FrameError(f"an offer of {len(view)} bytes")
    count, _ = _COUNT.unpack_from(view)
    end = _COUNT.size + count * _REGION.size
    if not 1 <= count <= offer_regions_max or end > len(view):
        raise FrameError(f"an offer of {count} regions in a header of {len(view)} bytes")
    regions = [RemoteRegion(address, key, length) for address, key, length in _REGION.iter_unpack(view[_COUNT.size : end])]
    for region in regions:
        _check_region(region)
    total = sum(region.length for region in regions)
    if total > frame_payload_bytes_max:
        raise FrameError(f"an offer of {total} bytes, at most {frame_payload_bytes_max} are allowed")
    return regions, view[end:]


def is_address(text: str) -> bool:
    """Whether `text` is an RDMA address as the kernel writes it, and not the empty one."""
    return bool(_GID.fullmatch(text)) and text.strip("0:") != ""
