"""What a process answers about itself, and where it serves its metrics."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.units import MILLISECOND
from fs3.cli.observer import ProcessObserver, parse_metrics_port
from fs3.cli.options import ServeOptions, ServiceRole
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.wire.exposition import parse_text
from fs3.wire.methods import PROCESS
from fs3.wire.process import metrics_request_to_pb, slow_from_pb, slow_request_to_pb


def options(path: Path, *, counting: bool = True, metrics: str = "") -> ServeOptions:
    return ServeOptions(ServiceRole.meta, "meta-7", path, "", "", "", "", (), 1, 1, 1, None, metrics=metrics, counting=counting)


@pytest.mark.parametrize(
    ("text", "found"),
    [("9100", ("127.0.0.1", 9100)), ("0.0.0.0:9100", ("0.0.0.0", 9100)), ("[::1]:0", ("::1", 0)), ("host:1", ("host", 1))],
)
def test_where_metrics_are_served(text: str, found: tuple[str, int]) -> None:
    assert parse_metrics_port(text) == found


@pytest.mark.parametrize("text", ["", "x", ":9100", "host:", "host:99999", "-1", "9100x"])
def test_what_is_no_port_is_named(text: str) -> None:
    with pytest.raises(FS3Error, match="--metrics-port"):
        parse_metrics_port(text)


async def test_a_process_tells_of_itself(tmp_path: Path) -> None:
    clock = OsClock()
    async with AsyncExitStack() as stack:
        observer = ProcessObserver(options(tmp_path), clock)
        observer.start(stack)
        listener = await TcpTransport(clock, counts=observer.counts).serve("tcp://127.0.0.1:0", observer.bindings())
        stack.push_async_callback(listener.close)
        channel = TcpTransport(clock).connect(listener.endpoint)
        stack.push_async_callback(channel.close)
        observer.calls.slow.threshold_ns = 0
        answers = await asyncio.gather(*(channel.call(PROCESS.GetMetrics, metrics_request_to_pb()) for _ in range(20)))
        for answer in answers:
            names = {reading.name for reading in parse_text(answer.message.text)}
            assert {"fs3_build_info", "process_cpu_seconds_total", "fs3_memory_bytes"} <= names
        report = slow_from_pb((await channel.call(PROCESS.GetSlow, slow_request_to_pb())).message)
        operation = report.operations[0]
        assert operation.verb == "Process.GetMetrics"
        assert operation.request_id > 0
        assert operation.elapsed_ns < 60_000 * MILLISECOND
        assert [span.name for span in operation.spans] == ["serving"]


async def test_a_process_that_counts_nothing_says_little(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        observer = ProcessObserver(options(tmp_path, counting=False, metrics="no port"), OsClock())
        observer.start(stack)
        assert observer.counts is None
        assert not list(observer.sources.samples())
