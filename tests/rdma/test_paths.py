"""Agreeing on a path, leaving it, what a peer can reach by it, and bad luck of every kind."""

from __future__ import annotations

import asyncio
import logging
import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fs3.base.errors import FS3Error, InvalidArgument
from fs3.base.status import Code
from fs3.base.units import MIB, MILLISECOND, SECOND
from fs3.drivers.framed.bulk_path import ENCRYPTED, describe_connection
from fs3.drivers.framed.offers import ServerOffers
from fs3.drivers.framed.server_context import ServerLimits
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rdma.path import RdmaPath
from fs3.drivers.rdma.paths import RdmaPaths
from fs3.drivers.rdma.settings import allowed_devices
from fs3.drivers.rdma.verbs import VerbsError
from fs3.model.rdma import PathStep, RemoteRegion
from fs3.ports.rpc import Call
from fs3.sim.conformance.transport_harness import (
    PLAIN,
    PULL,
    PUSH,
    CallCollector,
    echo,
    eventually,
    failure,
    into,
    pattern,
    ping,
    replying,
    summing,
    sums,
)
from fs3.sim.fabric import FakePort
from fs3.wire.frames import HEADER_BYTES, unpack
from fs3.wire.methods import STORAGE
from fs3.wire.paths import pack_offer, unpack_path_message
from fs3.wire.pb import storage_pb2
from tests.rdma.lab import FabricLab, address, ask, connected, path_of, wait_for_path, wait_for_refusal

DATA = pattern(3 * MIB + 5)


@pytest.fixture
def lab(tmp_path: Path) -> FabricLab:
    return FabricLab(tmp_path)


async def pull(channel: Any) -> None:
    """Read the payload, and compare."""
    buffer = bytearray(len(DATA))
    await channel.call(PULL, storage_pb2.ReadRequest(), into=into(buffer))
    assert buffer == DATA


async def push(channel: Any) -> None:
    """Send the payload, and compare."""
    reply = await channel.call(PUSH, storage_pb2.UpdateRequest(), (DATA,))
    assert sums(reply.message) == (len(DATA), zlib.crc32(DATA))


BOTH = {PULL: replying(DATA), PUSH: summing, PLAIN: echo}


