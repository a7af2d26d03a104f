"""Failures on the wire: ErrorDetail, the body of every reply that is not OK."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.wire.pb import common_pb2

error_message_chars_max = 2048


def encode_error(code: Code, message: str, routing_version: int = 0) -> bytes:
    """The ErrorDetail of a failure; a very long message is cut."""
    if len(message) > error_message_chars_max:
        message = message[: error_message_chars_max - 1] + "…"
    # Paths may hold bytes that are no UTF-8 (surrogates in Python); protobuf strings may not.
    text = message.encode("utf-8", "backslashreplace").decode()
    return common_pb2.ErrorDetail(code=code, message=text, routing_version=routing_version).SerializeToString()


def decode_error(code: int, data: bytes | bytearray | memoryview, who: str) -> FS3Error:
    """The exception of a failed reply. `code` 0: only the detail knows. `who` names the peer where the reply says nothing."""
    try:
        detail = common_pb2.ErrorDetail.FromString(bytes(data))
    except DecodeError:
        return error(Code.PROTOCOL, f"{who} failed with code {code} and an unreadable reason")
    code = code or detail.code
    problem = error(Code.from_wire(code) if code else Code.INTERNAL, detail.message or f"{who} failed with code {code}")
    problem.routing_version = detail.routing_version
    return problem
