"""Reads without the event loop: done when everything is as nearly always, else not done and nothing is claimed."""

import threading

import pytest

from fs3.base.checksum import crc32c
from fs3.base.errors import error
from fs3.base.ids import ChainId, ClientId, InodeId, NodeId, TargetId, file_chunk
from fs3.base.limits import small_read_bytes
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.client.direct_channels import direct_pause_ns
from fs3.client.routing import StaticRouting
from fs3.client.storage.client import StorageClient
from fs3.core.files.read_plan import ReadIO
from fs3.model.chain import Chain, PublicState, Slot
from fs3.model.routing import Node, Role, Routing
from fs3.wire.pb import storage_pb2

DATA = bytes(range(256)) * 16
NODE = NodeId(1)


class Clock:
    def __init__(self):
        self.time = 100 * SECOND

    def now(self):
        return self.time


def routing_of(version, endpoint, nodes=1):
    slots = tuple(Slot(TargetId(n), NodeId(n), PublicState.SERVING) for n in range(1, nodes + 1))
    known = {slot.node: Node(slot.node, "s", Role.STORAGE, (endpoint,), "", 1, True) for slot in slots}
    return Routing(b"c", version, known, {ChainId(1): Chain(ChainId(1), 3, slots)}, {})


class Channel:
    """A connection that answers with `channel.script(request, into)`."""

    def __init__(self, transport, endpoint):
        self.transport, self.endpoint = transport, endpoint
        self.is_closed = self.is_aborted = False

    def call(self, method, request, into):
        assert not self.is_closed
        self.transport.requests.append(request)
        try:
            return self.transport.script(request, into)
        except BaseException:
            self.is_closed = True
            raise

    def abort(self):
        self.is_aborted = True
        self.transport.aborted.set()

    def close(self):
        self.is_closed = True


class Transport:
    scheme = "test"

    def __init__(self):
        self.script = answer
        self.requests, self.channels = [], []
        self.aborted = threading.Event()

    def connect_blocking(self, endpoint, timeout_ns):
        if endpoint.endswith("nobody"):
            raise ConnectionRefusedError
        if endpoint.endswith("name"):
            return None
        self.channels.append(Channel(self, endpoint))
        return self.channels[-1]


def reply(data=DATA, **changed):
    columns = {"codes": [0], "lengths": [len(data)], "versions": [1], "piece_bytes": [4096], "checksums": [crc32c(data)]}
    return storage_pb2.ReadReply(**{**columns, **changed})


def answer(request, into):
    into[:] = DATA
    return reply(), len(DATA)


@pytest.fixture
def made():
    return Made()


class Made:
    def __init__(self, endpoint="test://a", verify=True, nodes=1):
        self.clock, self.transport = Clock(), Transport()
        self.source = StaticRouting(routing_of(1, endpoint, nodes))
        self.client = StorageClient(
            self.source, Connector([self.transport], ""), self.clock, ClientId(b"0123456789abcdef"), verify=verify
        )
        self.buffer = memoryview(bytearray(len(DATA)))
        self.meet_chain()

    def meet_chain(self):
        """The loop has read from the chain."""
        self.client._router.candidates(ChainId(1))

    def read(self, length=4096):
        self.buffer = memoryview(bytearray(length))
        return self.client.read_directly(ReadIO(file_chunk(InodeId(5), 0), ChainId(1), 0, self.buffer))


def test_the_bytes_are_there_and_the_request_names_the_chain_version(made):
    assert made.read()
    assert made.read()
    assert made.buffer == DATA
    assert made.client.reads.direct == 2
    assert len(made.transport.channels) == 1, "one connection for all"
    (request, _) = made.transport.requests
    assert (list(request.chains), list(request.chain_versions), list(request.lengths)) == ([1], [3], [4096])
    assert not request.without_checksums


@pytest.mark.parametrize(
    "changed",
    [
        {"codes": [int(Code.DIRTY)], "lengths": [0]},
        {"codes": [int(Code.WRONG_CHAIN_VERSION)], "lengths": [0]},
        {"codes": [int(Code.NOT_FOUND)], "lengths": [0]},
        {"codes": [int(Code.CHECKSUM)], "lengths": [0]},
        {"lengths": [1000]},
        {"checksums": [crc32c(DATA) ^ 1]},
        {"checksums": []},
        {"checksums": [crc32c(DATA)] * 2},
        {"piece_bytes": [0]},
    ],
)
def test_any_other_answer_is_not_done_and_the_connection_stays(made, changed):
    made.transport.script = lambda request, into: (reply(**changed), len(DATA) if not changed.get("codes") else 0)
    assert not made.read()
    assert made.client.reads.direct == 0
    made.transport.script = answer
    assert made.read()
    assert len(made.transport.channels) == 1


def test_bytes_that_changed_on_the_way_are_not_taken(made):
    def flipped(request, into):
        into[:] = DATA
        into[77] ^= 1
        return reply(), len(DATA)

    made.transport.script = flipped
    assert not made.read()


@pytest.mark.parametrize("failure", [TimeoutError(), BrokenPipeError(), ValueError("nonsense"), error(Code.BUSY, "busy")])
def test_after_a_failure_the_loop_is_left_alone_with_it_for_a_while(made, failure):
    def fails(request, into):
        raise failure

    made.transport.script = fails
    assert not made.read()
    made.transport.script = answer
    assert not made.read()
    assert len(made.transport.requests) == 1, "not asked meanwhile"
    made.clock.time += direct_pause_ns
    assert made.read()
    assert len(made.transport.channels) == 2


def test_columns_of_several_ranges_are_no_answer(made):
    made.transport.script = lambda request, into: (reply(codes=[0, 0]), len(DATA))
    assert not made.read()


def test_what_is_not_for_it():
    assert not Made(verify=False).read(), "the block lease is the loop's to measure"
    assert not Made("test://nobody").read()
    assert not Made("test://name").read()
    made = Made()
    assert not made.read(small_read_bytes), "large ranges leave by sendfile"
    assert made.transport.requests == []
    made.source.set(Routing(b"c", 2))
    made.meet_chain()
    assert not made.read(), "nobody serves"


def test_a_suspect_is_not_asked(made):
    made.client._router.choice.on_failed(NODE, made.clock.now())
    assert not made.read()
    assert made.transport.requests == []


def test_a_node_that_moved_gets_a_new_connection(made):
    assert made.read()
    made.source.set(routing_of(2, "test://b"))
    assert not made.read(), "the loop has not looked yet who serves now"
    assert made.client._router.known_candidates(ChainId(1)) is None, "another thread keeps nothing in the router"
    made.meet_chain()
    assert made.read()
    assert [(channel.endpoint, channel.is_closed) for channel in made.transport.channels] == [
        ("test://a", True),
        ("test://b", False),
    ]


async def test_closing_breaks_off_a_read_that_waits(made):
    entered = threading.Event()

    def waits(request, into):
        entered.set()
        assert made.transport.aborted.wait(20)
        raise ConnectionResetError

    made.transport.script = waits
    done = []
    thread = threading.Thread(target=lambda: done.append(made.read()))
    thread.start()
    assert entered.wait(20)
    await made.client.close()
    thread.join()
    assert done == [False]
    assert made.transport.channels[0].is_closed
    assert not made.read()
    assert len(made.transport.requests) == 1


async def test_closing_disconnects(made):
    assert made.read()
    await made.client.close()
    assert made.transport.channels[0].is_closed
