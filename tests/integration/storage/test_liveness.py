"""Silent nodes: reads go elsewhere within a quarter of a second, updates follow the chain, late answers touch nobody."""

import asyncio

from fs3.base.ids import ChainId, NodeId
from fs3.base.limits import connection_idle_ns_max, read_attempt_ns, update_attempt_ns
from fs3.base.status import Code
from fs3.base.units import KIB, MIB, MILLISECOND
from fs3.cli.ports import free_ports
from fs3.core.files.read_plan import ReadIO
from fs3.drivers.framed.server_context import ServerLimits
from fs3.drivers.framed.tcp import TcpTransport
from fs3.model.chain import PublicState
from fs3.model.chunk import UpdateKind

SERVING, SYNCING, OFFLINE = PublicState.SERVING, PublicState.SYNCING, PublicState.OFFLINE


def mute(network, *nodes, methods=("Read", "Find", "Update")):
    """These nodes get every request and answer none; what they would have said is held."""
    endpoints = {f"fake://{node}" for node in nodes}
    network.fault = lambda endpoint, method, request: "hold reply" if endpoint in endpoints and method.name in methods else None


def asked(network, name):
    return [endpoint for endpoint, _ in network.requests(name)]


async def favourite(client, network, help):
    """The node a lone read of chain 1 goes to."""
    network.log.clear()
    await help.get(client, 1, 10)
    ((endpoint, _),) = network.requests("Read")
    return int(endpoint.removeprefix("fake://"))


async def test_a_silent_replica_is_left_for_one_that_serves(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    data = bytes(range(250)) * 40
    await client.update([help.write(1, data)])
    silent = await favourite(client, made.network, help)
    mute(made.network, silent)
    made.network.log.clear()
    async with asyncio.timeout(read_attempt_ns / 1e9):  # the attempt alone would take longer
        assert await help.get(client, 1, len(data)) == (Code.OK, data)
    first, second, *_ = asked(made.network, "Read")
    assert first == f"fake://{silent}"
    assert second != first
    # It is suspected now: nobody's read waits for it again.
    made.network.log.clear()
    for _ in range(20):
        assert await help.get(client, 1, 10) == (Code.OK, data[:10])
    assert f"fake://{silent}" not in asked(made.network, "Read")
    # It is probed beside the calls, and welcome again once it answers.
    await help.until(lambda: f"fake://{silent}" in asked(made.network, "Find"))
    made.network.let_go()
    await help.until(lambda: not client._router.choice.is_suspect(NodeId(silent), help.CLOCK.now()))
    assert await favourite(client, made.network, help) == silent


async def test_batches_and_finds_leave_a_silent_replica_too(cluster, help):
    made = await cluster(chains=2)
    client = made.client()
    await client.update([help.write(number, bytes([number]) * 3000, chain=1 + number % 2) for number in range(30)])
    silent = await favourite(client, made.network, help)
    mute(made.network, silent)
    async with asyncio.timeout(read_attempt_ns / 1e9):
        ios = [help.read_io(number, 3000, chain=1 + number % 2) for number in range(30)]
        outcomes = await client.read(ios)
        assert all(outcome.code is Code.OK and outcome.length == 3000 for outcome in outcomes)
        assert all(bytes(io.buffer) == bytes([number]) * 3000 for number, io in enumerate(ios))
    other = made.client()
    other._router.choice._favourite = client._router.choice._favourite
    async with asyncio.timeout(read_attempt_ns / 1e9):
        found = await other.find([(help.chunk(number), ChainId(1 + number % 2)) for number in range(40)])
    assert [outcome.length for outcome in found] == [3000] * 30 + [0] * 10


async def test_more_frames_than_the_window_to_a_node_that_falls_silent(cluster, help):
    """What was planned for a node that proves silent is not sent there any more."""
    made = await cluster(chains=1, memory=True)
    client = made.client()
    data = bytes(8 * MIB)
    await client.update([help.write(number, data) for number in range(12)])
    silent = await favourite(client, made.network, help)
    mute(made.network, silent)
    made.network.log.clear()
    buffers = [memoryview(bytearray(b"\1" * len(data))) for _ in range(12)]
    outcomes = await client.read([ReadIO(help.chunk(number), ChainId(1), 0, buffer) for number, buffer in enumerate(buffers)])
    assert all(outcome.code is Code.OK for outcome in outcomes)
    assert all(buffer == data for buffer in buffers)
    assert asked(made.network, "Read").count(f"fake://{silent}") <= 8


async def test_the_last_replica_is_waited_for_however_silent_it_is(cluster, help):
    made = await cluster(nodes=1, chains=1)
    client = made.client()
    await client.update([help.write(1, b"only here")])
    mute(made.network, 1)
    made.network.log.clear()
    reading = asyncio.ensure_future(help.get(client, 1, 9))
    await help.until(lambda: made.network.held)
    for _ in range(12):  # several times the patience with a node that others could stand in for
        await asyncio.sleep(50 * MILLISECOND / 1e9)
    assert not reading.done()
    assert asked(made.network, "Read") == ["fake://1"]
    made.network.let_go()
    assert await reading == (Code.OK, b"only here")


async def test_a_node_that_answers_others_is_busy_and_not_silent(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, b"one"), help.write(2, b"two")])
    node = await favourite(client, made.network, help)
    slow = help.chunk(1)
    made.network.fault = lambda endpoint, method, request: (
        "hold reply" if method.name == "Read" and request.chunks == slow else None
    )
    reading = asyncio.ensure_future(help.get(client, 1, 3))
    await help.until(lambda: made.network.held)
    for _ in range(40):
        assert await help.get(client, 2, 3) == (Code.OK, b"two")
        await asyncio.sleep(10 * MILLISECOND / 1e9)
    assert set(asked(made.network, "Read")) == {f"fake://{node}"}
    made.network.let_go()
    assert await reading == (Code.OK, b"one")


