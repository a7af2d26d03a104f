"""Requests without the event loop: an answer, a refusal that stands, or not done and nothing is claimed."""

import threading

import pytest

from fs3.base.errors import NotFound, error
from fs3.base.ids import ClientId, NodeId
from fs3.base.limits import inline_bytes_default
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.client.direct_channels import direct_pause_ns
from fs3.client.meta.client import MetaClient
from fs3.client.routing import StaticRouting
from fs3.model.inode import InodeType, User
from fs3.model.namespace import PathRef
from fs3.model.requests import Open
from fs3.model.routing import Node, Role, Routing
from fs3.wire.pb import meta_pb2

DATA = b"all bytes of a small file" * (inline_bytes_default // 25)
ASKED = Open(PathRef.of("/d/f"), want_data=True)
NODE = NodeId(7)


class Clock:
    def __init__(self):
        self.time = 100 * SECOND

    def now(self):
        return self.time


class Channel:
    """A connection that answers with `transport.script(request)`. A refusal leaves it open, any other failure ends it."""

    def __init__(self, transport, endpoint):
        self.transport, self.endpoint = transport, endpoint
        self.is_closed = False

    def call(self, method, request, into):
        assert not self.is_closed
        assert len(into) == 0
        self.transport.requests.append((method.name, request))
        try:
            return self.transport.script(request), 0
        except BaseException as failure:
            self.is_closed = not hasattr(failure, "code")
            raise

    def abort(self):
        self.transport.aborted.set()

    def close(self):
        self.is_closed = True


class Transport:
    scheme = "test"

    def __init__(self):
        self.script = opened
        self.requests, self.channels = [], []
        self.aborted = threading.Event()

    def connect(self, endpoint):
        return endpoint

    def connect_blocking(self, endpoint, timeout_ns):
        if endpoint.endswith("nobody"):
            raise ConnectionRefusedError
        if endpoint.endswith("name"):
            return None
        self.channels.append(Channel(self, endpoint))
        return self.channels[-1]


def opened(request):
    reply = meta_pb2.OpenReply(data=DATA)
    reply.inode.id, reply.inode.length, reply.inode.type = 5, len(DATA), meta_pb2.INODE_TYPE_FILE
    return reply


class Made:
    def __init__(self, endpoint="test://a"):
        self.clock, self.transport = Clock(), Transport()
        self.source = StaticRouting(routing_of(1, endpoint))
        self.client = MetaClient(
            self.source, Connector([self.transport], ""), self.clock, ClientId(b"0123456789abcdef"), User(1000, 100)
        )
        self.nodes = self.client._nodes
        self.nodes.choose()  # the loop has talked to the service

    def ask(self):
        return self.client.ask_directly(ASKED)


def routing_of(version, endpoint):
    return Routing(b"c", version, {NODE: Node(NODE, "meta", Role.META, (endpoint,), "", 1, True)})


@pytest.fixture
def made():
    return Made()


def raises(failure):
    def fail(request):
        raise failure

    return fail


def test_the_answer_and_whom_the_request_is_of(made):
    for _ in range(2):
        answer = made.ask()
        assert (answer.inode.id, answer.inode.type, answer.session, answer.data) == (5, InodeType.FILE, 0, DATA)
    assert len(made.transport.channels) == 1, "one connection for all"
    (name, request), _ = made.transport.requests
    assert (name, request.want_data, request.create, request.caller.request_seq) == ("Open", True, False, 0)
    assert (request.caller.client_id, request.caller.uid) == (b"0123456789abcdef", 1000)


def test_a_refusal_that_stands_is_raised_and_the_next_request_is_asked_at_once(made):
    made.transport.script = raises(error(Code.NOT_FOUND, "no such file"))
    with pytest.raises(NotFound, match="no such file") as refused:
        made.ask()
    assert refused.value.filename == "/d/f"
    made.transport.script = opened
    assert made.ask() is not None
    assert len(made.transport.channels) == 1


@pytest.mark.parametrize(
    "failure",
    [
        TimeoutError(),
        BlockingIOError(),
        BrokenPipeError(),
        ValueError("nonsense"),
        error(Code.BUSY, "busy"),
        error(Code.DISCONNECTED, "gone"),
        error(Code.SHUTTING_DOWN, "going"),
    ],
)
def test_after_any_other_failure_the_loop_is_left_alone_with_it_for_a_while(made, failure):
    made.transport.script = raises(failure)
    assert made.ask() is None
    made.transport.script = opened
    assert made.ask() is None
    assert len(made.transport.requests) == 1, "not asked meanwhile"
    made.clock.time += direct_pause_ns
    assert made.ask() is not None


def test_an_interrupt_gives_the_turn_back(made):
    made.transport.script = raises(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        made.ask()
    made.transport.script = opened
    assert made.ask() is not None
    assert len(made.transport.channels) == 2, "where in the stream it came is not known"


@pytest.mark.parametrize("endpoint", ["test://nobody", "test://name"])
def test_a_service_that_cannot_be_reached_so(endpoint):
    made = Made(endpoint)
    assert made.ask() is None
    assert made.transport.requests == []


def test_a_suspect_is_not_asked(made):
    place = made.nodes.choose()
    made.nodes.suspect(place)
    assert made.ask() is None
    made.nodes.choose()
    assert made.ask() is None, "it is all there is, but the loop has to find out whether it answers"
    assert made.transport.requests == []
    made.nodes.trust(place)
    made.nodes.choose()
    assert made.ask() is not None


def test_a_service_that_moved_gets_a_new_connection(made):
    assert made.ask() is not None
    made.source.set(routing_of(2, "test://b"))
    assert made.ask() is None, "the loop has not looked yet whom it talks to now"
    made.nodes.choose()
    assert made.ask() is not None
    assert [(channel.endpoint, channel.is_closed) for channel in made.transport.channels] == [
        ("test://a", True),
        ("test://b", False),
    ]


async def test_closing_breaks_off_a_request_that_waits(made):
    entered = threading.Event()

    def waits(request):
        entered.set()
        assert made.transport.aborted.wait(20)
        raise ConnectionResetError

    made.transport.script = waits
    done = []
    thread = threading.Thread(target=lambda: done.append(made.ask()))
    thread.start()
    assert entered.wait(20)
    await made.client.close()
    thread.join()
    assert done == [None]
    assert made.transport.channels[0].is_closed
    made.clock.time += direct_pause_ns
    assert made.ask() is None
    assert len(made.transport.requests) == 1


def test_another_user_of_the_client_asks_for_itself_over_the_same_connection(made):
    view = made.client.as_user(User(1001, 101, (50,)))
    assert made.ask().data == DATA
    assert view.ask_directly(ASKED).data == DATA
    callers = [(request.caller.uid, request.caller.gid, request.caller.groups[:]) for _, request in made.transport.requests]
    assert callers == [(1000, 100, []), (1001, 101, [50])]
    assert len({request.caller.client_id for _, request in made.transport.requests}) == 1
    assert len(made.transport.channels) == 1
