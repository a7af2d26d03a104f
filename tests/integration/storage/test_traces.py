"""One operation is one trace, over every replica of the chain, also when it has to be tried again."""

import asyncio
import itertools
import time

import pytest

from fs3.base.prng import Prng
from fs3.base.status import Code
from fs3.base.units import KIB, MIB
from fs3.cli.ports import free_ports
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.model.trace import SpanContext, SpanKind
from fs3.runtime.span_store import SpanStore
from fs3.runtime.tracing import Tracer, within

TRACE = bytes(range(16))


class Traced:
    """A cluster each of whose processes keeps its spans."""

    def __init__(self, clock):
        self.clock = clock
        self.stores = {}
        self.tracers = {}
        self.cluster = None

    def transport(self, node):
        if node not in self.stores:
            self.stores[node] = SpanStore(self.clock)
            self.tracers[node] = Tracer(self.clock, Prng(node).bytes, self.stores[node])
        return TcpTransport(self.clock, counts=RpcCounts(self.clock, None, self.tracers[node]))

    def root(self, trace=TRACE):
        return self.tracers[0].begin("test", SpanKind.OPERATION, (SpanContext(trace, b""),))

    def spans(self, trace=TRACE):
        """(node, span) of every span; node 0 is the client."""
        return [(node, span) for node, store in sorted(self.stores.items()) for span in store.find(trace)]

    def served(self, name, trace=TRACE):
        return [(node, span) for node, span in self.spans(trace) if span.kind is SpanKind.SERVED and span.name == name]


class WallClock:
    def __init__(self, clock):
        self.now = clock.now

    def wall(self):
        return time.time_ns()


@pytest.fixture
async def traced(cluster, help):
    made = Traced(WallClock(help.CLOCK))
    ports = free_ports(3)
    endpoints = {node: f"tcp://127.0.0.1:{ports + node - 1}" for node in (1, 2, 3)}
    made.cluster = await cluster(chains=1, transport=made.transport, endpoints=endpoints)
    return made


def chain_of_parents(spans, span):
    """The span and what it is a part of, up to the root."""
    by_id = {each.context.span_id: (node, each) for node, each in spans}
    found = [span]
    while found[-1].parent_id:
        found.append(by_id[found[-1].parent_id][1])
    return found


@pytest.mark.parametrize("size", [5000, 300 * KIB, 4 * MIB])
async def test_a_write_is_one_trace_over_the_whole_chain(traced, help, size):
    client = traced.cluster.client()
    await client.update([help.write(9, b"before")])
    with within(span := traced.root()):
        (result,) = await client.update([help.write(1, bytes(size))])
    span.end()
    assert result.code is Code.OK
    spans = traced.spans()
    served = traced.served("Storage.Update")
    assert [node for node, _ in served] == [1, 2, 3], "each replica once"
    tail = chain_of_parents(spans, served[-1][1])
    assert [each.kind for each in tail] == [SpanKind.SERVED, SpanKind.CALL] * 3 + [SpanKind.OPERATION]
    for node, span in served:
        parts = {part.name for _, part in spans if part.parent_id == span.context.span_id and part.kind is SpanKind.PART}
        assert "disk" in parts, f"node {node} has a disk"
    assert {span.context.trace_id for _, span in spans} == {TRACE}
    assert not any(span.context.trace_id != TRACE for store in traced.stores.values() for _, span in store._spans), (
        "what was not traced has left nothing"
    )


async def test_a_read_is_one_trace(traced, help):
    client = traced.cluster.client()
    await client.update([help.write(1, b"x" * 100_000)])
    with within(span := traced.root()):
        assert await help.get(client, 1, 1000) == (Code.OK, b"x" * 1000)
    span.end()
    ((_, served),) = traced.served("Storage.Read")
    assert [each.kind for each in chain_of_parents(traced.spans(), served)] == [
        SpanKind.SERVED,
        SpanKind.CALL,
        SpanKind.OPERATION,
    ]


async def test_a_trace_survives_that_its_operation_is_tried_again(traced, help):
    client = traced.cluster.client()
    await client.update([help.write(9, b"before")])
    shell = traced.cluster.shell(1, 1)
    has_lease = shell.lease_until
    shell.lease_until = lambda: 0
    with within(span := traced.root()):
        writing = asyncio.ensure_future(client.update([help.write(1, b"data")]))
        await help.until(lambda: traced.served("Storage.Update"))
        shell.lease_until = has_lease
        (result,) = await writing
    span.end()
    assert result.code is Code.OK
    calls = [each for node, each in traced.spans() if node == 0 and each.kind is SpanKind.CALL]
    numbers = [each.get("attempt") for each in calls if each.name == "Storage.Update"]
    assert numbers[:2] == [None, 2]
    assert numbers[1:] == list(range(2, len(numbers) + 1)), "each attempt has its number"
    assert len([node for node, _ in traced.served("Storage.Update") if node == 1]) == len(numbers)
    assert [node for node, _ in traced.served("Storage.Update") if node > 1] == [2, 3]
    waits = [each for _, each in traced.spans() if each.name == "wait before asking again"]
    assert len(waits) == len(numbers) - 1


async def test_updates_of_several_traces_that_travel_together_stay_apart(traced, help):
    client = traced.cluster.client()
    await client.update([help.write(9, b"before")])
    traces = [bytes([number]) * 16 for number in range(1, 9)]

    async def write(number, trace):
        with within(span := traced.root(trace)):
            await client.update([help.write(number, b"data")])
        span.end()

    await asyncio.gather(*(write(number, trace) for number, trace in enumerate(traces)), client.update([help.write(50, b"x")]))
    for trace in traces:
        assert [node for node, _ in traced.served("Storage.Update", trace)] == [1, 2, 3]
    ids = [span.context.span_id for trace in traces for _, span in traced.spans(trace)]
    assert len(ids) == len(set(ids))


async def test_what_is_not_traced_leaves_nothing(traced, help):
    client = traced.cluster.client()
    for number in range(5):
        await client.update([help.write(number, bytes(100_000))])
        await help.get(client, number, 5000)
    assert not any(itertools.chain.from_iterable(store._spans for store in traced.stores.values()))
