"""Contents through fsspec: file objects, ranges, whole files, and that nothing half-written is ever seen."""

from __future__ import annotations

import concurrent.futures
import errno
import gc
import gzip
import io
import os
import random
import subprocess
import sys
import wave
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.callbacks import Callback

from fs3.api.fsspec import unclosed
from fs3.api.io.append_gather import append_gather_bytes
from fs3.api.io.blocking import run_on

CHUNK = 64 * 1024
"""Smallest chunk size: files of a few hundred KiB span several."""


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


class Stop(Exception):
    pass


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 7 * CHUNK + 12_345])
def test_what_is_written_is_read(fs: Any, room: str, length: int) -> None:
    data = noise(length)
    with fs.open(f"{room}/x", "wb", chunk_size=CHUNK) as file:
        assert file.write(data) == length
        assert file.tell() == length
    assert fs.size(f"{room}/x") == length
    assert fs.cat_file(f"{room}/x") == data
    with fs.open(f"{room}/x", "rb") as file:
        assert file.size == length
        assert file.read() == data
        assert file.read() == b""


@pytest.mark.parametrize("step", [1000, 4096, 70_001, 300_000])
@pytest.mark.parametrize("cache_type", [None, "none", "readahead", "bytes", "blockcache", "mmap", "all", "background", "first"])
def test_reading_in_order_and_at_random_under_every_cache(fs: Any, room: str, cache_type: str | None, step: int) -> None:
    data = noise(1_000_003)
    fs.pipe_file(f"{room}/x", data, chunk_size=CHUNK)
    options = {} if cache_type is None else {"cache_type": cache_type, "block_size": 100_000}
    with fs.open(f"{room}/x", "rb", **options) as file:
        assert b"".join(iter(lambda: file.read(step), b"")) == data
        rng = random.Random(step)
        for _ in range(20):
            at = rng.randrange(len(data))
            file.seek(at)
            assert file.read(step) == data[at : at + step]
        file.seek(-10, 2)
        assert file.read(100) == data[-10:]
        assert file.seek(len(data) + 5) == len(data) + 5
        assert file.read(1) == b""
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)


def test_long_sequential_reads_are_fetched_ahead_and_right(fs: Any, room: str) -> None:
    data = noise(24 * 2**20 + 77)
    fs.pipe_file(f"{room}/x", data)
    with fs.open(f"{room}/x", "rb") as file:
        pieces = []
        while piece := file.read(777_777):
            pieces.append(piece)
            if len(pieces) == 5:  # a jump back in the middle, then on
                file.seek(3)
                assert file.read(9) == data[3:12]
                file.seek(5 * 777_777)
        assert b"".join(pieces) == data
        file.seek(0)
        buffer = bytearray(1 << 20)
        out = bytearray()
        while count := file.readinto(buffer):
            out += memoryview(buffer)[:count]
        assert out == data


def test_readinto_fills_any_writable_buffer_and_refuses_others(fs: Any, room: str) -> None:
    data = noise(300_000)
    fs.pipe_file(f"{room}/x", data, chunk_size=CHUNK)
    with fs.open(f"{room}/x", "rb") as file:
        buffer = bytearray(200_000)
        assert file.readinto(memoryview(buffer)[100_000:]) == 100_000
        assert buffer == bytes(100_000) + data[:100_000]
        big = bytearray(400_000)
        assert file.readinto(memoryview(big).cast("I")) == 200_000
        assert big[:200_000] == data[100_000:]
        for bad, what in ((bytes(4), "read-only"), ("text", "bytes-like"), (memoryview(bytearray(8))[::2], "contiguous")):
            with pytest.raises(ValueError, match=what):
                file.readinto(bad)


def test_lines_and_text(fs: Any, room: str) -> None:
    with fs.open(f"{room}/t", "w", encoding="utf-8", newline="") as text:
        text.write("eins\nzwei ü\r\ndrei")
    with fs.open(f"{room}/t", "r", encoding="utf-8") as text:
        assert text.readlines() == ["eins\n", "zwei ü\n", "drei"]
    with fs.open(f"{room}/t", "rb") as file:
        assert list(file) == [b"eins\n", "zwei ü\r\n".encode(), b"drei"]
        file.seek(0)
        assert file.readline() == b"eins\n"
    assert fs.read_text(f"{room}/t", newline="") == "eins\nzwei ü\r\ndrei"


