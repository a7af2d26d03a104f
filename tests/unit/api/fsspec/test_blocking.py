"""Blocking methods: what their coroutines raise, they raise."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest
from fsspec.asyn import AsyncFileSystem

from fs3.api.fsspec import FS3FileSystem
from fs3.api.fsspec.blocking import blocking
from fs3.base.errors import DeadlineExceeded, error
from fs3.base.status import Code


class LateFileSystem(FS3FileSystem):
    """Nothing it is asked for is answered in time."""

    def __init__(self) -> None:
        super().__init__(cluster="127.0.0.1:9", skip_instance_cache=True)

    async def _info(self, path: str, **_: Any) -> Any:
        raise error(Code.DEADLINE, "no answer in time", path)

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        await asyncio.Event().wait()


def test_an_answer_that_is_late_has_errno_and_name() -> None:
    """fsspec's own blocking methods make an empty TimeoutError of it."""
    with pytest.raises(DeadlineExceeded, match="no answer in time") as late:
        LateFileSystem().info("/x")
    assert (late.value.errno, late.value.filename) == (errno.ETIMEDOUT, "/x")


def test_a_call_has_the_time_it_is_given() -> None:
    with pytest.raises(DeadlineExceeded, match="not done within") as late:
        LateFileSystem().ls("/x", timeout=0.01)
    assert late.value.errno == errno.ETIMEDOUT


def test_no_method_is_left_to_fsspec() -> None:
    fs = LateFileSystem()
    mirrored = [name for name, member in vars(fs).items() if callable(member)]
    assert mirrored == []
    made = [name for name in dir(AsyncFileSystem) if hasattr(getattr(FS3FileSystem, name, None), "__wrapped__")]
    assert {"cat", "find", "get", "glob", "ls", "pipe", "put", "rm"} <= set(made)


def test_a_twin_runs_what_a_subclass_has_in_its_place() -> None:
    assert blocking(FS3FileSystem._info).__name__ == "info"
    with pytest.raises(RuntimeError, match="asynchronous=True"):
        FS3FileSystem(cluster="127.0.0.1:9", asynchronous=True, skip_instance_cache=True).info("/x")
