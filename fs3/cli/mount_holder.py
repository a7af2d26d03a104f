"""The process that keeps a mount alive: it has /dev/fuse, and starts the process that answers the kernel, again should that die.

It does nothing else, loads next to nothing and so has no reason to die itself. What the next process has to know of the one
before is in memory that this one keeps (`fs3.drivers.fuse.lasting_memory`); it does not look at it. A process that serves asks
for the device when it is ready, and gets it through the socket between the two, with one message each:

    device      server → holder   ready to answer the kernel; the answer has the descriptor
    serving N   server → holder   it answers; N is 1 where the kernel sends requests of a process that died again
    !text       server → holder   why it does not start
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from typing import Final

from fs3.cli.mount_plan import MountPlan
from fs3.drivers.fuse.lasting_memory import create_memory
from fs3.drivers.fuse.mount import is_mounted, mount, unmount
from fs3.drivers.fuse.records import MountOptions

answer_after_s = 30.0
"""While no process can be started for so long, operations fail with ETIMEDOUT instead of waiting."""
restart_max_s: Final = 5.0
"""The longest pause before another process is started."""
early_death_s: Final = 3.0
"""Who dies so soon did not work: the next one is started later."""
early_deaths_max: Final = 10
"""After so many in a row the requests under way, of which one may have killed them, fail with EIO."""

_RESTART_MIN_S: Final = 0.05
_MESSAGE_BYTES: Final = 1 << 16
_REQUEST_BYTES: Final = (1 << 20) + 4096
_IN_HEADER: Final = struct.Struct("=IIQ")  # length opcode unique
_OUT_HEADER: Final = struct.Struct("=IiQ")  # length error unique
_RESEND: Final = _OUT_HEADER.pack(_OUT_HEADER.size, 7, 0)
_FORGET, _RELEASE, _RELEASEDIR, _INTERRUPT, _BATCH_FORGET = 2, 18, 29, 36, 42
_NOT_ANSWERED: Final = (_FORGET, _BATCH_FORGET, _INTERRUPT, _RELEASE, _RELEASEDIR)
"""What has no answer; and what a later process has to hear of, and no program waits for."""
MOUNTED: Final = b"+"
"""What is written to the descriptor for it once the mount answers; anything else is why it does not."""

log = logging.getLogger("fs3.holder")


class MountHolder:
    """Of one mount."""

    def __init__(self, plan: MountPlan, ready: int) -> None:
        """`ready`: a descriptor that is told when the mount answers, or why it does not; -1: none."""
        self._plan = plan
        self._ready = ready
        self._memory = create_memory()
        self._fuse = -1
        self._poll = select.poll()
        self._server: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._said = ""
        """Why the last process did not start."""
        self._is_serving = False
        self._has_served = False
        self._may_replace = False
        self._is_refusing = False
        self._is_gone = False
        """The mount is."""
        self._stops = False
        self._pause_s = 0.0
        self._early_deaths = 0
        self._started_at = self._start_at = self._served_at = time.monotonic()
        self._wakeup, writes = os.pipe()
        for end in (self._wakeup, writes):
            os.set_blocking(end, False)
        self._poll.register(self._wakeup, select.POLLIN)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(writes)

    def run(self) -> int:
        """Until the mount is gone; the status of this process."""
        try:
            while True:
                status = self._step()
                if status is not None:
                    return status
                for fd, events in self._poll.poll(self._wait_ms()):
                    self._on_event(fd, events)
        finally:
            self._end()

    def _step(self) -> int | None:
        if self._server is not None and self._server.poll() is not None:
            self._on_death(self._server.returncode)
        if self._is_gone and self._server is None:
            return 0 if self._has_served else 1
        if self._server is not None:
            return None
        if self._stops:
            with suppress(OSError):
                unmount(self._plan.directory, lazily=True)
            self._is_gone = True
            return 0
        if time.monotonic() >= self._start_at:
            self._start()
        return None

    def _wait_ms(self) -> int | None:
        now, times = time.monotonic(), []
        if self._server is None:
            times.append(self._start_at)
        if self._has_served and not self._is_serving and not self._is_refusing:
            times.append(self._served_at + answer_after_s)
            if now >= times[-1]:
                self._refuse(f"nothing could be started for {answer_after_s:g} s")
                return 0
        return None if not times else max(0, int((min(times) - now) * 1000) + 1)

    def _on_signal(self, number: int, _: object) -> None:
        if number == signal.SIGCHLD:
            return
        self._stops = True
        if self._server is not None:
            self._server.send_signal(signal.SIGTERM)

    def _on_event(self, fd: int, events: int) -> None:
        if fd == self._wakeup:
            with suppress(BlockingIOError):
                os.read(fd, 4096)
        elif fd == self._fuse and events & select.POLLERR:
            self._poll.unregister(fd)
            self._is_gone = True
        elif fd == self._fuse:
            self._fail_one(errno.ETIMEDOUT)
        elif self._socket is not None and fd == self._socket.fileno():
            self._on_message(self._socket)

    # --- the process that serves -------------------------------------------------------------------------------------

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        plan, fds = self._plan, (theirs.fileno(), self._memory)
        command = [sys.executable, "-m", "fs3.cli.mount_server", plan.directory, plan.to_word(), *map(str, fds)]
        with theirs:
            self._server = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, start_new_session=True)
        self._socket = ours
        self._poll.register(ours, select.POLLIN)
        self._started_at = time.monotonic()
        self._said = ""

    def _on_message(self, end: socket.socket) -> None:
        try:
            message = end.recv(_MESSAGE_BYTES)
        except OSError:
            message = b""
        if not message:
            self._poll.unregister(end)
            end.close()
            self._socket = None
        elif message == b"device":
            self._hand_over(end)
        elif message.startswith(b"serving "):
            self._on_serving(message == b"serving 1")
        else:
            self._said = message[1:].decode(errors="replace")

    def _hand_over(self, end: socket.socket) -> None:
        if self._fuse < 0:
            plan = self._plan
            options = MountOptions(source=plan.source, allow_other=plan.allow_other, read_only=plan.read_only)
            try:
                self._fuse = mount(plan.directory, options)
            except OSError as wrong:
                self._said = wrong.strerror or str(wrong)
                end.close()
                self._socket = None
                return
            self._poll.register(self._fuse, 0)
        elif self._early_deaths >= early_deaths_max:
            self._refuse("the processes that were to answer died")
            while self._fail_one(errno.EIO):
                pass
            self._early_deaths = 0
        if self._is_refusing:
            self._poll.modify(self._fuse, 0)
            self._is_refusing = False
        with suppress(OSError):
            socket.send_fds(end, [b"+"], [self._fuse])

    def _on_serving(self, may_replace: bool) -> None:
        now = time.monotonic()
        if self._has_served:
            log.info("%s answers again after %.1f s", self._plan.directory, now - self._served_at)
        self._is_serving = self._has_served = True
        self._may_replace = may_replace
        self._tell(MOUNTED)

    def _on_death(self, status: int) -> None:
        now = time.monotonic()
        server, self._server = self._server, None
        assert server is not None
        if self._socket is not None:
            self._poll.unregister(self._socket)
            while self._drain(self._socket):
                pass
            self._socket.close()
            self._socket = None
        if self._is_serving:
            self._served_at = now
        self._is_serving = False
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        if status == 0:
            self._is_gone = True
        elif not self._has_served:
            self._tell((self._said or f"the process that was to serve it {how}").encode())
            self._give_up()
        elif self._is_gone or self._stops:
            pass
        elif not self._may_replace:
            log.error("%s: the process that served it %s; this kernel has no way to replace it", self._plan.directory, how)
            self._is_gone = True
        else:
            lived = now - self._started_at
            self._early_deaths = 0 if lived > early_death_s else self._early_deaths + 1
            pause = 0.0 if lived > early_death_s else max(_RESTART_MIN_S, min(restart_max_s, 2 * self._pause_s))
            self._pause_s, self._start_at = pause, now + pause
            what = f"the process {server.pid} that serves it {how}" + (f": {self._said}" if self._said else "")
            log.error("%s: %s; another one starts in %.1f s", self._plan.directory, what, pause)

    def _drain(self, end: socket.socket) -> bool:
        """Its last words."""
        try:
            message = end.recv(_MESSAGE_BYTES, socket.MSG_DONTWAIT)
        except OSError:
            return False
        if message.startswith(b"!"):
            self._said = message[1:].decode(errors="replace")
        return bool(message)

    def _give_up(self) -> None:
        """The mount did not come about: nothing is left of it."""
        self._is_gone = True
        if self._fuse >= 0 and is_mounted(self._plan.directory):
            with suppress(OSError):
                unmount(self._plan.directory, lazily=True)

    # --- answering for it --------------------------------------------------------------------------------------------

    def _refuse(self, why: str) -> None:
        """From now on requests fail, also those that a process had read and not answered."""
        log.error("%s: %s; operations fail until one serves", self._plan.directory, why)
        self._is_refusing = True
        os.set_blocking(self._fuse, False)
        with suppress(OSError):
            os.write(self._fuse, _RESEND)
        self._poll.modify(self._fuse, select.POLLIN)

    def _fail_one(self, number: int) -> bool:
        """One request that is there. False: none is."""
        try:
            data = os.read(self._fuse, _REQUEST_BYTES)
        except OSError as wrong:
            return wrong.errno == errno.ENOENT
        _, opcode, unique = _IN_HEADER.unpack_from(data)
        if opcode not in _NOT_ANSWERED:
            with suppress(OSError):
                os.write(self._fuse, _OUT_HEADER.pack(_OUT_HEADER.size, -number, unique))
        return True

    def _tell(self, what: bytes) -> None:
        if self._ready >= 0:
            with suppress(OSError):
                os.write(self._ready, what)
            os.close(self._ready)
            self._ready = -1

    def _end(self) -> None:
        signal.set_wakeup_fd(-1)
        if self._server is not None:
            self._server.terminate()
        self._tell(b"the process that holds the mount has failed")
        for fd in (self._fuse, self._memory):
            if fd >= 0:
                os.close(fd)


def main() -> None:
    """`python -m fs3.cli.mount_holder DIR PLAN READY`, as `fs3 mount` starts it."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    os.chdir("/")
    sys.exit(MountHolder(MountPlan.parse(sys.argv[2]), int(sys.argv[3])).run())


if __name__ == "__main__":
    main()
