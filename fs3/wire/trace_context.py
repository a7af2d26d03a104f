"""How a request says which spans it belongs to.

On the framed wires behind the protobuf header, within the header's length, announced by `TRACED` in the frame's code:

    | protobuf header | tag, length | (trace id, span id) ... | count |

To protobuf that is a field of bytes which no message has (`FIELD`): a peer that does not know it reads over it. On gRPC it is the
metadata `traceparent` of W3C Trace Context, so that any gRPC client can have its own trace go on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fs3.base.limits import frame_header_bytes_max
from fs3.model.trace import SPAN_ID_BYTES, TRACE_ID_BYTES, SpanContext
from fs3.wire.frames import TRACED

FIELD = 135
"""Number of that field; no request may have one of this number."""
contexts_per_request_max = 16
"""One request to the next replica carries updates of several operations; those beyond are not followed there."""

_TAG = bytes((FIELD << 3 & 0x7F | 2 | 0x80, FIELD >> 4))
_CONTEXT_BYTES = TRACE_ID_BYTES + SPAN_ID_BYTES
TRACEPARENT = "traceparent"
"""Key of the metadata."""
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


def pack_contexts(contexts: Sequence[SpanContext]) -> bytes:
    """What stands behind the protobuf header: of one to `contexts_per_request_max`."""
    count = len(contexts)
    size = count * _CONTEXT_BYTES + 1
    length = bytes((size,)) if size < 0x80 else bytes((size & 0x7F | 0x80, size >> 7))
    ids = b"".join([context.trace_id + context.span_id for context in contexts])
    return b"".join((_TAG, length, ids, bytes((count,))))


def with_contexts(header: bytes, contexts: Sequence[SpanContext], code: int) -> tuple[bytes, int]:
    """(header, code) of a request of these spans. As they are when there would not be room: then it is not followed."""
    made = header + pack_contexts(contexts[:contexts_per_request_max])
    return (header, code) if len(made) > frame_header_bytes_max else (made, code | TRACED)


def unpack_contexts(header: bytes | bytearray) -> tuple[SpanContext, ...]:
    """The contexts at the end of a header that has some. None for what makes no sense: a trace is not worth a refusal."""
    count = header[-1] if header else 0
    begin = len(header) - 1 - count * _CONTEXT_BYTES
    if not 0 < count <= contexts_per_request_max or begin < len(_TAG) + 1:
        return ()
    found = []
    for at in range(begin, len(header) - 1, _CONTEXT_BYTES):
        trace_id, span_id = bytes(header[at : at + TRACE_ID_BYTES]), bytes(header[at + TRACE_ID_BYTES : at + _CONTEXT_BYTES])
        if any(trace_id) and any(span_id):
            found.append(SpanContext(trace_id, span_id))
    return tuple(found)


def format_traceparent(context: SpanContext) -> str:
    """As W3C Trace Context writes it, sampled."""
    return f"00-{context.trace_id.hex()}-{context.span_id.hex()}-01"


def parse_traceparent(text: str) -> tuple[SpanContext, bool] | None:
    """The context, and whether it is sampled. None for what is no traceparent."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    context = SpanContext(bytes.fromhex(found[2]), bytes.fromhex(found[3]))
    if not any(context.trace_id) or not any(context.span_id):
        return None
    return context, bool(int(found[4], 16) & 1)