async def test_a_cancelled_read_stays_cancelled(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, b"one")])
    mute(made.network, 1, 2, 3)
    for ios in ([help.read_io(1, 3)], [help.read_io(1, 3), help.read_io(2, 3)]):
        made.network.held.clear()
        reading = asyncio.ensure_future(client.read(ios))
        await help.until(lambda: made.network.held)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
    assert not client._router.liveness


class Relay:
    """A relay before a server: what the server sends is let through up to `room` bytes, the rest waits."""

    def __init__(self, port):
        self.port = port
        self.room = None
        self.passed = 0
        self.kept = []
        self.more = asyncio.Event()

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer):
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.port)

        async def up():
            while data := await reader.read(65_536):
                upstream_writer.write(data)
            upstream_writer.close()

        async def down():
            while data := await upstream_reader.read(65_536):
                while data:
                    while self.room is not None and self.passed >= self.room:
                        self.more.clear()
                        await self.more.wait()
                    count = len(data) if self.room is None else min(len(data), self.room - self.passed)
                    writer.write(data[:count])
                    self.passed += count
                    data = data[count:]
            writer.close()

        await asyncio.gather(up(), down(), return_exceptions=True)

    def open(self):
        self.room = None
        self.more.set()

    async def stop(self):
        self.open()
        self.server.close()


async def test_bytes_that_come_too_late_do_not_touch_the_callers_buffer(cluster, help):
    """Half of an answer has landed in the caller's buffer when its node falls silent; the read is answered by another node, and
    then the other half comes."""
    clock = help.CLOCK
    transport = TcpTransport(clock)
    first = free_ports(2)
    ports = [first, first + 1]
    real = {node: f"tcp://127.0.0.1:{port}" for node, port in enumerate(ports, 1)}
    made = await cluster(nodes=2, chains=1, transport=lambda node: transport, endpoints=real)
    relays = [Relay(port) for port in ports]
    relayed = {node: f"tcp://127.0.0.1:{await relay.start()}" for node, relay in enumerate(relays, 1)}
    client = made.client_through(relayed)
    data = bytes(range(256)) * (4 * KIB)
    await client.update([help.write(1, data)])
    for relay in relays:  # connect to both
        client._router.choice._favourite = relays.index(relay)
        assert await help.get(client, 1, 10) == (Code.OK, data[:10])
    stopped = relays[client._router.choice._favourite % 2]
    stopped.passed, stopped.room = 0, 600 * KIB
    buffer = bytearray(len(data))
    (outcome,) = await client.read([ReadIO(help.chunk(1), ChainId(1), 0, memoryview(buffer))])
    assert outcome.code is Code.OK
    assert stopped.passed == 600 * KIB, "part of the answer had landed"
    assert buffer == data
    buffer[:] = b"\xee" * len(buffer)  # the caller uses its memory for something else
    before = client._router.channel(NodeId(1)).activity, client._router.channel(NodeId(2)).activity
    stopped.open()
    silent = NodeId(1 + relays.index(stopped))
    await help.until(lambda: client._router.channel(silent).activity > before[silent - 1])
    # The connection is in order: the rest was thrown away, and the next answer is read from where it begins.
    await help.until(lambda: not client._router.choice.is_suspect(silent, clock.now()))
    client._router.choice._favourite = silent - 1
    assert await help.get(client, 1, 100_000, 5000) == (Code.OK, data[5000:105_000])
    assert buffer == b"\xee" * len(buffer)
    for relay in relays:
        await relay.stop()


