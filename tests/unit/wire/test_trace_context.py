"""What a request says of the spans it belongs to, and what a peer makes of it that knows nothing of traces."""

from __future__ import annotations

import pytest

from fs3.base.errors import FS3Error
from fs3.base.limits import frame_header_bytes_max
from fs3.base.status import Code
from fs3.model.trace import SpanContext, SpanKind, TraceSpan
from fs3.wire.frames import TAKES_PLACES, TRACED
from fs3.wire.methods import METHODS, STORAGE
from fs3.wire.pb import process_pb2
from fs3.wire.process_spans import spans_from_pb, spans_request_to_pb, spans_to_pb, trace_id_from_pb
from fs3.wire.trace_context import (
    FIELD,
    contexts_per_request_max,
    format_traceparent,
    pack_contexts,
    parse_traceparent,
    unpack_contexts,
    with_contexts,
)


def context(number: int) -> SpanContext:
    return SpanContext(bytes([number]) * 16, bytes([255 - number]) * 8)


@pytest.mark.parametrize("count", [1, 2, 5, 6, contexts_per_request_max])
def test_contexts_come_back(count: int) -> None:
    contexts = tuple(context(number + 1) for number in range(count))
    header = STORAGE.Read.request(chunks=b"x" * 40, lengths=[7]).SerializeToString()
    assert unpack_contexts(header + pack_contexts(contexts)) == contexts
    assert unpack_contexts(pack_contexts(contexts)) == contexts


@pytest.mark.parametrize("count", [1, contexts_per_request_max])
def test_a_peer_that_knows_no_traces_reads_the_same_request(count: int) -> None:
    request = STORAGE.Read.request(chunks=b"x" * 40, chains=[1, 2], lengths=[7, 9])
    parsed = STORAGE.Read.request.FromString(request.SerializeToString() + pack_contexts([context(1)] * count))
    parsed.DiscardUnknownFields()
    assert parsed == request


def test_no_request_has_a_field_of_that_number() -> None:
    assert not [method for method in METHODS.values() if FIELD in method.request.DESCRIPTOR.fields_by_number]


@pytest.mark.parametrize(
    "header",
    [b"", b"\x00", b"\x01", b"\xff", b"\x11" * 500, bytes(24) + b"\x01", pack_contexts([context(1)])[4:], bytes(500) + b"\x10"],
)
def test_what_makes_no_sense_is_no_trace(header: bytes) -> None:
    assert unpack_contexts(header) == ()


def test_the_code_says_that_there_are_some() -> None:
    header, code = with_contexts(b"request", [context(number + 1) for number in range(40)], TAKES_PLACES)
    assert code == TAKES_PLACES | TRACED
    assert len(unpack_contexts(header)) == contexts_per_request_max


def test_a_request_without_room_is_not_followed() -> None:
    header = b"x" * (frame_header_bytes_max - 10)
    assert with_contexts(header, [context(1)], 0) == (header, 0)


def test_a_traceparent_comes_back() -> None:
    assert parse_traceparent(format_traceparent(context(7))) == (context(7), True)
    assert parse_traceparent(f"00-{'ab' * 16}-{'cd' * 8}-00") == (SpanContext(b"\xab" * 16, b"\xcd" * 8), False)
    # Of a later version only what this one knows is looked at.
    assert parse_traceparent(f"01-{'ab' * 16}-{'cd' * 8}-03-what=ever") == (SpanContext(b"\xab" * 16, b"\xcd" * 8), True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"00-{'0' * 32}-{'cd' * 8}-01",
        f"00-{'ab' * 16}-{'0' * 16}-01",
        f"ff-{'ab' * 16}-{'cd' * 8}-01",
        f"00-{'ab' * 16}-{'cd' * 8}-01-more",
        f"00-{'AB' * 16}-{'cd' * 8}-01",
        f"00-{'ab' * 16}-{'cd' * 8}",
    ],
)
def test_what_is_no_traceparent(text: str) -> None:
    assert parse_traceparent(text) is None


def test_spans_come_back() -> None:
    spans = [
        TraceSpan(context(1), b"", "fs3 read", SpanKind.OPERATION, 10, 20, Code.OK, (("path", "/a"), ("bytes", 7))),
        TraceSpan(SpanContext(context(1).trace_id, b"12345678"), context(1).span_id, "disk", SpanKind.PART, 11, 3, Code.DISK),
    ]
    message = process_pb2.GetSpansReply.FromString(spans_to_pb(spans).SerializeToString())
    assert spans_from_pb(message, context(1).trace_id) == spans


def test_what_is_malformed_is_named() -> None:
    with pytest.raises(FS3Error, match="trace_id"):
        trace_id_from_pb(spans_request_to_pb(b"short"))
    with pytest.raises(FS3Error, match=r"spans\.span_id"):
        spans_from_pb(process_pb2.GetSpansReply(spans=[process_pb2.TraceSpan(span_id=b"x")]), bytes(16))
    newer = process_pb2.GetSpansReply(spans=[process_pb2.TraceSpan(span_id=b"x" * 8, kind=99)])
    assert spans_from_pb(newer, bytes(16))[0].kind is SpanKind.PART