def test_file_is_what_it_was_when_it_was_opened(fs: Any, room: str) -> None:
    fs.pipe_file(f"{room}/x", b"old content")
    with fs.open(f"{room}/x", "rb") as file:
        assert file.read(3) == b"old"
        fs.pipe_file(f"{room}/x", b"new")
        assert file.details["size"] == 11
        assert file.read() == b" content"  # its chunks stay for a while


@pytest.mark.parametrize(
    "limits", [(None, None), (0, 5), (3, None), (None, -4), (-4, None), (-6, -2), (5, 3), (8, 100), (100, 200)]
)
def test_cat_file_slices_like_python(fs: Any, room: str, limits: tuple[int | None, int | None]) -> None:
    fs.pipe_file(f"{room}/x", b"0123456789")
    assert fs.cat_file(f"{room}/x", *limits) == b"0123456789"[slice(*limits)]


def test_cat_ranges(fs: Any, room: str) -> None:
    one, two = noise(400_000, 1), noise(90_000, 2)
    fs.pipe_file(f"{room}/1", one, chunk_size=CHUNK)
    fs.pipe_file(f"{room}/2", two, chunk_size=CHUNK)
    wanted = [(1, 0, 10), (2, 5, None), (1, 100_000, 300_000), (1, 200_000, 200_001), (2, -10, None), (1, None, None), (2, 8, 8)]
    paths = [f"{room}/{which}" for which, _, _ in wanted]
    got = fs.cat_ranges(paths, [start for _, start, _ in wanted], [end for _, _, end in wanted], max_gap=1000)
    assert got == [{1: one, 2: two}[which][start:end] for which, start, end in wanted]
    assert all(type(data) is bytes for data in got)
    assert fs.cat_ranges([f"{room}/1", f"{room}/2"], 0, 4) == [one[:4], two[:4]]
    assert fs.cat_ranges([], [], []) == []
    mixed = [f"{room}/1", f"{room}/no", room, f"{room}/2"]
    first, missing, directory, last = fs.cat_ranges(mixed, 1, 3)
    assert (first, last) == (one[1:3], two[1:3])
    assert isinstance(missing, FileNotFoundError)
    assert missing.filename == f"{room}/no"
    assert isinstance(directory, IsADirectoryError)
    assert fs.cat_ranges(mixed, 1, 3, on_error="omit") == [one[1:3], two[1:3]]
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(mixed, 1, 3, on_error="raise")
    with pytest.raises(ValueError, match="go together"):
        fs.cat_ranges([f"{room}/1"], [0, 1], [1])


def test_cat_of_many(fs: Any, room: str) -> None:
    fs.pipe({f"{room}/{index}": str(index).encode() for index in range(20)})
    assert fs.cat(room, recursive=True) == {f"{room}/{index}": str(index).encode() for index in range(20)}
    assert fs.cat([f"{room}/1", f"{room}/x"], on_error="omit") == {f"{room}/1": b"1"}


@pytest.mark.parametrize("call", [lambda fs, path: fs.cat_file(path), lambda fs, path: fs.open(path, "rb")])
def test_missing_files_and_directories_are_named(fs: Any, room: str, call: Any) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        call(fs, f"{room}/missing")
    assert caught.value.filename == f"{room}/missing"
    with pytest.raises(IsADirectoryError) as directory:
        call(fs, room)
    assert directory.value.filename == room
    fs.touch(f"{room}/file")
    with pytest.raises(NotADirectoryError):
        call(fs, f"{room}/file/below")


# --- writing ---------------------------------------------------------------------------------------------------------


def test_nothing_is_seen_before_close(fs: Any, room: str) -> None:
    with fs.open(f"{room}/x", "wb", chunk_size=CHUNK) as file:
        file.write(noise(300_000))
        file.flush()
        assert fs.ls(room) == []
    assert fs.size(f"{room}/x") == 300_000


