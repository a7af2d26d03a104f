"""A short read is sent at once, however many bulk reads of the same client wait for their turn."""

from __future__ import annotations

import asyncio

from fs3.base.checksum import crc32c
from fs3.base.ids import ChainId, ClientId, InodeId, NodeId, TargetId, file_chunk
from fs3.base.status import Code
from fs3.base.units import KIB, MIB
from fs3.client.connector import Connector
from fs3.client.routing import StaticRouting
from fs3.client.storage.client import StorageClient
from fs3.core.files.read_plan import ReadIO
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.model.chain import Chain, PublicState, Slot
from fs3.model.routing import Node, Role, Routing
from fs3.ports.rpc import Call
from fs3.sim.conformance.transport_harness import CallCollector
from fs3.wire.methods import STORAGE
from fs3.wire.pb import storage_pb2

SHORT, BULK = 4 * KIB, 8 * MIB


def _chain(number: int) -> Chain:
    return Chain(ChainId(number), 3, (Slot(TargetId(number), NodeId(number), PublicState.SERVING),))


def _answer(call: Call) -> None:
    """With zeros."""
    data = bytes(call.request.lengths[0])
    reply = storage_pb2.ReadReply(codes=[0], lengths=[len(data)], versions=[1], piece_bytes=[4096])
    reply.checksums.extend(crc32c(data[at : at + 4096]) for at in range(0, len(data), 4096))
    call.reply(reply, (data,))


async def test_a_short_read_passes_bulk_reads_that_wait() -> None:
    holder = CallCollector()
    transport = TcpTransport(OsClock())
    listeners = [await transport.serve("tcp://127.0.0.1:0", {STORAGE.Read: holder}) for _ in range(8)]
    nodes = {
        NodeId(number): Node(NodeId(number), f"storage-{number}", Role.STORAGE, (listener.endpoint,), "", 1, True)
        for number, listener in enumerate(listeners, 1)
    }
    routing = Routing(b"c", 1, nodes, {ChainId(number): _chain(number) for number in range(1, 9)}, {})
    connector = Connector([transport], "")
    client = StorageClient(StaticRouting(routing), connector, OsClock(), ClientId(bytes(16)))

    def begin(chain: int, length: int) -> asyncio.Future[object]:
        io = ReadIO(file_chunk(InodeId(5), chain), ChainId(chain), 0, memoryview(bytearray(length)))
        return asyncio.ensure_future(client.read([io]))

    def lengths() -> list[int]:
        return [call.request.lengths[0] for call in holder.calls]

    bulk = [begin(chain, BULK) for chain in range(1, 9)]
    await holder.wait_for_calls(2)
    short = [begin(chain, SHORT) for chain in range(1, 9)]
    await holder.wait_until(lambda: lengths().count(SHORT) == 8)
    assert lengths().count(BULK) < 8, "two are as much as may be under way"
    for call in holder.calls:
        if call.request.lengths[0] == SHORT:
            _answer(call)
    for (outcome,) in await asyncio.gather(*short):  # type: ignore[misc]
        assert outcome.code is Code.OK
    assert not any(read.done() for read in bulk)
    for read in bulk:
        read.cancel()
    await asyncio.gather(*bulk, return_exceptions=True)
    await client.close()
    await connector.close()
    for listener in listeners:
        await listener.close()
