"""`fs3 admin scrub`: the background verification of all stored bytes."""

from __future__ import annotations

import asyncio
from typing import Any

from fs3.api.client import Client
from fs3.base.errors import FS3Error
from fs3.base.units import SECOND
from fs3.core.meta.fsck.problems import chunk_name
from fs3.model.routing import Node, Role
from fs3.model.upkeep import ScrubStatus

_SCRUB_TIMEOUT_NS = 5 * SECOND


async def gather_scrubs(client: Client, *, begin: bool) -> dict[str, Any]:
    """How far each target is, and which nodes do not answer; `begin`: one is begun where none is under way."""
    nodes = sorted(
        (node for node in client.manager.routing.nodes.values() if node.role is Role.STORAGE), key=lambda node: node.id
    )
    answers = await asyncio.gather(*(_ask_node(client, node, begin) for node in nodes))
    targets: list[dict[str, Any]] = []
    silent: dict[str, str] = {}
    for node, answer in zip(nodes, answers, strict=True):
        if isinstance(answer, FS3Error):
            silent[node.name] = answer.strerror or str(answer)
            continue
        targets += [
            {
                "target": target.target_id,
                "node": node.name,
                "running": target.running,
                "done_chunks": target.done_chunks,
                "total_chunks": target.total_chunks,
                "bytes": target.bytes,
                "passes": target.passes,
                "repaired_chunks": target.repaired_chunks,
                "bad_chunks": target.bad_chunks,
                "bad": [chunk_name(chunk) for chunk in target.bad],
            }
            for target in answer
        ]
    return {"targets": sorted(targets, key=lambda target: target["target"]), "silent": silent}


async def _ask_node(client: Client, node: Node, begin: bool) -> list[ScrubStatus] | FS3Error:
    try:
        return await client.storage.scrub(node.id, begin=begin, timeout_ns=_SCRUB_TIMEOUT_NS)
    except FS3Error as why:
        return why
