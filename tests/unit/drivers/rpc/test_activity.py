"""What a process tells of what it does: sums of its calls, those between replicas apart, and the same behind the wire."""

from __future__ import annotations

import pytest

from fs3.base.counting import BUCKETS
from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rpc.activity import ActivityMeter
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.model.activity import NO_OPERATIONS, NodeActivity, OperationTotals
from fs3.model.metrics import catalogue
from fs3.model.metrics.metric import HistogramReading
from fs3.wire.methods import META, STORAGE
from fs3.wire.mgmtd_activity import activity_from_pb, activity_to_pb


def serves(counts: RpcCounts, verb: str, code: str) -> int:
    """Calls that were answered so, as metrics have it."""
    return sum(
        sum(sample.value.counts)
        for sample in counts.samples()
        if sample.metric is catalogue.SERVED_SECONDS
        and sample.labels[1:] == (verb, code)
        and isinstance(sample.value, HistogramReading)
    )


async def test_writes_of_clients_are_counted_once_and_metrics_count_every_replica() -> None:
    counts = RpcCounts(OsClock())
    meter = ActivityMeter(counts)
    assert meter.read().writes == NO_OPERATIONS
    transport = TcpTransport(OsClock(), counts=counts)

    def update(call) -> None:
        if call.request.from_target == 9:
            call.fail(Code.BUSY, "not now")
        else:
            call.reply(STORAGE.Update.reply())

    bindings = {
        STORAGE.Update: update,
        STORAGE.Read: lambda call: call.reply(STORAGE.Read.reply(), (b"y" * 300,)),
        META.Stat: lambda call: call.fail(Code.NOT_FOUND, "none"),
        META.KeepAlive: lambda call: call.reply(META.KeepAlive.reply()),
    }
    listener = await transport.serve("tcp://127.0.0.1:0", bindings)
    channel = TcpTransport(OsClock()).connect(listener.endpoint)
    try:
        for sender in (0, 0, 5, 5, 5):
            await channel.call(STORAGE.Update, STORAGE.Update.request(from_target=sender), [b"x" * 1000])
        with pytest.raises(FS3Error, match="not now"):
            await channel.call(STORAGE.Update, STORAGE.Update.request(from_target=9), [b"x" * 1000])
        await channel.call(STORAGE.Read, STORAGE.Read.request())
        with pytest.raises(FS3Error, match="none"):
            await channel.call(META.Stat, META.Stat.request())
        await channel.call(META.KeepAlive, META.KeepAlive.request())
    finally:
        await channel.close()
        await listener.close(0)
    found = meter.read()
    assert (found.writes.calls, found.writes.bytes) == (2, 2000)
    assert (found.reads.calls, found.reads.bytes) == (1, 300)
    assert found.names.calls == sum(found.names.counts) == 1
    assert found.cpu_ms > 0
    assert found.memory_bytes > 1 << 20
    assert (serves(counts, "Update", "OK"), serves(counts, "Update", "BUSY")) == (5, 1)


@pytest.mark.parametrize(
    "activity",
    [
        NodeActivity(),
        NodeActivity(1 << 40, 1 << 40, OperationTotals(5, 1 << 50, (0, 2, 3)), names=OperationTotals(1, 0, (1,) * BUCKETS)),
    ],
)
def test_the_wire_changes_nothing(activity: NodeActivity) -> None:
    assert activity_from_pb(activity_to_pb(activity)) == activity


def test_too_many_buckets_are_refused() -> None:
    message = activity_to_pb(NodeActivity(reads=OperationTotals(1, 0, (1,))))
    message.reads.counts.extend([1] * BUCKETS)
    with pytest.raises(FS3Error, match=r"NodeActivity\.reads\.counts"):
        activity_from_pb(message)
