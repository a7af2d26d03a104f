"""What becomes of each request of a call, and that its handler hears of its end once, first."""

from __future__ import annotations

import asyncio

import pytest

from fs3.base.errors import FS3Error, error
from fs3.base.ids import NodeId
from fs3.base.status import Code
from fs3.client.storage.node_request import NodeRequest, send_windowed
from fs3.ports.rpc import Channel, Reply


class Healthy:
    def has_alternative(self, request: NodeRequest) -> bool:
        return False

    def on_unresponsive(self, node: NodeId) -> None:
        raise AssertionError

    def probe_channel(self, node: NodeId) -> Channel | None:
        return None

    def on_recovered(self, node: NodeId) -> None:
        raise AssertionError


class Handler:
    """Writes down what it hears of each request; some are refused when they are sent, some answered with nonsense."""

    def __init__(self, unsendable: tuple[int, ...] = (), nonsense: tuple[int, ...] = ()) -> None:
        self.unsendable = unsendable
        self.nonsense = nonsense
        self.sent: list[int] = []
        self.told: dict[int, list[str]] = {}

    def _tell(self, request: NodeRequest, what: str) -> None:
        self.told.setdefault(int(request.node), []).append(what)

    def send(self, request: NodeRequest) -> None:
        if request.node in self.unsendable:
            raise error(Code.UNAVAILABLE, "no wire")
        self.sent.append(int(request.node))
        request.future = asyncio.get_running_loop().create_future()

    def on_reply(self, request: NodeRequest, reply: Reply) -> None:
        if request.node in self.nonsense:
            raise error(Code.PROTOCOL, "nonsense")
        self._tell(request, "reply")

    def on_error(self, request: NodeRequest, failure: FS3Error) -> None:
        self._tell(request, failure.code.name)

    def on_end(self, request: NodeRequest) -> None:
        self._tell(request, "end")


def requests(count: int) -> list[NodeRequest]:
    return [NodeRequest(NodeId(number), [1], Healthy()) for number in range(count)]


async def started(handler: Handler, all_requests: list[NodeRequest], window: int) -> asyncio.Task[None]:
    calling = asyncio.ensure_future(send_windowed(all_requests, window, handler))
    await asyncio.sleep(0)
    return calling


def future_of(request: NodeRequest) -> asyncio.Future[Reply]:
    assert request.future is not None
    return request.future


async def test_every_request_ends_once_and_then_has_an_outcome() -> None:
    handler = Handler(unsendable=(1,), nonsense=(2,))
    made = requests(5)
    calling = await started(handler, made, 5)
    future_of(made[3]).set_exception(error(Code.DISCONNECTED, "broke"))
    made[4].abort(error(Code.DEADLINE, "aborted"))
    for index in (2, 0):
        future_of(made[index]).set_result(Reply(None))
    await calling
    assert handler.told == {
        0: ["end", "reply"],
        1: ["end", "UNAVAILABLE"],
        2: ["end", "PROTOCOL"],
        3: ["end", "DISCONNECTED"],
        4: ["end", "DEADLINE"],
    }
    assert all(request.future is None for request in made)


async def test_a_window_of_requests_is_under_way() -> None:
    handler = Handler()
    made = requests(5)
    calling = await started(handler, made, 2)
    assert handler.sent == [0, 1]
    future_of(made[1]).set_result(Reply(None))
    await asyncio.sleep(0)
    assert handler.sent == [0, 1]  # taken in order: the first one's turn has not come
    future_of(made[0]).set_result(Reply(None))
    for index in (2, 3, 4):
        while made[index].future is None:  # noqa: ASYNC110 - the call has no event to wait for
            await asyncio.sleep(0)
        future_of(made[index]).set_result(Reply(None))
    await calling
    assert handler.told == {number: ["end", "reply"] for number in range(5)}


async def test_all_requests_of_a_cancelled_call_end_without_outcome() -> None:
    handler = Handler(unsendable=(1,))
    made = requests(5)
    calling = await started(handler, made, 4)
    futures = [future_of(made[index]) for index in (0, 2, 3)]
    futures[1].set_exception(error(Code.DISCONNECTED, "broke meanwhile"))
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert handler.told == {0: ["end"], 1: ["end", "UNAVAILABLE"], 2: ["end"], 3: ["end"], 4: ["end"]}
    assert handler.sent == [0, 2, 3]
    assert [future.cancelled() for future in futures] == [True, False, True]


async def test_an_aborted_request_does_not_hide_that_the_caller_is_cancelled() -> None:
    handler = Handler()
    made = requests(1)
    calling = await started(handler, made, 1)
    calling.cancel()
    made[0].abort(error(Code.DEADLINE, "aborted"))
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert handler.told == {0: ["end"]}