async def test_payloads_travel_by_the_path_and_the_log_says_so(lab: FabricLab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fs3.transport")
    async with connected(lab.host(), lab.host(), BOTH) as channel:
        await wait_for_path(channel)
        before = lab.fabric.reads
        await pull(channel)
        assert lab.fabric.reads == before + 4  # of a megabyte at most
        await push(channel)
        assert lab.fabric.reads == before + 8
        using, why = path_of(channel).describe()
        assert using == f"rxe1/1 (eth1) RoCE v2 {address(1)}"
        assert why == "proved at an MTU of 1024"
    (line,) = [record.getMessage() for record in caplog.records if "rxe1/1" in record.getMessage()]
    assert line == f"payloads of {channel.endpoint} travel by RDMA, {using}: {why}"


async def test_short_payloads_stay_on_the_socket(lab: FabricLab) -> None:
    async with connected(lab.host(), lab.host(), {PULL: replying(b"short")}) as channel:
        await wait_for_path(channel)
        before = lab.fabric.reads
        reply = await channel.call(PULL, storage_pb2.ReadRequest())
        assert reply.payload == b"short"
        assert lab.fabric.reads == before


async def test_the_next_pair_is_tried_when_one_does_not_work(lab: FabricLab) -> None:
    cut = FakePort("mlx0", address(1), netdev="bond0.7", is_connected=False)
    fine = FakePort("mlx1", address(9), netdev="vlan9")
    old = FakePort("mlx2", address(4), kind="RoCE v1")
    async with connected(lab.host(cut, fine, old), lab.host(FakePort("mlx5", address(2))), BOTH) as channel:
        await wait_for_path(channel)
        await pull(channel)
        using, why = path_of(channel).describe()
        assert "mlx1/1 (vlan9)" in using
        assert "mlx0/1 (bond0.7)" in why
        assert "transport retry counter exceeded" in why
        assert "the other end has no RoCE v1" in why


@pytest.mark.parametrize(
    ("ports", "says"),
    [
        ([FakePort("down", address(1), state="1: DOWN")], "down/1 is DOWN, not ACTIVE"),
        ([FakePort("far", address(1), is_connected=False)], "transport retry counter exceeded"),
        ([FakePort("old", address(1), kind="RoCE v1")], "the other end has no RoCE v1"),
        ([FakePort("six", "2001:0db8:0000:0000:0000:0000:0000:0001")], "the other end has no address of the same family"),
        ([FakePort("big", address(1), mtu=4096)], "transport retry counter exceeded"),
        ([FakePort("none", "0000:0000:0000:0000:0000:0000:0000:0000")], "none/1 has no address"),
    ],
)
async def test_without_a_path_everything_goes_by_tcp(lab: FabricLab, ports: list[FakePort], says: str) -> None:
    lab.fabric.network_mtu = 2048
    async with connected(lab.host(*ports), lab.host(FakePort("mlx5", address(2), mtu=4096)), BOTH) as channel:
        assert says in await wait_for_refusal(channel)
        before = lab.fabric.reads
        await pull(channel)
        await push(channel)
        assert lab.fabric.reads == before


async def test_the_smaller_mtu_of_two_ports_is_used(lab: FabricLab) -> None:
    lab.fabric.network_mtu = 1024
    large, small = FakePort("large", address(1), mtu=4096), FakePort("small", address(2), mtu=1024)
    async with connected(lab.host(large), lab.host(small), BOTH) as channel:
        await wait_for_path(channel)
        assert path_of(channel).describe()[1] == "proved at an MTU of 1024"
        await pull(channel)


@pytest.mark.parametrize("moved", [0, 1])
async def test_an_address_that_the_port_has_no_more(lab: FabricLab, moved: int) -> None:
    """What the kernel listed, and what the device has, differ."""
    ports = [FakePort(f"mlx{number}", address(number)) for number in (1, 2)]
    hosts = [lab.host(port) for port in ports]
    ports[moved].gid = address(9)
    async with connected(*hosts, BOTH) as channel:
        assert "refuses a queue pair: no such device" in await wait_for_refusal(channel)
        await pull(channel)
        await push(channel)


async def test_an_end_that_tells_another_address_than_its_own(lab: FabricLab, monkeypatch: pytest.MonkeyPatch) -> None:
    build = RdmaPath._build

    def build_elsewhere(self: RdmaPath, mine: Any) -> Any:
        return replace(build(self, mine), gid=address(77))

    monkeypatch.setattr(RdmaPath, "_build", build_elsewhere)
    async with connected(lab.host(), lab.host(), BOTH) as channel:
        assert "transport retry counter exceeded" in await wait_for_refusal(channel)
        await pull(channel)


def _refuses() -> Any:
    raise VerbsError("there is no pyverbs: install python3-pyverbs and rdma-core")


async def test_a_host_without_the_library_says_what_to_install(lab: FabricLab) -> None:
    for client, server in ((lab.host(load=_refuses), lab.host()), (lab.host(), lab.host(load=_refuses))):
        async with connected(client, server, BOTH) as channel:
            assert "install python3-pyverbs" in await wait_for_refusal(channel)
            await pull(channel)


async def test_a_server_that_does_not_use_rdma_says_so(lab: FabricLab) -> None:
    async with connected(lab.host(), None, BOTH) as channel:
        assert await wait_for_refusal(channel) == "the other end says: RDMA is switched off there"
        await pull(channel)
    async with connected(None, lab.host(), BOTH) as channel:
        await pull(channel)


async def test_memory_that_cannot_be_locked_is_told_with_the_limit(lab: FabricLab) -> None:
    lab.fabric.locked_bytes_max = 100_000
    async with connected(lab.host(), lab.host(), BOTH) as channel:
        assert "it can lock no more memory" in await wait_for_refusal(channel)
        await pull(channel)
    lab.fabric.locked_bytes_max = 4 * MIB
    async with connected(lab.host(), lab.host(), BOTH) as channel:
        await wait_for_path(channel)
        await pull(channel)  # the path could be proved, and this is too much for it
        assert "it can lock no more memory" in path_of(channel).describe()[1]
        await push(channel)


async def test_bytes_that_arrive_changed_are_no_proof(lab: FabricLab) -> None:
    lab.fabric.is_garbling = True
    async with connected(lab.host(), lab.host(), BOTH) as channel:
        assert "arrived changed, at an MTU of 1024" in await wait_for_refusal(channel)
        await pull(channel)


def _stops_answering(lab: FabricLab) -> None:
    lab.fabric.is_unresponsive = True


def _is_cut(lab: FabricLab) -> None:
    for port in lab.fabric.ports:
        port.is_connected = False


@pytest.mark.parametrize("harm", [_stops_answering, _is_cut])
async def test_a_path_that_dies_loses_and_repeats_nothing(lab: FabricLab, harm: Callable[[FabricLab], None]) -> None:
    served: list[int] = []

    def count(call: Call) -> None:
        served.append(call.request.from_target)
        summing(call)

    settings = {"stall_ns": 50 * MILLISECOND, "retry_ns": 0}
    async with connected(lab.host(**settings), lab.host(**settings), {**BOTH, PUSH: count}) as channel:
        await wait_for_path(channel)
        lab.fabric.reads_held = 3
        calls = [channel.start(PUSH, storage_pb2.UpdateRequest(from_target=number), (DATA,)) for number in range(8)]
        reads = [asyncio.ensure_future(pull(channel)) for _ in range(4)]
        await eventually(lambda: len(lab.fabric.held) == 3)
        harm(lab)
        lab.fabric.release_held()
        for reply in await asyncio.gather(*calls):
            assert sums(reply.message) == (len(DATA), zlib.crc32(DATA))
        await asyncio.gather(*reads)
        assert sorted(served) == list(range(8))
        assert not path_of(channel).describe()[0]
        # It is tried again, and found well.
        lab.fabric.is_unresponsive = False
        for port in lab.fabric.ports:
            port.is_connected = True
        while not path_of(channel).describe()[0]:
            await ask(channel)
            await asyncio.sleep(0)
        await pull(channel)


async def test_a_peer_reaches_nothing_but_what_is_offered(lab: FabricLab) -> None:
    holder = CallCollector()
    fabric = lab.fabric
    async with connected(lab.host(), lab.host(), {**BOTH, PUSH: holder}) as channel:
        await wait_for_path(channel)
        await eventually(lambda: not _offered(lab))  # the proofs
        fabric.reads_held = 1
        call = channel.start(PUSH, storage_pb2.UpdateRequest(), (DATA,))
        await eventually(lambda: bool(fabric.held))
        (region,) = _offered(lab)
        assert bytes(region.memory) == DATA  # exactly the payload, nothing beside it
        fabric.release_held()
        (served,) = await holder.wait_for_calls(1)
        await eventually(lambda: not _offered(lab))  # the call is under way still
        served.reply(storage_pb2.UpdateReply())
        await call
        path = path_of(channel)
        problem = path._reads.pair._transfer(
            path._reads.pair.register(memoryview(bytearray(9)), is_remote=False), 0, 9, region.address, region.key
        )
        assert problem == "remote access error"


def _offered(lab: FabricLab) -> list[Any]:
    return [one for pair in lab.fabric.pairs.values() for one in pair.registrations.values() if one.is_remote]


async def test_a_call_that_is_given_up_keeps_its_slot_until_it_was_fetched(lab: FabricLab) -> None:
    client = lab.host()
    async with connected(client, lab.host(), BOTH) as channel:
        await wait_for_path(channel)
        lab.fabric.reads_held = 4
        mine = bytearray(DATA)
        call = channel.start(PUSH, storage_pb2.UpdateRequest(), (mine,))
        buffer = bytearray(len(DATA))
        read = channel.start(PULL, storage_pb2.ReadRequest(), into=into(buffer))
        await eventually(lambda: len(lab.fabric.held) == 4)
        call.cancel()
        read.cancel()
        mine[:] = bytes(len(mine))  # it is the caller's again, and so is the buffer
        assert client.pool.held_bytes >= len(DATA)
        lab.fabric.release_held()
        await eventually(lambda: client.pool.held_bytes == 0)
        assert buffer == bytes(len(buffer))
        await push(channel)
        await pull(channel)
        assert path_of(channel).describe()[0]


async def test_a_key_that_is_none_ends_the_path_and_harms_no_call(lab: FabricLab, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(lab.host(), lab.host(), BOTH) as channel:
        await wait_for_path(channel)
        path = path_of(channel)
        lend = path.lend

        def lend_with_another_key(number: int, parts: Any, length: int) -> bytes:
            lend(number, parts, length)
            return pack_offer([RemoteRegion(5 << 32, 5, length)])

        monkeypatch.setattr(path, "lend", lend_with_another_key)
        await push(channel)
        assert "remote access error" in path.describe()[1]
        await pull(channel)


@pytest.mark.parametrize("offer", [pack_offer([RemoteRegion(1 << 32, 1, 66 * MIB)]), b"\1\0\0\0\0\0\0\0", b"\xff" * 8, b""])
async def test_an_offer_that_makes_no_sense_ends_the_connection(
    lab: FabricLab, monkeypatch: pytest.MonkeyPatch, offer: bytes
) -> None:
    async with connected(lab.host(), lab.host(), BOTH) as channel:
        await wait_for_path(channel)
        monkeypatch.setattr(path_of(channel), "lend", lambda number, parts, length: offer)
        assert (await failure(channel.call(PUSH, storage_pb2.UpdateRequest(), (DATA,)))).code is Code.PROTOCOL
        await pull(channel)  # on another one


async def test_offers_that_find_no_room_travel_on_the_socket(lab: FabricLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fs3.drivers.rdma.path.share_bytes_max", 4 * MIB)
    async with connected(lab.host(), lab.host(), BOTH) as channel:
        await wait_for_path(channel)
        before = lab.fabric.reads
        await asyncio.gather(*(push(channel) for _ in range(6)), *(pull(channel) for _ in range(6)))
        assert lab.fabric.reads > before
        assert path_of(channel).describe()[0]


async def test_a_client_that_goes_leaves_nothing_behind(lab: FabricLab) -> None:
    server = lab.host()
    holder = CallCollector()
    client = lab.host()
    async with connected(client, server, {**BOTH, PUSH: holder}) as channel:
        await wait_for_path(channel)
        call = channel.start(PUSH, storage_pb2.UpdateRequest(), (DATA,))
        (served,) = await holder.wait_for_calls(1)
        lab.fabric.reads_held = 100
        read = channel.start(PULL, storage_pb2.ReadRequest())
        await eventually(lambda: bool(lab.fabric.held))
        await channel.close()
        assert (await failure(call)).code is Code.DISCONNECTED
        assert (await failure(read)).code is Code.DISCONNECTED
        await eventually(lambda: served.is_cancelled)
        assert bytes(served.payload or b"") == DATA  # the handler's until it releases it
        served.release()
        lab.fabric.release_held()
        assert not lab.fabric.pairs


async def test_a_forked_child_leaves_the_devices_alone(lab: FabricLab) -> None:
    client = lab.host()
    async with connected(client, lab.host(), BOTH) as channel:
        await wait_for_path(channel)
        child = os.fork()
        if not child:
            is_left_alone = client._verbs is not None and client._verbs.is_forgotten and not client.is_usable  # type: ignore[attr-defined]
            paths = RdmaPaths(client)
            os._exit(0 if is_left_alone and paths.client("tcp://host:1", lambda step, header: None) is None else 1)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert status == 0
        await pull(channel)
        assert path_of(channel).describe()[0]


def test_which_devices_may_be_used() -> None:
    assert allowed_devices("") == ()
    assert allowed_devices(" any ") == ("any",)
    assert allowed_devices("mlx5_0, eth1") == ("mlx5_0", "eth1")
    with pytest.raises(InvalidArgument, match="FS3_RDMA 'mlx5_0,,eth1': a name is empty"):
        allowed_devices("mlx5_0,,eth1")


def test_a_process_says_at_its_start_what_it_may_use(lab: FabricLab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fs3.transport")
    RdmaPaths(lab.host()).log_devices()
    RdmaPaths(lab.host(FakePort("down", address(2), state="1: DOWN"))).log_devices()
    RdmaPaths(lab.host(load=_refuses)).log_devices()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", f"clients may ask for RDMA by rxe1/1 (eth1) RoCE v2 {address(1)}"),
        ("WARNING", "FS3_RDMA is set, and everything travels by TCP: down/1 is DOWN, not ACTIVE"),
        ("WARNING", "FS3_RDMA is set, and everything travels by TCP: there is no pyverbs: install python3-pyverbs and rdma-core"),
    ]


async def test_a_client_that_asks_without_being_admitted_learns_nothing(lab: FabricLab) -> None:
    """A request that is declined is not answered by the addresses of the server."""
    listener = await TcpTransport(OsClock(), paths=RdmaPaths(lab.host())).serve("tcp://127.0.0.1:0", {PLAIN: echo})
    channel: Any = TcpTransport(OsClock(), paths=RdmaPaths(lab.host())).connect(listener.endpoint)
    try:
        with pytest.raises(FS3Error):
            await channel.call(PULL, storage_pb2.ReadRequest(), into=into())
        assert "has not answered" in path_of(channel).describe()[1]
        await channel.call(PLAIN, ping(1))
        await wait_for_path(channel)
    finally:
        await channel.close()
        await listener.close()


def test_an_encrypted_connection_has_no_path() -> None:
    sent: list[bytes] = []

    class Connection:
        peer = "tcp://10.0.0.1:5"
        send = staticmethod(sent.append)

    offers = ServerOffers(Connection(), RdmaPaths(None), 0, is_plain=False)  # type: ignore[arg-type]
    offers.on_asked()
    assert offers.path is None
    (frame,) = sent
    assert unpack(frame).code == PathStep.DOWN
    assert unpack_path_message(PathStep.DOWN, frame[HEADER_BYTES:])[1].reason == ENCRYPTED
    found = describe_connection(Connection.peer, "tcp://10.0.0.2:8000", None, passes=False, out=True, plain=False)
    assert (found.transport, found.why) == ("tcp", ENCRYPTED)


def test_a_reply_that_was_lent_before_the_first_look_is_waited_for() -> None:
    """However long the machine has been up by then."""

    class Connection:
        limits = ServerLimits(send_stall_ns=30 * SECOND)

    began = 1000 * SECOND
    offers = ServerOffers(Connection(), RdmaPaths(None), began, is_plain=True)  # type: ignore[arg-type]
    offers._lent[7] = (STORAGE.Read.id, b"")
    assert not offers.is_stalled(began + 29 * SECOND)
    assert offers.is_stalled(began + 30 * SECOND)


async def test_a_client_that_never_says_taken_is_disconnected(
    lab: FabricLab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bounds = ServerLimits(sweep_ns=MILLISECOND, send_stall_ns=5 * MILLISECOND)
    server = lab.host()
    listener = await TcpTransport(OsClock(), paths=RdmaPaths(server), bounds=bounds).serve("tcp://127.0.0.1:0", BOTH)
    channel: Any = TcpTransport(OsClock(), paths=RdmaPaths(lab.host())).connect(listener.endpoint)
    try:
        await channel.call(PLAIN, ping(1))
        await wait_for_path(channel)
        connection = channel._connection
        monkeypatch.setattr(connection.offers, "_say_taken", lambda *_: None)
        await pull(channel)
        assert server.pool.held_bytes
        await eventually(lambda: connection.is_closed)
        assert server.pool.held_bytes == 0
        await pull(channel)
    finally:
        await channel.close()
        await listener.close()
    assert any("it has said of no offer for" in record.getMessage() for record in caplog.records)
