"""LMCache's own `bench l2` over fs3 and its peers: `make engine-lmcache`, then `.venv-lmcache/bin/python -m benches.lmcache_l2`.

Peers in the same run: `fs` (files of LMCache's, on the same disk, not synced) and, where a Valkey or Redis server is installed,
`resp`, in memory and with every write synced (`appendfsync always`). fs3 stores two durable replicas. The adapters take turns,
each with objects that nobody has stored before; medians of the runs are compared.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from benches import record
from fs3.cli.local import LocalCluster
from fs3.cli.ports import free_ports

OPERATIONS = ("Store", "Lookup", "Load")
IN_MEMORY, DURABLE = "resp in memory", "resp appendfsync always"
MUST = {("Load", IN_MEMORY): 1.5, ("Store", DURABLE): 1.3, ("Lookup", IN_MEMORY): 1.0, ("Lookup", DURABLE): 1.0}
"""Ratios to reach; of a lookup, whose figure is its time, not to exceed."""
PATIENCE_S = 600

Specify = Callable[[], dict[str, Any]]
"""The configuration of an adapter that has no objects yet."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(prog="benches.lmcache_l2", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="turns of each adapter; the median is reported")
    parser.add_argument("--rounds", type=int, default=5, help="batches of each turn")
    parser.add_argument("--keys", type=int, default=32, help="objects of a batch")
    parser.add_argument("--size-kb", type=int, nargs="+", default=[2048, 256], help="sizes of objects")
    parser.add_argument("--directory", type=Path, default=None, help="where fs3 and its peers keep their data meanwhile")
    parser.add_argument("--no-save", action="store_true", help="do not append to benches/results")
    options = parser.parse_args(arguments)
    console = Console()
    work = Path(tempfile.mkdtemp(prefix="fs3-bench-", dir=options.directory))
    rows: list[record.Row] = []
    try:
        with ExitStack() as stack:
            adapters = dict(_adapters(stack, work))
            for size_kb in options.size_kb:
                rows += measure(adapters, size_kb, options.keys, options.rounds, options.runs, console)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for row in rows:
        console.print(record.describe(row), highlight=False)
    if not options.no_save:
        record.save(rows)
    return 0


def _adapters(stack: ExitStack, work: Path) -> Iterator[tuple[str, Specify]]:
    """fs3 first, then its peers, by name."""
    cluster = stack.enter_context(LocalCluster(work / "cluster", replicas=2))
    params = {"url": cluster.url.rstrip("/"), "replicas": 2}
    plugin = {"type": "plugin", "module_path": "fs3.api.integrations.lmcache", "class_name": "FS3L2Adapter"}
    yield "fs3", lambda: {**plugin, "adapter_params": {**params, "name": uuid.uuid4().hex}}
    yield "fs", lambda: {"type": "fs", "base_path": str(work / uuid.uuid4().hex)}
    server = shutil.which("valkey-server") or shutil.which("redis-server")
    if server is None:
        return
    for name, settings in (
        (IN_MEMORY, ("--appendonly", "no")),
        (DURABLE, ("--appendonly", "yes", "--appendfsync", "always")),
    ):
        port = stack.enter_context(_key_value_server(server, work / name.replace(" ", "-"), settings))

        def specify(port: int = port) -> dict[str, Any]:
            subprocess.run([*_client(server, port), "FLUSHALL"], check=True, capture_output=True, timeout=PATIENCE_S)
            return {"type": "resp", "host": "127.0.0.1", "port": port}

        yield name, specify


@contextmanager
def _key_value_server(server: str, directory: Path, settings: Sequence[str]) -> Iterator[int]:
    """A Valkey or Redis server meanwhile; its port."""
    directory.mkdir()
    port = free_ports(1)
    command = [server, "--port", str(port), "--save", "", "--dir", str(directory), *settings]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        waiting = [*_client(server, port), "PING"]
        while subprocess.run(waiting, capture_output=True, timeout=PATIENCE_S).returncode:
            if process.poll() is not None:
                raise RuntimeError(f"{server} ended at once")
        yield port
    finally:
        process.terminate()
        process.wait()


def _client(server: str, port: int) -> list[str]:
    return [server.replace("-server", "-cli"), "-p", str(port)]


def measure(adapters: dict[str, Specify], size_kb: int, keys: int, rounds: int, runs: int, console: Console) -> list[record.Row]:
    """The figures of fs3 at one size, each beside every peer's."""
    found: dict[str, dict[str, list[float]]] = {name: {operation: [] for operation in OPERATIONS} for name in adapters}
    for run in range(runs):
        for name, specify in adapters.items():
            with console.status(f"{size_kb} KiB, run {run + 1} of {runs}: {name} …"):
                for operation, figure in bench_l2(specify(), size_kb, keys, rounds).items():
                    found[name][operation].append(figure)
    return [
        record.Row(
            "lmcache",
            f"bench l2 {operation.lower()}, {keys} objects of {size_kb} KiB, 2 replicas",
            unit := "ms" if operation == "Lookup" else "MB/s",
            record.Spread.of(found["fs3"][operation]),
            lower_is_better=operation == "Lookup",
            peers=[
                record.Peer(f"{unit} {peer}", record.Spread.of(found[peer][operation]), MUST.get((operation, peer)))
                for peer in list(adapters)[1:]
            ],
        )
        for operation in OPERATIONS
    ]


def bench_l2(specification: dict[str, Any], size_kb: int, keys: int, rounds: int) -> dict[str, float]:
    """What LMCache's benchmark says of an adapter: MB/s of stores and loads, milliseconds of a lookup. Medians of its rounds."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "figures.json"
        command = [sys.executable, "-c", "from lmcache.cli.main import main; main()", "bench", "l2"]
        command += ["--l2-adapter", json.dumps(specification), "--num-keys", str(keys), "--data-size-kb", str(size_kb)]
        command += ["--rounds", str(rounds), "--lookup-max-hit-rate", "1.0", "--no-skip-verify"]
        command += ["--quiet", "--format", "json", "--output", str(output)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        if done.returncode:
            raise RuntimeError(f"bench l2 failed:\n{done.stdout}{done.stderr}")
        return read_figures(json.loads(output.read_text()), keys * size_kb / 1024)


def read_figures(report: dict[str, Any], megabytes: float) -> dict[str, float]:
    """Of a report in JSON, about rounds of so many MiB. Raises ValueError when not every object was stored, found and read."""
    figures = {}
    for section in report["metrics"].values():
        if "operation" not in section:
            continue
        operation = str(section["operation"]).capitalize()
        if section["total_success"] != section["total_keys"]:
            raise ValueError(f"{operation}: {section['total_success']} of {section['total_keys']} objects")
        middle_ms = float(section["duration_p50_ms"])
        figures[operation] = middle_ms if operation == "Lookup" else megabytes / (middle_ms / 1000)
    return figures


if __name__ == "__main__":
    sys.exit(main())
