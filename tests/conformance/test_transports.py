"""Every transport passes the same suite; the socket ones on both kinds of event loop."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fs3.drivers.framed.local import LocalTransport
from fs3.drivers.framed.server_context import ServerLimits
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.framed.tls import TlsTransport
from fs3.drivers.grpc import GrpcTransport
from fs3.drivers.memory.transport import MemoryNetwork, MemoryTransport
from fs3.drivers.os.clock import OsClock
from fs3.ports.rpc import Transport
from fs3.sim.conformance.transport import TransportTests
from tests.space import SpaceGuard
from tests.tls_files import Authority


def _bounds(options: dict[str, Any]) -> dict[str, Any]:
    if "server_calls_max" in options:
        options["bounds"] = ServerLimits(calls_per_connection_max=options.pop("server_calls_max"))
    return options


@pytest.fixture(scope="module")
def authority(space_guard: SpaceGuard) -> Iterator[Authority]:
    with space_guard.lend("authority") as directory:
        yield Authority.make(directory)


class TestTcp(TransportTests):
    def make(self, **options: Any) -> Transport:
        return TcpTransport(OsClock(), **_bounds(options))

    def endpoint(self, directory: Path) -> str:
        return "tcp://127.0.0.1:0"


class TestTcpOnUvloop(TestTcp):
    on_uvloop = True


class TestTls(TransportTests):
    @pytest.fixture(autouse=True)
    def _certificates(self, authority: Authority) -> None:
        self.credentials = authority.credentials("server", "127.0.0.1")

    def make(self, **options: Any) -> Transport:
        return TlsTransport(OsClock(), self.credentials, **_bounds(options))

    def endpoint(self, directory: Path) -> str:
        return "tls://127.0.0.1:0"


class TestTlsOnUvloop(TestTls):
    on_uvloop = True


class TestLocal(TransportTests):
    def make(self, **options: Any) -> Transport:
        return LocalTransport(OsClock(), **_bounds(options))

    def endpoint(self, directory: Path) -> str:
        return f"local://{directory}/socket"


class TestLocalOnUvloop(TestLocal):
    on_uvloop = True


class TestLocalWithoutPassedFiles(TestLocal):
    def make(self, **options: Any) -> Transport:
        return LocalTransport(OsClock(), passes_files=False, **_bounds(options))


class TestGrpc(TransportTests):
    waits_for_buffers = False
    starts_leave_together = False

    def make(self, **options: Any) -> Transport:
        return GrpcTransport(OsClock(), **options)

    def endpoint(self, directory: Path) -> str:
        return "grpc://127.0.0.1:0"


class TestGrpcOnUvloop(TestGrpc):
    on_uvloop = True


class TestGrpcTls(TestGrpc):
    @pytest.fixture(autouse=True)
    def _certificates(self, authority: Authority) -> None:
        self.credentials = authority.credentials("grpc", "127.0.0.1")

    def make(self, **options: Any) -> Transport:
        return GrpcTransport(OsClock(), credentials=self.credentials, **options)

    def endpoint(self, directory: Path) -> str:
        return "grpcs://127.0.0.1:0"


class TestMemory(TransportTests):
    bounds_replies = False

    @pytest.fixture(autouse=True)
    def _network(self) -> None:
        self.network = MemoryNetwork(OsClock())

    def make(self, **options: Any) -> Transport:
        return MemoryTransport(self.network, **options)

    def endpoint(self, directory: Path) -> str:
        return "memory://server"
