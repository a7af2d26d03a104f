"""Machines in network namespaces, joined by a bridge: each with its own address, host name, processes and files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.process_mounts import DETACH_COPIES
from tests.processes.machine_lab import wait_until

BIN = Path(sys.executable).parent
_OWN = ("etc", "srv", "var/lib")
"""Directories of which each machine has its own. /etc is a copy, the others are empty at first."""


def why_no_network_lab() -> str:
    """Why machines in namespaces cannot be made here; "" when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [program for program in ("ip", "nsenter", "unshare") if shutil.which(program) is None]
    if missing:
        return f"there is no {' and no '.join(missing)}"
    name = f"fs3probe{os.getpid()}"
    try:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, timeout=30)
        if made.returncode:
            return f"no network namespace can be made: {made.stderr.strip()}"
        for command in (
            ["ip", "-n", name, "link", "add", "name", "br0", "type", "bridge"],
            ["ip", "-n", name, "link", "add", "name", "veth0", "type", "veth", "peer", "name", "veth1"],
            ["ip", "netns", "exec", name, "unshare", "-mup", "--fork", "--mount-proc", "mount", "--bind", "/srv", "/srv"],
        ):
            done = subprocess.run(command, capture_output=True, text=True, timeout=30)
            if done.returncode:
                return f"{' '.join(command[3:])}: {done.stderr.strip()}"
        return ""
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=30)


class NetworkMachine:
    """One machine: namespaces of network, mounts, host name and processes, kept by a process that is the first in it."""

    def __init__(self, namespace: str, name: str, home: Path, hosts: str) -> None:
        """`namespace`: of the network, made already."""
        self.name = name
        self.home = home
        self._namespace = namespace
        for each in _OWN:
            (home / each).mkdir(parents=True)
        subprocess.run(["cp", "-a", "/etc/.", str(home / "etc")], check=True)
        (home / "etc" / "hosts").write_text(hosts)
        (home / "etc" / "machine-id").write_text(f"{name:0>32}\n")
        path = os.pathsep.join([str(BIN), os.environ["PATH"]])
        (home / "etc" / "profile.d" / "zz-test.sh").write_text(f"export PATH={path} PYTHONWARNINGS=\n")
        self.switch_on()

    def switch_on(self) -> None:
        """Nothing runs on it yet; its files are what they were."""
        mounts = "".join(f"mount --bind {self.home}/{each} /{each}\n" for each in _OWN)
        script = DETACH_COPIES + f"set -e\nhostname {self.name}\nip link set lo up\n{mounts}echo ready\nexec sleep infinity\n"
        self._first = subprocess.Popen(
            ["ip", "netns", "exec", self._namespace, "unshare", "-mup", "--fork", "--mount-proc", "--propagation", "private",
             "bash", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._first.stdout is not None
        assert self._first.stdout.readline() == b"ready\n", f"{self.name} cannot be set up"
        children = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children")
        self._pid = int(children.read_text())

    def run(self, script: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a script as a person who has logged in would; what it starts in the background stays."""
        command = [*self.prefix, "-p", "bash", "-l", "-euo", "pipefail", "-c", script]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a program is run by that has this machine's files, name and network, and stays when the plug is pulled."""
        return ("nsenter", "-t", str(self._pid), "-m", "-u", "-n")

    def pull_plug(self) -> None:
        """End all of its processes at once."""
        if self._first.poll() is None:
            os.kill(self._pid, signal.SIGKILL)
            self._first.wait(30)

    def said(self) -> str:
        """What its fs3 has said."""
        log = self.home / "var/lib/fs3/serve.log"
        return log.read_text() if log.exists() else ""


class NetworkLab:
    """Machines h1, h2 … on one bridge, with addresses of IPv4 and IPv6 and names for both."""

    def __init__(self, home: Path, count: int) -> None:
        self._home = home
        self._prefix = f"fs3-{os.getpid()}-"
        self._names = [f"h{number}" for number in range(1, count + 1)]
        self.machines: dict[str, NetworkMachine] = {}

    def __enter__(self) -> Self:
        try:
            self._set_up()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _set_up(self) -> None:
        switch = f"{self._prefix}switch"
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "name", "br0", "type", "bridge")
        _ip("-n", switch, "link", "set", "br0", "up")
        hosts = "127.0.0.1 localhost\n::1 localhost\n"
        hosts += "".join(f"10.99.0.{at} {name}\nfd99::{at} {name}-6\n" for at, name in enumerate(self._names, 1))
        for at, name in enumerate(self._names, 1):
            namespace = f"{self._prefix}{name}"
            _ip("netns", "add", namespace)
            _ip("-n", switch, "link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _ip("-n", switch, "link", "set", name, "master", "br0", "up")
            _ip("-n", namespace, "addr", "add", f"10.99.0.{at}/24", "dev", "eth0")
            _ip("-n", namespace, "addr", "add", f"fd99::{at}/64", "dev", "eth0", "nodad")
            _ip("-n", namespace, "link", "set", "eth0", "up")
            self.machines[name] = NetworkMachine(namespace, name, self._home / name, hosts)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for machine in self.machines.values():
            machine.pull_plug()
        for name in ("switch", *self._names):
            subprocess.run(["ip", "netns", "del", f"{self._prefix}{name}"], capture_output=True, timeout=30, check=False)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


def wait_serving(machine: NetworkMachine, text: str) -> None:
    """Until a machine's fs3 has said something."""
    wait_until(lambda: text in machine.said(), lambda: f"{machine.name} has not said {text!r}:\n{machine.said()}")
