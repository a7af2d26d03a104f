"""Mounts for tests: of a cluster inside this process, served by a thread of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fs3
from fs3.api.fuse.mount import Mount
from fs3.api.fuse.options import FuseOptions
from fs3.model.inode import User


@contextmanager
def embedded_mount(home: Path, directory: Path, options: FuseOptions | None = None, user: User | None = None) -> Iterator[Mount]:
    """A mount of the cluster in `home`; several may be of one. `user`: its client's, None: this process's."""
    ready = threading.Event()
    failures: list[BaseException] = []
    mounts: list[Mount] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        how = options or FuseOptions()
        async with await fs3.connect_embedded(home, user=user, relatime=how.has_access_times) as client:
            mount = await Mount.begin(client, str(directory), how, "fs3-test")
            mounts.append(mount)
            loops.append(asyncio.get_running_loop())
            ready.set()
            await mount.wait_ended()
            await mount.close()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as wrong:
            failures.append(wrong)
        ready.set()

    thread = threading.Thread(target=run, name="fs3-mount-test", daemon=True)
    thread.start()
    ready.wait()
    try:
        if failures:
            raise failures[0]
        yield mounts[0]
    finally:
        if mounts:
            asyncio.run_coroutine_threadsafe(mounts[0].close(), loops[0])
        thread.join(timeout=60)
        assert not thread.is_alive()
    if failures:
        raise failures[0]
