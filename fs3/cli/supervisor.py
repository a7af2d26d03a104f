"""The supervisor of a local cluster: starts processes again that ended by themselves.

One per directory, which holds DIR/supervisor.lock. `fs3 up` starts it when there is none, in a session of its own, so that it
outlives the terminal; `fs3 down` ends it once all processes are stopped, and it ends by itself when nobody is to run any more, or
the directory is gone. It need not be the parent of whom it looks after: whether a process runs is asked of that process' lock.
When it is killed itself, everything goes on, and the next `fs3 up` starts another one.

What it changes it changes under the lock of all commands that start and stop processes, and only until the new process has its
own lock: a command never waits for a process to get ready that it may be about to stop.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.cli import cluster
from fs3.cli.directory import ClusterDirectory, Process, acquire_process_lock
from fs3.cli.supervision import RestartPolicy, RestartRecord, SupervisedProcesses, restart_wait_ns_max, restarts_quick_max

log = logging.getLogger("fs3.supervisor")

_LOOK_SECONDS = 0.2
"""Between two looks at the locks of the processes."""
_LOCK_SECONDS = 30.0
"""What a process has to take its lock, which is the first thing it does."""


class Supervisor:
    """Looks at the processes of one directory, again and again."""

    def __init__(self, directory: ClusterDirectory, lock: int) -> None:
        """`lock`: descriptor of the lock of the supervisor, which `run` gives back."""
        self._directory = directory
        self._lock = lock
        self._supervised = SupervisedProcesses(directory)
        self._policies: dict[str, RestartPolicy] = {}
        self._running: dict[str, tuple[int, int]] = {}
        """Name -> pid, and since when it was seen to run (monotonic)."""
        self._due: dict[str, int] = {}
        """When to start those that have ended (monotonic)."""
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def run(self) -> None:
        """Until nobody is to run."""
        while self._look_round():
            time.sleep(_LOOK_SECONDS)

    def _look_round(self) -> bool:
        """Look at everybody once. False when there is nothing left to supervise."""
        names = self._supervised.names()
        if not names:
            return not self._is_over()
        for name in {*self._running, *self._due} - {*names}:
            self._forget(name)
        for name in names:
            if self._look_at(name, time.monotonic_ns()):
                break  # not another one at once: a command may be waiting for the lock
        return True

    def _is_over(self) -> bool:
        """Under the lock of all who start processes: none of them counts on a supervisor that is about to end."""
        if not self._directory.path.exists():
            return True
        try:
            with self._directory.lock_changes():
                if self._supervised.names():
                    return False
                os.close(self._lock)
                return True
        except (FS3Error, OSError):
            return False

    def _forget(self, name: str) -> None:
        """A process was stopped on purpose; when it is started again, that is a new beginning."""
        for memory in (self._running, self._due, self._policies):
            memory.pop(name, None)

    def _look_at(self, name: str, now: int) -> bool:
        """Look at one process. True when it was started."""
        pid = self._directory.running_pid(name)
        if pid is not None:
            self._due.pop(name, None)
            if self._running.get(name, (0, 0))[0] != pid:
                self._running[name] = (pid, now)
        elif name not in self._due:
            self._on_ended(name, now)
        elif now >= self._due[name]:
            self._start_again(name, now)
            return True
        return False

    def _on_ended(self, name: str, now: int) -> None:
        _, since = self._running.pop(name, (0, now))
        wait = self._policies.setdefault(name, RestartPolicy()).next_wait_ns(now - since)
        if not self._supervised.has(name):
            return
        before = self._supervised.record(name)
        reason = self._why_ended(name)
        given_up = wait is None
        self._supervised.save(name, RestartRecord(before.restarts, time.time(), reason, given_up))
        if wait is None:
            self._supervised.remove(name)
            self._forget(name)
            log.error("%s has ended: %s. It is given up after %d quick restarts", name, reason, restarts_quick_max)
        else:
            self._due[name] = now + wait
            log.warning("%s has ended: %s. It is started again in %.2f s", name, reason, wait / SECOND)

    def _why_ended(self, name: str) -> str:
        """Its last words, or else how it ended, as far as the system tells: only a parent learns that."""
        child = self._children.pop(name, None)
        status = None if child is None else child.wait()
        said = self._directory.last_line(name)
        if said and not said.startswith("Traceback") and " INFO " not in said:
            return said
        if status is None:
            return "it was killed or crashed, and said nothing"
        return f"it was ended by {signal.Signals(-status).name}" if status < 0 else f"it ended with exit status {status}"

    def _start_again(self, name: str, now: int) -> None:
        try:
            with self._directory.lock_changes():
                kept = self._directory.load()
                if kept is None or not self._supervised.has(name) or self._directory.running_pid(name) is not None:
                    return
                shape, processes = kept
                child = cluster.spawn(self._directory, shape, name)
                self._children[name] = child
                self._wait_locked(name, child)
                if not self._supervised.has(name):  # killed on purpose meanwhile
                    child.kill()
                    return
                before = self._supervised.record(name)
                self._supervised.save(name, RestartRecord(before.restarts + 1, before.ended_at, before.reason))
                former = processes.get(name) or Process(name, cluster.role_of(name), child.pid)
                processes[name] = Process(name, former.role, child.pid, former.endpoints)
                self._due.pop(name, None)
                self._running[name] = (child.pid, now)
                log.warning("%s is started again as pid %d, for the %d. time", name, child.pid, before.restarts + 1)
                with suppress(OSError):  # a disk that is full: the pids in the file are for people
                    self._directory.save(shape, processes)
        except (FS3Error, OSError) as why:
            if isinstance(why, FS3Error) and why.code is Code.BUSY:
                return  # a command starts or stops somebody: look again
            self._due[name] = now + restart_wait_ns_max
            log.error("%s cannot be started now: %s", name, why)

    def _wait_locked(self, name: str, child: subprocess.Popen[bytes]) -> None:
        """Until a process that was just started has its lock, or has ended."""
        deadline = time.monotonic() + _LOCK_SECONDS
        while child.poll() is None and self._directory.running_pid(name) is None and time.monotonic() < deadline:
            time.sleep(0.01)


def main() -> None:
    """`python -m fs3.cli.supervisor DIR`. Exits with status 0 at once when the directory has a supervisor."""
    directory = ClusterDirectory(Path(sys.argv[1]))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        lock = acquire_process_lock(directory.supervisor_lock_path)
    except FS3Error:
        return
    os.chdir("/")
    log.info("supervises the processes of %s", directory.path)
    Supervisor(directory, lock).run()
    log.info("nobody is to run any more")


if __name__ == "__main__":
    main()
