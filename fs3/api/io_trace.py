"""The IO of this process as a trace file in the format of Chrome and of torch.profiler, to be laid beside a training step's own.

The clock. Times are those of the system's clock (since the epoch), as torch.profiler's are: taken when the recording begins, and
carried on by the monotonic clock, so that a clock that is set meanwhile moves nothing. They are written relative to the same
`baseTimeNanoseconds` that PyTorch uses, so that the events of both files can be put into one as they are (`python -m
benches.training_step` does). Two processes of one machine agree to within microseconds, those of two machines as their clocks do.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import weakref
from multiprocessing import util
from pathlib import Path
from typing import Any

from fs3.base.units import GIB, MICROSECOND, SECOND

log = logging.getLogger("fs3.trace")

io_trace_bytes_max = 1 * GIB
"""Of one file; later events are left out."""
io_trace_pending_max = 65_536
"""Events that wait to be written; further ones are left out."""
io_trace_interval_ns = 1 * SECOND
"""How often they are written."""

_BASE_NS = 7_889_238 * SECOND
"""PyTorch's base times are multiples of this, a quarter of a year: then microseconds fit into the numbers of JSON."""
_FOOTER = b"\n]}\n"

Event = tuple[str, int, int, int, str, int, str]
"""Name, thread or track, begin and duration in nanoseconds, path, bytes (-1: none), error."""


class IORecorder:
    """One file. After every write it is complete JSON, whatever becomes of the process; what goes wrong with it is said once."""

    def __init__(self, path: str | os.PathLike[str], *, bytes_max: int = io_trace_bytes_max) -> None:
        """Creates the file, "{pid}" in its name replaced. Raises OSError. A child that this process forks has one of its own: the
        same name with its process id."""
        self.template = os.fspath(path)
        self.events = 0
        """Written."""
        self.dropped = 0
        """Left out: the disk is full, or the file as long as it may be."""
        self._bytes_max = bytes_max
        self._open(Path(self.template.replace("{pid}", str(os.getpid()))))
        _recorders.add(self)
        util.register_after_fork(self, IORecorder._close_at_end)

    def __repr__(self) -> str:
        return f"<records IO into {self.path}, {self.events} events>"

    def _open(self, path: Path) -> None:
        self.path = path
        self._pid = os.getpid()
        self._pending: list[Event] = []
        self._tracks: list[bool] = []
        self._names: dict[int, str] = {}
        self._failure = ""
        self._is_closed = False
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._wall_ns = time.time_ns() - time.monotonic_ns()
        base_ns = (self._wall_ns + time.monotonic_ns()) // _BASE_NS * _BASE_NS
        self._offset_ns = self._wall_ns - base_ns
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        program = Path(sys.argv[0] or "python").name
        head = {"schemaVersion": 1, "displayTimeUnit": "ms", "baseTimeNanoseconds": base_ns, "producer": "fs3"}
        first = {"ph": "M", "name": "process_name", "pid": self._pid, "tid": 0, "args": {"name": f"fs3 IO of {program}"}}
        self._end = 0
        try:
            self._write(json.dumps(head).encode()[:-1] + b', "traceEvents": [\n' + json.dumps(first).encode())
        except OSError:
            os.close(self._file)
            raise
        self._thread = threading.Thread(target=self._run, name="fs3-io-trace", daemon=True)
        self._thread.start()

    def on_fork(self) -> None:
        """In a forked child, which has neither the thread nor the right to write the file."""
        if self._is_closed:
            return
        os.close(self._file)
        name = self.template.replace("{pid}", str(os.getpid()))
        if name == self.template:
            name = f"{name}.{os.getpid()}"
        try:
            self._open(Path(name))
        except OSError as why:
            self._is_closed = True
            log.warning("IO of process %d is not recorded: %s", os.getpid(), why)

    def _close_at_end(self) -> None:
        """In a child that multiprocessing has forked, such as a worker of a DataLoader: it runs nothing else when it ends."""
        if not self._is_closed:
            util.Finalize(self, self.close, exitpriority=0)

    # --- events ------------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """When an event begins or ends."""
        return time.monotonic_ns()

    def take_track(self) -> int:
        """Events of one loop overlap, those of one line of a trace must not: a line of its own for one that begins."""
        tracks = self._tracks
        with self._lock:  # of several loops
            try:
                track = tracks.index(False)
                tracks[track] = True
            except ValueError:
                track = len(tracks)
                tracks.append(True)
        return track + 1

    def add(self, name: str, track: int, began_at: int, path: str, size: int = -1, error: str = "") -> None:
        """An event ends now. `track`: of `take_track`, which it gives back; 0: it was the calling thread's."""
        ended_at = self.now()
        if track:
            self._tracks[track - 1] = False
        else:
            track = threading.get_native_id()
        if self._is_closed or self._failure or len(self._pending) >= io_trace_pending_max:
            self.dropped += 1
            return
        self._pending.append((name, track, began_at, ended_at - began_at, path, size, error))

    def close(self) -> None:
        """Write what is left. Harmless when it is closed. Never raises for what a disk can do."""
        if self._is_closed or self._pid != os.getpid():
            return
        self._stopping.set()
        self._thread.join()
        self._is_closed = True
        self._flush()
        os.close(self._file)
        if self.dropped:
            log.warning("%s: %d events were left out", self.path, self.dropped)

    # --- the file ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.wait(io_trace_interval_ns / SECOND):
            self._flush()

    def _flush(self) -> None:
        events, self._pending = self._pending, []
        if not events:
            return
        if self._failure:
            self.dropped += len(events)
            return
        lines = []
        for name, track, began_at, elapsed_ns, path, size, error in events:
            arguments: dict[str, Any] = {"path": path}
            if size >= 0:
                arguments["bytes"] = size
            if error:
                arguments["error"] = error
            made = {
                "ph": "X",
                "cat": "fs3",
                "name": name,
                "pid": self._pid,
                "tid": track,
                "ts": (began_at + self._offset_ns) / MICROSECOND,
                "dur": elapsed_ns / MICROSECOND,
                "args": arguments,
            }
            if track not in self._names and track <= len(self._tracks):
                self._names[track] = f"fs3 IO {track}"
                about = {"ph": "M", "name": "thread_name", "pid": self._pid, "tid": track, "args": {"name": self._names[track]}}
                lines.append(json.dumps(about))
            lines.append(json.dumps(made))
        text = (",\n" + ",\n".join(lines)).encode("utf-8", "surrogateescape")
        if self._end + len(text) + len(_FOOTER) > self._bytes_max:
            self._stop(f"it is {self._end} bytes long", len(events))
            return
        try:
            self._write(text)
        except OSError as why:
            self._stop(str(why), len(events))
        else:
            self.events += len(events)

    def _write(self, text: bytes) -> None:
        """Behind what is there, and the end of the JSON after it. Raises OSError, and then the file is as it was."""
        data = memoryview(text + _FOOTER)
        at = self._end
        try:
            while data:
                written = os.pwrite(self._file, data, at)
                data, at = data[written:], at + written
        except OSError:
            if self._end:
                os.ftruncate(self._file, self._end)
                os.pwrite(self._file, _FOOTER, self._end)  # where there was one: it needs no room
            raise
        self._end += len(text)

    def _stop(self, why: str, left_out: int) -> None:
        self.dropped += left_out
        self._failure = why
        log.warning("%s: no more IO is recorded: %s", self.path, why)


_recorders: weakref.WeakSet[IORecorder] = weakref.WeakSet()


def _after_fork() -> None:
    for recorder in list(_recorders):
        recorder.on_fork()


os.register_at_fork(after_in_child=_after_fork)
