"""Spans under way and spans that have ended."""

from __future__ import annotations

import asyncio

from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.model.trace import SpanContext, SpanKind, TraceSpan
from fs3.runtime.span_store import SpanStore, spans_kept_ns
from fs3.runtime.tracing import (
    Tracer,
    attempting,
    begin_call,
    current_span,
    span_parts_max,
    timed_part,
    within,
    within_all,
    within_request,
)


class FakeClock:
    def __init__(self) -> None:
        self.at = 1000

    def now(self) -> int:
        return self.at

    def wall(self) -> int:
        return self.at + 1_000_000


class Kept(list[TraceSpan]):
    """A sink."""

    def add(self, span: TraceSpan) -> None:
        self.append(span)


def made() -> tuple[FakeClock, Kept, Tracer]:
    clock, kept = FakeClock(), Kept()
    return clock, kept, Tracer(clock, Prng(1).bytes, kept)


def root(trace: int) -> SpanContext:
    return SpanContext(bytes([trace]) * 16, b"")


def test_a_span_ends_once_with_its_parts() -> None:
    clock, kept, tracer = made()
    span = tracer.begin("read", SpanKind.OPERATION, (root(1),))
    clock.at = 1500
    span.part("disk", 1100, 1300)
    span.part("disk", 1100, 1300)
    span.attributes["path"] = "/a"
    span.end(Code.NOT_FOUND)
    span.end()
    part, whole = kept
    assert part == TraceSpan(part.context, span.contexts[0].span_id, "disk", SpanKind.PART, 1_001_100, 200, Code.OK)
    assert whole == TraceSpan(
        span.contexts[0], b"", "read", SpanKind.OPERATION, 1_001_000, 500, Code.NOT_FOUND, (("path", "/a"),)
    )


def test_a_span_of_several_traces_ends_in_each() -> None:
    _, kept, tracer = made()
    one, two = (tracer.begin("Storage.Update", SpanKind.SERVED, (root(number),)) for number in (1, 2))
    with within_all([one, two]):
        parent = current_span.get()
        assert parent is not None
        begin_call(parent, "Storage.Update", "tcp://next").end()
    assert current_span.get() is None
    assert [(span.context.trace_id, span.parent_id) for span in kept] == [
        (span.contexts[0].trace_id, span.contexts[0].span_id) for span in (one, two)
    ]


def test_parts_are_bounded() -> None:
    _, kept, tracer = made()
    span = tracer.begin("read", SpanKind.OPERATION, (root(1),))
    for number in range(1000):
        span.part("disk", number + 1, number + 2)
    assert len(kept) == span_parts_max


async def test_what_is_asked_again_says_so_and_nothing_else_does() -> None:
    _, kept, tracer = made()
    span = tracer.begin("read", SpanKind.OPERATION, (root(1),))

    async def other() -> None:
        begin_call(span, "other", "")

    with attempting(2):
        assert "attempt" not in begin_call(span, "outside of any trace", "").attributes
    with within(span):
        beside = asyncio.ensure_future(other())
        with attempting(2):
            await asyncio.sleep(0)
            begin_call(span, "again", "").end()
        await beside
        begin_call(span, "after", "").end()
    assert [(each.name, each.get("attempt")) for each in kept] == [("again", 2), ("after", None)]


def test_a_request_is_of_its_own_trace_whatever_ran_before() -> None:
    _, _, tracer = made()
    one, two = (tracer.begin("Meta.Truncate", SpanKind.SERVED, (root(number),)) for number in (1, 2))
    with within(one):
        with within_request(two):
            assert current_span.get() is two
        with within_request(None):
            assert current_span.get() is None
        assert current_span.get() is one


def test_a_timed_part_is_of_the_span_under_way() -> None:
    clock, kept, tracer = made()
    with timed_part("of nothing"):
        pass
    with within(span := tracer.begin("close", SpanKind.SERVED, (root(1),))):
        with timed_part("commit"):
            clock.at += 200
        span.end()
        with timed_part("after its end"):
            pass
    assert [(each.name, each.elapsed_ns, each.parent_id) for each in kept] == [
        ("commit", 200, span.contexts[0].span_id),
        ("close", 200, b""),
    ]


def test_a_store_keeps_so_many_for_so_long() -> None:
    clock, _, _ = made()
    store = SpanStore(clock, count_max=10)
    spans = [
        TraceSpan(SpanContext(bytes([n % 2]) * 16, bytes([n]) * 8), b"", "", SpanKind.PART, 0, 0, Code.OK) for n in range(30)
    ]
    for span in spans:
        store.add(span)
    assert len(store) == 10
    assert store.find(bytes(16)) == tuple(spans[20::2])
    clock.at += spans_kept_ns
    assert store.find(bytes(16)) == ()
    store.add(spans[0])
    assert len(store) == 1
