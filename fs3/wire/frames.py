"""Frames: how calls travel on a stream of bytes.

    0        2      3      4        6        8            16              20               24            28
    | magic  | ver  | kind | method | code   | request id | header length | payload length | timeout ms  |
    | protobuf header ... | payload ...

Little-endian. `request id` is chosen by the client, from 1, unique among its calls under way on the connection. `code` is a
`fs3.base.status.Code`; in requests it is the sum of those that apply of `TAKES_PLACES` and `TRACED`. A reply that is not OK has
an ErrorDetail as its header and no payload.

A streamed answer is any number of MORE frames, each with one message, and a REPLY: without a header when the stream has ended
well, with a code and an ErrorDetail when it has not.

A request with `TRACED` has the spans it belongs to behind its protobuf header (`fs3.wire.trace_context`).

On one host a reply may say where its bytes lie instead of bringing them. A client that takes descriptors sends `TAKES_PLACES`.
Its server may then pass read-only ones, each with the first byte of a FILE frame (SCM_RIGHTS, unix(7)) whose request id is the
number of the file on this connection, and answer by PLACES: as REPLY, but the payload lists ranges of such files
(`fs3.wire.places`), which joined are the payload that the REPLY would have.

Two hosts may have a better way for payloads than the stream (`fs3.model.rdma`). A client that looks for one sends
`ASKS_PATH` in the code of a request; servers that know of none ignore it. PATH frames of both ends,
whose header is a `PathMessage` and whose code a `PathStep`, agree on the path. Once it is up, an OFFERED_REQUEST or OFFERED_REPLY
takes the place of a REQUEST or REPLY: its payload is empty, and before its protobuf stands where the bytes can be read
(`fs3.wire.paths`). The receiver ends every offer by a TAKEN frame of the same request id, without header: code OK once it
has the bytes; UNAVAILABLE has the sender send a REQUEST or REPLY in its place, with the same request id.

An unknown magic, version or `kind`, or a length beyond the limits, ends the connection. Unless the peer is not one of ours at
all (magic), it is told why first: by a REPLY to request 0, whose code is PROTOCOL.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from fs3.base.limits import frame_header_bytes_max, frame_payload_bytes_max

MAGIC = 0x3F53
MAGIC_BYTES = MAGIC.to_bytes(2, "little")
PROTOCOL_VERSION = 1
_HEADER = struct.Struct("<HBBHHQIII")
HEADER_BYTES = _HEADER.size
_unpack_from = _HEADER.unpack_from
_new = tuple.__new__
TIMEOUT_MS_MAX = 0xFFFF_FFFF


class FrameKind(IntEnum):
    """What a frame is."""

    REQUEST = 1
    REPLY = 2
    """The only or the last answer."""
    MORE = 3
    """One message of a streamed answer; others follow."""
    CANCEL = 4
    """The client gives a request up. No header, no payload, no answer."""
    FILE = 5
    """A descriptor of a file of this host comes with its first byte."""
    PLACES = 6
    """As REPLY, but the payload says where the bytes lie."""
    PATH = 9
    """A message about a path for payloads beside the stream."""
    OFFERED_REQUEST = 10
    """As REQUEST, but the payload is to be fetched by the path."""
    OFFERED_REPLY = 11
    """As REPLY, but the payload is to be fetched by the path."""
    TAKEN = 12
    """The receiver of an offer has done with it."""


_KINDS = frozenset(kind.value for kind in FrameKind)
TAKES_PLACES = 1
"""In the code of a request: its client takes its answer as PLACES as well."""
TRACED = 2
"""In the code of a request: the spans it belongs to end its header."""
ASKS_PATH = 4
"""In the code of a request: its client would like to have a path beside the stream."""


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
    kind: int,
    method: int,
    request_id: int,
    header_length: int,
    payload_length: int = 0,
    code: int = 0,
    timeout_ms: int = 0,
) -> bytes:
    """The fixed header of a frame; `kind` is a `FrameKind`."""
    return _HEADER.pack(MAGIC, PROTOCOL_VERSION, kind, method, code, request_id, header_length, payload_length, timeout_ms)


def unpack(data: bytes | bytearray | memoryview, at: int = 0) -> Frame:
    """Decode the fixed header at `at`. Raises FrameError naming what is wrong."""
    magic, version, kind, method, code, request_id, header_length, payload_length, timeout_ms = _unpack_from(data, at)
    if (
        magic != MAGIC
        or version != PROTOCOL_VERSION
        or kind not in _KINDS
        or header_length > frame_header_bytes_max
        or payload_length > frame_payload_bytes_max
    ):
        raise FrameError(_what_is_wrong(magic, version, kind, header_length, payload_length))
    # As Frame(...), without its Python-level __new__: this runs for every frame.
    return _new(Frame, (kind, method, code, request_id, header_length, payload_length, timeout_ms))


def _what_is_wrong(magic: int, version: int, kind: int, header_length: int, payload_length: int) -> str:
    if magic != MAGIC:
        return f"not an fs3 frame (magic {magic:#06x})"
    if version != PROTOCOL_VERSION:
        return f"frame of protocol {version}, this side speaks {PROTOCOL_VERSION}"
    if kind not in _KINDS:
        return f"unknown kind of frame {kind}"
    if header_length > frame_header_bytes_max:
        return f"header of {header_length} bytes, at most {frame_header_bytes_max} are allowed"
    return f"payload of {payload_length} bytes, at most {frame_payload_bytes_max} are allowed"


_FOREIGN_PROTOCOLS = (
    (b"PRI * HTTP/2", "a gRPC (HTTP/2) client: this port speaks the framed wire, gRPC has a port of its own"),
    (b"\x16\x03", "a TLS client: this port does not speak TLS"),
    (b"SSH-", "an SSH peer"),
    (b"HTTP/", "an HTTP server"),
    *((verb + b" ", "an HTTP client") for verb in (b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE")),
)


def foreign_protocol(data: bytes | bytearray) -> str | None:
    """Who sends such first bytes, when they cannot become one of our frames; None while they can."""
    if data.startswith(MAGIC_BYTES[: len(data)]):
        return None
    if len(data) >= 9 and data[:2] == b"\0\0" and data[3:9] == b"\x04\0\0\0\0\0":
        return "a gRPC (HTTP/2) server: the framed wire has a port of its own"
    for start, who in _FOREIGN_PROTOCOLS:
        if data.startswith(start[: len(data)]):
            return who
    return f"not an fs3 peer: it sent {bytes(data[:16])!r}"
