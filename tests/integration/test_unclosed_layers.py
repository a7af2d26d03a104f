"""Files that are left open, with something around them that holds bytes of them still: what was written is all there."""

from __future__ import annotations

import bz2
import concurrent.futures
import gc
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import fsspec
import pytest

from fs3.api.fsspec import unclosed
from tests.integration.test_program_ends import end

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def unzip(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return archive.read(archive.namelist()[0])


def untar(data: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = archive.extractfile("x")
        assert found is not None
        return found.read()


LAYERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "text wrapper": ("file = io.TextIOWrapper(fs.open(path, 'wb')); file.write('all')", bytes),
    "text wrapper, appending": ("file = io.TextIOWrapper(fs.open(path, 'ab')); file.write('all')", bytes),
    "buffer": ("file = io.BufferedWriter(fs.open(path, 'wb')); file.write(b'all')", bytes),
    "text wrapper over a buffer": ("file = io.TextIOWrapper(io.BufferedWriter(fs.open(path, 'ab'))); file.write('all')", bytes),
    "fsspec.open": ("file = fsspec.open(url, 'w', **options).open(); file.write('all')", bytes),
    "fsspec.open, appending": ("file = fsspec.open(url, 'a', **options).open(); file.write('all')", bytes),
    "fsspec.open gzip": (
        "file = fsspec.open(url, 'w', compression='gzip', **options).open(); file.write('all')",
        gzip.decompress,
    ),
    "fsspec.open xz": ("file = fsspec.open(url, 'wb', compression='xz', **options).open(); file.write(b'all')", lzma.decompress),
    "fsspec.open zip": ("file = fsspec.open(url, 'wb', compression='zip', **options).open(); file.write(b'all')", unzip),
    "gzip": ("file = gzip.GzipFile(fileobj=fs.open(path, 'wb'), mode='wb'); file.write(b'all')", gzip.decompress),
    "gzip, appending": ("file = gzip.GzipFile(fileobj=fs.open(path, 'ab'), mode='wb'); file.write(b'all')", gzip.decompress),
    "text wrapper over gzip": ("file = gzip.open(fs.open(path, 'wb'), 'wt'); file.write('all')", gzip.decompress),
    "bz2": ("file = bz2.open(fs.open(path, 'wb'), 'wb'); file.write(b'all')", bz2.decompress),
    "zip": ("file = zipfile.ZipFile(fs.open(path, 'wb'), 'w'); file.writestr('x', 'all')", unzip),
    "zip, a large one": (
        "file = zipfile.ZipFile(fs.open(path, 'wb'), 'w'); file.writestr('x', b'all' * 4_000_000)",
        lambda data: unzip(data)[:3],
    ),
    "text wrapper over an entry of a zip": (
        "archive = zipfile.ZipFile(fs.open(path, 'wb'), 'w'); file = io.TextIOWrapper(archive.open('x', 'w')); file.write('all')",
        unzip,
    ),
    "tar in gzip": (
        "inner = gzip.open(fs.open(path, 'wb'), 'wb'); file = tarfile.open(fileobj=inner, mode='w'); "
        "entry = tarfile.TarInfo('x'); entry.size = 3; file.addfile(entry, io.BytesIO(b'all'))",
        lambda data: untar(gzip.decompress(data)),
    ),
    "text wrapper over a compressed file of fs3": (
        "file = io.TextIOWrapper(fs.open(path, 'wb', compression='gzip')); file.write('all')",
        gzip.decompress,
    ),
    "text file of fs3, and csv": ("import csv; csv.writer(fs.open(path, 'w')).writerow(['all'])", bytes.strip),
    "logging": (
        "import logging; own = logging.getLogger(path); own.propagate = False; "
        "own.addHandler(logging.StreamHandler(fs.open(path, 'a'))); own.error('all')",
        bytes.strip,
    ),
    "a buffer of someone else's": (
        "class Buffer(io.BufferedIOBase):\n"
        "    def __init__(self, file): self.parts, self.file = [], file\n"
        "    def writable(self): return True\n"
        "    def write(self, data): self.parts.append(bytes(data)); return len(data)\n"
        "    def close(self):\n"
        "        if not self.closed:\n"
        "            super().close(); self.file.write(b''.join(self.parts)); self.file.close()\n"
        "file = io.TextIOWrapper(Buffer(fs.open(path, 'wb'))); file.write('all')",
        bytes,
    ),
}  # fmt: skip

IMPORTS = "import bz2, gzip, io, tarfile, zipfile\n"


def names(fs: Any, room: str) -> dict[str, Any]:
    return {
        "fs": fs,
        "path": f"{room}/x",
        "url": fs.unstrip_protocol(f"{room}/x"),
        "options": fs.storage_options,
        "fsspec": fsspec,
    }


def test_what_is_open_when_the_program_ends_is_whole(fs: Any, fs3_options: dict[str, str], room: str) -> None:
    paths = {way: f"{room}/{number}" for number, way in enumerate(LAYERS)}
    programs = [(path, fs.unstrip_protocol(path), LAYERS[way][0]) for way, path in paths.items()]
    all_ways = f"""
scopes = []
for path, url, source in {programs!r}:
    scopes.append({{**globals(), "path": path, "url": url}})
    exec(source, scopes[-1])
"""
    code, said = end(fs, fs3_options, room + "/other", IMPORTS + all_ways)
    assert code == 0, said
    assert sorted(said.splitlines()) == sorted(f"{path} was not closed: it is closed now" for path in paths.values())
    found = fs.cat(list(paths.values()))
    assert {way: LAYERS[way][1](found[path]) for way, path in paths.items()} == dict.fromkeys(LAYERS, b"all")


@pytest.mark.parametrize("way", sorted(LAYERS.keys() - {"logging", "a buffer of someone else's"}))
def test_what_is_dropped_is_whole(fs: Any, room: str, caplog: pytest.LogCaptureFixture, way: str) -> None:
    """Not of logging, which keeps its handlers; and a buffer with a `close` of its own closes the file itself."""
    source, read = LAYERS[way]
    scope = names(fs, room)
    exec(IMPORTS + source, scope)
    for name in ("file", "archive", "inner"):
        scope.pop(name, None)
    gc.collect()
    assert read(fs.cat_file(f"{room}/x")) == b"all"
    assert caplog.messages == [f"{room}/x was not closed: it is closed now"]


@pytest.mark.parametrize("way", ["text wrapper", "text wrapper, appending", "buffer", "fsspec.open", "gzip"])
def test_what_is_dropped_on_the_loops_own_thread_is_whole(fs: Any, room: str, caplog: pytest.LogCaptureFixture, way: str) -> None:
    source, read = LAYERS[way]
    scope = names(fs, room)
    exec(IMPORTS + source, scope)

    async def drop() -> list[Any]:
        scope.clear()
        return list(unclosed._endings)

    concurrent.futures.wait(fsspec.asyn.sync(fs.loop, drop))
    assert read(fs.cat_file(f"{room}/x")) == b"all"
    assert caplog.messages == [f"{room}/x was not closed: it is closed now"]


@pytest.mark.parametrize("way", ["text wrapper", "text wrapper, appending", "buffer", "fsspec.open", "gzip", "zip"])
def test_what_a_collection_finds_is_whole(fs: Any, room: str, caplog: pytest.LogCaptureFixture, way: str) -> None:
    source, read = LAYERS[way]
    scope = names(fs, room)
    exec(IMPORTS + source, scope)
    cycle = [scope.pop("file")]
    cycle.append(cycle)  # type: ignore[arg-type]
    del cycle
    gc.collect()
    assert read(fs.cat_file(f"{room}/x")) == b"all"
    assert caplog.messages == [f"{room}/x was not closed: it is closed now"]


def test_layers_of_a_program_that_dies_do_not_bring_a_file_back(fs: Any, fs3_options: dict[str, str], room: str) -> None:
    place = f"path = {room + '/x'!r}; url = {fs.unstrip_protocol(room + '/x')!r}\n"
    code, said = end(fs, fs3_options, room + "/other", IMPORTS + place + LAYERS["fsspec.open"][0] + "\nraise KeyError")
    assert code == 1
    assert f"{room}/x was not closed: what was written to it is dropped\n" in said
    assert not fs.exists(f"{room}/x")


def test_one_layer_that_fails_does_not_keep_others_from_being_closed(fs: Any, fs3_options: dict[str, str], room: str) -> None:
    left = f"""
room = {room!r}
files = [io.TextIOWrapper(fs.open(f"{{room}}/{{n}}", "wb"), encoding="ascii", write_through=False) for n in range(3)]
class Failing(io.BufferedIOBase):
    def __init__(self, file): self.file = file
    def close(self):
        if not self.closed:
            super().close()
            raise ValueError("half of it is missing")
bad = Failing(fs.open(f"{{room}}/bad", "wb"))
more = fs.open(f"{{room}}/more", "w")
for file in [*files, more]: file.write("all")
"""
    code, said = end(fs, fs3_options, room + "/other", IMPORTS + left)
    assert code == 0, said
    assert f"{room}/bad was not closed, and what was written to it is lost: half of it is missing" in said
    found = fs.cat([f"{room}/{name}" for name in (0, 1, 2, "more")])
    assert set(found.values()) == {b"all"}
    assert not fs.exists(f"{room}/bad")


ASYNC_LEFT = """
async def write():
    global file
    file = await fs.open_async(f"{room}/a", MODE)
    await file.write(b"x" * 300_000)
fsspec.asyn.sync(fs.loop, write)
"""


@pytest.mark.parametrize("mode", ["wb", "xb", "ab"])
def test_an_async_file_that_is_open_when_the_program_ends_is_closed(
    fs: Any, fs3_options: dict[str, str], room: str, mode: str
) -> None:
    code, said = end(fs, fs3_options, room, ASYNC_LEFT.replace("MODE", repr(mode)))
    assert (code, said) == (0, f"{room}/a was not closed: it is closed now\n")
    assert fs.cat_file(f"{room}/a") == b"x" * 300_000


def test_an_async_file_of_a_program_that_dies_is_dropped_and_said(fs: Any, fs3_options: dict[str, str], room: str) -> None:
    code, said = end(fs, fs3_options, room, ASYNC_LEFT.replace("MODE", "'wb'") + "raise KeyError")
    assert code == 1
    assert f"{room}/a was not closed: what was written to it is dropped\n" in said
    assert not fs.exists(f"{room}/a")


def test_an_async_file_whose_loop_has_ended_is_dropped_and_said(fs: Any, fs3_options: dict[str, str], room: str) -> None:
    left = """
async def write():
    global file
    there = fsspec.filesystem("fs3", asynchronous=True, **options)
    file = await there.open_async(f"{room}/a", "wb")
    await file.write(b"x")
asyncio.run(write())
"""
    code, said = end(fs, fs3_options, room, left)
    assert (code, f"{room}/a was not closed" in said, "dropped" in said) == (0, True, True)
    assert not fs.exists(f"{room}/a")


def test_an_async_file_that_is_dropped_is_closed(fs: Any, room: str, caplog: pytest.LogCaptureFixture) -> None:
    async def write() -> list[Any]:
        file = await fs.open_async(f"{room}/a", "ab")
        await file.write(b"x")
        del file
        return list(unclosed._endings)

    concurrent.futures.wait(fsspec.asyn.sync(fs.loop, write))
    assert fs.cat_file(f"{room}/a") == b"x"
    assert caplog.messages == [f"{room}/a was not closed: it is closed now"]
