"""Capabilities of KVCache namespaces, asked for and answered, to and from protobuf."""

from __future__ import annotations

from collections.abc import Sequence

from fs3.base.errors import error
from fs3.base.limits import capabilities_per_request_max
from fs3.base.status import Code
from fs3.wire.pb import mgmtd_pb2 as pb


def namespace_capabilities_to_pb(namespaces: Sequence[int]) -> pb.GetNamespaceCapabilitiesRequest:
    """The request of GetNamespaceCapabilities."""
    return pb.GetNamespaceCapabilitiesRequest(namespaces=namespaces)


def namespace_capabilities_from_pb(message: pb.GetNamespaceCapabilitiesRequest) -> list[int]:
    """The namespaces that are asked for. Raises TOO_LARGE."""
    count = len(message.namespaces)
    if count > capabilities_per_request_max:
        raise error(Code.TOO_LARGE, f"namespaces: {count} in one request, at most {capabilities_per_request_max} are allowed")
    return list(message.namespaces)


def capabilities_reply_to_pb(answers: Sequence[bytes | Code]) -> pb.GetNamespaceCapabilitiesReply:
    """The reply of GetNamespaceCapabilities."""
    return pb.GetNamespaceCapabilitiesReply(
        capabilities=[answer if isinstance(answer, bytes) else b"" for answer in answers],
        codes=[Code.OK if isinstance(answer, bytes) else answer for answer in answers],
    )


def capabilities_reply_from_pb(message: pb.GetNamespaceCapabilitiesReply, count: int) -> list[bytes | Code]:
    """The answers of a reply to `count` namespaces. Raises PROTOCOL for another number of them."""
    if not len(message.codes) == len(message.capabilities) == count:
        raise error(Code.PROTOCOL, f"{count} namespaces were answered with {len(message.codes)} codes")
    pairs = zip(message.codes, message.capabilities, strict=True)
    return [Code.from_wire(code) if code else capability for code, capability in pairs]
