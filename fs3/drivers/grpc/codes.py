"""`Code` and gRPC status codes, messages with a payload, and failures, as gRPC carries them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import grpc
from grpc.aio import AioRpcError

from fs3.base.errors import FS3Error, error
from fs3.base.limits import frame_header_bytes_max, frame_payload_bytes_max
from fs3.base.status import Code
from fs3.drivers.rpc.payload import join_parts
from fs3.ports.rpc import Part
from fs3.wire.errors import decode_error

ERROR_TRAILER: Final = "fs3-error-bin"
"""Trailing metadata with the ErrorDetail of a failed call."""

TICKET_METADATA: Final = "fs3-ticket-bin"
"""Metadata of a call: who calls, as Process.Authenticate says it on the other wires."""

MESSAGE_BYTES_MAX: Final = frame_header_bytes_max + frame_payload_bytes_max + 16

OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
)

_Status = grpc.StatusCode

_TO_STATUS = {
    Code.CANCELLED: _Status.CANCELLED,
    Code.DEADLINE: _Status.DEADLINE_EXCEEDED,
    Code.UNAVAILABLE: _Status.UNAVAILABLE,
    Code.DISCONNECTED: _Status.UNAVAILABLE,
    Code.SHUTTING_DOWN: _Status.UNAVAILABLE,
    Code.NOT_PRIMARY: _Status.UNAVAILABLE,
    Code.BUSY: _Status.RESOURCE_EXHAUSTED,
    Code.TOO_LARGE: _Status.RESOURCE_EXHAUSTED,
    Code.NO_SPACE: _Status.RESOURCE_EXHAUSTED,
    Code.INVALID: _Status.INVALID_ARGUMENT,
    Code.NAME_TOO_LONG: _Status.INVALID_ARGUMENT,
    Code.UNSUPPORTED: _Status.UNIMPLEMENTED,
    Code.PROTOCOL: _Status.INTERNAL,
    Code.INTERNAL: _Status.INTERNAL,
    Code.NOT_FOUND: _Status.NOT_FOUND,
    Code.NO_SUCH_TARGET: _Status.NOT_FOUND,
    Code.EXISTS: _Status.ALREADY_EXISTS,
    Code.PERMISSION: _Status.PERMISSION_DENIED,
    Code.ACCESS: _Status.PERMISSION_DENIED,
    Code.NOT_AUTHENTICATED: _Status.UNAUTHENTICATED,
    Code.CHECKSUM: _Status.DATA_LOSS,
    Code.DISK: _Status.DATA_LOSS,
    Code.DATA_LOSS: _Status.DATA_LOSS,
}
"""Every other code is FAILED_PRECONDITION; the exact one is in the trailer."""

_FROM_STATUS = {
    _Status.CANCELLED: Code.DISCONNECTED,  # not by us: the server dropped the call
    _Status.DEADLINE_EXCEEDED: Code.DEADLINE,
    _Status.UNAVAILABLE: Code.DISCONNECTED,
    _Status.UNIMPLEMENTED: Code.UNSUPPORTED,
    _Status.INVALID_ARGUMENT: Code.INVALID,
    _Status.RESOURCE_EXHAUSTED: Code.TOO_LARGE,  # of a message; a BUSY of ours has a trailer
    _Status.PERMISSION_DENIED: Code.ACCESS,
    _Status.UNAUTHENTICATED: Code.ACCESS,
}


_TLS_FAILURES = (
    ("WRONG_VERSION_NUMBER", "what answers does not speak TLS"),
    ("unable to get local issuer", "its certificate is refused: it is of none of the authorities in tls_ca"),
    ("self signed certificate", "its certificate is refused: it is of none of the authorities in tls_ca"),
    ("certificate has expired", "its certificate is refused: certificate has expired"),
    ("Hostname Verification", "its certificate is refused: it names other hosts"),
    ("Socket closed", "it closed the connection at once; perhaps it speaks TLS"),
)
"""What stands in gRPC's long message, and what it means."""


def status_of(code: Code) -> grpc.StatusCode:
    """The gRPC status other languages see."""
    return _TO_STATUS.get(code, _Status.FAILED_PRECONDITION)


def error_of(problem: AioRpcError, endpoint: str, what: str) -> FS3Error:
    """The exception of a failed call: what the server said, or what gRPC says of it."""
    for key, value in _metadata(problem.trailing_metadata()):
        if key == ERROR_TRAILER and isinstance(value, bytes):
            return decode_error(0, value, what)
    status, details = problem.code(), problem.details() or "no details"
    code = _FROM_STATUS.get(status, Code.INTERNAL)
    if status is _Status.UNAVAILABLE and "failed to connect" in details.lower():
        details = next((why for mark, why in _TLS_FAILURES if mark in details), details)
        return error(Code.UNAVAILABLE, f"{endpoint} cannot be reached: {details}")
    return error(code, f"{what}: {details} ({status.name})")


def _metadata(metadata: Any) -> Iterable[tuple[str, Any]]:
    return metadata or ()


def _payload_key(message_type: type[Any]) -> bytes:
    """Field number and wire type of `payload`, as they stand before its length in a serialised message."""
    return _varint(message_type.DESCRIPTOR.fields_by_name["payload"].number << 3 | 2)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def with_payload(data: bytes, message_type: type[Any], parts: Sequence[Part], length: int) -> bytes:
    """A serialised message whose `payload` field is set to the parts. Appending the field by hand saves protobuf's copies."""
    if not length:
        return data
    return b"".join((data, _payload_key(message_type), _varint(length), join_parts(parts)))


def take_payload(message: Any) -> bytes:
    """The payload of a message, which has none afterwards."""
    payload: bytes = message.payload
    message.ClearField("payload")
    return payload
