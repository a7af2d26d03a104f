"""`with` blocks that an exception leaves, and transactions that fail: no trace of what was written is left, and that is said."""

from __future__ import annotations

import io
import random
from typing import Any

import fsspec
import pytest

BYTES = random.Random(1).randbytes(100_000)


class Stop(Exception):
    pass


def by_url(fs: Any, path: str, mode: str, **options: Any) -> Any:
    return fsspec.open(fs.unstrip_protocol(path), mode, **options, **fs.storage_options)


OPENERS: dict[str, Any] = {
    "fs.open": lambda fs, path, mode, **options: fs.open(path, mode, **options),
    "fsspec.open": by_url,
}
COMPRESSIONS = ("gzip", "bz2", "xz", "zip")

WAYS: dict[str, tuple[str, Any]] = {
    **{
        f"{opener} {mode} {compression or ''}".strip(): (
            mode,
            lambda fs, path, o=opener, m=mode, c=compression: OPENERS[o](fs, path, m, **({"compression": c} if c else {})),
        )
        for opener in OPENERS
        for mode in ("wb", "w", "xb", "x", "ab", "a")
        for compression in (None, *COMPRESSIONS)
        if compression in (None, "gzip") or mode in ("wb", "ab", "a")
    },
    "text wrapper": ("w", lambda fs, path: io.TextIOWrapper(fs.open(path, "wb"))),
    "text wrapper, appending": ("a", lambda fs, path: io.TextIOWrapper(fs.open(path, "ab"))),
    "buffer": ("wb", lambda fs, path: io.BufferedWriter(fs.open(path, "wb"))),
    "buffer, appending": ("ab", lambda fs, path: io.BufferedWriter(fs.open(path, "ab"))),
    "text wrapper over a buffer": ("a", lambda fs, path: io.TextIOWrapper(io.BufferedWriter(fs.open(path, "ab")))),
    "fsspec.open().open()": ("w", lambda fs, path: by_url(fs, path, "w").open()),
    "fsspec.open().open(), appending": ("a", lambda fs, path: by_url(fs, path, "a").open()),
    "text wrapper over fsspec.open().open()": ("a", lambda fs, path: io.TextIOWrapper(by_url(fs, path, "ab").open())),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_exception_in_the_block_leaves_no_trace(fs: Any, room: str, caplog: pytest.LogCaptureFixture, way: str) -> None:
    mode, opened = WAYS[way]
    path = f"{room}/x"
    data: Any = BYTES if "b" in mode else "text" * 1000
    before = b"before" if "a" in mode else b""
    if before:
        fs.pipe_file(path, before)
    with pytest.raises(Stop), opened(fs, path) as file:  # noqa: PT012
        file.write(data)
        raise Stop
    assert fs.cat(room, recursive=True) == ({path: before} if before else {})
    assert caplog.messages == [f"{path}: an exception (Stop) left its `with` block, and what was written to it is dropped"]
    with opened(fs, path) as file:
        file.write(data)
    assert fs.size(path) > len(before)
    assert fs.cat_file(path).startswith(before)


@pytest.mark.parametrize("way", ["fs.open wb", "fsspec.open a", "text wrapper"])
@pytest.mark.parametrize("reason", [KeyboardInterrupt, SystemExit])
def test_the_end_of_the_program_in_the_block_is_an_exception(fs: Any, room: str, way: str, reason: type[BaseException]) -> None:
    mode, opened = WAYS[way]
    with pytest.raises(reason), opened(fs, f"{room}/x") as file:  # noqa: PT012
        file.write("text" if "b" not in mode else b"bytes")
        raise reason
    assert not fs.exists(f"{room}/x") or not fs.size(f"{room}/x")


def test_files_that_are_opened_together_are_dropped_together(fs: Any, room: str) -> None:
    names = [fs.unstrip_protocol(f"{room}/{number}") for number in range(3)]
    with pytest.raises(Stop), fsspec.open_files(names, "a", **fs.storage_options) as files:  # noqa: PT012
        for file in files:
            file.write("text")
        raise Stop
    assert {size for name in fs.ls(room, detail=False) if (size := fs.size(name))} == set()


def test_what_was_flushed_before_the_exception_stays_appended(fs: Any, room: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Stop), by_url(fs, f"{room}/log", "a") as file:  # noqa: PT012
        file.write("kept")
        file.flush()
        raise Stop
    assert fs.cat_file(f"{room}/log") == b"kept"
    assert caplog.messages == []  # nothing was dropped


def test_another_file_that_is_closed_while_the_block_is_left_is_kept(fs: Any, room: str) -> None:
    class Report:
        """Writes down what went wrong."""

        def __enter__(self) -> None:
            self.log = fs.open(f"{room}/log", "a")

        def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
            self.log.write("failed")
            self.log.flush()
            self.log.close()
            with by_url(fs, f"{room}/report", "w") as file:
                file.write("what went wrong")
            with io.TextIOWrapper(fs.open(f"{room}/more", "wb")) as more:
                more.write("more")

    with pytest.raises(Stop), Report():
        raise Stop
    assert fs.cat(room, recursive=True) == {
        f"{room}/log": b"failed", f"{room}/report": b"what went wrong", f"{room}/more": b"more",
    }  # fmt: skip


def test_closing_in_an_except_block_keeps_the_file(fs: Any, room: str) -> None:
    with pytest.raises(Stop):  # noqa: PT012
        try:
            raise Stop
        except Stop:
            with by_url(fs, f"{room}/report", "wb") as file:
                file.write(b"what went wrong")
            raise
    assert fs.cat_file(f"{room}/report") == b"what went wrong"


@pytest.mark.parametrize("mode", ["wb", "xb", "ab"])
def test_an_exception_in_an_async_block_leaves_no_trace(fs: Any, room: str, caplog: pytest.LogCaptureFixture, mode: str) -> None:
    path = f"{room}/x"

    async def write() -> None:
        async with await fs.open_async(path, mode) as file:
            await file.write(BYTES)
            raise Stop

    with pytest.raises(Stop):
        fsspec.asyn.sync(fs.loop, write)
    assert not fs.exists(path) or not fs.size(path)
    assert caplog.messages == [f"{path}: an exception (Stop) left its `with` block, and what was written to it is dropped"]


def test_a_touched_file_waits_for_the_transaction_as_all_others(fs: Any, room: str) -> None:
    fs.pipe_file(f"{room}/full", b"bytes")

    def work() -> None:
        fs.touch(f"{room}/new")
        fs.touch(f"{room}/below/new")
        fs.touch(f"{room}/full")
        assert not fs.exists(f"{room}/new")
        assert fs.size(f"{room}/full") == 5

    with pytest.raises(Stop), fs.transaction:  # noqa: PT012
        work()
        raise Stop
    assert fs.find(room) == [f"{room}/full"]
    assert fs.cat_file(f"{room}/full") == b"bytes"
    with fs.transaction:
        work()
    assert fs.cat(room, recursive=True) == dict.fromkeys([f"{room}/new", f"{room}/below/new", f"{room}/full"], b"")
