"""A tree of small files through fsspec: `put`, `get` and `copy`, in files a second, beside local copies of the same tree."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

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


def measure(context: Context) -> list[Row]:
    """The rows of trees, files/s each way."""
    source, got = context.directory / "tree", context.directory / "got"
    make_tree(source)
    fs = fsspec.filesystem(SCHEME, cluster=context.cluster.url.partition("://")[2], skip_instance_cache=True)
    puts, gets, copies, plain, synced = [], [], [], [], []
    for run in range(context.runs):
        top = f"/bench-small/{run}"
        began = time.perf_counter()
        fs.put(str(source), f"{top}/put", recursive=True)
        put = time.perf_counter()
        fs.get(f"{top}/put", str(got), recursive=True)
        fetched = time.perf_counter()
        fs.copy(f"{top}/put", f"{top}/copy", recursive=True)
        copied = time.perf_counter()
        puts.append(FILES / (put - began))
        gets.append(FILES / (fetched - put))
        copies.append(FILES / (copied - fetched))
        plain.append(limits.copy_files(source, context.directory / "local", synced=False))
        synced.append(limits.copy_files(source, context.directory / "local", synced=True))
        shutil.rmtree(got)
    fs.rm("/bench-small", recursive=True)
    fs.close()
    shutil.rmtree(source)
    durable, local = Spread.of(synced), Spread.of(plain)
    unit, named, named_durable = "files/s", "files/s local copies", "files/s synced local copies"
    return [
        Row("small_files", "put, 3 replicas", unit, Spread.of(puts), named_durable, durable, must_value=MUST),
        Row("small_files", "get", unit, Spread.of(gets), named, local, must_value=MUST),
        Row("small_files", "copy, 3 replicas", unit, Spread.of(copies), named_durable, durable, must_value=MUST),
    ]


def make_tree(top: Path) -> None:
    """Files of up to `FILE_BYTES_MAX` bytes; 14 MB in all."""
    rng = random.Random(1)
    for index in range(FILES):
        directory = top / f"{index // FILES_PER_DIRECTORY:03}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{index:05}").write_bytes(rng.randbytes(rng.randrange(FILE_BYTES_MAX)))
