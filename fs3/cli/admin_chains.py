"""`fs3 admin chains`, `chunk`, `resync` and `accept-loss`: where things are, and what people have targets do."""

from __future__ import annotations

import asyncio
from typing import Any

from fs3.api.client import Client
from fs3.base.errors import FS3Error, error
from fs3.base.ids import CHUNK_ID_BYTES, ChainId, ChunkId, NodeId, TargetId, chunk_file
from fs3.base.status import Code
from fs3.client.fsck.cluster import MetaSource
from fs3.core.files.layout import chain_of
from fs3.core.health.document import status_document
from fs3.core.meta.fsck.problems import chunk_name
from fs3.model.chain import Slot
from fs3.model.inode import InodeType, Layout
from fs3.model.namespace import PathRef
from fs3.model.requests import Stat

_QUERIES_MAX = 64


async def describe_chains(client: Client) -> dict[str, Any]:
    """Every chain with its targets in chain order, and the tables it is in."""
    document = status_document(await client.manager.status())
    targets = {target["target"]: target for target in document["targets"]}
    found = []
    for chain in sorted(document["chains"], key=lambda chain: chain["chain"]):
        members = []
        for slot in chain["targets"]:
            known = targets.get(slot["target"], {})
            members.append(
                {
                    "target": slot["target"],
                    "node": slot["node"],
                    "public_state": slot["state"],
                    "local_state": known.get("local_state", "unknown"),
                    "chunks": known.get("chunks", 0),
                    "used_bytes": known.get("used_bytes", 0),
                    "free_bytes": known.get("free_bytes", 0),
                }
            )
        tables = [table["table"] for table in document["tables"] if chain["chain"] in table["chains"]]
        found.append({"chain": chain["chain"], "version": chain["version"], "tables": tables, "targets": members})
    return {"routing_version": document["routing_version"], "chains": found}


async def find_chunk(client: Client, chunk: ChunkId) -> dict[str, Any]:
    """A chunk on every target of its chain, whatever their state; of all chains when its file is unknown or it is a page."""
    routing = client.manager.routing
    what, chains = f"chunk {chunk_name(chunk)}", sorted(routing.chains)
    file = chunk_file(chunk)
    is_inline = False
    if file is None:
        what += ", a page"
    else:
        facts = (await MetaSource(client.meta).inspect_contents([file[0]])).facts
        if facts and facts[0].type is InodeType.FILE and facts[0].chains:
            layout = Layout(0, facts[0].chunk_size, len(facts[0].chains), facts[0].chains)  # type: ignore[arg-type]
            chains = [chain_of(layout, file[1])]
            begin = file[1] * layout.chunk_size
            what += f", bytes {begin} to {begin + layout.chunk_size} of inode {facts[0].inode}, which has {facts[0].length}"
            is_inline = (await client.meta.ask(Stat(PathRef(facts[0].inode, ""), follow=False))).inline
            if is_inline:
                what += ", in the metadata store: it has no chunks"
        else:
            what += f"; there is no file with content {file[0]}"
    places = [(chain, slot) for chain in chains if chain in routing.chains for slot in routing.chains[chain].slots]
    asked = asyncio.Semaphore(_QUERIES_MAX)

    async def ask(chain: ChainId, slot: Slot) -> dict[str, Any]:
        async with asked:
            return await _read_copy(client, chunk, chain, slot)

    copies = await asyncio.gather(*(ask(chain, slot) for chain, slot in places))
    if len(chains) > 1:
        holders = {copy["chain"] for copy in copies if copy["exists"]}
        copies = [copy for copy in copies if copy["chain"] in holders]
    return {"chunk": chunk_name(chunk), "what": what, "inline": is_inline, "copies": copies}


async def _read_copy(client: Client, chunk: ChunkId, chain: ChainId, slot: Slot) -> dict[str, Any]:
    number = int.from_bytes(chunk, "big")
    after = ChunkId((number - 1).to_bytes(CHUNK_ID_BYTES, "big")) if number else None
    node = client.manager.routing.nodes.get(slot.node)
    copy: dict[str, Any] = {
        "chain": chain,
        "target": slot.target,
        "node": node.name if node is not None else str(slot.node),
        "state": slot.state.name.lower(),
        "exists": False,
        "reason": "absent",
    }
    try:
        page = await client.storage.list_chunks(chain, slot.target, after=after, limit=1, timeout_ns=_QUERY_TIMEOUT_NS)
    except FS3Error as why:
        copy["reason"] = why.strerror or str(why)
        return copy
    if page.rows and page.rows[0].chunk == chunk:
        row = page.rows[0]
        copy |= {
            "exists": True,
            "reason": "",
            "version": row.committed,
            "pending": row.pending,
            "chain_version": row.chain_version,
            "bytes": row.length,
            "checksum": f"{row.checksum:08x}",
            "bad": row.bad,
        }
    return copy


_QUERY_TIMEOUT_NS = 3_000_000_000
"""For one target: others may well have what is looked for."""


async def resync_target(client: Client, target: TargetId) -> dict[str, Any]:
    """Have a target compare itself with its chain. Raises FS3Error: NO_SUCH_TARGET, BUSY when nobody else of the chain serves."""
    place, node = _find_target(client, target)
    await client.storage.resync(node, target)
    return place


async def accept_loss_of(client: Client, target: TargetId) -> dict[str, Any]:
    """Have a target serve with what it has. Raises FS3Error: NO_SUCH_TARGET, BUSY when a target serves or others served last."""
    place, node = _find_target(client, target)
    await client.storage.accept_loss(node, target)
    return place


def _find_target(client: Client, target: TargetId) -> tuple[dict[str, Any], NodeId]:
    for chain in client.manager.routing.chains.values():
        slot = chain.slot(target)
        if slot is not None:
            name = client.manager.routing.nodes[slot.node].name
            return {"target": target, "chain": chain.id, "node": name}, slot.node
    raise error(Code.NO_SUCH_TARGET, f"no chain has target {target}")
