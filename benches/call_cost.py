"""`python -m benches.call_cost [--rounds N]`: what counting costs one call, client and server together, in one thread.

Two pairs of a client and a server on loopback sockets, one of which counts nothing, are called in turns. Processor time of the
thread counts, and the least of all turns is shown beside the median: what else the machine does adds to a turn, and takes nothing
from it. So this says something on a busy machine too, where `benches.metrics_cost`, which measures whole clusters, does not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from benches.loop import run
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.rpc.rpc_counts import RpcCounts
from fs3.ports.rpc import Call, Channel
from fs3.runtime.slow_operations import SlowOperations
from fs3.runtime.span_store import SpanStore
from fs3.runtime.tracing import Tracer
from fs3.wire.methods import STORAGE

_CALLS = 400
"""Of one turn."""
_DEPTHS = (1, 40)
"""Calls under way at a time."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status 0."""
    parser = argparse.ArgumentParser(prog="benches.call_cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="turns of each pair")
    options = parser.parse_args(arguments)
    print(f"{'calls at a time':>15} {'off µs':>9} {'on µs':>9} {'on / off':>9} {'least off':>9} {'least on':>9}")
    for depth, off, on in run(_measure(options.rounds)):
        ratio = statistics.median(one / other for one, other in zip(on, off, strict=True))
        print(
            f"{depth:15} {statistics.median(off):9.2f} {statistics.median(on):9.2f} {ratio:9.4f} {min(off):9.2f} {min(on):9.2f}"
        )
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    return 0


async def _measure(rounds: int) -> list[tuple[int, list[float], list[float]]]:
    """(calls at a time, µs of each turn without, and with counting)."""
    async with AsyncExitStack() as stack:
        off, on = await _connect(stack, counting=False), await _connect(stack, counting=True)
        found = []
        for depth in _DEPTHS:
            costs: dict[Channel, list[float]] = {off: [], on: []}
            for turn in range(rounds + 1):
                for channel in (off, on) if turn % 2 else (on, off):
                    cost = await _turn(channel, depth)
                    if turn:  # the first one warms
                        costs[channel].append(cost)
            found.append((depth, costs[off], costs[on]))
        return found


async def _connect(stack: AsyncExitStack, *, counting: bool) -> Channel:
    clock = OsClock()

    def wire() -> TcpTransport:
        counts = RpcCounts(clock, SlowOperations(clock), Tracer(clock, os.urandom, SpanStore(clock)))
        return TcpTransport(clock, counts=counts if counting else None)

    def answer(call: Call) -> None:
        call.reply(STORAGE.GetSpace.reply())

    listener = await wire().serve("tcp://127.0.0.1:0", {STORAGE.GetSpace: answer})
    stack.push_async_callback(listener.close)
    channel = wire().connect(listener.endpoint)
    stack.push_async_callback(channel.close)
    return channel


async def _turn(channel: Channel, depth: int) -> float:
    """Processor time of a call, µs."""
    request: Any = STORAGE.GetSpace.request()
    before = time.thread_time_ns()
    for _ in range(_CALLS // depth):
        if depth == 1:
            await channel.start(STORAGE.GetSpace, request)
        else:
            await asyncio.gather(*(channel.start(STORAGE.GetSpace, request) for _ in range(depth)))
    return (time.thread_time_ns() - before) / (_CALLS // depth * depth) / 1e3


if __name__ == "__main__":
    sys.exit(main())
