"""SGLang's own HiCacheController over fs3 and its peers: `make .venv-sglang/.ready`, then `.venv-sglang/bin/python -m
benches.sglang_hicache`.

Latent pages (MLA, `page_first`) of a host pool in CPU memory go through the threads of the controller, which write them, ask for
them and read them as those of a server do. fs3 stores one durable copy. Peers in the same run: `file` (files of SGLang's on the
same disk, not synced) and, where Mooncake's package is installed, `mooncake` (in the memory of a store node, over TCP, its master
beside it). Each backend has a process of its own; backends take turns, and every turn has pages that were not stored before.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from benches import record
from benches.peers import mooncake
from fs3.cli.local import LocalCluster

OPERATIONS = ("write", "read", "query")
MOONCAKE = "mooncake"
MUST = {("read", MOONCAKE): 2.0, ("write", MOONCAKE): 1.0}
"""Ratios to reach."""
QUERY_MS_MAX = 1.5
PATIENCE_S = 600
QUERIES = 15
"""Of a turn; the median counts."""

PAGE_TOKENS = 64
LATENT, ROTARY = 512, 64
"""Values of a token: the shape that latent attention has in models of the V3 family."""
VALUE_BYTES = 2
SEGMENT_BYTES_PER_BYTE = 2
"""Memory of Mooncake's store node, for each byte that is stored in it."""

Turn = dict[str, float]
"""GB/s of the write and the read, milliseconds of a query."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(prog="benches.sglang_hicache", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="turns of each backend; the median is reported")
    parser.add_argument("--pages", type=int, default=160, help="pages that are written, asked for and read")
    parser.add_argument("--layers", type=int, default=28, help="layers of a page: 28 are 2 MiB, 61 are 4.5 MB")
    parser.add_argument("--directory", type=Path, default=None, help="where fs3 and its peers keep their data meanwhile")
    parser.add_argument("--no-save", action="store_true", help="do not append to benches/results")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.turn is not None:
        backend, config = json.loads(options.turn)
        print(json.dumps(take_turn(backend, config, options.pages, options.layers)))
        return 0
    console = Console()
    work = Path(tempfile.mkdtemp(prefix="fs3-bench-", dir=options.directory))
    try:
        with ExitStack() as stack:
            rows = measure(dict(_backends(stack, work, options)), options, console)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for row in rows:
        console.print(record.describe(row), highlight=False)
    if not options.no_save:
        record.save(rows)
    return 0


def _backends(stack: ExitStack, work: Path, options: argparse.Namespace) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
    """fs3 first, then its peers: the name that SGLang knows each by, and its configuration."""
    cluster = stack.enter_context(LocalCluster(work / "cluster"))
    module = {"backend_name": "fs3", "module_path": "fs3.api.integrations.sglang", "class_name": "HiCacheFS3"}
    yield "fs3", ("dynamic", {**module, "interface_v1": 1, "url": cluster.url.rstrip("/"), "replicas": 1, "timeout": 60})
    yield "file", ("file", {"file_storage_path": str(work / "files")})
    if mooncake.program() is not None:
        port = stack.enter_context(mooncake.master(work))
        segment = SEGMENT_BYTES_PER_BYTE * options.runs * options.pages * page_bytes(options.layers)
        stack.enter_context(mooncake.node(work, port, segment))
        yield (
            MOONCAKE,
            (
                "mooncake",
                {
                    "master_server_address": f"127.0.0.1:{port}",
                    "local_hostname": "127.0.0.1",
                    "metadata_server": "P2PHANDSHAKE",
                    "protocol": "tcp",
                    "global_segment_size": 0,
                },
            ),
        )


def page_bytes(layers: int) -> int:
    """Of a page of so many layers."""
    return PAGE_TOKENS * layers * (LATENT + ROTARY) * VALUE_BYTES


def measure(backends: dict[str, tuple[str, dict[str, Any]]], options: argparse.Namespace, console: Console) -> list[record.Row]:
    """The figures of fs3, each beside every peer's."""
    found: dict[str, list[Turn]] = {name: [] for name in backends}
    for run in range(options.runs):
        for name, backend in backends.items():
            with console.status(f"run {run + 1} of {options.runs}: {name} …"):
                found[name].append(_turn_in_process(backend, options.pages, options.layers))
    return rows_of(found, f"{options.pages} pages of {page_bytes(options.layers) / 1e6:.1f} MB")


def rows_of(found: dict[str, list[Turn]], pages: str) -> list[record.Row]:
    """The rows of what was measured of each backend, the first of which is fs3."""
    spreads = {
        name: {operation: record.Spread.of([turn[operation] for turn in turns]) for operation in OPERATIONS}
        for name, turns in found.items()
    }
    return [
        record.Row(
            "sglang",
            f"HiCache {operation}, {pages}, MLA, 1 durable copy",
            unit := "ms" if operation == "query" else "GB/s",
            spreads["fs3"][operation],
            must_value=QUERY_MS_MAX if operation == "query" else None,
            lower_is_better=operation == "query",
            peers=[
                record.Peer(f"{unit} {peer}", spreads[peer][operation], MUST.get((operation, peer))) for peer in list(found)[1:]
            ],
        )
        for operation in OPERATIONS
    ]


def _turn_in_process(backend: tuple[str, dict[str, Any]], pages: int, layers: int) -> Turn:
    command = [sys.executable, "-m", "benches.sglang_hicache", "--pages", str(pages), "--layers", str(layers)]
    done = subprocess.run(
        [*command, "--turn", json.dumps(backend)], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"a turn of {backend[0]} failed:\n{done.stderr[-4000:]}")
    turn: Turn = json.loads(done.stdout.splitlines()[-1])
    return turn


def take_turn(backend: str, config: dict[str, Any], pages: int, layers: int) -> Turn:
    """Write pages that were not stored, ask for them and read them, in this process. Raises RuntimeError when a page is not
    stored or not found, or comes back with other bytes."""
    from benches.hicache.server import HiCacheServer

    tag = uuid.uuid4().hex[:8]
    with HiCacheServer(backend, {**config, "name": tag, "extra_backend_tag": tag}, pages, PAGE_TOKENS, layers) as server:
        kept = server.fill()
        hashes = server.hashes()
        size = pages * page_bytes(layers)
        began = time.perf_counter()
        stored = server.write(hashes)
        wrote = time.perf_counter() - began
        if stored != pages:
            raise RuntimeError(f"{stored} of {pages} pages were stored")
        queries = []
        for _ in range(QUERIES):
            began = time.perf_counter()
            hits = server.query(hashes)
            queries.append(time.perf_counter() - began)
            if hits != pages:
                raise RuntimeError(f"{hits} of {pages} pages were found")
        server.clear()
        wanted = server.find()
        began = time.perf_counter()
        got = server.read(wanted)
        read = time.perf_counter() - began
        if got != pages or not server.has(kept):
            raise RuntimeError(f"{got} of {pages} pages were read, or not as they were stored")
    return {"write": size / wrote / 1e9, "read": size / read / 1e9, "query": statistics.median(queries) * 1e3}


if __name__ == "__main__":
    sys.exit(main())
