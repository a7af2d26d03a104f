"""A network that is a dictionary, where calls fail when a test says so; and a clock that a test can push forward."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.client.connector import Connector
from fs3.client.mgmtd.client import MgmtdClient
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.method import Method
from fs3.model.principal import AuthContext
from fs3.ports.rpc import Bindings, BufferProvider, Listener, Part, Reply
from fs3.services.mgmtd import MgmtdConfig, MgmtdService


class LoopClock:
    """The loop's own time, and what a test adds to it."""

    def __init__(self) -> None:
        self.added = 0

    def now(self) -> int:
        return int(asyncio.get_running_loop().time() * SECOND) + self.added

    def wall(self) -> int:
        return self.now()


class LoopCall:
    """The server's side of a call."""

    def __init__(self, network: Network, endpoint: str, method: Method, request: Any) -> None:
        self.network = network
        self.endpoint = endpoint
        self.method = method
        self.request = method.request.FromString(request.SerializeToString())
        self.payload = None
        self.peer = "test"
        self.auth = AuthContext()
        self.deadline = 1 << 62
        self.is_cancelled = False
        self.answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.slow = False
        self._callbacks: list[Callable[[], None]] = []

    def _copy(self, message: Any) -> Any:
        assert type(message) is self.method.reply
        return self.method.reply.FromString(message.SerializeToString())

    def reply(self, message: Any, parts: Sequence[Part] = (), on_sent: Callable[[], None] | None = None) -> None:
        if not self.answer.done() and message is None:
            assert self.method.streaming
            self.answer.set_result(Reply(None))
            self.messages.put_nowait(None)
        elif not self.answer.done():
            self.answer.set_result(Reply(self._copy(message)))

    def fail(self, code: Code, message: str, routing_version: int = 0) -> None:
        if not self.answer.done():
            self.answer.set_exception(error(code, message))
            self.answer.exception()
            self.messages.put_nowait(error(code, message))

    def send(self, message: Any) -> bool:
        if self.is_cancelled or self.slow or self.answer.done():
            return False
        if self.endpoint not in self.network.frozen:
            self.messages.put_nowait(self._copy(message))
        return True

    def add_cancel_callback(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def cancel(self) -> None:
        if not self.is_cancelled and not self.answer.done():
            self.is_cancelled = True
            for callback in self._callbacks:
                callback()

    def release(self) -> None:
        pass


class LoopChannel:
    """The client's side."""

    def __init__(self, network: Network, endpoint: str) -> None:
        self.network = network
        self.endpoint = endpoint
        self.closed = False

    def start(
        self, method: Method, request: Any, parts: Sequence[Part] = (), into: BufferProvider | None = None, timeout_ns: int = 0
    ) -> asyncio.Future[Reply]:
        network = self.network
        network.count(self.endpoint, method.name)
        loop = asyncio.get_running_loop()
        failure = network.failure(self.endpoint)
        if failure is not None:
            broken: asyncio.Future[Reply] = loop.create_future()
            loop.call_soon(lambda: broken.done() or broken.set_exception(failure))
            return broken
        call = LoopCall(network, self.endpoint, method, request)
        network.last_call = call
        if self.endpoint in network.frozen:
            late = lambda: call.answer.done() or call.answer.set_exception(error(Code.DEADLINE, "no answer"))  # noqa: E731
            loop.call_later(timeout_ns / SECOND, late)
        else:
            network.bindings[self.endpoint][method](call)
        return call.answer

    async def call(
        self, method: Method, request: Any, parts: Sequence[Part] = (), into: BufferProvider | None = None, timeout_ns: int = 0
    ) -> Reply:
        return await self.start(method, request, parts, into, timeout_ns)

    async def stream(self, method: Method, request: Any) -> AsyncIterator[Any]:
        self.network.count(self.endpoint, method.name)
        if (failure := self.network.failure(self.endpoint)) is not None:
            raise failure
        call = LoopCall(self.network, self.endpoint, method, request)
        self.network.streams.append(call)
        self.network.opened.set()
        try:
            if self.endpoint not in self.network.frozen:
                self.network.bindings[self.endpoint][method](call)
            while True:
                message = await call.messages.get()
                if isinstance(message, Exception):
                    raise message
                if message is None:
                    return
                yield message
        finally:
            call.cancel()
            self.network.streams.remove(call)

    async def close(self) -> None:
        self.closed = True


class LoopListener:
    def __init__(self, network: Network, endpoint: str) -> None:
        self.network = network
        self.endpoint = endpoint

    async def close(self, grace_ns: int = 0) -> None:
        self.network.stop(self.endpoint)


class LoopTransport:
    """One scheme on the network."""

    def __init__(self, network: Network, scheme: str) -> None:
        self.network = network
        self.scheme = scheme

    def connect(self, endpoint: str) -> LoopChannel:
        if "bad" in endpoint:
            raise error(Code.INVALID, f"{endpoint!r} makes no sense")
        channel = LoopChannel(self.network, endpoint)
        self.network.channels.append(channel)
        return channel

    async def serve(self, endpoint: str, bindings: Bindings) -> Listener:
        self.network.bindings[endpoint] = bindings
        return LoopListener(self.network, endpoint)


class Network:
    """Who listens where, and what goes wrong."""

    def __init__(self) -> None:
        self.bindings: dict[str, Bindings] = {}
        self.faults: dict[str, list[Exception]] = {}
        """What the next calls to an endpoint fail with."""
        self.frozen: set[str] = set()
        """Endpoints that take calls and never answer."""
        self.calls: Counter[tuple[str, str]] = Counter()
        self.streams: list[LoopCall] = []
        self.opened = asyncio.Event()
        """A stream was opened."""
        self.last_call: LoopCall | None = None
        self._expected: dict[tuple[str, str], asyncio.Future[None]] = {}
        self.channels: list[LoopChannel] = []

    def count(self, endpoint: str, name: str) -> None:
        self.calls[endpoint, name] += 1
        if (expected := self._expected.pop((endpoint, name), None)) is not None:
            expected.set_result(None)

    def next_call(self, endpoint: str, name: str) -> asyncio.Future[None]:
        """Done when the method is called there the next time."""
        return self._expected.setdefault((endpoint, name), asyncio.get_running_loop().create_future())

    def failure(self, endpoint: str) -> Exception | None:
        if planned := self.faults.get(endpoint):
            return planned.pop(0)
        if endpoint not in self.bindings and endpoint not in self.frozen:
            return error(Code.UNAVAILABLE, f"connection refused: {endpoint}")
        return None

    def stop(self, endpoint: str) -> None:
        """The process at an endpoint is killed."""
        self.bindings.pop(endpoint, None)
        for call in list(self.streams):
            if call.endpoint == endpoint:
                call.messages.put_nowait(error(Code.DISCONNECTED, f"{endpoint} is gone"))

    def transport(self, scheme: str = "tcp") -> LoopTransport:
        return LoopTransport(self, scheme)

    def connector(self, *schemes: str, host: str = "") -> Connector:
        return Connector([self.transport(scheme) for scheme in schemes or ("tcp",)], host)


class World:
    """Services and clients that are stopped when the test ends."""

    def __init__(self) -> None:
        self.network = Network()
        self.clock = LoopClock()
        self._started = 0
        self._services: dict[str, MgmtdService] = {}
        self._closing: list[Callable[[], Awaitable[None]]] = []

    async def serve(
        self,
        kv: Any = None,
        config: MgmtdConfig | None = None,
        endpoint: str = "tcp://m:1",
        cluster: bytes = b"c" * 16,
        **more: Any,
    ) -> MgmtdService:
        """A manager that listens; its store is a fresh one in memory unless one is given."""
        config = config or MgmtdConfig(heartbeat_ns=SECOND // 50, targets_per_node=2)
        self._started += 1
        instance = self._started

        def entropy(count: int) -> bytes:
            return cluster if count == len(cluster) else instance.to_bytes(count, "big")

        service = MgmtdService(kv or MemoryKV(), self.clock, config, entropy, **more)
        await service.start()
        self._closing.append(service.stop)
        await self.network.transport().serve(endpoint, service.bindings())
        service.announce([endpoint])
        self._services[endpoint] = service
        return service

    def kill(self, endpoint: str) -> None:
        """A manager's process is killed: it does nothing any more, and gives nothing back."""
        self._services[endpoint]._candidate.give_up()
        self.network.stop(endpoint)

    def client(self, *addresses: str, **more: Any) -> MgmtdClient:
        """A client that is not started."""
        more.setdefault("connect_timeout_ns", SECOND)
        client = MgmtdClient(self.network.connector(), addresses or ("tcp://m:1",), self.clock, **more)
        self._closing.append(client.close)
        return client

    async def started(self, *addresses: str, **more: Any) -> MgmtdClient:
        client = self.client(*addresses, **more)
        await client.start()
        return client

    async def close(self) -> None:
        for close in reversed(self._closing):
            await close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


@pytest.fixture
def network() -> Network:
    return Network()
