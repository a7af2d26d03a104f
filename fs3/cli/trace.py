"""`fs3 trace`: one operation on a file, traced on every process that took part, and where its time went."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from fs3.api.url import cluster_addresses, split_url
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import MIB, MILLISECOND, format_size
from fs3.cli import where
from fs3.cli.operator_keys import operator_credentials
from fs3.cli.output import print_json, table_console
from fs3.cli.processes import ClusterProcesses
from fs3.cli.trace_tree import TraceNode, attribute_time, build_tree, describe, sentence_of, to_document
from fs3.model.trace import TraceSpan
from fs3.wire.methods import PROCESS
from fs3.wire.process_spans import spans_from_pb, spans_request_to_pb

if TYPE_CHECKING:
    from fs3.api.client import Client

_READ_BYTES_MAX = 64 * MIB
_CHILDREN_SHOWN = 12
"""Of one span, the longest ones."""


def trace(
    url: Annotated[
        str,
        typer.Argument(
            help="fs3://host:port/path of a file; with --namespace fs3://host:port; with --data-dir /path", metavar="FILE"
        ),
    ],
    write: Annotated[bool, typer.Option("--write", help="also write a copy beside it, which is removed again")] = False,
    namespace: Annotated[str, typer.Option("--namespace", help="of a KVCache: look up and get --key of it instead")] = "",
    key: Annotated[str, typer.Option("--key", help="key of a page, as text")] = "",
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="directory of a cluster on this machine, or of embedded services")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable, everything")] = False,
) -> None:
    """Stat and read a file (its first 64 MiB), and show where the time went: client, network, waiting, disks, replicas."""
    _, path = split_url(url) if data_dir is None else ([], url)
    if bool(namespace) != bool(key) or (namespace and write):
        raise error(Code.INVALID, "--namespace and --key go together, and not with --write")
    if not namespace and not path.strip("/"):
        raise error(Code.INVALID, "trace takes the URL of a file", url)
    operation = _PageGet(namespace, key) if namespace else _FileRead(path, write)
    root, silent = asyncio.run(_trace(url, data_dir, operation))
    if as_json:
        document = {"total_us": root.span.elapsed_ns / 1000, "shares_us": _microseconds(root), "trace": to_document(root)}
        print_json(document | {"silent": silent})
    else:
        table_console().print(render(root, silent))


class _TracedOperation(Protocol):
    """What is done to see where its time goes."""

    name: str

    async def prepare(self, client: Client) -> None:
        """Have connections made, and what else is no part of it. Raises FS3Error when it cannot be done."""
        ...

    async def run(self, client: Client) -> None:
        """Do it. Raises FS3Error."""
        ...


class _FileRead:
    def __init__(self, path: str, write: bool) -> None:
        self.name = "stat, read and write" if write else "stat and read"
        self._path = path
        self._write = write

    async def prepare(self, client: Client) -> None:
        await client.stat(self._path)

    async def run(self, client: Client) -> None:
        await client.stat(self._path)
        file = await client.open(self._path)
        data = await client.pread(file, min(file.length, _READ_BYTES_MAX))
        await client.close(file)
        if not self._write:
            return
        copy = f"{self._path}.fs3-trace-{secrets.token_hex(4)}"
        target = await client.open(copy, "x")
        try:
            await client.pwrite(target, data)
            await client.close(target)
        finally:
            await client.unlink(copy)


class _PageGet:
    def __init__(self, namespace: str, key: str) -> None:
        self.name = "lookup and get"
        self._namespace = namespace
        self._key = key.encode(errors="surrogateescape")

    async def prepare(self, client: Client) -> None:
        from fs3.api.kvcache import KVCache

        found = await KVCache.get_namespace(client, self._namespace)
        self._cache = await KVCache.of(client, namespace=found.name, page_bytes=found.page_bytes, replicas=found.replicas)
        if not (await self._cache.lookup([self._key])).hits:
            raise error(Code.NOT_FOUND, f"namespace {self._namespace} has no page of that key")

    async def run(self, client: Client) -> None:
        await self._cache.lookup([self._key])
        await self._cache.get_into([self._key], [bytearray(self._cache.page_bytes)])


async def _trace(url: str, data_dir: Path | None, operation: _TracedOperation) -> tuple[TraceNode, dict[str, str]]:
    from fs3.api.connect import connect, connect_embedded, connect_running

    if data_dir is None or not where.is_embedded(f"{data_dir}/"):
        addresses = cluster_addresses(url) if data_dir is None else where.manager_addresses_of(f"{data_dir}/")
        async with await connect(",".join(addresses), credentials=operator_credentials(addresses)) as client:
            return await _trace_with(client, addresses, operation)
    endpoint = where.embedded_endpoint(data_dir)
    # Where no process has the directory open, its services run in this one.
    async with await (connect_running([endpoint]) if endpoint else connect_embedded(data_dir)) as client:
        return await _trace_with(client, [endpoint or where.embedded_endpoint(data_dir)], operation)


async def _trace_with(client: Client, addresses: list[str], operation: _TracedOperation) -> tuple[TraceNode, dict[str, str]]:
    from fs3.api.tracing import tracing
    from fs3.runtime.tracing import within

    await operation.prepare(client)
    tracing.set_ratio(1.0)
    span = tracing.begin(operation.name)
    code: int = Code.OK
    try:
        with within(span):
            await operation.run(client)
    except FS3Error as failure:
        code = failure.code
        raise
    finally:
        span.end(code)
        tracing.set_ratio(0)
    trace_id = span.contexts[0].trace_id
    spans: list[tuple[str, TraceSpan]] = [("client", each) for each in tracing.spans.find(trace_id)]
    silent: dict[str, str] = {}
    async with ClusterProcesses(addresses) as processes:
        answers = await processes.ask(await processes.list(), PROCESS.GetSpans, spans_request_to_pb(trace_id))
    for name, answer in answers.items():
        if isinstance(answer, FS3Error):
            silent[name] = str(answer)
        else:
            spans += [(name, each) for each in spans_from_pb(answer.message, trace_id)]
    root = build_tree(spans)
    assert root is not None, "the root ended just now, in this process"
    return root, silent


def _microseconds(root: TraceNode) -> dict[str, float]:
    return {what: part / 1000 for what, part in attribute_time(root).items()}


def render(root: TraceNode, silent: dict[str, str]) -> RenderableType:
    """As a sentence, a table and a tree for people."""
    total = max(1, root.span.elapsed_ns)
    shares = attribute_time(root)
    sizes = [size for child in root.children if isinstance(size := child.span.get("bytes"), int)]
    size = f" of {format_size(max(sizes))}" if sizes else ""
    parts: list[RenderableType] = [
        Text(f"{root.span.name}{size} took {total / MILLISECOND:.2f} ms: {sentence_of(shares, total)}.")
    ]
    table = Table(title="where the time went", title_justify="left", box=None)
    table.add_column("ms", justify="right")
    table.add_column("%", justify="right")
    table.add_column("what")
    for what, part in shares.items():
        table.add_row(f"{part / MILLISECOND:.2f}", f"{100 * part / total:.0f}", what)
    parts += [table, _tree_of(root)]
    parts += [Text(f"{name} does not answer: {why}", style="red") for name, why in silent.items()]
    return Group(*parts)


def _tree_of(root: TraceNode) -> Tree:
    def line(node: TraceNode) -> Text:
        return Text(f"{node.begin / MILLISECOND:8.2f} +{node.span.elapsed_ns / MILLISECOND:.2f} ms  {describe(node)}")

    def grow(tree: Tree, node: TraceNode) -> None:
        shown = sorted(node.children, key=lambda child: -child.span.elapsed_ns)[:_CHILDREN_SHOWN]
        for child in node.children:
            if any(child is each for each in shown):
                grow(tree.add(line(child)), child)
        if len(shown) < len(node.children):
            tree.add(Text(f"and {len(node.children) - len(shown)} shorter ones"))

    tree = Tree(line(root))
    grow(tree, root)
    return tree
