"""What `fs3 kv stat` and `fs3 kv top` tell: where a page is, and what the namespaces take and do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from rich.live import Live
from rich.table import Table

from fs3.api.client import Client
from fs3.api.kvcache import CacheUsage, KVCache
from fs3.base.errors import FS3Error, error
from fs3.base.ids import CHUNK_ID_BYTES, ChunkId
from fs3.base.limits import page_key_bytes_max
from fs3.base.status import Code
from fs3.base.units import format_size
from fs3.cli.output import table_console
from fs3.core.kvcache.pages import front_bytes, page_chunks
from fs3.core.kvcache.placement import Placement

TOP_SECONDS = 2.0
"""From one picture to the next, where there is a terminal."""


async def describe_page(client: Client, name: str, key: bytes) -> dict[str, Any]:
    """Where the page of a key is, and what each target of its chain has of it. Raises NotFound for a namespace there is not."""
    if not 1 <= len(key) <= page_key_bytes_max:
        raise error(Code.INVALID, f"the key has {len(key)} bytes; 1 to {page_key_bytes_max} are allowed")
    namespace = await KVCache.get_namespace(client, name)
    table = client.manager.routing.tables.get(namespace.table)
    if table is None or not table.chains:
        raise error(Code.NO_TABLE, "the chain table of the namespace is not known here", name)
    (chunk,) = page_chunks(namespace.id, namespace.salt, [key])
    chain = Placement(table.chains).chain(chunk)
    members = client.manager.routing.chains[chain]
    before = ChunkId((int.from_bytes(chunk, "big") - 1).to_bytes(CHUNK_ID_BYTES, "big"))
    copies = []
    for slot in members.slots:
        copy: dict[str, Any] = {"target": slot.target, "node": slot.node, "state": slot.state.name.lower(), "bytes": 0}
        try:
            rows = (await client.storage.list_chunks(chain, slot.target, after=before, limit=1, timeout_ns=_ASK_NS)).rows
        except FS3Error as failure:
            copy["page"] = f"unknown: {failure.strerror}"
        else:
            row = rows[0] if rows and rows[0].chunk == chunk else None
            copy["page"] = _describe_row(row)
            if row is not None and row.committed:
                copy["bytes"] = max(0, row.length - front_bytes(key))
        copies.append(copy)
    return {
        "namespace": name,
        "key": key.decode(errors="backslashreplace"),
        "page_id": chunk.hex(),
        "chain": int(chain),
        "stored": any(copy["page"] == "stored" for copy in copies),
        "bytes": max(copy["bytes"] for copy in copies) if copies else 0,
        "copies": copies,
    }


_ASK_NS = 3 * 10**9


def _describe_row(row: Any) -> str:
    if row is None or not (row.committed or row.pending):
        return "not there"
    if row.bad:
        return "damaged"
    if row.pending:
        return "being stored or removed"
    return "stored"


def usage_document(usage: CacheUsage) -> dict[str, Any]:
    """What a namespace takes and does, for `--json`."""
    counters = usage.counters
    return {
        "namespace": usage.namespace.name,
        "owner": usage.namespace.owner,
        "pages": usage.pages,
        "bytes": usage.bytes,
        "budget_bytes": usage.namespace.budget_bytes,
        "pin_bytes": usage.namespace.pin_bytes,
        "hard_pin_bytes": usage.hard_pin_bytes,
        "hard_pins": usage.hard_pins,
        "soft_pins": usage.soft_pins,
        "leases": usage.leases,
        "leased_pages": usage.leased_pages,
        "missing_chains": usage.missing_chains,
        "counters": {name: getattr(counters, name) for name in counters.__struct_fields__},
    }


_RATES = ("gets", "get_bytes", "puts", "evicted", "expired")


def make_table(usages: Sequence[CacheUsage], before: Mapping[int, CacheUsage], seconds: float) -> Table:
    """The namespaces, those that take most first. `before`: by id, so many seconds ago; without it, counters are totals."""
    per = "/s" if before else ""
    table = Table(box=None)
    headings = ("namespace", "owner", "pages", "bytes", "budget", "used", "pinned", "leases", "hits",
                f"gets{per}", f"read{per}", f"puts{per}", f"evicted{per}", f"expired{per}")  # fmt: skip
    for heading in headings:
        table.add_column(heading, no_wrap=True, justify="left" if heading in ("namespace", "owner") else "right")
    for usage in sorted(usages, key=lambda each: -each.bytes):
        earlier = before.get(usage.namespace.id)
        counted = {name: getattr(usage.counters, name) for name in (*_RATES, "keys_asked", "keys_found")}
        if earlier is not None:
            # A node that has begun anew counts from 0.
            counted = {name: max(0, value - getattr(earlier.counters, name)) for name, value in counted.items()}
        rates = [counted[name] / seconds if before else counted[name] for name in _RATES]
        budget = usage.namespace.budget_bytes
        table.add_row(
            usage.namespace.name,
            usage.namespace.owner,
            f"{usage.pages}{'+' * bool(usage.missing_chains)}",
            format_size(usage.bytes),
            format_size(budget) if budget else "none",
            f"{usage.bytes / budget:.1%}" if budget else "",
            format_size(usage.hard_pin_bytes) if usage.hard_pins else str(usage.soft_pins or ""),
            str(usage.leases),
            f"{counted['keys_found'] / counted['keys_asked']:.1%}" if counted["keys_asked"] else "",
            f"{rates[0]:.0f}",
            format_size(round(rates[1])),
            *(f"{rate:.0f}" for rate in rates[2:]),
        )
    return table


async def show_top(client: Client, prefix: str) -> None:
    """Once where standard output is no terminal, else again and again until Ctrl-C."""
    console = table_console()
    usages = await KVCache.list_usage(client, prefix)
    if not console.is_terminal:
        console.print(make_table(usages, {}, 1.0))
        return
    clock = asyncio.get_running_loop().time
    with Live(make_table(usages, {}, 1.0), console=console, auto_refresh=False, screen=True) as live:
        while True:
            read_at = clock()
            await asyncio.sleep(TOP_SECONDS)
            before = {usage.namespace.id: usage for usage in usages}
            usages = await KVCache.list_usage(client, prefix)
            live.update(make_table(usages, before, clock() - read_at), refresh=True)
