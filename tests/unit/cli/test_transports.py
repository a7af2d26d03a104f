"""`fs3 status --transports`: what processes say of their connections, as data and as a table."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fs3.base.errors import FS3Error
from fs3.cli.observer import ProcessObserver
from fs3.cli.options import ServeOptions, ServiceRole
from fs3.cli.transports import render_transports, transports_document
from fs3.drivers.framed.local import LocalTransport
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rpc.open_connections import OpenConnections, connections_listed_max
from fs3.model.connection import ConnectionInfo, ConnectionReport
from fs3.wire.methods import PROCESS
from fs3.wire.process import connections_from_pb, connections_request_to_pb, connections_to_pb


def _observer(path: Path, *, counting: bool = True) -> ProcessObserver:
    return ProcessObserver(
        ServeOptions(ServiceRole.storage, "storage-7", path, "", "", "", "", (), 1, 1, 1, None, counting=counting), OsClock()
    )


async def _report(channel: Any) -> ConnectionReport:
    return connections_from_pb((await channel.call(PROCESS.GetConnections, connections_request_to_pb())).message)


async def test_a_process_tells_of_its_open_connections(tmp_path: Path) -> None:
    clock = OsClock()
    async with AsyncExitStack() as stack:
        observer = _observer(tmp_path)
        observer.start(stack)
        tcp = await TcpTransport(clock, counts=observer.counts).serve("tcp://127.0.0.1:0", observer.bindings())
        stack.push_async_callback(tcp.close)
        local = await LocalTransport(clock, counts=observer.counts).serve(f"local://{tmp_path}/s", observer.bindings())
        stack.push_async_callback(local.close)
        first = TcpTransport(clock).connect(tcp.endpoint)
        second = LocalTransport(clock).connect(local.endpoint)
        own = TcpTransport(clock, counts=observer.counts).connect(tcp.endpoint)
        for channel in (first, second, own):
            stack.push_async_callback(channel.close)
            report = await _report(channel)
        assert report.total == 4
        kinds = [(one.transport, one.is_outgoing, one.why) for one in report.connections]
        assert kinds[:2] == [
            ("tcp", False, "the client has not asked for RDMA"),
            ("local", False, "both ends are on one host; descriptors of files are passed"),
        ]
        assert sorted(kinds[2:]) == [
            ("tcp", False, "the client has not asked for RDMA"),
            ("tcp", True, "no RDMA here: it is for data, where FS3_RDMA is set"),
        ]
        assert [one.peer for one in report.connections if one.is_outgoing] == [tcp.endpoint]
        await own.close()
        await second.close()
        while (await _report(first)).total > 1:
            pass


async def test_a_process_that_counts_nothing_says_so(tmp_path: Path) -> None:
    clock = OsClock()
    async with AsyncExitStack() as stack:
        observer = _observer(tmp_path, counting=False)
        listener = await TcpTransport(clock).serve("tcp://127.0.0.1:0", observer.bindings())
        stack.push_async_callback(listener.close)
        channel = TcpTransport(clock).connect(listener.endpoint)
        stack.push_async_callback(channel.close)
        with pytest.raises(FS3Error, match="storage-7 counts nothing"):
            await _report(channel)


def test_very_many_are_not_all_listed() -> None:
    class One:
        def describe(self) -> ConnectionInfo:
            return ConnectionInfo("tcp://10.0.0.1:5", True, "rdma", "mlx5_0/1", "proved")

    connections = OpenConnections()
    for _ in range(connections_listed_max + 3):
        connections.add(One())
    report = connections.report()
    assert (len(report.connections), report.total) == (connections_listed_max, connections_listed_max + 3)
    assert connections_from_pb(connections_to_pb(report)) == report
    assert transports_document({"a": report}, {})["not_listed"] == {"a": 3}


def test_the_document_and_the_table() -> None:
    report = ConnectionReport(
        (
            ConnectionInfo("tcp://10.0.0.2:8000", True, "rdma", "mlx5_0/1 (bond0)", "proved at an MTU of 4096"),
            ConnectionInfo("local:pid=5,uid=0", False, "local", "", "both ends are on one host"),
        ),
        2,
    )
    document = transports_document({"storage-1": report}, {"storage-2": "it is away"})
    assert document["connections"][0] == {
        "process": "storage-1",
        "direction": "to",
        "peer": "tcp://10.0.0.2:8000",
        "transport": "rdma",
        "path": "mlx5_0/1 (bond0)",
        "why": "proved at an MTU of 4096",
    }
    assert document["silent"] == {"storage-2": "it is away"}
    console = Console(width=160)
    with console.capture() as shown:
        console.print(render_transports(document))
    text = shown.get()
    assert "rdma, mlx5_0/1 (bond0)" in text
    assert "storage-2 does not answer: it is away" in text
