"""gRPC as other languages see it: plain stubs, status codes, trailers, health, reflection. And that nobody else imports it."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from fs3.base.status import Code
from fs3.drivers.grpc import GrpcTransport
from fs3.drivers.os.clock import OsClock
from fs3.ports.rpc import Call
from fs3.sim.conformance.transport_harness import PLAIN, PULL, PUSH, WATCH, echo, failure, pattern, ping, replying, summing, sums
from fs3.wire.pb import common_pb2, mgmtd_pb2, storage_pb2


@asynccontextmanager
async def stub_to(bindings: Any) -> AsyncIterator[Any]:
    """`call(method, request)` as a client made from the .proto files would do it."""
    listener = await GrpcTransport(OsClock()).serve("grpc://127.0.0.1:0", bindings)
    async with grpc.aio.insecure_channel(listener.endpoint.removeprefix("grpc://")) as channel:

        def call(method: Any, request: Any, **options: Any) -> Any:
            make = channel.unary_stream if method.streaming else channel.unary_unary
            path = f"/{method.service}/{method.name}"
            return make(path, method.request.SerializeToString, method.reply.FromString)(request, **options)

        call.channel = channel  # type: ignore[attr-defined]
        call.listener = listener  # type: ignore[attr-defined]
        yield call
    await listener.close()


async def test_payloads_are_a_field_of_the_message() -> None:
    data = pattern(300_000)
    async with stub_to({PUSH: summing, PULL: replying(data[:1000], data[1000:]), PLAIN: echo}) as call:
        reply = await call(PUSH, storage_pb2.UpdateRequest(lengths=[5], payload=data))
        assert sums(reply)[0] == len(data)
        reply = await call(PULL, storage_pb2.ReadRequest())
        assert reply.payload == data
        assert reply.routing_version == 5
        assert await call(PLAIN, ping(4)) == mgmtd_pb2.HeartbeatReply(seq=4)


async def test_handlers_never_see_the_payload_field() -> None:
    seen: list[bool] = []

    def handle(call: Call) -> None:
        seen.append(bool(call.request.payload))
        call.reply(storage_pb2.UpdateReply())

    async with stub_to({PUSH: handle}) as call:
        await call(PUSH, storage_pb2.UpdateRequest(payload=b"abc"))
        assert seen == [False]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.NOT_FOUND, grpc.StatusCode.NOT_FOUND),
        (Code.EXISTS, grpc.StatusCode.ALREADY_EXISTS),
        (Code.BUSY, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (Code.NO_SPACE, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (Code.INVALID, grpc.StatusCode.INVALID_ARGUMENT),
        (Code.DISK, grpc.StatusCode.DATA_LOSS),
        (Code.WRONG_CHAIN_VERSION, grpc.StatusCode.FAILED_PRECONDITION),
        (Code.NOT_PRIMARY, grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_failures_have_a_status_and_a_trailer(code: Code, status: grpc.StatusCode) -> None:
    async with stub_to({PLAIN: lambda call: call.fail(code, "because", routing_version=7)}) as call:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(PLAIN, ping(1))
        assert caught.value.code() is status
        assert caught.value.details() == "because"
        (trailer,) = (value for key, value in caught.value.trailing_metadata() if key == "fs3-error-bin")
        assert common_pb2.ErrorDetail.FromString(trailer) == common_pb2.ErrorDetail(
            code=code, message="because", routing_version=7
        )


async def test_streams_and_deadlines_are_grpcs() -> None:
    def handle(call: Call) -> None:
        call.send(mgmtd_pb2.RoutingUpdate(version=1))
        call.reply(mgmtd_pb2.RoutingUpdate(version=2))

    async with stub_to({WATCH: handle, PLAIN: lambda call: None}) as call:
        assert [update.version async for update in call(WATCH, mgmtd_pb2.GetRoutingRequest())] == [1, 2]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(PLAIN, ping(1), timeout=0.05)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_health_is_served() -> None:
    async with stub_to({PLAIN: echo}) as call:
        health = health_pb2_grpc.HealthStub(call.channel)
        for service in ("", "fs3.v1.Mgmtd"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError):
            await health.Check(health_pb2.HealthCheckRequest(service="fs3.v1.Storage"))


async def test_reflection_tells_the_whole_schema() -> None:
    async with stub_to({PLAIN: echo, PUSH: summing}) as call:
        target = call.listener.endpoint.removeprefix("grpc://")

        def look() -> tuple[set[str], list[str]]:
            with grpc.insecure_channel(target) as channel:
                database = ProtoReflectionDescriptorDatabase(channel)
                services = set(database.get_services())
                found = DescriptorPool(database).FindServiceByName("fs3.v1.Storage")
                return services, [method.name for method in found.methods]

        services, methods = await asyncio.to_thread(look)
        assert services == {
            "fs3.v1.Mgmtd",
            "fs3.v1.Storage",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        assert {"Read", "Update", "Find"} <= set(methods)


async def test_a_channel_that_was_made_before_a_fork_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = GrpcTransport(OsClock()).connect("grpc://127.0.0.1:1")
    channel._pid += 1  # type: ignore[attr-defined]
    assert (await failure(channel.call(PLAIN, ping(1)))).code is Code.UNSUPPORTED
    await channel.close()


def test_only_using_grpc_imports_it() -> None:
    """A forked process cannot use grpc once its parent has: `import fs3`, its other transports and making this one must not."""
    script = """
import sys
import fs3, fs3.drivers.framed.tcp, fs3.drivers.framed.local, fs3.drivers.memory.transport, fs3.drivers.grpc, fs3.wire.methods
from fs3.drivers.os.clock import OsClock
fs3.drivers.grpc.GrpcTransport(OsClock())
assert not [name for name in sys.modules if name.split(".")[0] in ("grpc", "grpc_health", "grpc_reflection")]
"""
    subprocess.run([sys.executable, "-c", script], check=True)
