"""Which wire a connector takes, and what it does when that one does not work."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest

from fs3.base.errors import InvalidArgument, Unreachable, error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.connector import transport_retry_ns
from fs3.ports.rpc import Call
from fs3.wire.methods import MGMTD
from fs3.wire.pb import mgmtd_pb2 as pb

BOTH = ["tcp://h:1", "local:///s"]
STATUS = pb.GetStatusRequest()


def answering(name: str) -> Any:
    """Bindings of a server that says who it is."""

    def handle(call: Call) -> None:
        call.reply(pb.GetStatusReply(software=name))

    def stream(call: Call) -> None:
        call.send(pb.RoutingUpdate(version=1))
        call.fail(Code.SHUTTING_DOWN, "over")

    def change(call: Call) -> None:
        call.reply(pb.SetConfigReply(version=1))

    return {MGMTD.GetStatus: handle, MGMTD.WatchRouting: stream, MGMTD.SetConfig: change}


async def who(channel: Any) -> str:
    return str((await channel.call(MGMTD.GetStatus, STATUS)).message.software)


@pytest.fixture
async def both(network: Any) -> Any:
    """A node that listens on both wires."""
    await network.transport("local").serve("local:///s", answering("local"))
    await network.transport("tcp").serve("tcp://h:1", answering("tcp"))
    return network


async def test_the_preferred_common_transport_is_used(both: Any) -> None:
    connector = both.connector("local", "tcp", host="me")
    assert await who(connector.channel(BOTH, "me")) == "local"
    assert await who(connector.channel(["tcp://h:1"], "me")) == "tcp"
    assert await who(both.connector("tcp", "local", host="me").channel(BOTH, "me")) == "tcp"


@pytest.mark.parametrize(("mine", "theirs"), [("me", "other"), ("", ""), ("me", ""), ("", "me")])
async def test_local_is_for_one_host_only(both: Any, mine: str, theirs: str) -> None:
    assert await who(both.connector("local", "tcp", host=mine).channel(BOTH, theirs)) == "tcp"


async def test_channels_are_kept_and_closed(both: Any) -> None:
    connector = both.connector("local", "tcp", host="me")
    assert connector.channel(BOTH, "me") is connector.channel(BOTH, "me")
    assert connector.channel(["tcp://h:1"]) is connector.channel(BOTH, "elsewhere")
    assert [channel.endpoint for channel in both.channels] == ["local:///s", "tcp://h:1"]
    await connector.close()
    assert all(channel.closed for channel in both.channels)
    with pytest.raises(Unreachable, match="closed"):
        connector.channel(BOTH)


async def test_short_reads_have_a_connection_of_their_own_by_the_best_wire(both: Any) -> None:
    connector = both.connector("local", "tcp", host="me")
    usual, short = connector.channel(BOTH, "me"), connector.short_channel(BOTH, "me")
    assert short is connector.short_channel(BOTH, "me") is not usual
    assert (await who(usual), await who(short)) == ("local", "local")
    assert [channel.endpoint for channel in both.channels] == ["local:///s", "tcp://h:1", "local:///s"]
    await connector.close()
    assert all(channel.closed for channel in both.channels)
    with pytest.raises(Unreachable, match="closed"):
        connector.short_channel(BOTH)


async def test_short_reads_go_by_the_usual_connection_where_another_is_not_to_be_had(
    both: Any, caplog: pytest.LogCaptureFixture
) -> None:
    connector = both.connector("local", "tcp", host="me")
    short = connector.short_channel(BOTH, "me")
    both.faults["local:///s"] = [error(Code.DISCONNECTED, "too many connections")]
    with caplog.at_level(logging.WARNING):
        assert await who(short) == "local"
    text = "local:///s for short reads does not work (too many connections); using local:///s"
    assert [record.getMessage() for record in caplog.records] == [text]
    assert both.calls["local:///s", "GetStatus"] == 2


async def test_a_call_that_has_ended_keeps_no_buffer(both: Any) -> None:
    """Not even until the garbage collector comes by: the caller may want to unmap it."""

    class Payload(bytearray):
        """Can be referred to weakly."""

    channel = both.connector("local", "tcp", host="me").channel(BOTH, "me")
    gc.disable()
    try:
        for call in ("the first one", "one on a way that is trusted"):
            payload = Payload(b"bytes")
            kept = weakref.ref(payload)
            await channel.call(MGMTD.GetStatus, STATUS, (payload,))
            del payload
            assert kept() is None, call
    finally:
        gc.enable()


async def test_nothing_in_common_is_said_with_both_sides(network: Any) -> None:
    with pytest.raises(Unreachable, match=r"the node offers rdma://x, this side speaks tcp, grpc"):
        network.connector("tcp", "grpc").channel(["rdma://x"])
    with pytest.raises(InvalidArgument, match="tcp://bad"):
        network.connector().channel(["tcp://bad"])


async def test_a_better_wire_that_fails_at_first_is_left_for_the_next(both: Any, caplog: pytest.LogCaptureFixture) -> None:
    channel = both.connector("local", "tcp", host="me").channel(BOTH, "me")
    both.faults["local:///s"] = [error(Code.UNAVAILABLE, "no such socket")]
    with caplog.at_level(logging.WARNING):
        assert [await who(channel) for _ in range(3)] == ["tcp", "tcp", "tcp"]
    assert both.calls["local:///s", "GetStatus"] == 1
    assert [record.getMessage() for record in caplog.records] == ["local:///s does not work (no such socket); using tcp://h:1"]


async def test_the_better_wire_is_tried_again_after_a_while(both: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = both.connector("local", "tcp", host="me").channel(BOTH, "me")
    both.faults["local:///s"] = [error(Code.UNAVAILABLE, "not yet")]
    assert await who(channel) == "tcp"
    channel._skipped_until[0] -= transport_retry_ns / SECOND
    assert await who(channel) == "local"
    assert await who(channel) == "local"


async def test_what_may_have_happened_is_not_sent_twice(both: Any) -> None:
    channel = both.connector("local", "tcp", host="me").channel(BOTH, "me")
    both.faults["local:///s"] = [error(Code.DISCONNECTED, "torn")]
    with pytest.raises(Unreachable, match="torn"):
        await channel.call(MGMTD.SetConfig, pb.SetConfigRequest())
    assert both.calls["tcp://h:1", "SetConfig"] == 0
    await channel.call(MGMTD.SetConfig, pb.SetConfigRequest())
    assert both.calls["tcp://h:1", "SetConfig"] == 1


async def test_an_error_of_the_service_is_no_reason_to_change_wires(both: Any) -> None:
    channel = both.connector("local", "tcp", host="me").channel(BOTH, "me")
    both.faults["local:///s"] = [error(Code.BUSY, "later")]
    with pytest.raises(OSError, match="later"):
        await who(channel)
    assert await who(channel) == "local"


async def test_a_proven_wire_that_breaks_fails_one_call_and_is_then_left(both: Any) -> None:
    channel = both.connector("local", "tcp", host="me").channel(BOTH, "me")
    assert await who(channel) == "local"
    both.stop("local:///s")
    with pytest.raises(Unreachable):
        await who(channel)
    assert await who(channel) == "tcp"


async def test_when_every_wire_fails_the_last_failure_is_told(network: Any) -> None:
    channel = network.connector("local", "tcp", host="me").channel(BOTH, "me")
    with pytest.raises(Unreachable, match="tcp://h:1"):
        await who(channel)


async def test_streams_fall_back_before_their_first_message(both: Any) -> None:
    channel = both.connector("local", "tcp", host="me").channel(BOTH, "me")
    both.faults["local:///s"] = [error(Code.UNAVAILABLE, "no such socket")]
    stream = channel.stream(MGMTD.WatchRouting, pb.GetRoutingRequest())
    assert (await anext(stream)).version == 1
    with pytest.raises(Unreachable, match="over"):
        await anext(stream)
    assert both.calls["tcp://h:1", "WatchRouting"] == 1


async def test_giving_up_a_call_gives_up_the_one_below(both: Any) -> None:
    both.frozen.add("local:///s")
    channel = both.connector("local", "tcp", host="me").channel(BOTH, "me")
    answer = channel.start(MGMTD.GetStatus, STATUS, timeout_ns=SECOND)
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer
    assert both.last_call.answer.cancelled()


async def test_channels_are_bounded(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fs3.client.connector.connections_max", 2)
    connector = network.connector()
    first = connector.channel(["tcp://h:1"])
    connector.channel(["tcp://h:2"])
    connector.channel(["tcp://h:3"])
    assert connector.channel(["tcp://h:1"]) is not first
    await connector.close()
    assert all(channel.closed for channel in network.channels)
