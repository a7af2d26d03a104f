"""The same service and client over the transports that carry them in production."""

import asyncio

import pytest

from fs3.base.errors import Exists, NotFound
from fs3.base.ids import ClientId
from fs3.base.status import Code
from fs3.client.connector import Connector
from fs3.client.routing import StaticRouting
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.memory.network import MemoryNetwork
from fs3.drivers.memory.transport import MemoryTransport
from fs3.drivers.os.clock import OsClock
from fs3.model.inode import User
from fs3.model.namespace import PathRef
from fs3.model.requests import Mkdir, Open, Stat
from fs3.wire.methods import META


@pytest.fixture(params=["memory", "tcp"])
async def wired(request, cluster, make_routing_with, client_class):
    clock = OsClock()
    if request.param == "memory":
        network = MemoryNetwork(clock)
        transport, wanted = MemoryTransport(network), "memory://meta"
    else:
        transport, wanted = TcpTransport(clock), "tcp://127.0.0.1:0"
    listener = await transport.serve(wanted, cluster.service.bindings())
    connector = Connector([transport], "")
    routing = StaticRouting(make_routing_with(metas=(listener.endpoint,)))
    yield lambda number: client_class(routing, connector, clock, ClientId(bytes([number]) * 16), User(1000, 1000))
    await connector.close()
    await listener.close()


async def test_a_namespace_over_a_wire(wired):
    meta = wired(1)
    await meta.mkdir("d")
    with pytest.raises(Exists) as raised:
        await meta.mkdir("d")
    assert raised.value.filename == "d"
    opened = await meta.open("d/f", write=True, create=True)
    closed = await meta.close_file(opened.inode.id, opened.session, length=9, modified=True)
    assert await meta.stat("d/f") == closed
    with pytest.raises(NotFound):
        await meta.stat("d/none")
    assert [entry.name for entry in (await meta.list("d")).entries] == ["f"]


async def told(meta, request):
    """What came of a request that was submitted."""
    outcome = asyncio.get_running_loop().create_future()
    meta.submit(request, lambda answer, why: outcome.set_result((answer, why)))
    assert not outcome.done()
    return await asyncio.wait_for(outcome, 20)


async def test_what_is_submitted_is_answered_or_refused(wired):
    meta = wired(1)
    for _ in range(2):  # there is no connection yet; there is one
        root, why = await told(meta, Stat(PathRef.of("/")))
        assert (root, why) == (await meta.stat("/"), None)
    answer, why = await told(meta, Stat(PathRef.of("none")))
    assert answer is None
    assert isinstance(why, NotFound)
    assert why.filename == "none"


async def test_what_is_submitted_is_asked_anew_of_a_service_that_is_busy(cluster, make_routing_with, client_class):
    refusals = [Code.BUSY, Code.UNAVAILABLE]
    bindings = dict(cluster.service.bindings())
    answer_stat = bindings[META.Stat]

    def busy_at_first(call):
        if refusals:
            call.fail(refusals.pop(), "not now")
        else:
            answer_stat(call)

    bindings[META.Stat] = busy_at_first
    clock = OsClock()
    transport = MemoryTransport(MemoryNetwork(clock))
    listener = await transport.serve("memory://meta", bindings)
    connector = Connector([transport], "")
    routing = StaticRouting(make_routing_with(metas=(listener.endpoint,)))
    meta = client_class(routing, connector, clock, ClientId(bytes(16)), User(1000, 1000))
    made = await meta.mkdir("d")  # there is a connection
    assert await told(meta, Stat(PathRef.of("d"))) == (made, None)
    assert not refusals
    await meta.close()
    await connector.close()
    await listener.close()


async def test_many_callers_over_a_wire(wired):
    clients = [wired(number) for number in range(1, 4)]
    await clients[0].mkdir("d")

    async def work(client, number):
        for turn in range(15):
            await client.open(f"d/{number}-{turn}", write=True, create=True, exclusive=True)
            assert (await client.stat(f"d/{number}-{turn}")).nlink == 1

    await asyncio.gather(*(work(client, 10 * index + each) for index, client in enumerate(clients) for each in range(10)))
    assert (await clients[0].stat("d")).length == 450


async def test_batches_over_a_wire(wired):
    meta = wired(1)
    answers = await meta.batch(
        [Mkdir(PathRef(path="d")), *(Open(PathRef(path=f"d/{number:05}"), create=True) for number in range(4500))]
    )
    ids = [answer.inode.id for answer in answers[1:]]
    found = await meta.batch_stat([f"d/{number:05}" for number in range(4500)])
    assert [inode.id for inode in found] == ids
    assert len([entry async for entry in meta.entries("d", with_inodes=True)]) == 4500
