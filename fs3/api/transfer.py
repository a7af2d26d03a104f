"""Whole files between this machine and the cluster: bounded memory, several parts under way, nothing half-done left behind."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

from fs3.api.budget import run_all
from fs3.api.client import Client
from fs3.api.file import File
from fs3.base.errors import error
from fs3.base.limits import client_write_call_bytes, transfer_parts_max
from fs3.base.status import Code

Progress = Callable[[int], Any]
"""Called with the bytes of every part that has arrived."""

PART_BYTES = client_write_call_bytes


async def upload(client: Client, local: str, file: File, progress: Progress) -> None:
    """The bytes of a local file into an open file. An OSError of the local side passes through."""
    with open(local, "rb", buffering=0) as source:
        length = os.fstat(source.fileno()).st_size
        if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            await _upload_stream(client, source, file, progress)
            return

        async def part(offset: int) -> None:
            buffer = memoryview(bytearray(min(PART_BYTES, length - offset)))
            count = await asyncio.to_thread(_fill, source.fileno(), buffer, offset)
            if count < len(buffer):
                raise error(Code.INVALID, "the local file became shorter while it was read", local)
            await client.pwrite(file, buffer, offset)
            progress(count)

        await run_all((part(offset) for offset in range(0, length, PART_BYTES)), transfer_parts_max)


async def _upload_stream(client: Client, source: Any, file: File, progress: Progress) -> None:
    """A pipe or device: in order, until it ends."""
    offset = 0
    while data := await asyncio.to_thread(source.read, PART_BYTES):
        await client.pwrite(file, data, offset)
        offset += len(data)
        progress(len(data))


async def download(client: Client, file: File, local: str, progress: Progress) -> None:
    """The bytes of an open file into a local one, which appears whole or stays as it was."""
    target = os.path.realpath(local)
    try:
        before = os.stat(target)
    except FileNotFoundError:
        before = None
    if before is not None and not stat.S_ISREG(before.st_mode):
        with open(target, "wb", buffering=0) as device:  # a pipe or /dev/null: nothing to replace
            await download_stream(client, file, device, progress)
        return
    directory, name = os.path.split(target)
    temporary = os.path.join(directory, f".{name[:200]}.{os.urandom(6).hex()}.part")
    with open(temporary, "xb", buffering=0) as out:
        try:
            length = file.length

            async def part(offset: int) -> None:
                buffer = memoryview(bytearray(min(PART_BYTES, length - offset)))
                count = await client.pread_into(file, buffer, offset)
                await asyncio.to_thread(_drain, out.fileno(), buffer[:count], offset)
                progress(count)

            await run_all((part(offset) for offset in range(0, length, PART_BYTES)), transfer_parts_max)
            if before is not None:
                os.fchmod(out.fileno(), stat.S_IMODE(before.st_mode))
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


async def download_stream(client: Client, file: File, out: BinaryIO | Any, progress: Progress) -> None:
    """The bytes of an open file, in order, into something with a `write`."""
    for offset in range(0, file.length, PART_BYTES):
        data = await client.pread(file, PART_BYTES, offset)
        await asyncio.to_thread(_write_all, out, data)
        progress(len(data))


def _fill(fd: int, buffer: memoryview, offset: int) -> int:
    at = 0
    while at < len(buffer):
        count = os.preadv(fd, [buffer[at:]], offset + at)
        if not count:
            break
        at += count
    return at


def _drain(fd: int, data: memoryview, offset: int) -> None:
    at = 0
    while at < len(data):
        at += os.pwrite(fd, data[at:], offset + at)


def _write_all(out: Any, data: bytes) -> None:
    """A raw file may take less than it is given; one that does not say took all."""
    view = memoryview(data)
    while view:
        taken = out.write(view)
        view = view[len(view) if taken is None else taken :]
