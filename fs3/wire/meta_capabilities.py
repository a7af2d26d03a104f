"""Capabilities of contents, asked for and answered, to and from protobuf."""

from __future__ import annotations

from fs3.base.errors import error
from fs3.base.ids import InodeId
from fs3.base.limits import capabilities_per_request_max
from fs3.base.status import Code
from fs3.core.security.seal import sealed_bytes_max
from fs3.model.capabilities import GetCapabilities, WantedCapability
from fs3.wire.malformed import malformed
from fs3.wire.pb import meta_pb2 as pb


def fill_get_capabilities(message: pb.GetCapabilitiesRequest, request: GetCapabilities) -> None:
    """Write a request into an empty message."""
    for wanted in request.wanted:
        message.contents.append(wanted.content)
        message.rights.append(wanted.rights)
        message.held.append(wanted.held)


def get_capabilities_from_pb(message: pb.GetCapabilitiesRequest) -> GetCapabilities:
    """The request of a message."""
    count = len(message.contents)
    if count > capabilities_per_request_max:
        raise error(Code.TOO_LARGE, f"contents: {count} in one request, at most {capabilities_per_request_max} are allowed")
    for name in ("rights", "held"):
        if len(getattr(message, name)) != count:
            raise malformed(name, f"{len(getattr(message, name))} elements beside {count} contents")
    for rights in message.rights:
        if not 1 <= rights <= 3:
            raise malformed("rights", f"{rights} says no rights")
    for held in message.held:
        if len(held) > sealed_bytes_max:
            raise malformed("held", f"{len(held)} bytes are no capability")
    rows = zip(message.contents, message.rights, message.held, strict=True)
    return GetCapabilities(tuple(WantedCapability(InodeId(content), rights, held) for content, rights, held in rows))


def fill_capabilities(message: pb.GetCapabilitiesReply, answers: list[bytes | Code], room: int) -> None:
    """Those that fit; the others are BUSY, and asked for anew."""
    for answer in answers:
        if isinstance(answer, bytes) and (room := room - len(answer) - 8) < 0:
            answer = Code.BUSY
        message.codes.append(Code.OK if isinstance(answer, bytes) else answer)
        message.capabilities.append(answer if isinstance(answer, bytes) else b"")


def capabilities_from_pb(message: pb.GetCapabilitiesReply) -> list[bytes | Code]:
    """The answers of a message. Raises PROTOCOL for columns of different lengths."""
    if len(message.codes) != len(message.capabilities):
        raise error(Code.PROTOCOL, f"{len(message.codes)} codes beside {len(message.capabilities)} capabilities")
    pairs = zip(message.codes, message.capabilities, strict=True)
    return [Code.from_wire(code) if code else capability for code, capability in pairs]
