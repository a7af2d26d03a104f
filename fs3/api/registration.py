"""Memory that a program hands over once, before the calls that read from it and write to it again and again.

TCP and Unix sockets take any memory, so there is nothing to prepare for them: what a registration does today is to say at once
that memory cannot be used, and to keep it from being unmapped or resized under a call. A transport that wants memory pinned and
known to its device (RDMA) has its place here, and costs each call a look-up then instead of a registration.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from fs3.api.byte_view import byte_view
from fs3.api.io.device_memory import Spot, copier_for, device_memory, is_on_device
from fs3.base.errors import error
from fs3.base.status import Code


class RegisteredBuffer:
    """Memory that is registered until it is released. Buffers of calls may be any parts of it; they need not be."""

    def __init__(self, buffer: Any) -> None:
        """`buffer`: host memory, device memory with a CUDA array interface, or a `DmaBuf`, which stays mapped also when it is
        closed.

        Raises InvalidArgument for what has no bytes, or none that can be written to; FS3Error UNSUPPORTED for device memory when
        nothing here copies to it.
        """
        try:
            view = _spot_of(buffer)
        except (TypeError, ValueError) as wrong:
            raise error(Code.INVALID, f"buffer {wrong}") from None
        if not len(view):
            raise error(Code.INVALID, "buffer has 0 bytes")
        if view.readonly:
            raise error(Code.INVALID, "buffer is read-only")
        self._view: Spot | None = view
        self.nbytes: int = len(view)

    def __repr__(self) -> str:
        return f"<RegisteredBuffer of {self.nbytes} bytes{'' if self._view is not None else ', released'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        """The memory may go. Calls that use it must have ended. A second time does nothing."""
        view, self._view = self._view, None
        if isinstance(view, memoryview):
            view.release()


def _spot_of(buffer: Any) -> Spot:
    memory = device_memory(buffer) if is_on_device(buffer) else None
    if memory is None:
        return byte_view(buffer)
    copier_for([memory])
    return memory


class BufferCalls:
    """Of `Client`, `KVCache` and `BlockingKVCache`, where a registration goes on in a forked child, whose memory it is then."""

    def _check_use(self) -> None:
        raise NotImplementedError

    def register_buffer(self, buffer: Any) -> RegisteredBuffer:
        """Memory that later calls read from and write to, known before the first of them (`fs3.api.registration`).

        Raises InvalidArgument for what cannot be written to, or after this was closed; FS3Error UNSUPPORTED for device memory
        when nothing here copies to it.
        """
        self._check_use()
        return RegisteredBuffer(buffer)

    def unregister_buffer(self, registered: RegisteredBuffer) -> None:
        """The memory may go: `RegisteredBuffer.release`. Raises TypeError for anything else than `register_buffer` returns."""
        if not isinstance(registered, RegisteredBuffer):
            raise TypeError(f"registered is not a RegisteredBuffer but {type(registered).__name__}")
        registered.release()
