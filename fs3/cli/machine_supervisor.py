"""`fs3 serve --config FILE`: the processes of one machine, each started again when it ends, and stopped in order.

It runs in the foreground, for systemd or a container. Its processes are its children and say what they have to say on its
standard error. They end by themselves when it is gone, however it went: each holds the reading end of a pipe that only the
supervisor can write to. A process that ends is started again after a wait that doubles while it goes on ending quickly, and never
given up: what it lacks (the engine, the managers, a disk) may come back, and the reason is in the log each time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Iterable
from contextlib import suppress

from fs3.base.backoff import Backoff
from fs3.base.units import SECOND
from fs3.cli.cluster import STOP_SECONDS
from fs3.cli.node_config import MachineConfig, NodeProcess
from fs3.cli.options import ServiceRole
from fs3.cli.supervision import restart_quick_ns, restart_wait_first_ns, restart_wait_ns_max

log = logging.getLogger("fs3.machine")

_STOP_ORDER = (ServiceRole.storage, ServiceRole.meta, ServiceRole.mgmtd)
"""Managers last: the others hand over to them."""


class MachineSupervisor:
    """Keeps the processes of a machine running. `run` once."""

    def __init__(self, config: MachineConfig) -> None:
        self._config = config
        self._stopping = asyncio.Event()
        self._children: dict[str, asyncio.subprocess.Process] = {}

    def stop(self) -> None:
        """Begin to stop."""
        self._stopping.set()

    async def run(self) -> None:
        """Until it is to stop, and all processes have."""
        for process in self._config.processes:
            for directory in process.directories:
                directory.mkdir(parents=True, exist_ok=True)
        lifeline, held = os.pipe()
        try:
            keepers = [asyncio.create_task(self._keep_running(process, lifeline)) for process in self._config.processes]
            notify_systemd(f"READY=1\nSTATUS=runs {', '.join(process.name for process in self._config.processes)}")
            await self._stopping.wait()
            notify_systemd("STOPPING=1")
            for role in _STOP_ORDER:
                await self._stop_processes(process for process in self._config.processes if process.role is role)
            await asyncio.gather(*keepers)
        finally:
            os.close(lifeline)
            os.close(held)

    async def _keep_running(self, process: NodeProcess, lifeline: int) -> None:
        backoff = Backoff(restart_wait_first_ns, restart_wait_ns_max)
        while not self._stopping.is_set():
            began = time.monotonic_ns()
            why = await self._run_once(process, lifeline)
            if self._stopping.is_set():
                return
            if time.monotonic_ns() - began >= restart_quick_ns:
                backoff.reset()
            wait = backoff.next_ns() / SECOND
            log.warning("%s has ended: %s. It is started again in %.2f s", process.name, why, wait)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)

    async def _run_once(self, process: NodeProcess, lifeline: int) -> str:
        """Start it and wait for its end; returns why it ended."""
        try:
            command = [*self._config.command(process), "--lifeline-fd", str(lifeline)]
            child = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, pass_fds=(lifeline,), start_new_session=True
            )
        except OSError as why:
            return f"it cannot be started: {why}"
        self._children[process.name] = child
        log.info("%s is started as pid %d", process.name, child.pid)
        status = await child.wait()
        del self._children[process.name]
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    async def _stop_processes(self, processes: Iterable[NodeProcess]) -> None:
        children = {process.name: child for process in processes if (child := self._children.get(process.name))}
        for child in children.values():
            with suppress(ProcessLookupError):
                child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for name, child in children.items():
            try:
                await asyncio.wait_for(child.wait(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                log.error("%s did not stop in %.0f s and is killed", name, STOP_SECONDS)
                with suppress(ProcessLookupError):
                    child.kill()
                await child.wait()


def notify_systemd(state: str) -> None:
    """Tell systemd, when it is that which has started this process and asks to be told (`Type=notify`)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)


def run_machine(config: MachineConfig) -> None:
    """Run the processes of a machine until SIGTERM or SIGINT."""

    async def run() -> None:
        supervisor = MachineSupervisor(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, supervisor.stop)
        log.info("machine %s runs %s", config.machine, ", ".join(process.name for process in config.processes))
        await supervisor.run()
        log.info("machine %s has stopped", config.machine)

    asyncio.run(run())
