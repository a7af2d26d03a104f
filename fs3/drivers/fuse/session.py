"""One mount, served on an event loop: requests are read from /dev/fuse as they come, and answered.

What is there is read in one go, up to a number, so that others on the loop get their turn. A method that answers at once costs no
task. A write's bytes stay in the memory that they were read into until it is answered; other requests are small and are copied
out of it.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import logging
import os
from functools import partial
from typing import Any

from fs3.drivers.fuse import codec, protocol
from fs3.drivers.fuse.dispatch import BoundKind, bind
from fs3.drivers.fuse.negotiation import negotiate
from fs3.drivers.fuse.operations import INTERRUPTIBLE, Later, Operations
from fs3.drivers.fuse.protocol import Opcode
from fs3.drivers.fuse.records import KernelRequest, Negotiated

requests_per_turn = 64
"""Read before others on the loop get their turn."""

spare_buffers_max = 16
"""Receive buffers that are kept for the next writes."""

_HEADER_BYTES = protocol.IN_HEADER.size
_HEAD_ROOM_BYTES = 4096
"""In front of the bytes of a write, for the headers: a page, as the kernel expects."""
_ANSWER_GONE = (errno.ENOENT, errno.EINTR)
"""Of a write to the device: the request was aborted meanwhile. Of a read: one was taken back before it was read."""

RESEND = protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size, protocol.NOTIFY_RESEND, 0)
"""Asks for the requests again that were read and not answered."""

log = logging.getLogger("fs3.fuse")


class Session:
    """The requests of one mount. Belongs to one event loop; `close` ends it, and so does the end of the mount."""

    def __init__(self, fd: int, operations: Operations, agreed: Negotiated | None = None) -> None:
        """`fd`: of /dev/fuse, of a mount; it is owned from now on. `agreed`: what the kernel and an earlier process agreed on;
        then the kernel is asked for the requests again that this one had read and not answered."""
        self._fd = fd
        self._operations = operations
        self._loop = asyncio.get_running_loop()
        self._root = operations.root_node
        self._buffer_bytes = operations.init_options.max_write_bytes + _HEAD_ROOM_BYTES
        self._spare: list[bytearray] = []
        self._tasks: dict[int, tuple[asyncio.Future[Any], int]] = {}
        """Requests under way: their task and opcode."""
        self._later: set[int] = set()
        """Others, which are answered by callbacks."""
        self._kinds = bind(operations)
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._ready: asyncio.Future[Negotiated] = self._loop.create_future()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._on_readable)
        if agreed is not None:
            operations.on_start(agreed)
            self._ready.set_result(agreed)
            self._write((RESEND,))

    @property
    def fd(self) -> int:
        """Of the device; -1 once the session has ended."""
        return self._fd

    def kernel_node(self, node: int) -> int:
        """What the kernel calls an inode."""
        return protocol.ROOT_NODE if node == self._root else node

    @property
    def under_way(self) -> int:
        """Requests that are not answered yet."""
        return len(self._tasks) + len(self._later)

    async def wait_ready(self) -> Negotiated:
        """Until the kernel has said hello: what was agreed on. OSError when that failed, or the mount ended."""
        return await asyncio.shield(self._ready)

    async def wait_ended(self) -> None:
        """Until the mount is gone."""
        await asyncio.shield(self._ended)

    async def close(self) -> None:
        """Stop serving: requests under way are cancelled, and the device is closed, which ends the mount for its users."""
        self._end()
        tasks = [task for task, _ in self._tasks.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _end(self) -> None:
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        if not self._ended.done():
            self._ended.set_result(None)
        if not self._ready.done():
            self._ready.set_exception(OSError(errno.ENODEV, "the mount ended before it began"))
            self._ready.exception()

    # --- reading -----------------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        for _ in range(requests_per_turn):
            if self._fd < 0:
                return
            buffer = self._spare.pop() if self._spare else bytearray(self._buffer_bytes)
            try:
                count = os.readv(self._fd, (buffer,))
            except BlockingIOError:
                self._keep(buffer)
                return
            except OSError as wrong:
                self._keep(buffer)
                if wrong.errno in _ANSWER_GONE:
                    continue
                if wrong.errno != errno.ENODEV:
                    log.error("the mount ends: %s", wrong)
                self._end()
                return
            self._on_request(buffer, count)

    def _keep(self, buffer: bytearray) -> None:
        if len(self._spare) < spare_buffers_max:
            self._spare.append(buffer)

    def _on_request(self, buffer: bytearray, count: int) -> None:
        data = memoryview(buffer)[:count]
        try:
            request = codec.parse_header(data)
        except OSError as wrong:
            log.error("%s", wrong)
            self._keep(buffer)
            return
        if request.node == protocol.ROOT_NODE and self._root != protocol.ROOT_NODE:
            request = request._replace(node=self._root)
        if request.opcode != Opcode.WRITE:
            data = memoryview(bytes(data))
            self._keep(buffer)
        try:
            started = self._start(request, data[_HEADER_BYTES:], buffer)
        except OSError as wrong:
            started = False
            self._fail(request, wrong)
        except Exception:
            started = False
            log.exception("opcode %d failed", request.opcode)
            self._fail(request, OSError(errno.EIO, "internal error"))
        if not started and request.opcode == Opcode.WRITE:
            self._keep(buffer)

    def _start(self, request: KernelRequest, body: memoryview, buffer: bytearray) -> bool:
        """Serve a request. True: it is under way in a task, which gives the buffer back."""
        kind = self._kinds.get(request.opcode)
        if kind is None:
            self._serve_own(request, body)
            return False
        arguments = kind.parse(body)
        answer = kind.call(request, arguments)
        if type(answer) is Later:
            self._later.add(request.unique)
            answer.on_told(partial(self._on_told, request, kind, arguments, buffer))
            return True
        if not inspect.isawaitable(answer):
            self._answer(request, kind.encode(answer, arguments))
            return False
        task = asyncio.ensure_future(answer, loop=self._loop)
        self._tasks[request.unique] = task, request.opcode
        # Also of a task that is cancelled before its first step.
        task.add_done_callback(lambda done: self._finish(request, kind, arguments, done, buffer))
        return True

    def _finish(
        self, request: KernelRequest, kind: BoundKind, arguments: codec.Arguments, done: asyncio.Future[Any], buffer: bytearray
    ) -> None:
        del self._tasks[request.unique]
        why = asyncio.CancelledError() if done.cancelled() else done.exception()
        self._conclude(request, kind, arguments, buffer, done.result() if why is None else None, why)

    def _on_told(
        self,
        request: KernelRequest,
        kind: BoundKind,
        arguments: codec.Arguments,
        buffer: bytearray,
        answer: Any,
        why: BaseException | None,
    ) -> None:
        self._later.discard(request.unique)
        self._conclude(request, kind, arguments, buffer, answer, why)

    def _conclude(
        self,
        request: KernelRequest,
        kind: BoundKind,
        arguments: codec.Arguments,
        buffer: bytearray,
        answer: Any,
        why: BaseException | None,
    ) -> None:
        try:
            if why is not None:
                raise why
            self._answer(request, kind.encode(answer, arguments))
        except asyncio.CancelledError:
            self._fail(request, OSError(errno.EINTR, "interrupted"))
        except OSError as wrong:
            self._fail(request, wrong)
        except Exception:
            log.exception("opcode %d failed", request.opcode)
            self._fail(request, OSError(errno.EIO, "internal error"))
        finally:
            if request.opcode == Opcode.WRITE:
                self._keep(buffer)

    def _serve_own(self, request: KernelRequest, body: memoryview) -> None:
        """Requests that are no matter of the file system."""
        match request.opcode:
            case Opcode.FORGET:
                self._operations.forget(codec.parse_forget(request.node, body))
            case Opcode.BATCH_FORGET:
                self._operations.forget(codec.parse_batch_forget(body))
            case Opcode.INTERRUPT:
                self._interrupt(codec.parse_interrupt(body))
            case Opcode.INIT:
                self._init(request, body)
            case Opcode.DESTROY:
                self._answer(request, b"")
            case _:
                raise OSError(errno.ENOSYS, f"opcode {request.opcode} is not known")

    def _interrupt(self, unique: int) -> None:
        # A request that is answered already has nothing to interrupt: one device is read in order, so it was read before.
        task, opcode = self._tasks.get(unique, (None, 0))
        if task is not None and opcode in INTERRUPTIBLE:
            task.cancel()

    def _init(self, request: KernelRequest, body: memoryview) -> None:
        try:
            agreed, answer = negotiate(body, self._operations.init_options)
        except OSError as wrong:
            if not self._ready.done():
                self._ready.set_exception(wrong)
                self._ready.exception()
            raise
        self._answer(request, answer)
        if agreed.major:
            self._operations.on_start(agreed)
            if not self._ready.done():
                self._ready.set_result(agreed)

    # --- answering ---------------------------------------------------------------------------------------------------

    def _answer(self, request: KernelRequest, data: bytes | bytearray | memoryview) -> None:
        size = protocol.OUT_HEADER.size + len(data)
        self._write((protocol.OUT_HEADER.pack(size, 0, request.unique), data))

    def _fail(self, request: KernelRequest, wrong: OSError) -> None:
        if request.opcode in (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT):
            log.error("opcode %d: %s", request.opcode, wrong)
            return
        number = wrong.errno or errno.EIO
        self._write((protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size, -number, request.unique),))

    def _write(self, parts: tuple[bytes | bytearray | memoryview, ...]) -> None:
        if self._fd < 0:
            return
        try:
            os.writev(self._fd, parts)
        except OSError as wrong:
            if wrong.errno == errno.ENODEV:
                self._end()
            elif wrong.errno not in _ANSWER_GONE:
                log.error("an answer was not taken: %s", wrong)
