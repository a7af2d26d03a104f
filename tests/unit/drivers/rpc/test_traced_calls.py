"""Calls of a trace say so to their servers, on every wire; those of none cost nothing and say nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fs3.base.errors import FS3Error
from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.grpc import GrpcTransport
from fs3.drivers.memory.transport import MemoryNetwork, MemoryTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.model.trace import SpanContext, SpanKind, TraceSpan
from fs3.runtime.span_store import SpanStore
from fs3.runtime.tracing import Tracer, within
from fs3.wire.methods import STORAGE

TRACE = bytes(range(16))
NETWORK = MemoryNetwork(OsClock())


def in_memory(clock: OsClock, **options: Any) -> MemoryTransport:
    return MemoryTransport(NETWORK, **options)


class Both:
    """A client and a server, each with spans of its own."""

    def __init__(self, make: Callable[..., Any], follows: bool) -> None:
        clock = OsClock()
        self.here, self.there = SpanStore(clock), SpanStore(clock)
        self.tracer = Tracer(clock, Prng(1).bytes, self.here)
        counts = RpcCounts(clock, None, Tracer(clock, Prng(2).bytes, self.there) if follows else None)
        self.server, self.client = make(clock, counts=counts), make(clock)

    def span(self) -> Any:
        return self.tracer.begin("test", SpanKind.OPERATION, (SpanContext(TRACE, b""),))

    def called(self) -> list[TraceSpan]:
        return [span for span in self.here.find(TRACE) if span.kind is SpanKind.CALL]

    def served(self) -> list[TraceSpan]:
        return list(self.there.find(TRACE))


@asynccontextmanager
async def connected(make: Callable[..., Any], *, follows: bool = True) -> AsyncIterator[tuple[Both, Any]]:
    both = Both(make, follows)

    def space(call: Any) -> None:
        call.reply(STORAGE.GetSpace.reply())

    def push(call: Any) -> None:
        call.release()
        call.fail(Code.BUSY, "not now")

    bindings = {STORAGE.GetSpace: space, STORAGE.Push: push, STORAGE.Find: lambda call: None}
    listener = await both.server.serve(f"{both.server.scheme}://127.0.0.1:0", bindings)
    channel = both.client.connect(listener.endpoint)
    try:
        yield both, channel
    finally:
        await channel.close()
        await listener.close()


@pytest.mark.parametrize("make", [TcpTransport, GrpcTransport, in_memory])
async def test_the_server_goes_on_with_the_trace(make: Callable[..., Any]) -> None:
    async with connected(make) as (both, channel):
        with within(both.span()):
            await channel.call(STORAGE.GetSpace, STORAGE.GetSpace.request())
            with pytest.raises(FS3Error, match="not now"):
                await channel.call(STORAGE.Push, STORAGE.Push.request(), [b"x" * 5000])
        await channel.call(STORAGE.GetSpace, STORAGE.GetSpace.request())
        called = both.called()
        assert [(span.name, span.code) for span in called] == [("Storage.GetSpace", Code.OK), ("Storage.Push", Code.BUSY)]
        served = [span for span in both.served() if span.kind is SpanKind.SERVED]
        assert [(span.name, span.code) for span in served] == [("Storage.GetSpace", Code.OK), ("Storage.Push", Code.BUSY)]
        assert [span.parent_id for span in served] == [span.context.span_id for span in called]
        assert all(1 <= inner.elapsed_ns <= outer.elapsed_ns for inner, outer in zip(served, called, strict=True))
        assert served[1].get("bytes") == 5000


@pytest.mark.parametrize("make", [TcpTransport, GrpcTransport, in_memory])
async def test_a_server_without_spans_answers_all_the_same(make: Callable[..., Any]) -> None:
    async with connected(make, follows=False) as (both, channel):
        with within(both.span()):
            await channel.call(STORAGE.GetSpace, STORAGE.GetSpace.request())
        assert len(both.called()) == 1
        assert not both.served()


async def test_what_is_given_up_ends_as_that() -> None:
    async with connected(TcpTransport) as (both, channel):
        with within(both.span()):
            waiting = channel.start(STORAGE.Find, STORAGE.Find.request())
        await channel.call(STORAGE.GetSpace, STORAGE.GetSpace.request())
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert [span.code for span in both.called()] == [Code.CANCELLED]


async def test_what_goes_on_after_its_operation_is_no_part_of_it() -> None:
    async with connected(TcpTransport) as (both, channel):
        span = both.span()
        with within(span):
            span.end()
            await channel.call(STORAGE.GetSpace, STORAGE.GetSpace.request())
            assert channel.submit(STORAGE.GetSpace, STORAGE.GetSpace.request(), lambda reply, why: None)
        assert not both.called()


async def test_a_call_with_a_callback_is_left_to_start_while_it_is_traced() -> None:
    async with connected(TcpTransport) as (both, channel):
        await channel.call(STORAGE.GetSpace, STORAGE.GetSpace.request())
        with within(both.span()):
            assert not channel.submit(STORAGE.GetSpace, STORAGE.GetSpace.request(), lambda reply, why: None)


async def test_a_blocking_call_is_traced() -> None:
    async with connected(TcpTransport) as (both, channel):

        def call() -> None:
            connection = both.client.connect_blocking(channel.endpoint, 10**10)
            assert connection is not None
            with within(both.span()):
                connection.call(STORAGE.GetSpace, STORAGE.GetSpace.request(), memoryview(bytearray(1)))
                with pytest.raises(FS3Error, match="served"):
                    connection.call(STORAGE.Scrub, STORAGE.Scrub.request(), memoryview(bytearray(1)))
            connection.close()

        await asyncio.to_thread(call)
        assert [(span.name, span.code) for span in both.called()] == [
            ("Storage.GetSpace", Code.OK),
            ("Storage.Scrub", Code.UNSUPPORTED),
        ]
        assert [span.name for span in both.served()] == ["Storage.GetSpace"]


@pytest.mark.parametrize("make", [TcpTransport, in_memory])
async def test_an_untraced_call_runs_no_code_of_traces(make: Callable[..., Any]) -> None:
    """Counted in calls of functions, on both sides: not one is of a module that is about traces."""
    modules = ("tracing.py", "traced_call.py", "trace_context.py", "span_store.py", "trace.py")
    async with connected(make) as (both, channel):
        await channel.call(STORAGE.GetSpace, STORAGE.GetSpace.request())
        seen: dict[str, int] = {}

        def note(frame: Any, event: str, _: Any) -> None:
            if event == "call" and frame.f_code.co_filename.endswith(modules):
                seen[frame.f_code.co_qualname] = seen.get(frame.f_code.co_qualname, 0) + 1

        async def work() -> None:
            for _ in range(20):
                await channel.call(STORAGE.GetSpace, STORAGE.GetSpace.request())
                with pytest.raises(FS3Error):
                    await channel.call(STORAGE.Push, STORAGE.Push.request(), [b"x" * 5000])

        sys.setprofile(note)
        try:
            await work()
        finally:
            sys.setprofile(None)
        assert not seen
        sys.setprofile(note)
        try:
            with within(both.span()):
                await work()
        finally:
            sys.setprofile(None)
        assert seen, "or what is counted above would be nothing in any case"
