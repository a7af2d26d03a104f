"""The supervisor of a machine: what systemd is told, and the order in which processes stop."""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from fs3.cli.machine_supervisor import MachineSupervisor, notify_systemd
from fs3.cli.node_config import MachineConfig, NodeProcess, load_node_config
from tests.processes.machine_lab import wait_until

SAY_AND_WAIT = """
import signal, sys, time
name, log = sys.argv[1:3]
def stop(*_):
    open(log, "a").write(f"{name} stops\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
open(log, "a").write(f"{name} runs\\n")
while True:
    time.sleep(60)
"""


def test_systemd_is_told_when_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as home, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        address = f"{home}/notify"
        listener.bind(address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify_systemd("READY=1")
        assert listener.recv(100) == b"READY=1"
    notify_systemd("nobody listens any more: nothing happens")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify_systemd("nobody asks: nothing happens")


class Told(MachineConfig):
    """A machine whose processes only say that they run and stop."""

    log: Path

    def command(self, process: NodeProcess) -> list[str]:
        return [sys.executable, "-c", SAY_AND_WAIT, process.name, str(self.log)]


async def test_storage_stops_first_and_managers_last(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        f'machine = "h1"\ndata_dir = "{tmp_path}/lib"\naddress = "127.0.0.1"\nkv = "lmdb:{tmp_path}/kv"\n'
        f'[mgmtd]\n[meta]\n[[storage]]\ndisks = ["{tmp_path}/d1"]\n[[storage]]\ndisks = ["{tmp_path}/d2"]\n'
    )
    config = load_node_config(file)
    config.__class__ = Told
    assert isinstance(config, Told)
    config.log = tmp_path / "log"
    config.log.touch()
    supervisor = MachineSupervisor(config)
    running = asyncio.create_task(supervisor.run())
    log = config.log
    await asyncio.to_thread(wait_until, lambda: log.read_text().count("runs") == 4, log.read_text)
    supervisor.stop()
    await running
    said = [line.split()[0] for line in config.log.read_text().splitlines() if "stops" in line]
    assert set(said[:2]) == {"h1-storage", "h1-storage-2"}
    assert said[2:] == ["h1-meta", "h1-mgmtd"]
    assert Path(f"{tmp_path}/d2").is_dir()
