"""The lock of all who write to one store, with a lease: a holder that stands still loses it, and is ended.

LMDB's own write lock is a mutex in shared memory. It survives the death of its holder; but a holder that stands still (stopped,
frozen, hanging) keeps it from all others for as long as it does, they cannot wait for it for a limited time, and cannot ask
whose it is. So it is taken only under this lock:

    byte 0       locked by the process that may write
    byte n > 1   locked by that process as well; n rises each time it takes the lock, and each time it renews its lease

Both are record locks (fcntl) on an empty file; byte 1 is left out, since to the kernel neighbouring bytes are one lock. They are
in the memory of the kernel, so no disk that is full or hangs stands in the way of a renewal; they end with their process; and the
kernel tells who has them, in the pids of the process that asks.

The holder renews from its event loop, while another thread waits for the disk: one that has a slow disk keeps the lock, one that
is stopped does not. A process that has seen the same n for a whole lease of its own time, and waits, sends SIGKILL. What the
holder was about to commit is as if it had never been, since LMDB shows a commit only once it is whole. Only a process that has
the lock of this very file is ever ended, so one of the same store; the system allows it for processes of the same user only. Why
it is ended is said in its own place, on its standard error, and in the log of the one that does it. A holder in a pid namespace
that cannot be seen from here (another container) cannot be ended: the log says so, and the wait lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import signal
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.base.units import MILLISECOND, SECOND
from fs3.drivers.os.record_lock import find_lock

log = logging.getLogger("fs3.lmdb")

_NAME = "writer"
_FIRST_RENEWAL = 2
_LOOKS_PER_LEASE = 8
_RETRY_NS = 5 * MILLISECOND
"""Between two attempts at opening, and after the kernel has taken threads that wait for two stores for a deadlock."""
_LEASES_WAITED_MAX = 4
"""Before opening a store fails."""
_COMMAND_CHARACTERS_MAX = 200


class LockHolder(NamedTuple):
    """Who has the lock, as this process sees it."""

    pid: int
    """0: a process of a pid namespace that cannot be seen from here."""
    renewal: int
    """Rises with every sign it gives."""


class HolderWatch:
    """For how long the same holder has been seen without a renewal.

    Time counts as it is watched: a watcher that was stopped itself has seen nothing meanwhile, and starts no one's end by waking
    up before the holder does.
    """

    def __init__(self, lease_ns: int) -> None:
        self._lease_ns = lease_ns
        self._step_ns_max = 2 * lease_ns // _LOOKS_PER_LEASE
        self._holder: LockHolder | None = None
        self._looked_at = 0
        self._unchanged_ns = 0

    def observe(self, now: int, holder: LockHolder | None) -> bool:
        """Take in who has the lock at `now` (monotonic). True when the lease of that holder is over."""
        if holder is None or holder != self._holder:
            self._holder, self._unchanged_ns = holder, 0
        else:
            self._unchanged_ns += min(now - self._looked_at, self._step_ns_max)
        self._looked_at = now
        return self._unchanged_ns >= self._lease_ns


class WriteLock:
    """One per process and store. `acquire` and `release` belong to the thread that writes, `tick` to the loop."""

    def __init__(self, directory: Path, lease_ns: int) -> None:
        """Raises OSError."""
        self.tick_ns = lease_ns // _LOOKS_PER_LEASE
        """How often to call `tick`."""
        self._directory = directory
        self._lease_ns = lease_ns
        self._watch = HolderWatch(lease_ns)
        self._dealt_with: LockHolder | None = None
        """A holder that was ended and is not gone yet, or that cannot be ended: once is enough."""
        self._guard = threading.Lock()
        """Of what follows, and of the bytes of this process; never held while waiting."""
        self._held = False
        self._waiting = False
        self._renewal = _FIRST_RENEWAL - 1
        self._fd = os.open(directory / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self) -> None:
        """Wait until no other process has the lock, and take it. Raises OSError when the system cannot lock."""
        self._waiting = True
        try:
            while True:
                try:
                    fcntl.lockf(self._fd, fcntl.LOCK_EX, 1)
                    break
                except OSError as why:
                    if why.errno != errno.EDEADLK:
                        raise
                # Processes that wait for each other in different threads: the kernel knows of processes only.
                time.sleep(_RETRY_NS / SECOND)
        finally:
            self._waiting = False
        self._on_acquired()

    def acquire_ticking(self) -> None:
        """`acquire`, calling `tick` itself. FS3Error BUSY when a holder that cannot be ended does not give the lock away."""
        self._waiting = True
        began = time.monotonic_ns()
        try:
            while True:
                try:
                    fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
                    break
                except (BlockingIOError, PermissionError):
                    pass  # EAGAIN or EACCES: another process has it
                now = time.monotonic_ns()
                self.tick(now)
                if now - began > _LEASES_WAITED_MAX * self._lease_ns:
                    holder = self.find_holder()
                    who = "another process" if holder is None else _describe(holder.pid)
                    raise error(Code.BUSY, f"{who} has the write lock and does not give it away", str(self._directory))
                time.sleep(_RETRY_NS / SECOND)
        finally:
            self._waiting = False
        self._on_acquired()

    def release(self) -> None:
        """Let others write. Nothing happens when this process has not the lock."""
        with self._guard:
            if self._held:
                self._held = False
                fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def tick(self, now: int) -> None:
        """Renew the lease of this process when it has the lock; else look who has it, and end that when its lease is over and
        this process waits. Never waits. `now`: monotonic."""
        with self._guard:
            if self._held:
                self._renew()
        holder = self.find_holder()
        if self._watch.observe(now, holder) and self._waiting and holder is not None and holder != self._dealt_with:
            problem = self._end(holder)
            self._dealt_with = holder
            if problem:
                log.error(
                    "%s: %s has had the write lock for %.1f s without a sign; others wait, and it cannot be ended from here: %s. "
                    "Continue it, or end it",
                    self._directory,
                    _describe(holder.pid),
                    self._lease_ns / SECOND,
                    problem,
                )

    def find_holder(self) -> LockHolder | None:
        """The other process that has the lock."""
        writer = find_lock(self._fd, 0, 1)
        if writer is None:
            return None
        # Right after it has taken the lock there is no such byte yet.
        renewal = find_lock(self._fd, _FIRST_RENEWAL)
        return LockHolder(writer[0], 0 if renewal is None else renewal[1])

    def close(self) -> None:
        """Release, for good."""
        os.close(self._fd)

    def _on_acquired(self) -> None:
        with self._guard:
            self._held = True
            self._renew()

    def _renew(self) -> None:
        """Under the guard, with the lock. The next byte is taken before this one is given back: there is always one."""
        self._renewal += 1
        fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._renewal)
        if self._renewal > _FIRST_RENEWAL:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, self._renewal - 1)

    def _end(self, holder: LockHolder) -> str:
        """SIGKILL to a holder whose lease is over. Returns why that cannot be."""
        if holder.pid <= 0:
            return "it is in another pid namespace (a container?)"
        who = _describe(holder.pid)
        try:
            process = os.pidfd_open(holder.pid)
        except ProcessLookupError:
            return ""
        except OSError as why:
            return str(why)
        try:
            # Once more, with the process in hand: the one that has the lock *now* has this pid, so no other was given the pid.
            if self.find_holder() != holder:
                return ""
            _tell(
                holder.pid,
                f"{datetime.now():%Y-%m-%d %H:%M:%S,%f} ERROR {log.name} killed by process {os.getpid()}: this one had the write "
                f"lock of {self._directory} for {self._lease_ns / SECOND:.1f} s without a sign while others waited\n",
            )
            signal.pidfd_send_signal(process, signal.SIGKILL)
        except ProcessLookupError:
            return ""
        except OSError as why:
            return str(why)
        finally:
            os.close(process)
        log.error(
            "%s: %s had the write lock for %.1f s without a sign while others waited (it was stopped, or hangs): it has been "
            "killed. What it had not committed is undone",
            self._directory,
            who,
            self._lease_ns / SECOND,
        )
        return ""


class WriteLockTimer:
    """Ticks a lock on an event loop: also while its process has nothing to write, so that it has counted already once it has."""

    def __init__(self, lock: WriteLock) -> None:
        self._lock = lock
        self._handle: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; the owner of the loop calls `stop`."""
        self._handle = loop.call_later(self._lock.tick_ns / SECOND, self._tick, loop)

    def stop(self) -> None:
        """End."""
        if self._handle is not None:
            self._handle.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._lock.tick(int(loop.time() * SECOND))
        self.start(loop)


def _tell(pid: int, text: str) -> None:
    """Write to the standard error of a process that is killed, as its last words: whoever looks for the reason looks there.
    Never waits; nothing happens when it cannot be (another user's process, a socket, a full pipe)."""
    with contextlib.suppress(OSError):
        output = os.open(f"/proc/{pid}/fd/2", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            os.write(output, text.encode())
        finally:
            os.close(output)


def _describe(pid: int) -> str:
    """A process in words: the end of its command line says which service it is."""
    if pid <= 0:
        return "a process that cannot be seen from here"
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        command = ""
    return f"process {pid} ({command[:_COMMAND_CHARACTERS_MAX]})" if command else f"process {pid}"
