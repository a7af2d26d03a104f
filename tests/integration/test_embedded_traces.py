"""Operations on embedded services are traced as those on a cluster are: one trace over client, metadata and storage."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import fs3
from fs3.api.client import Client
from fs3.api.small_files import NewFile, UnnamedFile
from fs3.api.tracing import tracing
from fs3.base.errors import FS3Error
from fs3.base.units import MIB
from fs3.cli.processes import ClusterProcesses
from fs3.cli.trace_tree import TraceNode, build_tree
from fs3.cli.where import embedded_endpoint
from fs3.model.trace import SpanKind
from fs3.runtime.tracing import within
from fs3.wire.methods import PROCESS
from fs3.wire.process import slow_from_pb, slow_request_to_pb
from fs3.wire.process_spans import spans_from_pb, spans_request_to_pb


@asynccontextmanager
async def embedded(directory: Path) -> AsyncIterator[Client]:
    async with await fs3.connect_embedded(directory) as client:
        yield client


async def trace_of(directory: Path, operation: Callable[[], Awaitable[object]]) -> TraceNode:
    """What all services have of one operation, below one root."""
    with within(root := tracing.begin("test")):
        await operation()
    root.end()
    trace_id = root.contexts[0].trace_id
    spans = [("client", span) for span in tracing.spans.find(trace_id)]
    async with ClusterProcesses([embedded_endpoint(directory)]) as processes:
        answers = await processes.ask(await processes.list(), PROCESS.GetSpans, spans_request_to_pb(trace_id))
    for name, answer in answers.items():
        assert not isinstance(answer, FS3Error)
        spans += [(name, span) for span in spans_from_pb(answer.message, trace_id)]
    found = build_tree(spans)
    assert found is not None
    return found


def below(node: TraceNode, name: str) -> set[str]:
    """What storage served for requests to metadata of this name, and nothing else is a part of."""
    return {
        inner.span.name
        for outer in node.walk()
        if outer.span.kind is SpanKind.SERVED and outer.span.name == name and outer.process == "meta"
        for inner in outer.walk()
        if inner.span.kind is SpanKind.SERVED and inner.process == "storage-1"
    }


def parts(node: TraceNode, name: str) -> list[str]:
    """Of what metadata served of this name."""
    served = (each for each in node.walk() if each.span.kind is SpanKind.SERVED and each.span.name == name)
    return [part.span.name for each in served for part in each.children if part.span.kind is SpanKind.PART]


def small(path: str) -> NewFile:
    """A file whose bytes are beside its inode."""
    return NewFile(path, memoryview(b"1"), UnnamedFile("/"))


async def write(client: Client, path: str, data: bytes, mode: str = "w") -> None:
    file = await client.open(path, mode)
    await client.pwrite(file, data)
    await client.close(file)


async def test_a_truncation_is_one_trace_over_metadata_and_storage(tmp_path: Path) -> None:
    async with embedded(tmp_path / "d") as client:
        await write(client, "/a", bytes(3 * MIB))
        root = await trace_of(tmp_path / "d", lambda: client.truncate("/a", MIB))
        assert below(root, "Meta.Truncate") == {"Storage.Find", "Storage.Update"}
        assert parts(root, "Meta.Truncate") == ["commit", "commit"], "the one that begins it and the one that ends it"


async def test_a_close_that_asks_storage_for_the_length_is_one_trace(tmp_path: Path) -> None:
    """The file was truncated behind the writer's back."""
    async with embedded(tmp_path / "d") as client:
        await write(client, "/a", bytes(3 * MIB))
        file = await client.open("/a", "r+")
        await client.pwrite(file, bytes(2 * MIB), 2 * MIB)
        async with embedded(tmp_path / "d") as other:
            await other.truncate("/a", MIB)
        root = await trace_of(tmp_path / "d", lambda: client.close(file))
        assert below(root, "Meta.Close") == {"Storage.Find"}


async def test_moving_inline_bytes_to_storage_is_a_part_of_what_needs_it(tmp_path: Path) -> None:
    async with embedded(tmp_path / "d") as client:
        await client.put(small("/a"))
        root = await trace_of(tmp_path / "d", lambda: client.truncate("/a", MIB))
        moved = {name for node in root.walk() if node.span.name.startswith("Meta.") for name in below(root, node.span.name)}
        assert "Storage.Update" in moved


async def test_changes_that_are_committed_together_are_one_part(tmp_path: Path) -> None:
    async with embedded(tmp_path / "d") as client:
        root = await trace_of(tmp_path / "d", lambda: client.put_many([small(f"/{number}") for number in range(40)]))
        assert parts(root, "Meta.Batch") == ["commit"]


async def test_space_of_the_file_system_is_one_trace(tmp_path: Path) -> None:
    async with embedded(tmp_path / "d") as client:
        root = await trace_of(tmp_path / "d", client.statfs)
        assert below(root, "Meta.StatFs") == {"Storage.GetSpace"}


async def test_a_write_has_its_disk(tmp_path: Path) -> None:
    async with embedded(tmp_path / "d") as client:
        root = await trace_of(tmp_path / "d", lambda: write(client, "/a", bytes(3 * MIB)))
        assert "disk" in parts(root, "Storage.Update")
        assert parts(root, "Meta.Open").count("commit") == 1


def test_the_command_runs_the_services_or_asks_the_process_that_does(tmp_path: Path) -> None:
    directory = tmp_path / "d"

    async def make() -> None:
        async with embedded(directory) as client:
            await write(client, "/some file", bytes(MIB))

    asyncio.run(make())
    alone = json.loads(command("trace", "/some file", "--write", "--data-dir", str(directory), "--json"))
    assert {"client", "meta", "storage-1"} <= processes_of(alone["trace"])

    async def beside() -> dict[str, Any]:
        async with embedded(directory):
            arguments = ("trace", "/some file", "--data-dir", str(directory), "--json")
            found: dict[str, Any] = json.loads(await asyncio.to_thread(command, *arguments))
            slow = json.loads(await asyncio.to_thread(command, "slow", str(directory), "--json"))
            assert slow.keys() == {"operations", "stalls", "silent"}
            assert not slow["silent"]
            return found

    assert {"client", "meta", "storage-1"} <= processes_of(asyncio.run(beside())["trace"])
    refused = run("slow", "--data-dir", str(directory))
    assert refused.returncode
    assert "no process has this directory open" in refused.stderr


async def test_the_slowest_operations_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fs3.runtime.slow_operations.slow_operation_ns_min", 0)  # whatever was done is slow
    async with embedded(tmp_path / "d") as client:
        await write(client, "/a", bytes(8 * MIB))
        async with ClusterProcesses([embedded_endpoint(tmp_path / "d")]) as processes:
            answers = await processes.ask(await processes.list(), PROCESS.GetSlow, slow_request_to_pb())
    assert answers.keys() == {"mgmtd", "storage-1", "meta"}
    found = {}
    for name, answer in answers.items():
        assert not isinstance(answer, FS3Error)
        found |= {(name, operation.verb): operation for operation in slow_from_pb(answer.message).operations}
    assert "serving" in {span.name for span in found["storage-1", "Storage.Update"].spans}
    assert found["meta", "Meta.Open"].spans


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fs3.cli.main", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def command(*arguments: str) -> str:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def processes_of(node: dict[str, Any]) -> set[str]:
    return {node["process"]}.union(*(processes_of(part) for part in node["parts"]))
