"""Small files through fsspec, beside local ones: a tree by `put`, `get` and `copy`, single ones of 16 KiB by 1 and 16 callers."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec

from benches import limits
from benches.record import Row, Spread
from fs3.api.url import SCHEME

if TYPE_CHECKING:
    from benches.run import Context

FILES = 2000
FILE_BYTES_MAX = 14_000
FILES_PER_DIRECTORY = 100
MUST = 1500
SINGLE_BYTES = 16 * 1024
SINGLE_FILES = 500
SINGLE_MUST = {1: (1500, 6000), 16: (6000, 25_000)}
"""Callers -> files/s to write and to read."""
CAT_FILES = 1000
CAT_MUST = 60_000
RUNS_MAX = 3
"""Each takes many seconds."""


def measure(context: Context) -> list[Row]:
    """The rows of trees, files/s each way."""
    source, got = context.directory / "tree", context.directory / "got"
    files = context.sized(FILES, 20)
    make_tree(source, files)
    fs = fsspec.filesystem(SCHEME, cluster=context.cluster.url.partition("://")[2], skip_instance_cache=True)
    puts, gets, copies, plain, synced = [], [], [], [], []
    for run in context.turns(RUNS_MAX):
        top = f"/bench-small/{run}"
        began = time.perf_counter()
        fs.put(str(source), f"{top}/put", recursive=True)
        put = time.perf_counter()
        fs.get(f"{top}/put", str(got), recursive=True)
        fetched = time.perf_counter()
        fs.copy(f"{top}/put", f"{top}/copy", recursive=True)
        copied = time.perf_counter()
        puts.append(files / (put - began))
        gets.append(files / (fetched - put))
        copies.append(files / (copied - fetched))
        plain.append(limits.copy_files(source, context.directory / "local", synced=False))
        synced.append(limits.copy_files(source, context.directory / "local", synced=True))
        shutil.rmtree(got)
    rows = [row for callers in SINGLE_MUST for row in _measure_single(context, fs, callers)]
    rows.append(_measure_cat(context, fs))
    fs.rm("/bench-small", recursive=True)
    fs.close()
    shutil.rmtree(source)
    return _tree_rows(puts, gets, copies, plain, synced) + rows


def _measure_single(context: Context, fs: Any, callers: int) -> list[Row]:
    """One file a call, by so many threads."""
    data = bytes(SINGLE_BYTES)
    files = context.sized(SINGLE_FILES, 8) * min(callers, 4)
    writes, reads, local_writes, local_reads = [], [], [], []
    for run in context.turns(RUNS_MAX):
        top = f"/bench-small/single-{callers}-{run}"
        fs.makedirs(top)
        local = context.directory / "local"
        writes.append(_calls_per_second(lambda index, top=top: fs.pipe_file(f"{top}/{index}", data), files, callers))  # type: ignore[misc]
        reads.append(_calls_per_second(lambda index, top=top: fs.cat_file(f"{top}/{index}"), files, callers))  # type: ignore[misc]
        local_writes.append(limits.write_files(local, files, SINGLE_BYTES, callers))
        local_reads.append(limits.read_files(local, files, SINGLE_BYTES, callers))
    who, must_write, must_read = f"{callers} caller{'s' * (callers > 1)}", SINGLE_MUST[callers][0], SINGLE_MUST[callers][1]
    durable = "files/s written, synced and renamed locally"
    return [
        Row(
            "small_files", f"pipe_file of 16 KiB, durable, {who}", "files/s", Spread.of(writes), durable,
            Spread.of(local_writes), must_value=must_write,
        ),
        Row(
            "small_files", f"cat_file of 16 KiB, {who}", "files/s", Spread.of(reads), "files/s read locally",
            Spread.of(local_reads), must_value=must_read,
        ),
    ]  # fmt: skip


def _measure_cat(context: Context, fs: Any) -> Row:
    """A thousand files in one call."""
    files = context.sized(CAT_FILES, 8)
    names = [f"/bench-small/cat/{index}" for index in range(files)]
    fs.pipe(dict.fromkeys(names, bytes(SINGLE_BYTES)))
    found, local = [], []
    for _ in context.turns(RUNS_MAX):
        began = time.perf_counter()
        fs.cat(names)
        found.append(files / (time.perf_counter() - began))
        local.append(limits.read_files(context.directory / "local", files, SINGLE_BYTES, 1))
    what = f"cat of {CAT_FILES} files of 16 KiB in one call"
    return Row("small_files", what, "files/s", Spread.of(found), "files/s read locally", Spread.of(local), must_value=CAT_MUST)


def _calls_per_second(call: Callable[[int], object], calls: int, threads: int) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(call, range(calls)))
    return calls / (time.perf_counter() - began)


def _tree_rows(puts: list[float], gets: list[float], copies: list[float], plain: list[float], synced: list[float]) -> list[Row]:
    durable, local = Spread.of(synced), Spread.of(plain)
    unit, named, named_durable = "files/s", "files/s local copies", "files/s synced local copies"
    return [
        Row("small_files", "put", unit, Spread.of(puts), named_durable, durable, must_value=MUST),
        Row("small_files", "get", unit, Spread.of(gets), named, local, must_value=MUST),
        Row("small_files", "copy", unit, Spread.of(copies), named_durable, durable, must_value=MUST),
    ]


def make_tree(top: Path, files: int = FILES) -> None:
    """Files of up to `FILE_BYTES_MAX` bytes; 14 MB in all."""
    rng = random.Random(1)
    for index in range(files):
        directory = top / f"{index // FILES_PER_DIRECTORY:03}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{index:05}").write_bytes(rng.randbytes(rng.randrange(FILE_BYTES_MAX)))
