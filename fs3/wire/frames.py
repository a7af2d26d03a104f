"""Frames: how calls travel on a stream of bytes.

    0        2      3      4        6        8            16              20               24            28
    | magic  | ver  | kind | method | code   | request id | header length | payload length | timeout ms  |
    | protobuf header ... | payload ...

Little-endian. `request id` is chosen by the client, unique among its calls under way on the connection. `code` is a
`fs3.base.status.Code`, 0 in requests. A reply that is not OK has an ErrorDetail as its header and no payload. The protocol
version is checked on the first frame of a connection; an unknown `kind` or magic ends the connection with a clear message.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from fs3.base.limits import frame_header_bytes_max, frame_payload_bytes_max

MAGIC = 0x3F53
PROTOCOL = 1
_HEADER = struct.Struct("<HBBHHQIII")
HEADER_BYTES = _HEADER.size


class Kind(IntEnum):
    """What a frame is."""

    REQUEST = 1
    REPLY = 2
    """The only or the last answer."""
    MORE = 3
    """One message of a streamed answer; others follow."""
    CANCEL = 4
    """The client gives a request up. No header, no payload, no answer."""


class Frame(NamedTuple):
    """A decoded frame header; lengths in bytes, timeout in milliseconds (0: none)."""

    kind: int
    method: int
    code: int
    request_id: int
    header_length: int
    payload_length: int
    timeout_ms: int


class FrameError(ValueError):
    """The bytes are not a frame of ours; the connection cannot be used any further."""


def pack(
    kind: Kind,
    method: int,
    request_id: int,
    header_length: int,
    payload_length: int = 0,
    code: int = 0,
    timeout_ms: int = 0,
) -> bytes:
    """The fixed header of a frame."""
    return _HEADER.pack(MAGIC, PROTOCOL, kind, method, code, request_id, header_length, payload_length, timeout_ms)


def unpack(data: bytes | bytearray | memoryview, at: int = 0) -> Frame:
    """Decode the fixed header at `at`. Raises FrameError naming what is wrong."""
    magic, version, kind, method, code, request_id, header_length, payload_length, timeout_ms = _HEADER.unpack_from(data, at)
    if magic != MAGIC:
        raise FrameError(f"not an fs3 frame (magic {magic:#06x})")
    if version != PROTOCOL:
        raise FrameError(f"frame of protocol {version}, this side speaks {PROTOCOL}")
    if not 1 <= kind <= 4:
        raise FrameError(f"unknown kind of frame {kind}")
    if header_length > frame_header_bytes_max:
        raise FrameError(f"header of {header_length} bytes, at most {frame_header_bytes_max} are allowed")
    if payload_length > frame_payload_bytes_max:
        raise FrameError(f"payload of {payload_length} bytes, at most {frame_payload_bytes_max} are allowed")
    return Frame(kind, method, code, request_id, header_length, payload_length, timeout_ms)
