"""Namespaces as a whole: made, listed, set, cleared, deleted.

All of it is said to the manager alone, in one request however many pages there are: to clear a namespace is to give it another
id, to delete it is to forget it, and pages of an id that no namespace has are unreachable. They are removed here afterwards.
The ids of a namespace's pages are neighbours (`fs3.base.ids.page_prefix`), so they are found by listing one range of chunk ids on
each of its chains.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fs3.api.client import Client
from fs3.base.errors import FS3Error, error
from fs3.base.ids import ChainId, ChunkId, page_range
from fs3.base.status import Code
from fs3.core.files.write_plan import WriteIO
from fs3.model.chunk import UpdateKind
from fs3.model.cluster import CacheNamespace, NamespaceSettings
from fs3.model.upkeep import ChunkPage

remove_passes_max = 16
"""How often the chains are gone through for pages that were stored while others were removed."""


@asynccontextmanager
async def client_of(source: Client | str) -> AsyncIterator[Client]:
    """A client that is connected already, or one of its own for the cluster of a URL."""
    if not isinstance(source, str):
        yield source
        return
    from fs3.api.connect import connect

    client = await connect(source)
    try:
        yield client
    finally:
        await client.aclose()


async def list_namespaces(client: Client, prefix: str) -> list[CacheNamespace]:
    """Every namespace whose name begins with `prefix`, by name."""
    found: list[CacheNamespace] = []
    while True:
        page = await client.manager.list_namespaces(prefix, found[-1].name if found else "")
        found += page.namespaces
        if not page.more:
            return found


async def get_namespace(client: Client, name: str) -> CacheNamespace:
    """The namespace with this name. Raises NotFound when there is none."""
    namespace = await client.manager.find_namespace(name)
    if namespace is None:
        raise error(Code.NO_NAMESPACE, "there is no such namespace", name)
    return namespace


async def create_namespace(
    client: Client, name: str, page_bytes: int, replicas: int, settings: NamespaceSettings
) -> CacheNamespace:
    """Make a namespace. Raises Exists when there is one of this name; two who make it at once may both be told that they did."""
    if await client.manager.find_namespace(name) is not None:
        raise error(Code.EXISTS, "there is such a namespace already", name)
    return await client.manager.open_namespace(name, page_bytes, replicas, settings)


async def clear_namespace(client: Client, namespace: CacheNamespace) -> CacheNamespace:
    """Give a namespace an id under which there are no pages. `namespace`: as it is now; when another client has cleared it since,
    that is enough. Returns it as it is then."""
    cleared = await client.manager.clear_namespace(namespace.name, namespace.id)
    await remove_pages(client, namespace)
    return cleared


async def delete_namespace(client: Client, namespace: CacheNamespace) -> None:
    """Forget a namespace."""
    await client.manager.delete_namespace(namespace.name, namespace.made_as)
    await remove_pages(client, namespace)


# --- unreachable pages --------------------------------------------------------------------------------------------------


async def remove_pages(client: Client, namespace: CacheNamespace) -> None:
    """Remove every page under the id that a namespace had. Raises FS3Error when storage does not answer; what is left then,
    fsck finds."""
    table = client.manager.routing.tables.get(namespace.table)
    if table is None:
        raise error(Code.NO_TABLE, "the chain table of the namespace is not known here", namespace.name)
    for _ in range(remove_passes_max):
        removed = 0
        for chain in table.chains:
            async for chunks in _list_pages(client, chain, namespace.id):
                writes = [WriteIO(chunk, chain, UpdateKind.REMOVE, 0) for chunk in chunks]
                for result in await client.storage.update(writes):
                    if result.code is not Code.OK:
                        raise error(result.code, f"a page could not be removed: {result.message}", namespace.name)
                removed += len(chunks)
        if not removed:
            return


async def _list_pages(client: Client, chain: ChainId, namespace_id: int) -> AsyncIterator[list[ChunkId]]:
    """The pages of a namespace on a chain, as many at once as a target tells at once."""
    after, until = page_range(namespace_id)
    while True:
        page = await _list_range(client, chain, after, until)
        if page.rows:
            after = page.rows[-1].chunk
            yield [row.chunk for row in page.rows]
        if not page.more or not page.rows:
            return


async def _list_range(client: Client, chain: ChainId, after: ChunkId, until: ChunkId | None) -> ChunkPage:
    """From the first target that answers: each that serves has all there is."""
    failure = error(Code.NOT_SERVING, f"nobody serves chain {chain}")
    for target in _serving(client, chain):
        try:
            return await client.storage.list_chunks(chain, target, after=after, until=until)
        except FS3Error as why:
            failure = why
    raise failure


def _serving(client: Client, chain: ChainId) -> Iterator[Any]:
    members = client.manager.routing.chains.get(chain)
    return (slot.target for slot in (members.serving_slots() if members is not None else ()))