def test_the_old_file_stays_until_the_new_one_is_whole(fs: Any, room: str) -> None:
    fs.pipe_file(f"{room}/x", b"old")
    with fs.open(f"{room}/x", "wb") as file:
        file.write(b"new and longer")
        assert fs.cat_file(f"{room}/x") == b"old"
    assert fs.cat_file(f"{room}/x") == b"new and longer"


UNCLOSED: dict[str, dict[str, Any]] = {
    "binary": {"mode": "wb"},
    "text": {"mode": "w"},
    "gzip": {"mode": "wb", "compression": "gzip"},
    "gzip text": {"mode": "w", "compression": "gzip"},
    "append": {"mode": "ab"},
    "append text": {"mode": "a"},
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("way", UNCLOSED)
def test_a_file_that_is_dropped_is_closed(fs: Any, room: str, caplog: pytest.LogCaptureFixture, way: str) -> None:
    file = fs.open(f"{room}/x", **UNCLOSED[way])
    file.write("all" if "text" in way else b"all")
    del file
    gc.collect()
    assert fs.open(f"{room}/x", compression="gzip" if "gzip" in way else None).read() == b"all"
    assert caplog.messages == [f"{room}/x was not closed: it is closed now"]


BROKEN_OFF: dict[str, tuple[dict[str, Any], Any, Any]] = {
    "no bytes": ({"mode": "wb"}, b"half", "text"),
    "no text": ({"mode": "w"}, "half", b"bytes"),
    "a character the encoding lacks": ({"mode": "w", "encoding": "ascii"}, "half", "\N{SNOWMAN}"),
    "no bytes for a compressor": ({"mode": "wb", "compression": "gzip"}, b"half", "text"),
    "no text for a compressor": ({"mode": "w", "compression": "gzip"}, "half", b"bytes"),
    "no bytes to append": ({"mode": "ab"}, b"half", "text"),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("way", BROKEN_OFF)
def test_a_file_that_is_dropped_after_a_write_that_failed_leaves_no_trace(
    fs: Any, room: str, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    how, half, wrong = BROKEN_OFF[way]
    fs.pipe_file(f"{room}/x", b"before")
    file = fs.open(f"{room}/x", **how)
    file.write(half)
    with pytest.raises((TypeError, ValueError)):
        file.write(wrong)
    del file
    gc.collect()
    assert fs.cat_file(f"{room}/x") == b"before"
    assert caplog.messages == [f"{room}/x was not closed: its last write failed, and what was written to it is dropped"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("mode", "rest", "wrong"), [("wb", b"all", "text"), ("w", "all", b"bytes")])
def test_a_file_that_is_dropped_after_a_failed_write_and_a_good_one_is_closed(
    fs: Any, room: str, mode: str, rest: Any, wrong: Any
) -> None:
    file = fs.open(f"{room}/x", mode)
    with pytest.raises(TypeError):
        file.write(wrong)
    file.write(rest)
    del file
    gc.collect()
    assert fs.cat_file(f"{room}/x") == b"all"


def test_a_write_that_fails_names_the_file_that_has_no_name_yet(fs: Any, room: str) -> None:
    file = fs.open(f"{room}/x", "wb")
    with pytest.raises(ValueError, match="/x'"):
        run_on(fs.loop, file._draft.write(b"x", -1))
    file.discard()


def test_a_dropped_file_warns(fs: Any, room: str) -> None:
    with pytest.warns(ResourceWarning, match="/x' was not closed"):
        fs.open(f"{room}/x", "wb").write(b"x")
    file = fs.open(f"{room}/y", "wb")
    file.write(b"y")
    file.itself = file  # a cycle, which only the collector finds
    del file
    with pytest.warns(ResourceWarning, match="/y' was not closed"):
        gc.collect()
    assert fs.cat(room, recursive=True) == {f"{room}/x": b"x", f"{room}/y": b"y"}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_file_that_is_dropped_on_the_loops_own_thread_is_closed(fs: Any, room: str) -> None:
    contents = {"wb": noise(300_000), "w": "text", "ab": b"more"}
    held = [fs.open(f"{room}/{mode}", mode) for mode in contents]
    for file, data in zip(held, contents.values(), strict=True):
        file.write(data)
    del file

    async def drop() -> list[Any]:
        held.clear()
        return list(unclosed._endings)

    endings = fsspec.asyn.sync(fs.loop, drop)
    assert len(endings) == 3
    concurrent.futures.wait(endings)
    assert fs.cat(room, recursive=True) == {f"{room}/wb": noise(300_000), f"{room}/w": b"text", f"{room}/ab": b"more"}


LEFT_OPEN = """
import fsspec, sys
fs = fsspec.filesystem("fs3", path=sys.argv[1])
binary = fs.open("/binary", "wb")
binary.write(b"x" * 300_000)
text = fs.open("/text", "w", compression="gzip")
text.write("text")
log = fs.open("/log", "ab")
log.write(b"line")
done = fs.open("/done", "w")
done.write("done")
done.close()
"""


def test_what_is_open_when_the_program_ends_is_closed(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", LEFT_OPEN, tmp_path / "fs3"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0
    assert ended.stderr.count("was not closed: it is closed now") == 3
    fs = fsspec.filesystem("fs3", path=tmp_path / "fs3")
    assert fs.open("/text", "r", compression="gzip").read() == "text"
    assert fs.cat(["/binary", "/log", "/done"]) == {"/binary": b"x" * 300_000, "/log": b"line", "/done": b"done"}
    fs.close()


def test_what_is_open_when_the_program_dies_of_an_exception_is_dropped(tmp_path: Path) -> None:
    dying = [sys.executable, "-c", LEFT_OPEN + "raise KeyError", tmp_path / "fs3"]
    ended = subprocess.run(dying, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.count("was not closed: what was written to it is dropped") == 3
    fs = fsspec.filesystem("fs3", path=tmp_path / "fs3")
    assert fs.cat("/", recursive=True) == {"/log": b"", "/done": b"done"}
    fs.close()


def test_a_detached_text_file_leaves_the_end_to_the_binary_one(fs: Any, room: str) -> None:
    text = fs.open(f"{room}/x", "w")
    text.write("abc")
    file = text.detach()
    del text
    file.write(b"def")
    file.close()
    assert fs.cat_file(f"{room}/x") == b"abcdef"


def test_append(fs: Any, room: str) -> None:
    path = f"{room}/log"
    with fs.open(path, "ab", chunk_size=CHUNK) as file:
        file.write(b"first")
    data = noise(200_001)
    with fs.open(path, "ab") as file:
        assert file.tell() == 5
        file.write(data)
        assert fs.size(path) == 5
        file.flush()
        assert fs.size(path) == 5 + len(data)  # flush publishes
        file.write(b"end")
    assert fs.cat_file(path) == b"first" + data + b"end"
    with pytest.raises(Stop), fs.open(path, "ab") as file:  # noqa: PT012
        file.write(noise(100_000, 3))
        raise Stop
    assert fs.cat_file(path) == b"first" + data + b"end"
    with fs.open(path, "ab") as file:
        file.write(b"!")
    assert fs.cat_file(path) == b"first" + data + b"end!"


def test_appends_of_two_handles_are_both_there(fs: Any, room: str) -> None:
    path = f"{room}/log"
    first, second = fs.open(path, "ab"), fs.open(path, "ab")
    first.write(b"A" * 10)
    second.write(b"B" * 10)
    first.flush()
    assert first.tell() == 10
    second.write(b"C")
    second.close()
    first.write(b"D")
    first.close()
    assert fs.cat_file(path) == b"A" * 10 + b"B" * 10 + b"C" + b"D"
    with fs.open(path, "a") as text:
        text.write("line\n")
    assert fs.cat_file(path).endswith(b"Dline\n")


def test_what_is_appended_at_once_stays_together_whatever_its_size(fs: Any, room: str) -> None:
    path = f"{room}/log"
    data = noise(3 * append_gather_bytes + 17)
    with fs.open(path, "ab") as large:
        for at in range(0, len(data), 4_000_001):
            large.write(data[at : at + 4_000_001])
            with fs.open(path, "ab") as small:
                small.write(b"-")
        before = fs.size(path)
    assert fs.cat_file(path) == b"-" * before + data
    with pytest.raises(Stop), fs.open(path, "ab") as large:  # noqa: PT012
        large.write(data)
        raise Stop
    assert fs.size(path) == before + len(data)


def test_an_appender_is_told_that_its_file_was_removed(fs: Any, room: str) -> None:
    file = fs.open(f"{room}/log", "ab")
    file.write(b"lost")
    fs.rm(f"{room}/log")
    with pytest.raises(OSError, match="removed, or replaced") as caught:
        file.close()
    assert caught.value.filename == f"{room}/log"
    assert file.closed
    assert fs.ls(room) == []


def test_write_in_place(fs: Any, room: str) -> None:
    data = bytearray(noise(200_000))
    fs.pipe_file(f"{room}/x", bytes(data), chunk_size=CHUNK)
    with fs.open(f"{room}/x", "r+b") as file:
        file.seek(CHUNK - 3)
        assert file.write(b"middle") == 6
        data[CHUNK - 3 : CHUNK + 3] = b"middle"
        file.seek(0)
        assert file.read(10) == data[:10]
        file.seek(0, 2)
        file.write(b"tail")
        file.truncate(200_002)
    assert fs.cat_file(f"{room}/x") == data + b"ta"
    with pytest.raises(FileNotFoundError):
        fs.open(f"{room}/missing", "r+b")


def test_truncating_takes_away_what_another_writer_has_published_meanwhile(
    fs: Any, fs3_options: dict[str, str], room: str
) -> None:
    other = fsspec.filesystem("fs3", skip_instance_cache=True, **fs3_options)
    published = noise(10_000_000, 2)
    fs.pipe_file(f"{room}/x", noise(100), chunk_size=CHUNK)
    with fs.open(f"{room}/x", "r+b") as file:
        with other.open(f"{room}/x", "r+b") as theirs:
            theirs.write(published)
        assert file.truncate(5) == 5
        file.seek(3 * CHUNK)
        file.write(b"tail")
    expected = published[:5] + bytes(3 * CHUNK - 5) + b"tail"
    assert other.cat_file(f"{room}/x") == expected
    with other.open(f"{room}/x", "r+b") as file:
        file.truncate(len(published))
    other.close()
    assert fs.cat_file(f"{room}/x") == expected + bytes(len(published) - len(expected))


def test_exclusive_creation(fs: Any, room: str) -> None:
    with fs.open(f"{room}/x", "xb") as file:
        file.write(b"mine")
        fs.pipe_file(f"{room}/y", b"yours")
    with pytest.raises(FileExistsError):
        fs.open(f"{room}/x", "xb")
    with pytest.raises(FileExistsError):
        fs.pipe_file(f"{room}/y", b"2", mode="create")
    racing = fs.open(f"{room}/z", "xb")
    racing.write(b"late")
    fs.pipe_file(f"{room}/z", b"early", mode="create")
    with pytest.raises(FileExistsError):
        racing.close()
    assert racing.closed
    assert fs.cat_file(f"{room}/z") == b"early"


def test_writing_over_a_directory_is_refused_at_once(fs: Any, room: str) -> None:
    fs.mkdir(f"{room}/d")
    for refused in (
        lambda: fs.open(f"{room}/d", "wb"),
        lambda: fs.pipe_file(f"{room}/d", b""),
        lambda: fs.open(f"{room}/d", "ab"),
    ):
        with pytest.raises(IsADirectoryError):
            refused()


def test_missing_parents_are_made_unless_told_otherwise(fs: Any, room: str) -> None:
    with fs.open(f"{room}/1/2/x", "wb") as file:
        file.write(b"x")
    fs.touch(f"{room}/3/x")
    with fs.open(f"{room}/4/x", "ab"):
        pass
    fs.cp_file(f"{room}/1/2/x", f"{room}/5/x")
    assert [fs.isfile(f"{room}/{name}/x") for name in ("1/2", "3", "4", "5")] == [True] * 4
    strict = type(fs)(**{**fs.storage_options, "auto_mkdir": False})
    if not strict.embedded:
        with pytest.raises(FileNotFoundError):
            strict.pipe_file(f"{room}/6/x", b"")
        assert not fs.exists(f"{room}/6")


def test_many_small_writes_and_one_of_every_kind_of_buffer(fs: Any, room: str) -> None:
    data = noise(500_000)
    with fs.open(f"{room}/x", "wb", chunk_size=CHUNK, block_size=100_000) as file:
        for start in range(0, 100_000, 10):
            file.write(data[start : start + 10])
        file.write(memoryview(data)[100_000:150_000])
        changing = bytearray(data[150_000:350_000])
        file.write(changing)
        changing[:] = bytes(len(changing))  # it was taken; what happens to it now does not matter
        file.write(data[350_000:])
    assert fs.cat_file(f"{room}/x") == data


def test_a_new_file_is_written_over_after_a_seek(fs: Any, room: str) -> None:
    data = bytearray(noise(3 * CHUNK))
    with fs.open(f"{room}/x", "wb", chunk_size=CHUNK) as file:
        assert file.seekable()
        file.write(data)
        for at, whence, to in ((5, 0, 5), (-7, 2, len(data) - 7), (-CHUNK, 1, len(data) - 7 + 4 - CHUNK)):
            assert file.seek(at, whence) == file.tell() == to
            file.write(b"over")
            data[to : to + 4] = b"over"
        assert file.seek(0, 2) == len(data)
        file.write(b"end")
        assert file.truncate(len(data) + 2) == len(data) + 2
    assert fs.cat_file(f"{room}/x") == data + b"en"


def test_libraries_that_patch_what_they_have_written(fs: Any, room: str) -> None:
    sound = noise(5000)
    with fs.open(f"{room}/x.zip", "wb") as file, zipfile.ZipFile(file, "w") as out:
        for number in range(3):
            out.writestr(f"{number}.bin", sound)
    with fs.open(f"{room}/x.zip") as file, zipfile.ZipFile(file) as found:
        assert found.testzip() is None
        assert [found.read(name) for name in found.namelist()] == [sound] * 3
    with fs.open(f"{room}/x.wav", "wb") as file, wave.open(file) as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        for start in range(0, len(sound), 1000):
            out.writeframes(sound[start : start + 1000])
    with fs.open(f"{room}/x.wav") as file, wave.open(file) as found:
        assert found.readframes(5000) == sound


def test_wrong_use_of_file_objects(fs: Any, room: str) -> None:
    fs.touch(f"{room}/x")
    with fs.open(f"{room}/x", "rb") as file:
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"")
        with pytest.raises(io.UnsupportedOperation):
            file.fileno()
    with pytest.raises(ValueError, match="closed"):
        file.read()
    with fs.open(f"{room}/y", "wb") as file:
        with pytest.raises(io.UnsupportedOperation):
            file.read()
        with pytest.raises(io.UnsupportedOperation) as refused:
            file.seek(1)
        assert (refused.value.errno, refused.value.filename) == (errno.ESPIPE, f"{room}/y")
        with pytest.raises(ValueError, match="data is not bytes-like"):
            file.write("text")
    with pytest.raises(ValueError, match="closed"):
        file.write(b"")
    for mode in ("zb", "w+b"):
        with pytest.raises(ValueError, match="mode is"):
            fs.open(f"{room}/x", mode)
    with pytest.raises(ValueError, match="cache_type"):
        fs.open(f"{room}/x", "rb", cache_type="nonsense")


def test_compression(fs: Any, room: str) -> None:
    with fs.open(f"{room}/x.gz", "wb", compression="infer") as file:
        file.write(b"squeeze" * 1000)
    assert gzip.decompress(fs.cat_file(f"{room}/x.gz")) == b"squeeze" * 1000
    with fs.open(f"{room}/x.gz", "rt", compression="infer") as text:
        assert text.read() == "squeeze" * 1000


# --- transactions ----------------------------------------------------------------------------------------------------


def test_a_transaction_publishes_together_or_not_at_all(fs: Any, room: str, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"put")
    fs.pipe_file(f"{room}/log", b"before ")

    def work() -> None:
        with fs.open(f"{room}/a", "wb") as file:
            file.write(b"opened")
        with fs.open(f"{room}/log", "ab") as file:
            file.write(b"after")
        fs.pipe_file(f"{room}/b", b"piped")
        fs.put_file(str(tmp_path / "local"), f"{room}/c")
        assert fs.ls(room, detail=False) == [f"{room}/log"]
        assert fs.cat_file(f"{room}/log") == b"before "

    with pytest.raises(Stop), fs.transaction:  # noqa: PT012
        work()
        raise Stop
    assert fs.ls(room, detail=False) == [f"{room}/log"]
    assert fs.cat_file(f"{room}/log") == b"before "
    with fs.transaction:
        work()
    assert fs.cat(room, recursive=True) == {
        f"{room}/a": b"opened", f"{room}/b": b"piped", f"{room}/c": b"put", f"{room}/log": b"before after",
    }  # fmt: skip
    fs.pipe_file(f"{room}/d", b"the transaction is over")
    assert fs.exists(f"{room}/d")


def test_autocommit_off(fs: Any, room: str) -> None:
    file = fs.open(f"{room}/x", "wb", autocommit=False)
    file.write(b"kept")
    file.close()
    assert not fs.exists(f"{room}/x")
    file.commit()
    assert fs.cat_file(f"{room}/x") == b"kept"
    other = fs.open(f"{room}/y", "wb", autocommit=False)
    other.write(b"dropped")
    other.close()
    other.discard()
    assert not fs.exists(f"{room}/y")


# --- local files -----------------------------------------------------------------------------------------------------


class Steps(Callback):
    """A callback that remembers its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def relative_update(self, inc: int = 1) -> None:
        self.steps.append(inc)
        super().relative_update(inc)


@pytest.mark.parametrize("length", [0, 10, 20 * 2**20 + 3])
def test_put_and_get_with_progress(fs: Any, room: str, tmp_path: Path, length: int) -> None:
    data = noise(length)
    (tmp_path / "up").write_bytes(data)
    up, down = Steps(), Steps()
    fs.put_file(str(tmp_path / "up"), f"{room}/x", callback=up)
    fs.get_file(f"{room}/x", str(tmp_path / "down"), callback=down)
    assert (tmp_path / "down").read_bytes() == data
    for steps in (up, down):
        assert (steps.size, sum(steps.steps), steps.value) == (length, length, length)
    assert len(up.steps) == -(-length // (8 * 2**20))


def test_get_file_leaves_nothing_when_it_fails(fs: Any, room: str, tmp_path: Path) -> None:
    fs.pipe_file(f"{room}/x", noise(20 * 2**20))
    (tmp_path / "kept").write_bytes(b"as it was")

    class Breaks(Steps):
        def relative_update(self, inc: int = 1) -> None:
            raise Stop

    for name in ("new", "kept"):
        with pytest.raises(Stop):
            fs.get_file(f"{room}/x", str(tmp_path / name), callback=Breaks())
    with pytest.raises(FileNotFoundError):
        fs.get_file(f"{room}/missing", str(tmp_path / "new"))
    assert sorted(os.listdir(tmp_path)) == ["kept"]
    assert (tmp_path / "kept").read_bytes() == b"as it was"


def test_get_into_an_open_file(fs: Any, room: str) -> None:
    fs.pipe_file(f"{room}/x", b"content")
    out = io.BytesIO()
    fs.get_file(f"{room}/x", out)
    assert out.getvalue() == b"content"
    fs.get_file(f"{room}/x", "/dev/null")
    assert not os.path.isfile("/dev/null")


def test_put_that_fails_leaves_nothing(fs: Any, room: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fs.put_file(str(tmp_path / "missing"), f"{room}/x")
    assert fs.ls(room) == []


def test_copy_keeps_content_and_mode(fs: Any, room: str) -> None:
    data = noise(14 * 2**20 + 5)
    fs.pipe_file(f"{room}/x", data)
    fs.chmod(f"{room}/x", 0o640)
    fs.cp_file(f"{room}/x", f"{room}/y")
    assert fs.cat_file(f"{room}/y") == data
    assert fs.info(f"{room}/y")["mode"] == 0o640
    fs.cp_file(f"{room}/x", f"{room}/x")
    assert fs.size(f"{room}/x") == len(data)
    with pytest.raises(FileNotFoundError):
        fs.cp_file(f"{room}/missing", f"{room}/new/z")
    assert not fs.exists(f"{room}/new")