async def test_an_update_follows_its_chain_away_from_a_silent_head(cluster, help):
    """The head gets the update and says nothing. Nobody waits for the attempt to run out: with the new chain it goes to the new
    head under its old tag, and happens once."""
    made = await cluster(chains=1)
    client = made.client()
    await client.update([help.write(1, b"before")])
    mute(made.network, 1)
    writing = asyncio.ensure_future(client.update([help.write(1, b"!", offset=6)]))
    await help.until(lambda: made.network.held)
    await made.idle()  # the old head and the others have committed it; only the answer is missing
    made.network.log.clear()
    made.manager.set_chain(help.chain_of(1, 2, {2: SERVING, 3: SERVING, 1: OFFLINE}))
    async with asyncio.timeout(update_attempt_ns / 1e9):
        (result,) = await writing
    assert result.code is Code.OK
    assert result.version == 2, "the second sending is answered with what the first one did"
    (first, *_) = [request for endpoint, request in made.network.requests("Update") if not request.from_target]
    assert first.chain_versions == [2]
    assert first.seqs == [2]
    assert await help.get(client, 1, 10) == (Code.OK, b"before!")


async def test_a_frame_of_two_chains_is_given_up_when_one_of_them_moves(cluster, help):
    made = await cluster(chains=2, nodes=2)
    client = made.client()
    # Node 1 is the head of both.
    made.manager.set_chain(help.chain_of(2, 2, {1: SERVING, 2: SERVING}))
    await made.settled()
    mute(made.network, 1)
    writing = asyncio.ensure_future(client.update([help.write(1, b"a", chain=1), help.write(2, b"b", chain=2)]))
    await help.until(lambda: made.network.held)
    await made.idle()
    made.manager.set_chain(help.chain_of(1, 2, {2: SERVING, 1: OFFLINE}))
    made.manager.set_chain(help.chain_of(2, 3, {2: SERVING, 1: OFFLINE}))
    async with asyncio.timeout(update_attempt_ns / 1e9):
        assert [(result.code, result.version) for result in await writing] == [(Code.OK, 1), (Code.OK, 1)]


async def test_a_head_that_stays_head_is_waited_for(cluster, help):
    """The tail falls away while an update is under way: the head sends it along the new chain, the client sends it once."""
    made = await cluster(chains=1)
    client = made.client()
    made.network.hold("Update", lambda request: request.from_target == 102)
    writing = asyncio.ensure_future(client.update([help.write(1, b"x")]))
    await help.until(lambda: made.network.held)
    made.network.log.clear()
    made.manager.set_chain(help.chain_of(1, 2, {1: SERVING, 2: SERVING, 3: OFFLINE}))
    (result,) = await writing
    assert (result.code, result.version) == (Code.OK, 1)
    assert not [request for _, request in made.network.requests("Update") if not request.from_target]


async def test_updates_of_kinds_without_tags_follow_too(cluster, help):
    made = await cluster(chains=1)
    client = made.client()
    mute(made.network, 1)
    writing = asyncio.ensure_future(client.update([help.change(1, UpdateKind.REMOVE)]))
    await help.until(lambda: made.network.held)
    made.manager.set_chain(help.chain_of(1, 2, {2: SERVING, 3: SERVING, 1: OFFLINE}))
    assert (await writing)[0].code is Code.OK


async def test_a_connection_that_was_idle_for_too_long_is_made_again(cluster, help):
    """A server ends it; the next call does not notice."""
    clock = help.SkewedClock()
    bounds = ServerLimits(sweep_ns=20 * MILLISECOND)
    transport = TcpTransport(clock, bounds=bounds)
    endpoint = f"tcp://127.0.0.1:{free_ports(1)}"
    made = await cluster(nodes=1, chains=1, transport=lambda node: transport, endpoints={1: endpoint})
    client = made.client()
    await client.update([help.write(1, b"kept")])
    (listener,) = made.listeners
    (connection,) = listener._connections
    await help.until(lambda: connection._clocks._last_received_bytes == connection.received_bytes)  # a sweep has looked
    clock.skew += connection_idle_ns_max
    await help.until(lambda: connection.is_closed)
    assert await help.get(client, 1, 4) == (Code.OK, b"kept")
    assert (await client.update([help.write(1, b"more")]))[0].code is Code.OK
