"""Telling the kernel to forget what it remembers.

The kernel may have to wait for a request that it has sent us before it can forget a page (one that is being read), so this is
never done on the thread that answers requests.
"""

from __future__ import annotations

import asyncio
import errno
import os
from concurrent.futures import ThreadPoolExecutor

from fs3.drivers.fuse import protocol
from fs3.drivers.fuse.session import Session

_GONE = (errno.ENOENT, errno.ENODEV, errno.EBADF)
"""The kernel does not remember it, or the mount is gone: there is nothing to forget."""


class Notifier:
    """Of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fs3-fuse-notify")

    def close(self) -> None:
        """No more is told."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def forget_data(self, node: int, offset: int = 0, length: int = 0) -> None:
        """Attributes and bytes of an inode from an offset on (length 0: all behind it; offset negative: attributes only)."""
        body = protocol.INVAL_INODE_OUT.pack(self._session.kernel_node(node), offset, length)
        await self._send(protocol.NOTIFY_INVAL_INODE, body)

    async def forget_name(self, directory: int, name: bytes) -> None:
        """What a name of a directory stands for."""
        head = protocol.INVAL_ENTRY_OUT.pack(self._session.kernel_node(directory), len(name), 0)
        await self._send(protocol.NOTIFY_INVAL_ENTRY, head + name + b"\0")

    async def _send(self, code: int, body: bytes) -> None:
        data = protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size + len(body), code, 0) + body
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write, data)

    def _write(self, data: bytes) -> None:
        fd = self._session.fd
        if fd < 0:
            return
        try:
            os.write(fd, data)
        except OSError as wrong:
            if wrong.errno not in _GONE:
                raise
