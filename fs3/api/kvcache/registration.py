"""Memory that an engine hands over once, before the calls that read from it and write to it again and again.

TCP and Unix sockets take any memory, so there is nothing to prepare for them: what a registration does today is to say at once
that memory cannot be used, and to keep it from being unmapped or resized under a call. A transport that wants memory pinned and
known to its device (RDMA) has its place here, and costs each call a look-up then instead of a registration.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from fs3.api.byte_view import byte_view
from fs3.base.errors import error
from fs3.base.status import Code


class RegisteredBuffer:
    """Memory that is registered until it is released. Buffers of calls may be any parts of it; they need not be."""

    def __init__(self, buffer: Any) -> None:
        """Raises InvalidArgument for what has no bytes, or none that can be written to."""
        try:
            view = byte_view(buffer)
        except (TypeError, ValueError) as wrong:
            raise error(Code.INVALID, f"buffer {wrong}") from None
        if not len(view):
            raise error(Code.INVALID, "buffer has 0 bytes")
        if view.readonly:
            raise error(Code.INVALID, "buffer is read-only")
        self._view: memoryview | None = view
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
        if view is not None:
            view.release()
